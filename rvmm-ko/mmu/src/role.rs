//! What a shadow page is a shadow of. Two faults that need the same shadow page compute the same [`Key`].

use rvmm_arch::{Gfn, Gva, VcpuState};

use crate::gpte::LARGE_BITS;
use crate::paging::{GuestMode, Paging};
use crate::walk::Walk;

/// Which of the two shadow trees of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// For guest-kernel code: supervisor rights, data never executable, execution views and patch memory.
    Kernel,
    /// For guest-user code: only pages with U=1, the guest's own bytes.
    User,
}

/// The engine's number for what execution views are made for (flat segments, int3 only, …). Kernel space only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Env(pub u8);

/// Where the entries of a shadow page come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Above the guest's own levels: leads to the shadows of the page directory at the key's gfn.
    Root,
    /// The guest table at the key's gfn.
    Table,
    /// No table: consecutive frames from the key's gfn on (a large guest page, or paging off).
    Direct,
    /// Patch memory: entries are the engine's.
    Overlay,
}

/// How a frame is shadowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Role {
    /// Host level: 1 for a page table.
    pub level: u8,
    /// Where the entries come from.
    pub source: Source,
    /// Which part of linear space the page translates, counted in units of what it covers (level 1: 2 MiB, 2: 1 GiB,
    /// above: 0). A guest table of 4-byte entries covers more than a shadow table, so this also selects its part. In
    /// the user tree level 1 keeps only that selector, so that a table used at several places has one shadow; in the
    /// kernel tree the whole number stays, because an execution view is good for one linear address only.
    pub place: u16,
    /// Which tree.
    pub space: Space,
    /// For which execution environment.
    pub env: Env,
    /// CR0.WP, where it matters.
    pub write_protect: bool,
    /// CR4.PSE, where it matters.
    pub large_pages: bool,
}

/// Identity of a shadow page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The frame shadowed.
    pub gfn: Gfn,
    /// How.
    pub role: Role,
}

/// An address space as one tree shadows it: what selects the root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Paging mode.
    pub mode: GuestMode,
    /// Frame of the guest's top table; 0 with paging off.
    pub table: Gfn,
    /// Which tree.
    pub space: Space,
    /// Execution environment; 0 in the user tree.
    pub env: Env,
    /// Do writes honour read-only entries? Always in the user tree.
    pub write_protect: bool,
    /// CR4.PSE under 32-bit paging.
    pub large_pages: bool,
}

impl Context {
    /// The context that `cpu` runs in; `None` if its paging mode is not supported.
    #[must_use]
    pub fn of(cpu: &VcpuState, space: Space, env: Env) -> Option<Self> {
        let paging = Paging::of(cpu, 0);
        let mode = paging.mode()?;
        let env = if space == Space::Kernel { env } else { Env(0) };
        Some(match mode {
            GuestMode::Off => Self { mode, table: Gfn(0), space, env, write_protect: true, large_pages: false },
            GuestMode::TwoLevel => Self {
                mode,
                table: rvmm_arch::Gpa(paging.cr3 & 0xffff_f000).frame(),
                space,
                env,
                write_protect: space == Space::User || paging.write_protect(),
                large_pages: paging.cr4.contains(rvmm_arch::regs::Cr4::PSE),
            },
        })
    }

    fn role(&self, level: u8, source: Source) -> Role {
        Role {
            level,
            source,
            place: 0,
            space: self.space,
            env: self.env,
            write_protect: self.write_protect,
            large_pages: self.large_pages,
        }
    }

    /// The shadow page of `level` on the path to `gva`. `walk` is the guest's translation of `gva`; it is needed for
    /// level 1 only.
    #[must_use]
    pub fn key(&self, level: u8, gva: Gva, walk: &Walk) -> Key {
        match (self.mode, level) {
            (GuestMode::Off, 1) => self.direct(gva, Gfn((gva.0 >> 21) << 9)),
            (GuestMode::Off, _) => {
                let shift = u32::from(level).wrapping_mul(9).min(63);
                let gfn = Gfn((gva.0 >> 12).checked_shr(shift).unwrap_or(0).checked_shl(shift).unwrap_or(0));
                let place = if level == 2 { place(gva, 30) } else { 0 };
                Key { gfn, role: Role { place, ..self.role(level, Source::Direct) } }
            }
            (GuestMode::TwoLevel, 1) if walk.bits == LARGE_BITS => self.direct(gva, Gfn((walk.gpa.0 >> 21) << 9)),
            (GuestMode::TwoLevel, 1) => self.table(gva, walk.step(1).map_or(Gfn(0), |s| s.at.frame())),
            (GuestMode::TwoLevel, 2) => {
                Key { gfn: self.table, role: Role { place: place(gva, 30), ..self.role(2, Source::Table) } }
            }
            (GuestMode::TwoLevel, _) => Key { gfn: self.table, role: self.role(level, Source::Root) },
        }
    }

    /// The page table that shadows the guest page table `gfn` around `gva`.
    #[must_use]
    pub fn table(&self, gva: Gva, gfn: Gfn) -> Key {
        let place = place(gva, 21) & if self.space == Space::Kernel { 0x7ff } else { 1 };
        Key { gfn, role: Role { place, large_pages: false, ..self.role(1, Source::Table) } }
    }

    /// The page table that maps the frames from `gfn` on around `gva`.
    #[must_use]
    pub fn direct(&self, gva: Gva, gfn: Gfn) -> Key {
        let place = if self.space == Space::Kernel { place(gva, 21) } else { 0 };
        Key { gfn, role: Role { place, large_pages: false, write_protect: true, ..self.role(1, Source::Direct) } }
    }
}

impl Key {
    /// The context of a page's own tree, as far as its key still tells it: enough to compute the keys of its children.
    #[must_use]
    pub fn context(&self) -> Context {
        Context {
            mode: GuestMode::TwoLevel,
            table: self.gfn,
            space: self.role.space,
            env: self.role.env,
            write_protect: self.role.write_protect,
            large_pages: self.role.large_pages,
        }
    }

    /// Is this a shadow of guest table contents, so that writes to its frame must be seen?
    #[must_use]
    pub const fn derives_from_frame(&self) -> bool {
        matches!(self.role.source, Source::Root | Source::Table)
    }

    /// The linear address that entry `index` of a kernel-tree page of level 1 translates, or of any page of level 2.
    #[must_use]
    pub const fn linear(&self, index: usize) -> Gva {
        let (unit, step) = if self.role.level == 1 { (21, 12) } else { (30, 21) };
        Gva(((self.role.place as u64) << unit) | ((index as u64 & 511) << step))
    }
}

/// Number of the 2^`shift`-byte unit of linear space that holds `gva` (below 4 GiB).
const fn place(gva: Gva, shift: u32) -> u16 {
    ((gva.0 & 0xffff_ffff) >> shift) as u16
}

/// Index of `gva` in a host table of `level`.
#[must_use]
pub const fn host_index(gva: Gva, level: u8) -> usize {
    let shift = 12 + 9 * (level as u32).saturating_sub(1);
    if shift > 63 {
        return 0;
    }
    ((gva.0 >> shift) & 511) as usize
}
