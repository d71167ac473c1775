//! A host of arrays: the guest's memory and the host's pages, both of which can run out or fail.

use rvmm_arch::host::{Backing, GuestMemory, HostError, HostPage, HostPages};
use rvmm_arch::{Gfn, Gpa, Hpa, Pfn};

/// Guest frame n is host frame GUEST_BASE + n; host page n is host frame HOST_BASE + n.
const GUEST_BASE: u64 = 0x10_0000;
const HOST_BASE: u64 = 0x20_0000;

/// The frame that is the guest's `gfn`.
pub fn pfn(gfn: u64) -> Pfn {
    Pfn(GUEST_BASE + gfn)
}

/// The guest's number of a frame of its.
pub fn gfn(pfn: Pfn) -> u64 {
    pfn.0 - GUEST_BASE
}

/// The page of the host's that is at this address.
pub fn host_page(at: Hpa) -> HostPage {
    HostPage(u32::try_from(at.frame().0 - HOST_BASE).unwrap())
}

pub struct FakeHost {
    pub ram: Vec<u8>,
    pub readonly: Vec<u64>,
    pub pages: Vec<Option<Box<[u8; 4096]>>>,
    pub quota: usize,
    pub broken: Option<u64>,
}

impl FakeHost {
    pub fn new(frames: usize, quota: usize) -> Self {
        Self { ram: vec![0; frames * 4096], readonly: Vec::new(), pages: Vec::new(), quota, broken: None }
    }
    pub fn live(&self) -> usize {
        self.pages.iter().flatten().count()
    }
    pub fn gpte(&self, table: u64, index: usize) -> u32 {
        let at = (table << 12) as usize + index * 4;
        u32::from_le_bytes(self.ram[at..at + 4].try_into().unwrap())
    }
    pub fn set_gpte(&mut self, table: u64, index: usize, value: u32) -> Gpa {
        let at = (table << 12) as usize + index * 4;
        self.ram[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Gpa(at as u64)
    }
    pub fn wide(&self, table: u64, index: usize) -> u64 {
        let at = (table << 12) as usize + index * 8;
        u64::from_le_bytes(self.ram[at..at + 8].try_into().unwrap())
    }
    pub fn set_wide(&mut self, table: u64, index: usize, value: u64) -> Gpa {
        let at = (table << 12) as usize + index * 8;
        self.ram[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Gpa(at as u64)
    }
    /// Writes guest memory as the guest itself does it; what was there.
    pub fn replace(&mut self, at: Gpa, data: &[u8]) -> Vec<u8> {
        let place = &mut self.ram[at.0 as usize..][..data.len()];
        let old = place.to_vec();
        place.copy_from_slice(data);
        old
    }
    fn place(&self, gpa: Gpa, len: usize) -> Option<usize> {
        assert!(gpa.offset() + len <= 4096, "access crosses a page");
        (gpa.0 as usize + len <= self.ram.len()).then_some(gpa.0 as usize)
    }
    fn check(&self, gfn: Gfn) -> Result<(), HostError> {
        if self.broken == Some(gfn.0) {
            return Err(HostError::BadClientMemory);
        }
        Ok(())
    }
}

impl GuestMemory for FakeHost {
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError> {
        self.check(gfn)?;
        Ok(if gfn.0 < self.ram.len() as u64 / 4096 {
            Backing::Ram { pfn: pfn(gfn.0), readonly: self.readonly.contains(&gfn.0) }
        } else {
            Backing::Mmio
        })
    }
    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError> {
        self.check(gpa.frame())?;
        let Some(at) = self.place(gpa, buf.len()) else { return Ok(false) };
        buf.copy_from_slice(&self.ram[at..at + buf.len()]);
        Ok(true)
    }
    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError> {
        let Some(at) = self.place(gpa, data.len()) else { return Ok(false) };
        if self.readonly.contains(&gpa.frame().0) {
            return Ok(false);
        }
        self.ram[at..at + data.len()].copy_from_slice(data);
        Ok(true)
    }
    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError> {
        compare_exchange(self, self.readonly.contains(&gpa.frame().0), gpa, size, old, new)
    }

    fn has_memory(&mut self, first: Gfn, _count: u64) -> bool {
        first.0 < self.ram.len() as u64 / 4096
    }
}

/// A read and a write: nobody comes in between.
pub fn compare_exchange(
    memory: &mut impl GuestMemory,
    readonly: bool,
    gpa: Gpa,
    size: u8,
    old: u64,
    new: u64,
) -> Result<bool, HostError> {
    let size = usize::from(size);
    assert!(gpa.0 as usize % size == 0, "compare-exchange not aligned");
    let mut buf = [0; 8];
    if readonly || !memory.read_ram(gpa, &mut buf[..size])? || u64::from_le_bytes(buf) != old {
        return Ok(false);
    }
    memory.write_ram(gpa, &new.to_le_bytes()[..size])
}

impl HostPages for FakeHost {
    fn alloc_page(&mut self) -> Result<HostPage, HostError> {
        if self.live() >= self.quota {
            return Err(HostError::NoMemory);
        }
        let page = Some(Box::new([0; 4096]));
        match self.pages.iter().position(Option::is_none) {
            Some(i) => {
                self.pages[i] = page;
                Ok(HostPage(i as u32))
            }
            None => {
                self.pages.push(page);
                Ok(HostPage(self.pages.len() as u32 - 1))
            }
        }
    }
    fn free_page(&mut self, page: HostPage) {
        assert!(self.pages[page.0 as usize].take().is_some(), "freed twice");
    }
    fn pfn(&self, page: HostPage) -> Pfn {
        assert!(self.pages[page.0 as usize].is_some(), "use after free");
        Pfn(HOST_BASE + u64::from(page.0))
    }
    fn read_entry(&self, page: HostPage, index: usize) -> u64 {
        let page = self.pages[page.0 as usize].as_ref().expect("use after free");
        page.get(index * 8..index * 8 + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap()))
    }
    fn write_entry(&mut self, page: HostPage, index: usize, value: u64) {
        let page = self.pages[page.0 as usize].as_mut().expect("use after free");
        if let Some(b) = page.get_mut(index * 8..index * 8 + 8) {
            b.copy_from_slice(&value.to_le_bytes());
        }
    }
    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096] {
        self.pages[page.0 as usize].as_mut().expect("use after free")
    }
}
