//! In which real rings the guest's rings 0 and 3 run.

use crate::regs::Efer;
use crate::VcpuState;

/// The deprivileging model that a VM was made with. Guests in long mode run in ring 3 whatever it says: paging tells no more
/// than two levels apart, and in 64-bit mode segment limits, which would have to keep ring 1 out, do not act.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Model {
    /// 0/1/3: the guest's kernel in ring 1, its programs in ring 3.
    #[default]
    Ring1,
    /// 0/3/3: both in ring 3, told apart by the shadow root.
    Ring3,
}

impl Model {
    /// The real ring of guest-kernel code in the state that `cpu` is in.
    #[must_use]
    #[inline]
    pub const fn kernel_ring(self, cpu: &VcpuState) -> u8 {
        match self {
            Self::Ring1 if !cpu.efer.contains(Efer::LMA) => 1,
            Self::Ring1 | Self::Ring3 => 3,
        }
    }
}
