//! How a VM is to run its guest.

/// Argument of [`crate::SET_OPTIONS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes of this structure: lets a later version grow it.
    pub size: u32,
    /// A [`Model`] as a number.
    pub model: u32,
    /// [`OptionFlags`].
    pub flags: u32,
    /// Bits of the patcher's `TacticSet`: what may be replaced by patch blocks. Ignored without [`OptionFlags::TACTICS`].
    pub tactics: u32,
    /// With [`OptionFlags::VERIFY`]: verify each guest-kernel instruction the first so many times it is reached; 0: each time. At most
    /// 2^32 - 1.
    pub verify_first: u64,
    /// Must be zero.
    pub reserved: [u64; 5],
}

/// The deprivileging model: which real rings the guest's rings 0 and 3 run in.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Host 0, guest kernel 1, guest user 3.
    Ring013 = 13,
    /// Host 0, guest kernel and guest user 3.
    Ring033 = 33,
}

impl Model {
    const fn of(raw: u32) -> Option<Self> {
        match raw {
            13 => Some(Self::Ring013),
            33 => Some(Self::Ring033),
            _ => None,
        }
    }
}

/// Bits of [`Options::flags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionFlags(pub u32);

impl OptionFlags {
    /// Compare directly executed guest-kernel code with the interpreter and stop at the first difference.
    pub const VERIFY: OptionFlags = OptionFlags(1);
    /// Execute nothing directly.
    pub const INTERPRET_ALL: OptionFlags = OptionFlags(2);
    /// The client announces every write of its own to guest memory with [`crate::MEMORY_WRITTEN`].
    pub const COHERENT_CLIENT: OptionFlags = OptionFlags(4);
    /// [`Options::tactics`] counts; without it the module's default set is used.
    pub const TACTICS: OptionFlags = OptionFlags(8);

    const ALL: u32 = 15;

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: OptionFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: OptionFlags) -> OptionFlags {
        OptionFlags(self.0 | other.0)
    }
}

/// Why [`Options::check`] refused; EINVAL to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// `size` is not this version's.
    Size,
    /// No such model.
    Model,
    /// A flag that this version does not know.
    Flags,
    /// A reserved field is not zero.
    Reserved,
}

impl Options {
    /// Options with the module's defaults.
    #[must_use]
    pub const fn new(model: Model) -> Self {
        Options {
            size: core::mem::size_of::<Options>() as u32,
            model: model as u32,
            flags: 0,
            tactics: 0,
            verify_first: 0,
            reserved: [0; 5],
        }
    }

    /// Validates what came from a client and returns the model and the flags.
    pub fn check(&self) -> Result<(Model, OptionFlags), OptionsError> {
        if self.size as usize != core::mem::size_of::<Options>() {
            return Err(OptionsError::Size);
        }
        let model = Model::of(self.model).ok_or(OptionsError::Model)?;
        if self.flags & !OptionFlags::ALL != 0 {
            return Err(OptionsError::Flags);
        }
        if self.reserved != [0; 5] {
            return Err(OptionsError::Reserved);
        }
        Ok((model, OptionFlags(self.flags)))
    }
}

/// Argument of [`crate::MEMORY_WRITTEN`]: guest-physical bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryRange {
    /// First guest-physical address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(size_of::<Options>(), 64);
        assert_eq!(offset_of!(Options, model), 4);
        assert_eq!(offset_of!(Options, flags), 8);
        assert_eq!(offset_of!(Options, tactics), 12);
        assert_eq!(offset_of!(Options, verify_first), 16);
        assert_eq!(offset_of!(Options, reserved), 24);
        assert_eq!(size_of::<MemoryRange>(), 16);
    }

    #[test]
    fn only_well_formed_options_pass() {
        let good = Options::new(Model::Ring013);
        assert_eq!(good.check(), Ok((Model::Ring013, OptionFlags(0))));
        let bad = |change: fn(&mut Options)| {
            let mut options = good;
            change(&mut options);
            options.check().err()
        };
        assert_eq!(bad(|o| o.size = 60), Some(OptionsError::Size));
        assert_eq!(Options::new(Model::Ring033).check(), Ok((Model::Ring033, OptionFlags(0))));
        assert_eq!(bad(|o| o.model = 31), Some(OptionsError::Model));
        assert_eq!(bad(|o| o.flags = 16), Some(OptionsError::Flags));
        assert_eq!(bad(|o| o.reserved[4] = 1), Some(OptionsError::Reserved));
        let flags = OptionFlags::VERIFY.with(OptionFlags::TACTICS);
        assert!(flags.contains(OptionFlags::VERIFY));
        assert!(!flags.contains(OptionFlags::INTERPRET_ALL));
    }
}
