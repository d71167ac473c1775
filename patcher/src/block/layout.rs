//! Where patch blocks find the virtual CPU.

/// The patch-visible vCPU page: its linear address and the offsets of the fields that blocks use. Every field is a
/// little-endian u32. Ring 0 must trust none of them, since the guest kernel can write them as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VcpuPageLayout {
    /// Linear address of the page, below 4 GiB.
    pub linear: u32,
    /// The virtual interrupt flag: 0 or 0x200.
    pub vif: u16,
    /// Not 0 while an event waits for the virtual interrupt flag: the block that sets the flag then exits.
    pub pending: u16,
    /// Guest EIP of the instruction behind the last STI: no interrupt is delivered there.
    pub shadow: u16,
    /// The other virtual flags: IOPL and AC, in their places in EFLAGS.
    pub vflags: u16,
    /// The guest's CS selector, zero-extended.
    pub cs: u16,
    /// The guest's SS selector, zero-extended.
    pub ss: u16,
    /// The selector that a frame's CS must be, zero-extended, for an IRET to stay in the ring and to change nothing but EIP,
    /// ESP and flags that its block knows. [`NO_RETURN`] while the VMM knows that there is more to do.
    pub return_cs: u16,
    /// The guest's CR0, CR2, CR3 and CR4.
    pub control: u16,
    /// [`SCRATCH_WORDS`] u32 of scratch.
    pub scratch: u16,
}

/// Words of scratch in the vCPU page.
pub const SCRATCH_WORDS: usize = 5;

/// In the field `return_cs`: equal to no selector, so that every IRET is left to the VMM.
pub const NO_RETURN: u32 = u32::MAX;

/// In the field `shadow`: EIP of no instruction.
pub const NO_SHADOW: u32 = u32::MAX;

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
    /// Holds the guest's EAX while a block uses EAX.
    SavedEax,
    /// Holds the guest's ECX while a block uses ECX.
    SavedEcx,
    /// Holds the guest's arithmetic flags (see [`super::map`]) while a block has changed them.
    SavedFlags,
    /// Holds the virtual interrupt flag that a POPF or IRET is about to set.
    NewVif,
    /// Holds the EIP that an IRET is about to go to.
    Target,
}

impl VcpuPageLayout {
    /// Linear address of a field.
    pub(super) fn address(&self, field: Field) -> u32 {
        let offset = match field {
            Field::Vif => self.vif,
            Field::Pending => self.pending,
            Field::Shadow => self.shadow,
            Field::Vflags => self.vflags,
            Field::Cs => self.cs,
            Field::Ss => self.ss,
            Field::ReturnCs => self.return_cs,
            Field::Cr0 => self.control,
            Field::Cr2 => self.control.wrapping_add(4),
            Field::Cr3 => self.control.wrapping_add(8),
            Field::Cr4 => self.control.wrapping_add(12),
            Field::SavedEax => self.scratch,
            Field::SavedEcx => self.scratch.wrapping_add(4),
            Field::SavedFlags => self.scratch.wrapping_add(8),
            Field::NewVif => self.scratch.wrapping_add(12),
            Field::Target => self.scratch.wrapping_add(16),
        };
        self.linear.wrapping_add(u32::from(offset))
    }
}
