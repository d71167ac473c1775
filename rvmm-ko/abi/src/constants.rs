//! Registers of the client's devices that the module reads for it.

/// The most that there can be.
pub const MAX_CONSTANTS: usize = 8;

/// A 32-bit register of a memory-mapped device that reads as the same value, without effect on anything, until the client says otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConstantRegister {
    /// Guest-physical address, a multiple of 4.
    pub gpa: u64,
    /// What it reads as.
    pub value: u32,
    /// Must be zero.
    pub reserved: u32,
}

/// Argument of [`crate::SET_CONSTANT_REGISTERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConstantRegisters {
    /// How many of [`ConstantRegisters::registers`] count, at most [`MAX_CONSTANTS`]; 0: there are none.
    pub count: u32,
    /// Must be zero.
    pub reserved: u32,
    /// Those behind `count` must be zero.
    pub registers: [ConstantRegister; MAX_CONSTANTS],
}

impl ConstantRegisters {
    /// The registers, if all fields are as they must be.
    #[must_use]
    pub fn checked(&self) -> Option<&[ConstantRegister]> {
        let (used, unused) = self.registers.split_at_checked(self.count as usize)?;
        let good = self.reserved == 0
            && used.iter().all(|register| register.gpa % 4 == 0 && register.reserved == 0)
            && unused.iter().all(|register| *register == ConstantRegister::default());
        good.then_some(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!((size_of::<ConstantRegister>(), size_of::<ConstantRegisters>()), (16, 136));
        assert_eq!((offset_of!(ConstantRegister, value), offset_of!(ConstantRegisters, registers)), (8, 8));
    }

    #[test]
    fn bad_fields_are_refused() {
        let mut table = ConstantRegisters::default();
        table.registers[0] = ConstantRegister { gpa: 0xFEE0_0020, value: 7, reserved: 0 };
        assert_eq!(table.checked(), None, "behind the count");
        table.count = 1;
        assert_eq!(table.checked().map(<[_]>::len), Some(1));
        for bad in [
            ConstantRegisters { count: 9, ..table },
            ConstantRegisters { reserved: 1, ..table },
            ConstantRegisters { registers: [ConstantRegister { gpa: 2, value: 0, reserved: 0 }; 8], ..table },
            ConstantRegisters { registers: [ConstantRegister { gpa: 4, value: 0, reserved: 1 }; 8], ..table },
        ] {
            assert_eq!(ConstantRegisters { count: bad.count.max(8), ..bad }.checked(), None);
        }
    }
}
