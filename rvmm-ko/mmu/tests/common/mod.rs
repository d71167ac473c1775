//! A host of arrays, and a CPU's walk of the tables that the MMU builds in it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rvmm_arch::host::{Backing, GuestMemory, HostError, HostPage, HostPages};
use rvmm_arch::machine::AccessKind;
use rvmm_arch::{Gfn, Gpa, Gva, Hpa, PageFaultCode, Pfn};
use rvmm_mmu::Space;

/// Guest frame n is host frame GUEST_BASE + n; host page n is host frame HOST_BASE + n.
pub const GUEST_BASE: u64 = 0x10_0000;
pub const HOST_BASE: u64 = 0x20_0000;
/// PKRU in guest-kernel mode: key 1 may be neither read nor written.
pub const PKRU: u32 = 0xc;

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
            Backing::Ram { pfn: Pfn(GUEST_BASE + gfn.0), readonly: self.readonly.contains(&gfn.0) }
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
        let size = usize::from(size);
        assert!(gpa.0 as usize % size == 0, "compare-exchange not aligned");
        let mut buf = [0; 8];
        if self.readonly.contains(&gpa.frame().0) || !self.read_ram(gpa, &mut buf[..size])? {
            return Ok(false);
        }
        if u64::from_le_bytes(buf) != old {
            return Ok(false);
        }
        self.write_ram(gpa, &new.to_le_bytes()[..size])
    }
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

/// A leaf as the CPU would combine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub pfn: Pfn,
    pub write: bool,
    pub user: bool,
    pub execute: bool,
    pub pkey: u8,
}

/// A physical address bit that the host's CPU has not.
pub const BEYOND: u64 = 1 << 51;

/// Does the way to `gva` end at an entry with a reserved bit?
pub fn marked(host: &FakeHost, levels: u8, root: Hpa, gva: Gva) -> bool {
    let mut table = root;
    for level in (1..=levels).rev() {
        let page = HostPage(u32::try_from(table.frame().0 - HOST_BASE).unwrap());
        let entry = host.read_entry(page, ((gva.0 >> (12 + 9 * (u32::from(level) - 1))) & 511) as usize);
        if entry & 1 == 0 || entry & BEYOND != 0 {
            assert!(entry & 1 == 0 || entry == 1 | BEYOND, "{entry:#x} stands for nothing");
            return entry & 1 != 0;
        }
        table = Hpa(entry & 0x000f_ffff_ffff_f000);
    }
    false
}

/// What the shadow tables under `root` hold for `gva`.
pub fn shadow_leaf(host: &FakeHost, levels: u8, root: Hpa, gva: Gva) -> Option<Leaf> {
    let mut table = root;
    let mut leaf = Leaf { pfn: Pfn(0), write: true, user: true, execute: true, pkey: 0 };
    for level in (1..=levels).rev() {
        let page = HostPage(u32::try_from(table.frame().0 - HOST_BASE).unwrap());
        let entry = host.read_entry(page, ((gva.0 >> (12 + 9 * (u32::from(level) - 1))) & 511) as usize);
        if entry & 1 == 0 || entry & BEYOND != 0 {
            return None;
        }
        assert_eq!(entry & (1 << 8), 0, "global entry");
        assert_eq!(entry & 0x7ff0_0000_0000_0000 & !(0xf << 59), 0, "reserved bits: {entry:#x}");
        assert_ne!(entry & (1 << 5), 0, "the CPU would have to write an accessed bit");
        leaf.write &= entry & 2 != 0;
        leaf.user &= entry & 4 != 0;
        leaf.execute &= entry >> 63 == 0;
        leaf.pkey = (entry >> 59 & 15) as u8;
        table = Hpa(entry & 0x000f_ffff_ffff_f000);
        if level > 1 {
            assert_eq!(entry & (1 << 7), 0, "large pages are not used");
        }
    }
    leaf.pfn = table.frame();
    Some(leaf)
}

/// One access as the CPU makes it in the guest world: CR0.WP=1, SMEP=SMAP=0, PKU in kernel mode.
pub fn cpu_access(
    host: &FakeHost,
    levels: u8,
    root: Hpa,
    space: Space,
    gva: Gva,
    kind: AccessKind,
) -> Result<Pfn, PageFaultCode> {
    let mut code = PageFaultCode::empty();
    code.set(PageFaultCode::W, kind == AccessKind::Write);
    code.set(PageFaultCode::U, space == Space::User);
    code.set(PageFaultCode::I, kind == AccessKind::Fetch);
    let Some(leaf) = shadow_leaf(host, levels, root, gva) else {
        code.set(PageFaultCode::P | PageFaultCode::RSVD, marked(host, levels, root, gva));
        return Err(code);
    };
    let pk = space == Space::Kernel
        && leaf.user
        && kind != AccessKind::Fetch
        && PKRU >> (2 * leaf.pkey) & (1 | u32::from(kind == AccessKind::Write) << 1) != 0;
    let allowed = (space == Space::Kernel || leaf.user)
        && match kind {
            AccessKind::Read => true,
            AccessKind::Write => leaf.write,
            AccessKind::Fetch => leaf.execute,
        };
    if allowed && !pk {
        return Ok(leaf.pfn);
    }
    code |= PageFaultCode::P;
    code.set(PageFaultCode::PK, pk);
    Err(code)
}

/// A small deterministic generator (xorshift64*), so that a failure names its seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
