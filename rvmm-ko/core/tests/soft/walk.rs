//! How the soft CPU walks host-format page tables, of four or five levels: permissions, protection keys, no memory types.
//! Nothing of the engine's or the MMU's is used here.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::Cr4;
use rvmm_arch::{Gva, Pfn};

use super::SoftHost;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;

/// What decides about an access, besides the tables.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    pub cr3: u64,
    pub cr4: Cr4,
    pub pkru: u32,
    pub ac: bool,
}

/// A translation: the leaf entry and the rights of all levels together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    pub pfn: Pfn,
    pub user: bool,
    pub write: bool,
    pub execute: bool,
    pub key: u32,
}

impl Leaf {
    /// `u`, `w` and `x` of the levels above joined with the leaf entry.
    pub fn of(entry: u64, user: bool, write: bool, execute: bool) -> Self {
        assert!(entry & GLOBAL == 0, "global spte");
        Self {
            pfn: frame_of(entry),
            user: user && entry & USER != 0,
            write: write && entry & WRITE != 0,
            execute: execute && entry & NO_EXECUTE == 0,
            key: (entry >> 59) as u32 & 15,
        }
    }
}

pub fn frame_of(entry: u64) -> Pfn {
    Pfn((entry >> 12) & 0xff_ffff_ffff)
}

pub fn present(entry: u64) -> bool {
    entry & PRESENT != 0
}

/// The rights that a table entry passes on: user, write, execute.
pub fn passed_on(entry: u64) -> (bool, bool, bool) {
    assert!(entry & LARGE == 0, "large sptes are not expected");
    (entry & USER != 0, entry & WRITE != 0, entry & NO_EXECUTE == 0)
}

/// Is the address canonical for tables of so many levels (SDM vol. 1 §3.3.7.1)?
pub fn canonical(la: u64, levels: u8) -> bool {
    let unused = 64 - (12 + 9 * u32::from(levels));
    ((la << unused) as i64 >> unused) as u64 == la
}

/// A word that stands for no page: P, and an address bit that this CPU has not.
pub fn reserved(host: &SoftHost, entry: u64) -> bool {
    present(entry) && entry & host.features.reserved_bit != 0
}

/// The leaf that maps an address.
pub fn leaf(host: &mut SoftHost, cr3: u64, la: Gva) -> Option<Leaf> {
    walked(host, cr3, la).unwrap_or(None)
}

/// The same; in error, a reserved bit was met.
fn walked(host: &mut SoftHost, cr3: u64, la: Gva) -> Result<Option<Leaf>, ()> {
    let mut table = Pfn(cr3 >> 12);
    let (mut user, mut write, mut execute) = (true, true, true);
    for level in (0..u32::from(host.features.paging_levels)).rev() {
        let entry = host.entry(table, (la.0 >> (12 + 9 * level)) as usize & 511);
        if !present(entry) {
            return Ok(None);
        }
        if reserved(host, entry) {
            assert_eq!(entry, 1 | host.features.reserved_bit, "an entry for nothing has other bits");
            return Err(());
        }
        if level == 0 {
            return Ok(Some(Leaf::of(entry, user, write, execute)));
        }
        let (u, w, x) = passed_on(entry);
        (user, write, execute) = (user && u, write && w, execute && x);
        table = frame_of(entry);
    }
    Ok(None)
}

/// An explicit access by guest code; the frame it goes to (SDM vol. 3 §4.6). CR0.WP and EFER.NXE are on.
pub fn access(host: &mut SoftHost, rights: Rights, la: Gva, access: Access) -> Result<Pfn, PageFaultCode> {
    assert!(canonical(la.0, host.features.paging_levels), "{la:?} got as far as the page tables");
    let by_user = access.privilege == Privilege::User;
    let fetch = access.kind == AccessKind::Fetch;
    let mut code = PageFaultCode::empty();
    code.set(PageFaultCode::U, by_user);
    code.set(PageFaultCode::W, access.kind == AccessKind::Write);
    code.set(PageFaultCode::I, fetch);
    // QEMU's TCG leaves P clear, silicon sets it.
    let rsvd = code | PageFaultCode::RSVD | if la.0 & 0x1000 != 0 { PageFaultCode::P } else { PageFaultCode::empty() };
    let leaf = walked(host, rights.cr3, la).map_err(|()| rsvd)?.ok_or(code)?;
    code |= PageFaultCode::P;
    let denied = (by_user && !leaf.user)
        || (fetch && !leaf.execute)
        || (access.kind == AccessKind::Write && !leaf.write)
        || (!by_user && leaf.user && fetch && rights.cr4.contains(Cr4::SMEP))
        || (!by_user && leaf.user && !fetch && rights.cr4.contains(Cr4::SMAP) && !rights.ac);
    if denied {
        return Err(code);
    }
    if leaf.user && rights.cr4.contains(Cr4::PKE) && !fetch {
        let denied = rights.pkru >> (2 * leaf.key) & 3;
        if denied & 1 != 0 || (denied & 2 != 0 && access.kind == AccessKind::Write) {
            return Err(code | PageFaultCode::PK);
        }
    }
    Ok(leaf.pfn)
}
