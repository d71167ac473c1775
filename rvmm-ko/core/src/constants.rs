//! Registers of memory-mapped devices that the client has told to be constant: the engine reads them for it.
//!
//! What was told ends when the guest changes IA32_APIC_BASE, of which the client learns at the next return to it only.
//!
//! A kernel that asks its local APIC for the number of its CPU in each lock would else spend its time in returns to the client.

use rvmm_arch::Gpa;

use crate::io::IoAccess;

/// The most registers; `rvmm_abi::MAX_CONSTANTS`.
const CAPACITY: usize = 8;

/// Addresses of 32-bit registers, and what they read as.
#[derive(Clone, Debug, Default)]
pub struct Constants {
    table: [Option<(Gpa, u32)>; CAPACITY],
}

impl Constants {
    /// The first eight of `registers`.
    #[must_use]
    pub fn new(registers: impl IntoIterator<Item = (Gpa, u32)>) -> Self {
        let mut constants = Self::default();
        for (to, from) in constants.table.iter_mut().zip(registers) {
            *to = Some(from);
        }
        constants
    }

    /// The answer to `access`, if it reads one of them whole.
    #[must_use]
    pub fn answer(&self, access: IoAccess) -> Option<u64> {
        let IoAccess::MmioRead { gpa, len: 4 } = access else { return None };
        self.table.iter().flatten().find(|(at, _)| *at == gpa).map(|(_, value)| u64::from(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_registers_are_answered() {
        let constants = Constants::new([(Gpa(0xfee0_0020), 7), (Gpa(0xfee0_0030), 8)]);
        let read = |gpa, len| constants.answer(IoAccess::MmioRead { gpa: Gpa(gpa), len });
        assert_eq!((read(0xfee0_0020, 4), read(0xfee0_0030, 4)), (Some(7), Some(8)));
        assert_eq!((read(0xfee0_0020, 8), read(0xfee0_0020, 1), read(0xfee0_0022, 4)), (None, None, None));
        assert_eq!(constants.answer(IoAccess::MmioWrite { gpa: Gpa(0xfee0_0020), len: 4, data: 0 }), None);
        assert_eq!(constants.answer(IoAccess::PortIn { port: 0x20, size: 4 }), None);
    }
}
