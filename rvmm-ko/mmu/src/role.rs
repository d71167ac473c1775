//! What a shadow page is a shadow of. Two faults that need the same shadow page compute the same [`Key`].

use rvmm_arch::{Gfn, Gpa, Gva};

use crate::paging::{canonical_of, GuestMode};
use crate::walk::Walk;

/// Which of the two shadow trees of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// For guest-kernel code: the rights of the guest's supervisor mode, data never executable, execution views and patch memory.
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
    /// Above the guest's own levels: leads to the shadows of the guest's top table, at the key's gfn.
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
    /// How the guest's table is read.
    pub mode: GuestMode,
    /// Which part of linear space the page translates, counted in units of what it covers (level 1: 2 MiB, 2: 1 GiB, 3:
    /// 512 GiB). In the kernel tree this is the whole number, because an execution view is good for one linear address only.
    /// In the user tree it only selects the part of a guest table of 4-byte entries, which covers more than a shadow table,
    /// so that a table used at several places has one shadow. At level 4 it is the half of linear space, where the host has
    /// five levels; under PAE the place of the four directory pointers in their frame, at level 3 and above.
    pub place: u32,
    /// Which tree.
    pub space: Space,
    /// For which execution environment.
    pub env: Env,
    /// CR0.WP, where it matters.
    pub write_protect: bool,
    /// CR4.PSE, where it matters.
    pub large_pages: bool,
    /// EFER.NXE, where it matters.
    pub no_execute: bool,
}

/// Identity of a shadow page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The frame shadowed.
    pub gfn: Gfn,
    /// How.
    pub role: Role,
}

/// An address space as one tree shadows it: what selects the root. Made by `Mmu::context`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Paging mode.
    pub mode: GuestMode,
    /// The guest's top table; 0 with paging off. Only under PAE it need not begin with its frame.
    pub table: Gpa,
    /// Which tree.
    pub space: Space,
    /// Execution environment; 0 in the user tree.
    pub env: Env,
    /// Do writes honour read-only entries? Always in the user tree.
    pub write_protect: bool,
    /// CR4.PSE under 32-bit paging.
    pub large_pages: bool,
    /// EFER.NXE under PAE and 4-level paging.
    pub no_execute: bool,
    /// The guest's kernel runs in ring 3: what the kernel tree maps for it needs U=1.
    pub kernel_user: bool,
    /// The host has a level above the guest's four, so that each half of linear space has its own shadow of the top table:
    /// addresses between the halves must not translate.
    pub halves: bool,
}

impl Context {
    fn role(&self, level: u8, source: Source, place: u32) -> Role {
        Role {
            level,
            source,
            mode: self.mode,
            place,
            space: self.space,
            env: self.env,
            write_protect: self.write_protect,
            large_pages: self.large_pages && level > 1,
            no_execute: self.no_execute,
        }
    }

    /// Where under PAE the directory pointers are in their frame.
    const fn part(&self) -> u32 {
        ((self.table.0 >> 5) & 0x7f) as u32
    }

    /// [`Role::place`] of the page of `level` that translates `gva`.
    #[must_use]
    pub const fn place(&self, level: u8, gva: Gva) -> u32 {
        let unit = unit(level, gva);
        match (self.mode, level, self.space) {
            (GuestMode::Pae, 3.., _) => self.part(),
            (GuestMode::FourLevel, 4, _) if self.halves => ((gva.0 >> 47) & 1) as u32,
            (_, 4.., _) => 0,
            (_, _, Space::Kernel) => unit,
            (GuestMode::TwoLevel, 1, Space::User) => unit & 1,
            (GuestMode::TwoLevel, 2, Space::User) => unit & 3,
            (_, _, Space::User) => 0,
        }
    }

    /// The shadow page of `level` on the path to `gva`. `walk` is the guest's translation of `gva`, or a probe that gets as
    /// far as to the table of `level`.
    #[must_use]
    pub fn key(&self, level: u8, gva: Gva, walk: &Walk) -> Key {
        let covers = covers_bits(level);
        let levels = self.mode.levels();
        if self.mode == GuestMode::Off {
            // Above 4 GiB there is nothing; the frames wrap with the address.
            return self.direct(level, gva, gva.0);
        }
        if level > levels {
            let place = if self.mode == GuestMode::Pae { self.part() } else { 0 };
            return Key { gfn: self.table.frame(), role: self.role(level, Source::Root, place) };
        }
        if level == levels {
            return self.table(level, gva, self.table.frame());
        }
        if u32::from(walk.bits) >= covers {
            return self.direct(level, gva, walk.gpa.0);
        }
        self.table(level, gva, walk.step(level).map_or(Gfn(0), |s| s.at.frame()))
    }

    /// The page of `level` that shadows the guest table `gfn` around `gva`.
    #[must_use]
    pub fn table(&self, level: u8, gva: Gva, gfn: Gfn) -> Key {
        Key { gfn, role: self.role(level, Source::Table, self.place(level, gva)) }
    }

    /// The page of `level` that maps the consecutive frames around `gpa` around `gva`.
    #[must_use]
    pub fn direct(&self, level: u8, gva: Gva, gpa: u64) -> Key {
        let covers = covers_bits(level).min(63);
        let role = self.role(level, Source::Direct, if self.space == Space::Kernel { unit(level, gva) } else { 0 });
        let role = Role { large_pages: false, write_protect: true, no_execute: false, ..role };
        Key { gfn: Gpa((gpa >> covers) << covers).frame(), role }
    }
}

impl Key {
    /// Is this a shadow of guest table contents, so that writes to its frame must be seen?
    #[must_use]
    pub const fn derives_from_frame(&self) -> bool {
        matches!(self.role.source, Source::Root | Source::Table)
    }

    /// The linear address that entry `index` of a page of the kernel tree translates, as far as the key tells it (level 1 to
    /// 4). In the user tree only the bits within what the guest's own table covers are right.
    #[must_use]
    pub const fn linear(&self, index: usize) -> Gva {
        let Role { level, place, mode, .. } = self.role;
        let part = (index as u64 & 511) << (covers_bits(level.wrapping_sub(1)) & 63);
        let base = match (mode, level) {
            (GuestMode::Pae, 3..) | (_, 4..) => 0,
            _ => (place as u64) << (covers_bits(level) & 63),
        };
        canonical_of(base | part)
    }
}

/// log2 of what a host table of `level` translates.
#[must_use]
pub const fn covers_bits(level: u8) -> u32 {
    12 + 9 * level as u32
}

/// Number of the unit of a 48-bit space that a table of `level` translates and that holds `gva`.
pub const fn unit(level: u8, gva: Gva) -> u32 {
    let shift = covers_bits(level);
    if level == 0 || shift > 47 {
        return 0;
    }
    ((gva.0 & 0xffff_ffff_ffff) >> shift) as u32
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
