//! Any tables under any control registers: no panic, no endless walk, and error codes that fit the access.
#![no_main]

mod input;

use input::Input;
use libfuzzer_sys::fuzz_target;
use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::host::{Backing, GuestMemory, HostError};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::{Gfn, Gpa, Gva};
use rvmm_mmu::walk::{walk, Traces, Walked};
use rvmm_mmu::Paging;

struct Memory(Vec<u8>);

impl Memory {
    fn range(&self, gpa: Gpa, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(gpa.0).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.0.len()).then_some(start..end)
    }
}

impl GuestMemory for Memory {
    fn backing(&mut self, _: Gfn) -> Result<Backing, HostError> {
        Ok(Backing::Mmio)
    }
    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        assert!(gpa.0 & 0xfff <= 0x1000 - buf.len() as u64, "a read across a page");
        Ok(self.range(gpa, buf.len()).map(|r| buf.copy_from_slice(&self.0[r])).is_some())
    }
    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        Ok(self.range(gpa, data.len()).map(|r| self.0[r].copy_from_slice(data)).is_some())
    }
    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        let size = usize::from(size);
        assert!((size == 4 || size == 8) && gpa.0 as usize % size == 0);
        let Some(r) = self.range(gpa, size) else { return Ok(false) };
        let same = self.0[r.clone()] == old.to_le_bytes()[..size];
        if same {
            self.0[r].copy_from_slice(&new.to_le_bytes()[..size]);
        }
        Ok(same)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut from = Input(data);
    let paging = Paging {
        cr0: Cr0::from_bits_truncate(from.u64()) | Cr0::PG,
        cr3: from.u64(),
        cr4: Cr4::from_bits_truncate(from.u64()),
        efer: Efer::from_bits_truncate(from.u64()),
        rflags: Rflags::from_bits_truncate(from.u64()),
        physical_bits: from.u8(),
    };
    let paging = Paging { cr3: if from.u8() & 1 == 0 { paging.cr3 & 0x3fff } else { paging.cr3 }, ..paging };
    let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Fetch][usize::from(from.u8() % 3)];
    let privilege = [Privilege::User, Privilege::Supervisor, Privilege::Implicit][usize::from(from.u8() % 3)];
    let access = Access { kind, privilege };
    let la = Gva(from.value());
    let traces = if from.u8() & 1 == 0 { Traces::Set } else { Traces::None };
    let tables = from.0;
    let mut memory = Memory((0..0x4000usize).map(|i| tables.get(i % tables.len().max(1)).copied().unwrap_or(0)).collect());
    let Ok(Some(first)) = walk(&mut memory, &paging, la, access, traces) else { return };
    match first {
        Walked::Mapped(w) => assert!(w.steps().len() <= 5),
        Walked::Fault(code) => {
            assert_eq!(code.contains(PageFaultCode::U), privilege == Privilege::User);
            assert_eq!(code.contains(PageFaultCode::W), kind == AccessKind::Write);
        }
    }
    // Accessed and dirty bits are set once; they may change what entries mean only where tables refer to themselves.
    let _ = walk(&mut memory, &paging, la, access, Traces::None);
});
