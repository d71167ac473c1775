//! What the random guest writes: its tables, those in use first, told and untold, and other memory.

use rvmm_arch::machine::AccessKind;
use rvmm_arch::{Gfn, Gpa, Gva};
use rvmm_mmu::walk::{probe, Walked};
use rvmm_mmu::{GuestMode, Reasons, Space};

use crate::access::KINDS;
use crate::expect::{access, reference};
use crate::guest::{self, Edit, FIRST_DATA, FRAMES};
use crate::world::World;

impl World {
    /// The engine tells of a write.
    pub fn wrote(&mut self, gpa: Gpa, len: u64) {
        let wrote = self.machine.wrote(gpa, len);
        let expected = self.reasons(gpa.frame()) | self.reasons(gpa.add(len - 1).frame());
        assert_eq!(wrote.reasons - Reasons::TABLE, expected, "{:?}", self.set);
    }

    /// The guest or its devices write somewhere, seen by the engine.
    pub fn write_guest(&mut self, gpa: Gpa) {
        let rng = &mut self.rng;
        let level = 1 + rng.below(4) as usize;
        let value =
            if rng.chance(50) { guest::narrow_entry(rng, level.min(2)) } else { guest::wide_entry(rng, level, false) };
        let len = rng.pick(&[1, 4, 4, 8, 8, 8]);
        let at = Gpa(gpa.0 & !(len - 1 | 3));
        if at.0 < FRAMES << 12 && !self.machine.host.readonly.contains(&at.frame().0) {
            self.put(at, &value.to_le_bytes()[..len as usize]);
            self.wrote(at, len);
        }
    }

    /// The guest writes an entry of any of its tables.
    pub fn edit_table(&mut self) {
        let Edit { gfn, index, value, bytes } = guest::edit(&mut self.rng, &self.machine.host, self.mode);
        let at = Gpa(gfn << 12 | index * bytes);
        let value = value.to_le_bytes();
        // A table that is not watched may be written by the guest itself.
        let told = !self.machine.mmu.reasons(Gfn(gfn)).is_empty() || self.rng.chance(30);
        if bytes == 8 && self.rng.chance(20) {
            // As a 32-bit kernel does it.
            for half in [4, 0] {
                self.put(at.add(half), &value[half as usize..][..4]);
                if told {
                    self.wrote(at.add(half), 4);
                }
            }
        } else {
            self.put(at, &value[..bytes as usize]);
            if told {
                self.wrote(at, bytes);
            }
        }
    }

    /// The guest writes where the shadow lets it, and nobody hears of it. Mostly its tables.
    pub fn write_untold(&mut self, gpa: Gpa) {
        assert_eq!(self.machine.mmu.reasons(gpa.frame()), Reasons::empty());
        if gpa.frame().0 < FIRST_DATA && !self.machine.host.readonly.contains(&gpa.frame().0) {
            if self.set.unsync {
                self.note("table written untold");
            }
            let Edit { index, value, bytes, .. } =
                guest::edit_of(&mut self.rng, &self.machine.host, self.mode, gpa.frame().0);
            let at = match self.aim.filter(|at| at.frame() == gpa.frame() && self.rng.chance(80)) {
                Some(at) => Gpa(at.0 & !(bytes - 1)),
                None => Gpa(gpa.page().0 | index * bytes),
            };
            self.put(at, &value.to_le_bytes()[..bytes as usize]);
        }
    }

    /// The kernel writes the page table of a page in use, where it finds it mapped.
    pub fn write_used_table(&mut self, space: Space, used: Gva) {
        let kind = self.rng.pick(&KINDS);
        self.access(space, used, kind);
        let paging = self.paging();
        let Ok((path, _)) = probe(&mut self.machine.host, &paging, self.mode, used) else { return };
        let Some(at) = path.step(1).map(|s| s.at) else { return };
        let offset = at.frame().0 << 12 & 0x1f_f000;
        let first = self.rng.below(self.pages.len() as u64) as usize;
        for i in 0..self.pages.len() {
            let page = self.pages[(first + i) % self.pages.len()].0;
            let page = if i % 2 == 0 { page } else { page & !0x1f_ffff | offset };
            let (walked, _) =
                reference(&self.machine.host, &paging, Gva(page), access(Space::Kernel, AccessKind::Write));
            if !matches!(walked, Walked::Mapped(walk) if walk.gpa.frame() == at.frame()) {
                continue;
            }
            self.aim = Some(at);
            self.access(Space::Kernel, Gva(page | at.offset() as u64 & !7), AccessKind::Write);
            self.aim = None;
            if self.rng.chance(70) {
                let kind = self.rng.pick(&KINDS);
                self.access(space, used, kind);
            }
            return;
        }
    }

    /// The kernel writes the page table of a page in use, and without a flush leads another entry to the table, or to one above it.
    pub fn move_used_table(&mut self, space: Space) {
        let used = self.random_gva();
        self.write_used_table(space, used);
        let paging = self.paging();
        let (levels, bits) = match self.mode {
            GuestMode::Off => return,
            GuestMode::TwoLevel => (2, 10),
            GuestMode::Pae => (2, 9),
            GuestMode::FourLevel => (4, 9),
        };
        let level = if self.rng.chance(60) { 2 } else { 2 + self.rng.below(levels - 1) as u8 };
        let within = (1_u64 << (12 + bits * (level - 1))) - 1;
        let place = self.rng.pick(&self.pages).0 & !within;
        let Ok((from, _)) = probe(&mut self.machine.host, &paging, self.mode, used) else { return };
        let Ok((to, _)) = probe(&mut self.machine.host, &paging, self.mode, Gva(place)) else { return };
        let (Some(table), Some(entry)) = (from.step(level - 1).map(|s| s.at.frame()), to.step(level).map(|s| s.at))
        else {
            return;
        };
        if !guest::is_table(entry.frame().0, level, self.mode) {
            return;
        }
        let bytes = usize::from(self.mode.entry_bytes());
        let value = table.base().0 | guest::USED;
        let told = !self.machine.mmu.reasons(entry.frame()).is_empty();
        self.put(entry, &value.to_le_bytes()[..bytes]);
        if told {
            self.wrote(entry, bytes as u64);
        }
        self.note(if level == 2 { "table moved" } else { "tables moved" });
        // Something else in the table first: that leads there.
        for page in [self.rng.pick(&self.pages), used] {
            let kind = self.rng.pick(&KINDS);
            self.access(space, Gva(place | page.0 & within), kind);
        }
    }
}
