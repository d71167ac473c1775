//! Where patch blocks find the virtual CPU.

/// The patch-visible vCPU page: its linear address and the offsets of the fields that blocks use. Fields are little-endian, a u32
/// or, where they hold a register or an address, a u64 of which 32-bit blocks use the lower half. Ring 0 must trust none of
/// them, since the guest kernel can write them as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VcpuPageLayout {
    /// Linear address of the page: below 4 GiB for 32-bit code, within 2 GiB of patch memory for 64-bit code.
    pub linear: u64,
    /// u32, the virtual interrupt flag: 0 or 0x200.
    pub vif: u16,
    /// u32, not 0 while an event waits for the virtual interrupt flag: the block that sets the flag then exits.
    pub pending: u16,
    /// u64, guest RIP of the instruction behind the last STI: no interrupt is delivered there.
    pub shadow: u16,
    /// u32, the other virtual flags: IOPL and AC, in their places in EFLAGS.
    pub vflags: u16,
    /// u32, the guest's CS selector, zero-extended.
    pub cs: u16,
    /// u32, the guest's SS selector, zero-extended.
    pub ss: u16,
    /// u32, the selector that a frame's CS must be, zero-extended, for an IRET to stay in the ring and to change nothing but RIP,
    /// RSP and flags that its block knows. In 64-bit code, whose frames have an SS always, that must be the one in `ss`.
    /// [`NO_RETURN`] while the VMM knows that there is more to do.
    pub return_cs: u16,
    /// u64 each, the guest's CR0, CR2, CR3 and CR4.
    pub control: u16,
    /// u64, the guest's IA32_KERNEL_GS_BASE.
    pub kernel_gs: u16,
    /// Three u32, zero-extended selectors with which an IRET goes to a program by a call of ring 0: CS of code of the mode's width, SS, CS of
    /// compatibility code; [`NO_RETURN`] while there is nobody to call, or no such code.
    pub program: u16,
    /// [`SCRATCH_WORDS`] u64 of scratch. From word [`CALL_WORD`] on they are what a block's call of ring 0 hands over.
    pub scratch: u16,
    /// [`EVENT_WORDS`] u64 that ring 0 writes before the block runs that pushes the frame of an event: SS, RSP, flags, CS, RIP, error code,
    /// handler.
    pub event: u16,
    /// u64, where the word is that a VERW finds to name a segment that ring 0 may write; 0: nobody knows of one. Behind it a u32, a selector
    /// that is writable in the ring that blocks run in.
    pub writable: u16,
}

/// Words of an event in the vCPU page.
pub const EVENT_WORDS: usize = 7;

/// Words of scratch in the vCPU page.
pub const SCRATCH_WORDS: usize = 11;

/// The scratch word where a call of ring 0 begins: RIP, RSP, one that is none of it, RCX, R11, the flags and the kind of return.
pub const CALL_WORD: usize = 4;

/// The kind of return in a call of ring 0: by SYSRETQ, whose flags have no RF.
pub const BY_SYSRETQ: u32 = 1;
/// By IRETQ to 64-bit code, and by IRETD of 32-bit code.
pub const BY_IRETQ: u32 = 2;
/// By a SYSRET to compatibility code; likewise, and of RIP the lower half counts.
pub const BY_SYSRETL: u32 = 3;
/// By IRETQ to compatibility code.
pub const BY_IRETQ_COMPAT: u32 = 4;
/// By a SYSEXIT to 32-bit code: the flags are those at the call, with the virtual ones of the vCPU page.
pub const BY_SYSEXIT: u32 = 5;
/// The vector by which blocks of 32-bit code call ring 0.
pub const CALL_VECTOR: u8 = 15;

/// In the field `return_cs`: equal to no selector, so that every IRET is left to the VMM.
pub const NO_RETURN: u32 = u32::MAX;

/// In the field `shadow`: RIP of no instruction, in either code size when cut to it.
pub const NO_SHADOW: u64 = u64::MAX;

/// A field of the vCPU page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Vif,
    Pending,
    Shadow,
    Vflags,
    Cs,
    Ss,
    ReturnCs,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    KernelGs,
    ProgramCs,
    ProgramSs,
    CompatCs,
    /// Holds the guest's RAX while a block uses RAX.
    SavedRax,
    /// Holds the guest's RCX while a block uses RCX.
    SavedRcx,
    /// Holds the guest's arithmetic flags (see [`super::map`]) while a block has changed them.
    SavedFlags,
    /// Holds the virtual interrupt flag that a POPF or IRET is about to set.
    NewVif,
    /// Holds the RIP that an IRET is about to go to.
    Target,
    /// Holds the RSP that an IRET of 64-bit code, or one to a program, is about to set.
    NewRsp,
    /// Holds the GS base that a SWAPGS is about to put away.
    OldGs,
    /// Holds the guest's RCX, which a call of ring 0 overwrites and the program is to find.
    CallRcx,
    /// The same for R11.
    CallR11,
    /// Holds the flags of a program that is returned to.
    CallFlags,
    /// Holds [`BY_SYSRETQ`] or another one of these.
    CallKind,
    Writable,
    WritableSelector,
}

impl Field {
    /// Offset from the fields' common start, and whether it is as wide as the code's registers.
    const fn place(self, page: &VcpuPageLayout) -> (u16, bool) {
        match self {
            Field::Vif => (page.vif, false),
            Field::Pending => (page.pending, false),
            Field::Shadow => (page.shadow, true),
            Field::Vflags => (page.vflags, false),
            Field::Cs => (page.cs, false),
            Field::Ss => (page.ss, false),
            Field::ReturnCs => (page.return_cs, false),
            Field::Cr0 => (page.control, true),
            Field::Cr2 => (page.control.wrapping_add(8), true),
            Field::Cr3 => (page.control.wrapping_add(16), true),
            Field::Cr4 => (page.control.wrapping_add(24), true),
            Field::KernelGs => (page.kernel_gs, true),
            Field::SavedRax => (page.scratch, true),
            Field::SavedRcx => (page.scratch.wrapping_add(8), true),
            Field::SavedFlags => (page.scratch.wrapping_add(16), false),
            Field::NewVif => (page.scratch.wrapping_add(24), false),
            Field::Target => (page.scratch.wrapping_add(32), true),
            Field::NewRsp => (page.scratch.wrapping_add(40), true),
            Field::OldGs => (page.scratch.wrapping_add(48), true),
            Field::CallRcx => (page.scratch.wrapping_add(56), true),
            Field::CallR11 => (page.scratch.wrapping_add(64), true),
            Field::CallFlags => (page.scratch.wrapping_add(72), true),
            Field::CallKind => (page.scratch.wrapping_add(80), false),
            Field::Writable => (page.writable, true),
            Field::WritableSelector => (page.writable.wrapping_add(8), false),
            Field::ProgramCs => (page.program, false),
            Field::ProgramSs => (page.program.wrapping_add(4), false),
            Field::CompatCs => (page.program.wrapping_add(8), false),
        }
    }
}

impl VcpuPageLayout {
    /// Linear address of a field.
    pub(super) const fn address(&self, field: Field) -> u64 {
        self.linear.wrapping_add(field.place(self).0 as u64)
    }

    /// Is a field as wide as the registers of the code, rather than a u32 in every code size?
    pub(super) const fn is_word(&self, field: Field) -> bool {
        field.place(self).1
    }
}
