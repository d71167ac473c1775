//! Selectors, descriptors and the hidden part of segment registers (Intel SDM vol. 3 §3.4 and §3.5).

use crate::regs::Cr0;

/// A segment selector: index, table indicator and requested privilege level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Selector(pub u16);

impl Selector {
    /// Requested privilege level, 0 to 3.
    #[must_use]
    #[inline]
    pub const fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }
    /// Index of the descriptor in its table.
    #[must_use]
    #[inline]
    pub const fn index(self) -> u16 {
        self.0 >> 3
    }
    /// True where the selector names the LDT.
    #[must_use]
    #[inline]
    pub const fn is_ldt(self) -> bool {
        self.0 & 4 != 0
    }
    /// True for selectors 0 to 3.
    #[must_use]
    #[inline]
    pub const fn is_null(self) -> bool {
        self.0 & !3 == 0
    }
    /// The same selector with another RPL (only the low two bits of `rpl` count).
    #[must_use]
    #[inline]
    pub const fn with_rpl(self, rpl: u8) -> Self {
        Self((self.0 & !3) | (rpl as u16 & 3))
    }
    /// The selector as it stands in an error code: without the RPL.
    #[must_use]
    #[inline]
    pub const fn error_code(self) -> u32 {
        (self.0 & !3) as u32
    }
}

/// The six segment registers, in the order of their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SegReg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
}

impl SegReg {
    /// All six, in the order of their encoding.
    pub const ALL: [Self; 6] = [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs];
}

/// An 8-byte descriptor as it stands in a GDT or LDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Descriptor(pub u64);

impl Descriptor {
    /// The accessed bit of code and data descriptors.
    pub const ACCESSED: u64 = 1 << 40;
    /// The busy bit of TSS descriptors.
    pub const BUSY: u64 = 1 << 41;
    /// The present bit.
    pub const PRESENT: u64 = 1 << 47;
    /// The bit that tells code and data (1) from system descriptors (0).
    pub const CODE_OR_DATA: u64 = 1 << 44;
    /// The 64-bit code bit.
    pub const LONG: u64 = 1 << 53;
    /// The default-size bit (D/B).
    pub const DB: u64 = 1 << 54;

    /// Base address, 32 bits.
    #[must_use]
    #[inline]
    pub const fn base(self) -> u32 {
        (((self.0 >> 16) & 0xff_ffff) | ((self.0 >> 32) & 0xff00_0000)) as u32
    }
    /// Limit in bytes, the granularity bit applied.
    #[must_use]
    #[inline]
    pub const fn limit(self) -> u32 {
        let raw = ((self.0 & 0xffff) | ((self.0 >> 32) & 0xf_0000)) as u32;
        if self.0 & (1 << 55) != 0 {
            (raw << 12) | 0xfff
        } else {
            raw
        }
    }
    /// The 4-bit type.
    #[must_use]
    #[inline]
    pub const fn kind(self) -> u8 {
        ((self.0 >> 40) & 0xf) as u8
    }
    /// Descriptor privilege level, 0 to 3.
    #[must_use]
    #[inline]
    pub const fn dpl(self) -> u8 {
        ((self.0 >> 45) & 3) as u8
    }
    /// The same descriptor with another DPL (only the low two bits count).
    #[must_use]
    #[inline]
    pub const fn with_dpl(self, dpl: u8) -> Self {
        Self((self.0 & !(3 << 45)) | ((dpl as u64 & 3) << 45))
    }
    /// Present?
    #[must_use]
    #[inline]
    pub const fn present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }
    /// A code or data descriptor, as opposed to a system one?
    #[must_use]
    #[inline]
    pub const fn is_code_or_data(self) -> bool {
        self.0 & Self::CODE_OR_DATA != 0
    }
    /// A code segment?
    #[must_use]
    #[inline]
    pub const fn is_code(self) -> bool {
        self.is_code_or_data() && self.kind() & 8 != 0
    }
    /// A conforming code segment?
    #[must_use]
    #[inline]
    pub const fn is_conforming(self) -> bool {
        self.is_code() && self.kind() & 4 != 0
    }
    /// A writable data segment?
    #[must_use]
    #[inline]
    pub const fn is_writable_data(self) -> bool {
        self.is_code_or_data() && self.kind() & 8 == 0 && self.kind() & 2 != 0
    }
    /// A segment that may be read: data, or readable code?
    #[must_use]
    #[inline]
    pub const fn is_readable(self) -> bool {
        self.is_code_or_data() && (self.kind() & 8 == 0 || self.kind() & 2 != 0)
    }
    /// Access-rights word: type, S, DPL, P in bits 0–7, AVL, L, D/B, G in bits 12–15.
    #[must_use]
    #[inline]
    pub const fn attrs(self) -> u16 {
        ((self.0 >> 40) & 0xf0ff) as u16
    }
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The visible selector, as the guest would read it.
    pub selector: Selector,
    /// Base, a linear address.
    pub base: u64,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Access rights in the layout of [`Descriptor::attrs`]; 0 means unusable (a null selector was loaded).
    pub attrs: u16,
}

impl Segment {
    /// The hidden part that loading `desc` through `selector` gives.
    #[must_use]
    #[inline]
    pub const fn from_descriptor(selector: Selector, desc: Descriptor) -> Self {
        Self { selector, base: desc.base() as u64, limit: desc.limit(), attrs: desc.attrs() }
    }
    /// A data or code segment after a null selector was loaded.
    #[must_use]
    #[inline]
    pub const fn null(selector: Selector) -> Self {
        Self { selector, base: 0, limit: 0, attrs: 0 }
    }
    /// The segment of real mode for `selector` (SDM vol. 3 §21.1).
    #[must_use]
    #[inline]
    pub const fn real_mode(selector: u16) -> Self {
        Self { selector: Selector(selector), base: (selector as u64) << 4, limit: 0xffff, attrs: 0x93 }
    }
    /// Usable and present?
    #[must_use]
    #[inline]
    pub const fn usable(&self) -> bool {
        self.attrs & 0x80 != 0
    }
    /// The 4-bit type.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> u8 {
        (self.attrs & 0xf) as u8
    }
    /// Descriptor privilege level.
    #[must_use]
    #[inline]
    pub const fn dpl(&self) -> u8 {
        ((self.attrs >> 5) & 3) as u8
    }
    /// The D/B bit: 32-bit code, or a 32-bit stack.
    #[must_use]
    #[inline]
    pub const fn db(&self) -> bool {
        self.attrs & (1 << 14) != 0
    }
    /// The L bit: 64-bit code.
    #[must_use]
    #[inline]
    pub const fn long(&self) -> bool {
        self.attrs & (1 << 13) != 0
    }
    /// A code segment?
    #[must_use]
    #[inline]
    pub const fn is_code(&self) -> bool {
        self.attrs & 0x18 == 0x18
    }
    /// May data be written through it?
    #[must_use]
    #[inline]
    pub const fn writable(&self) -> bool {
        self.attrs & 0x9a == 0x92
    }
    /// May data be read through it?
    #[must_use]
    #[inline]
    pub const fn readable(&self) -> bool {
        self.attrs & 0x90 == 0x90 && (self.attrs & 8 == 0 || self.attrs & 2 != 0)
    }
    /// Expand-down data?
    #[must_use]
    #[inline]
    pub const fn expand_down(&self) -> bool {
        self.attrs & 0x1c == 0x14
    }
    /// Base 0, limit 4 GiB, expand-up: an offset is the linear address, and none is refused.
    #[must_use]
    #[inline]
    pub const fn flat(&self) -> bool {
        self.base == 0 && self.limit == u32::MAX && self.usable() && !self.expand_down()
    }
    /// May `len` bytes (at least 1) at `offset` be accessed (limit check only, SDM vol. 3 §5.3)?
    #[must_use]
    #[inline]
    pub const fn in_limit(&self, offset: u32, len: u32) -> bool {
        let last = offset as u64 + len as u64 - 1;
        if self.expand_down() {
            let top = if self.db() { u32::MAX as u64 } else { 0xffff };
            offset as u64 > self.limit as u64 && last <= top
        } else {
            last <= self.limit as u64
        }
    }
    /// The descriptor that would give this hidden part (granularity chosen to fit the limit).
    #[must_use]
    #[inline]
    pub const fn to_descriptor(&self) -> Descriptor {
        let g = (self.attrs >> 15) & 1;
        let raw = if g != 0 { self.limit >> 12 } else { self.limit };
        let base = self.base & 0xffff_ffff;
        Descriptor(
            (raw as u64 & 0xffff)
                | ((base & 0xff_ffff) << 16)
                | ((self.attrs as u64 & 0xf0ff) << 40)
                | ((raw as u64 & 0xf_0000) << 32)
                | ((base & 0xff00_0000) << 32),
        )
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableRegister {
    /// Linear address of the first entry.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u16,
}

/// What the CPU executes in, as far as the size of things is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CpuMode {
    /// CR0.PE = 0.
    Real,
    /// Protected mode with RFLAGS.VM.
    Virtual8086,
    /// Protected mode, including compatibility mode under long mode.
    Protected,
    /// 64-bit mode.
    Long,
}

impl CpuMode {
    /// True outside protected mode proper: selectors are shifted, not looked up.
    #[must_use]
    #[inline]
    pub const fn segments_are_shifted(self) -> bool {
        matches!(self, Self::Real | Self::Virtual8086)
    }
    /// The mode that CR0, RFLAGS.VM, EFER.LMA and CS.L make.
    #[must_use]
    #[inline]
    pub const fn of(cr0: Cr0, vm: bool, lma: bool, cs_long: bool) -> Self {
        if !cr0.contains(Cr0::PE) {
            Self::Real
        } else if lma && cs_long {
            Self::Long
        } else if vm {
            Self::Virtual8086
        } else {
            Self::Protected
        }
    }
}
