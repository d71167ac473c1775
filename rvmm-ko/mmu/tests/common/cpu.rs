//! The host's CPU: its walk of the tables that the MMU builds, and what it permits in the guest world.

use rvmm_arch::host::HostPages;
use rvmm_arch::machine::AccessKind;
use rvmm_arch::{Gva, Hpa, PageFaultCode, Pfn};
use rvmm_mmu::Space;

use super::{host_page, pfn, FakeHost};

/// PKRU in guest-kernel mode: key 1 may be neither read nor written.
pub const PKRU: u32 = 0xc;

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

/// Where the CPU's walk of shadow tables ends.
enum End {
    Absent,
    /// At an entry with a reserved bit.
    Marked,
    Leaf(Leaf),
}

/// The walk of the tables under `root`, with what must hold of every entry on the way.
fn descend(host: &FakeHost, levels: u8, root: Hpa, gva: Gva) -> End {
    let mut table = root;
    let mut leaf = Leaf { pfn: Pfn(0), write: true, user: true, execute: true, pkey: 0 };
    for level in (1..=levels).rev() {
        let index = (gva.0 >> (12 + 9 * (u32::from(level) - 1))) & 511;
        let entry = host.read_entry(host_page(table), index as usize);
        if entry & 1 == 0 {
            return End::Absent;
        }
        if entry & BEYOND != 0 {
            assert_eq!(entry, 1 | BEYOND, "{entry:#x} stands for nothing");
            return End::Marked;
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
    End::Leaf(leaf)
}

/// Does the way to `gva` end at an entry with a reserved bit?
pub fn marked(host: &FakeHost, levels: u8, root: Hpa, gva: Gva) -> bool {
    matches!(descend(host, levels, root, gva), End::Marked)
}

/// What the shadow tables under `root` hold for `gva`.
pub fn shadow_leaf(host: &FakeHost, levels: u8, root: Hpa, gva: Gva) -> Option<Leaf> {
    match descend(host, levels, root, gva) {
        End::Leaf(leaf) => Some(leaf),
        End::Absent | End::Marked => None,
    }
}

/// An access that reaches the guest's `gfn`.
pub fn ram(gfn: u64) -> Result<Pfn, PageFaultCode> {
    Ok(pfn(gfn))
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
    let leaf = match descend(host, levels, root, gva) {
        End::Leaf(leaf) => leaf,
        End::Marked => return Err(code | PageFaultCode::P | PageFaultCode::RSVD),
        End::Absent => return Err(code),
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
