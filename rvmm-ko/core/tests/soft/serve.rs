//! What [`super::SoftHost`] shows of itself in the middle of a stay: memory that has been pinned before, and no new pages. Written after
//! rvmm-ko/arch/src/serve.rs.

use rvmm_arch::fault::{Exception, PageFaultCode, Vector};
use rvmm_arch::host::{Backing, GuestMemory, HostError, HostPage, HostPages};
use rvmm_arch::segment::SegReg;
use rvmm_arch::serve::{Serve, Served, StayFault, StayTrap};
use rvmm_arch::{Gfn, Gpa, Hpa, Pfn, VcpuState};

use super::{events, SoftHost};

pub struct Stay<'a>(&'a mut SoftHost);

impl Stay<'_> {
    fn is_pinned(&self, gfn: Gfn) -> Result<(), HostError> {
        match self.0.pinned.get(gfn.0 as usize) {
            Some(false) => Err(HostError::BadClientMemory),
            _ => Ok(()),
        }
    }
}

impl GuestMemory for Stay<'_> {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.is_pinned(gfn)?;
        self.0.backing(gfn)
    }

    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        self.is_pinned(gpa.frame())?;
        self.0.read_ram(gpa, buf)
    }

    fn write_ram(&mut self, _gpa: Gpa, _data: &[u8]) -> Result<bool, HostError> {
        panic!("guest memory is written in the middle of a stay");
    }

    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        self.is_pinned(gpa.frame())?;
        self.0.compare_exchange_ram(gpa, size, old, new)
    }

    fn has_memory(&mut self, first: Gfn, count: u64) -> bool {
        self.0.has_memory(first, count)
    }
}

impl HostPages for Stay<'_> {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        panic!("a page is allocated in the middle of a stay");
    }

    fn free_page(&mut self, page: HostPage) {
        self.0.free_page(page);
    }

    fn pfn(&self, page: HostPage) -> Pfn {
        self.0.pfn(page)
    }

    fn read_entry(&self, page: HostPage, index: usize) -> u64 {
        self.0.read_entry(page, index)
    }

    fn write_entry(&mut self, page: HostPage, index: usize, value: u64) {
        self.0.write_entry(page, index, value);
    }

    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096] {
        self.0.bytes(page)
    }
}

/// An exception of guest code, with `root` loaded and `lent` roots besides: what becomes of it. Marked faults are nobody's to serve, nor are
/// those of code with a null selector that an IRETQ would change.
pub fn ask(
    host: &mut SoftHost,
    serve: &mut dyn Serve,
    (cpu, fault): (&VcpuState, Exception),
    root: u64,
    lent: [u64; 3],
) -> Served {
    let error = fault.error.unwrap_or(0);
    let marked = error & PageFaultCode::RSVD.bits() != 0;
    if fault.vector != Vector::PF || marked || events::has_marked_null(cpu) {
        return Served::Exit;
    }
    let cs = cpu.segment(SegReg::Cs).selector.0;
    let fault = StayFault { root: Hpa(root), cr2: fault.payload, error, rip: cpu.rip, cs };
    let served = serve.page_fault(&mut Stay(host), fault);
    for root in lent.into_iter().filter(|root| *root != 0) {
        assert!(host.is_live(Pfn(root >> 12)), "a root of this stay was given back in it");
    }
    served
}

/// A #BP of guest code, with `root` loaded: where it goes on, if it does.
pub fn ask_behind_int3(host: &mut SoftHost, serve: &mut dyn Serve, cpu: &VcpuState, root: u64) -> Option<u64> {
    if events::has_marked_null(cpu) {
        return None;
    }
    let trap = StayTrap { root: Hpa(root), rip: cpu.rip, cs: cpu.segment(SegReg::Cs).selector.0 };
    serve.breakpoint(&mut Stay(host), trap).map(|behind| behind.rip)
}
