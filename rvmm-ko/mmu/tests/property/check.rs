//! What must hold of the shadow tables at any time: the roots, the windows, and each leaf against the guest's tables, as they are or as
//! they have been since the last flush.

use rvmm_arch::host::HostPages;
use rvmm_arch::machine::AccessKind;
use rvmm_arch::{Gfn, Gva, Model, Pfn};
use rvmm_mmu::walk::{probe, Walk, Walked};
use rvmm_mmu::{GuestMode, Reasons, Root, Space};

use crate::common::{host_page, pfn, shadow_leaf, FakeHost, VMM_SLOT};
use crate::expect::{access, claim, reference, Claim};
use crate::world::World;

/// What is put into windows.
pub const PATCH: Pfn = Pfn(0x7f_0000);

impl World {
    /// The root for an entry, with what must hold of it.
    pub fn root(&mut self, space: Space) -> Root {
        let before = self.machine.host.ram.clone();
        let root = self.machine.try_root(space).unwrap();
        if before != self.machine.host.ram {
            // Entries on the way to a window count as accessed.
            for (before, after) in before.chunks(4).zip(self.machine.host.ram.chunks(4)) {
                let changed =
                    u32::from_le_bytes(before.try_into().unwrap()) ^ u32::from_le_bytes(after.try_into().unwrap());
                assert!(changed == 0 || changed == 0x20 && before[0] & 1 != 0, "{:?}", self.set);
            }
        }
        let conflict = space == Space::Kernel && self.overlays.iter().flatten().any(|&o| self.claim(o) != Claim::Free);
        assert_eq!(root.conflict, conflict, "{:?} {space:?}", self.set);
        let (slot, entry) = VMM_SLOT;
        assert_eq!(self.machine.host.read_entry(host_page(root.hpa), slot.into()), entry, "{:?} {space:?}", self.set);
        if conflict {
            self.note("conflict");
        }
        root
    }

    /// Whose is the place of a window?
    pub fn claim(&self, start: Gva) -> Claim {
        match claim(&self.machine.host, &self.paging(), self.mode, start) {
            _ if self.in_slot(start) => Claim::Taken,
            claim => claim,
        }
    }

    /// Does the kernel reach a window at this address? `None`: it may, but the guest's own fault is right, too.
    pub fn in_overlay(&self, space: Space, gva: Gva) -> Option<bool> {
        let window = self.overlays.iter().flatten().find(|o| o.0 >> 22 == gva.0 >> 22);
        match window.filter(|_| space == Space::Kernel).map(|&o| self.claim(o)) {
            None | Some(Claim::Taken) => Some(false),
            Some(Claim::Free) => Some(true),
            Some(Claim::Forbidden) => None,
        }
    }

    /// What an access may find: what the guest's tables say and, while the page table is not in sync, what they have said since the last
    /// flush: all of them at one time, the way to the table included, as a TLB can have read nothing else. Only what has nothing
    /// left to record.
    pub fn meanings(&mut self, space: Space, gva: Gva, kind: AccessKind, exact: bool) -> Vec<Walk> {
        let paging = self.paging();
        let mut meanings = Vec::new();
        let mut add = |host: &FakeHost| {
            if let (Walked::Mapped(walk), traces) = reference(host, &paging, gva, access(space, kind)) {
                if traces.is_empty() {
                    meanings.push(walk);
                }
            }
        };
        add(&self.machine.host);
        let Ok((path, _)) = probe(&mut self.machine.host, &paging, self.mode, gva) else { return meanings };
        let Some(at) = path.step(1).map(|s| s.at).filter(|_| self.set.unsync && !exact) else { return meanings };
        if !self.machine.mmu.reasons(at.frame()).contains(Reasons::TABLE) {
            self.history.rewind(gva, &mut self.machine.host, add);
        }
        meanings
    }

    /// The meaning of an access that the shadow lets through to a frame; in error, all that there are.
    pub fn meaning(
        &mut self,
        space: Space,
        gva: Gva,
        kind: AccessKind,
        view: bool,
        frame: Pfn,
    ) -> Result<Walk, Vec<Walk>> {
        let meanings = self.meanings(space, gva, kind, view);
        meanings.iter().find(|walk| view || frame == pfn(walk.gpa.frame().0)).copied().ok_or(meanings)
    }

    /// Is it the frame itself, or its view?
    pub fn check_frame(&mut self, gva: Gva, gfn: Gfn, view: bool, frame: Pfn, context: &str) {
        let wanted = if view { self.view_of(gfn, gva) } else { pfn(gfn.0) };
        assert_eq!(frame, wanted, "{context}: not the frame or its view (view: {view})");
    }

    /// Every leaf that the root last used holds, against the guest.
    pub fn check_tree(&mut self, space: Space) {
        let root = self.root(space);
        let kernel_user = self.mode == GuestMode::FourLevel || self.set.model == Model::Ring3;
        for gva in self.pages.clone() {
            if self.machine.levels == 5 && self.mode == GuestMode::FourLevel {
                let hole = Gva(gva.0 ^ 1 << 47);
                let leaf = shadow_leaf(&self.machine.host, self.machine.levels, root.hpa, hole);
                assert_eq!(leaf, None, "{:?} {hole:?}: not an address of 4-level paging", self.set);
            }
            if self.in_slot(gva) || self.in_overlay(space, gva) != Some(false) {
                continue;
            }
            let Some(leaf) = shadow_leaf(&self.machine.host, self.machine.levels, root.hpa, gva) else { continue };
            self.note("leaf");
            let context = format!("{:?} {:?} {space:?} {gva:?} {leaf:?}", self.set, self.mode);
            let kind = if leaf.write { AccessKind::Write } else { AccessKind::Read };
            let view = space == Space::Kernel && (leaf.execute || leaf.pkey != 0);
            let Ok(walk) = self.meaning(space, gva, kind, view, leaf.pfn) else {
                panic!("{context}: a leaf that the guest forbids, or before its accessed or dirty bit");
            };
            let gfn = walk.gpa.frame();
            if leaf.write {
                assert_eq!(self.machine.mmu.reasons(gfn), Reasons::empty(), "{context}");
            }
            if leaf.execute {
                let fetch = self.meanings(space, gva, AccessKind::Fetch, view);
                assert!(!fetch.is_empty(), "{context}: executable");
            }
            self.check_frame(gva, gfn, view, leaf.pfn, &context);
            if view {
                assert_eq!((leaf.user, leaf.pkey, leaf.write), (true, 1, false), "{context}");
            } else {
                assert_eq!(leaf.user, space == Space::User || kernel_user, "{context}");
            }
        }
    }
}
