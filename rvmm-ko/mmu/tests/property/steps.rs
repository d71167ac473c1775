//! What happens in a run, step by step: the guest's accesses and writes, its control registers, and what the engine does meanwhile
//! (tracking, views, windows), with failures of the host.

use rvmm_arch::host::HostError;
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::{Gfn, Gpa, Gva, PageFaultCode};
use rvmm_mmu::{Env, GuestMode, MmuError, OverlayAccess, Reason, Reasons, Space, WindowSlot};

use crate::access::KINDS;
use crate::check::PATCH;
use crate::guest::{self, FIRST_DATA, FRAMES};
use crate::world::{World, OVERLAY_PAGES};

const SPACES: [Space; 2] = [Space::Kernel, Space::User];

impl World {
    pub fn step(&mut self) {
        if !self.machine.cpu.paging() && self.rng.chance(5) {
            self.enter_mode();
        }
        let space = self.rng.pick(&SPACES);
        match self.rng.below(100) {
            0..=48 => {
                let kind = self.rng.pick(&KINDS);
                let gva = self.random_gva();
                self.access(space, gva, kind);
            }
            49 if self.machine.levels == 5 && self.mode == GuestMode::FourLevel => {
                let gva = Gva(self.random_gva().0 ^ 1 << (47 + self.rng.below(10)));
                self.access(space, gva, AccessKind::Read);
            }
            50..=54 => {
                let kind = self.rng.pick(&KINDS);
                let gva = self.random_gva();
                self.translate(gva, kind);
            }
            55..=66 => self.edit_table(),
            67..=72 => {
                let used = self.random_gva();
                self.write_used_table(space, used);
            }
            73..=74 => self.move_used_table(space),
            75..=77 => {
                self.machine.cpu.cr3 = guest::cr3(&mut self.rng, self.mode);
                self.flush();
            }
            78 => {
                let gva = self.random_gva();
                self.machine.invlpg(gva);
                self.history.forget(gva);
            }
            79..=80 => {
                self.machine.cpu.cr0.toggle(Cr0::WP);
                self.flush();
            }
            81 => {
                self.machine.cpu.cr4.toggle(Cr4::PSE);
                self.flush();
            }
            82 if self.rng.chance(30) => self.paging_off(),
            82 => {
                self.machine.cpu.efer.toggle(Efer::NXE);
                self.flush();
            }
            83..=84 => self.machine.env = Env(self.rng.below(4) as u8),
            85..=88 => self.change_tracking(),
            89..=90 => {
                let gfn = Gfn(self.rng.below(FRAMES));
                self.drop_views(gfn);
            }
            91 => {
                // A memslot is replaced: other contents, and nobody tells of a write.
                let (gfn, other) = (Gfn(self.rng.below(FRAMES - 2)), self.rng.below(FRAMES) << 12);
                self.machine.host.ram.copy_within(other as usize..other as usize + 4096, (gfn.0 << 12) as usize);
                self.machine.mmu.zap_gfns(&mut self.machine.host, gfn, 1);
                self.history.replaced(gfn);
            }
            92 if self.rng.chance(20) => {
                self.machine.mmu.flush_all(&mut self.machine.host);
                self.history.forget_all();
            }
            93 => self.move_overlay(),
            94 if self.rng.chance(40) => {
                // A block of data arrives from a device.
                let gpa = Gpa(self.rng.below(FRAMES - 3) << 12 | 0xff0);
                self.put(gpa, &[0; 64]);
                self.wrote(gpa, 64);
            }
            96 if self.rng.chance(80) => self.with_a_failing_host(space),
            95 if self.set.mode.is_none() && self.rng.chance(30) => self.enter_mode(),
            _ => self.check_tree(space),
        }
    }

    /// The host fails for a while, in memory of the guest or for want of memory: whatever is refused, nothing wrong stays.
    pub fn with_a_failing_host(&mut self, space: Space) {
        let (gva, quota) = (self.random_gva(), self.machine.host.quota);
        if self.rng.chance(60) {
            self.machine.cpu.cr3 = guest::cr3(&mut self.rng, self.mode);
            self.flush();
            self.machine.host.broken =
                Some(if self.rng.chance(40) { self.machine.cpu.cr3 >> 12 } else { self.rng.below(FIRST_DATA) });
        } else {
            self.machine.host.quota = self.machine.host.live() + self.rng.below(4) as usize;
        }
        let _ = self.machine.try_root(space);
        let code = if self.rng.chance(50) { PageFaultCode::W } else { PageFaultCode::empty() };
        let failed = self.machine.handle(space, gva, code).is_err();
        self.note(if failed { "host failure" } else { "no host failure" });
        if self.rng.chance(30) {
            self.move_overlay();
        }
        (self.machine.host.broken, self.machine.host.quota) = (None, quota);
    }

    pub fn change_tracking(&mut self) {
        if self.rng.chance(50) || self.tracked.is_empty() {
            let gfn = Gfn(self.rng.below(FRAMES));
            let reason = self.rng.pick(&[Reason::View, Reason::Descriptor, Reason::Other]);
            match self.machine.mmu.track(&mut self.machine.host, gfn, reason) {
                Ok(()) => self.tracked.push((gfn, reason)),
                Err(e) => assert_eq!(e, MmuError::TrackingFull),
            }
        } else {
            let at = self.rng.below(self.tracked.len() as u64) as usize;
            let (gfn, reason) = self.tracked.swap_remove(at);
            self.machine.mmu.untrack(gfn, reason);
        }
        let gfn = Gfn(self.rng.below(FRAMES));
        assert_eq!(self.machine.mmu.reasons(gfn) - Reasons::TABLE, self.reasons(gfn), "{:?}", self.set);
    }

    pub fn drop_views(&mut self, gfn: Gfn) {
        let page = self.random_gva().page();
        let view = self.machine.view_at(page);
        let here = view.and_then(|v| self.views.iter().find(|(_, &pfn)| pfn == v)).map(|(key, _)| Gfn(key.1));
        if self.rng.chance(50) {
            // Aim at one that exists, if there is one here.
            let dropped = self.machine.mmu.drop_view(&mut self.machine.host, here.unwrap_or(gfn), page);
            assert!(here.is_none() || dropped > 0, "{:?}", self.set);
            assert_eq!(self.machine.view_at(page), None, "{:?}", self.set);
        } else {
            self.machine.mmu.drop_views(&mut self.machine.host, gfn);
            let view = self.machine.view_at(page);
            assert!(view.is_none() || here != Some(gfn), "{:?}", self.set);
            assert_eq!(self.machine.mmu.drop_views(&mut self.machine.host, gfn), 0, "{:?}", self.set);
        }
    }

    pub fn move_overlay(&mut self) {
        let start = if self.rng.chance(70) { Some(guest::window(&mut self.rng, self.mode)) } else { None };
        let number = self.rng.pick(&[0, 1, 2]) as usize;
        let slot = WindowSlot::ALL[number];
        let elsewhere = (0..3).any(|n| n != number && start.is_some() && self.overlays[n] == start);
        let set = self.machine.set_window(slot, start);
        if elsewhere {
            assert_eq!(set, Err(MmuError::BadOverlay));
            return;
        }
        if self.machine.host.broken.is_some() || set == Err(MmuError::Host(HostError::NoMemory)) {
            assert_eq!(self.machine.mmu.overlay(slot), if set.is_ok() { start } else { None });
        } else {
            set.unwrap();
        }
        let start = self.machine.mmu.overlay(slot);
        self.overlays[number] = start;
        if let Some(start) = start {
            let access = OverlayAccess { write: false, execute: true, user: true, pkey: 1 };
            for pte in OVERLAY_PAGES {
                let gva = start.add(pte << 12);
                self.machine.mmu.install_overlay_page(&mut self.machine.host, gva, PATCH, access).unwrap();
            }
            self.machine.mmu.remove_overlay_page(&mut self.machine.host, start.add(1 << 12));
        }
    }
}
