//! A random guest against two references: the CPU's walk of the shadow tables (never more than the guest permits, and
//! after "fixed" exactly the access), and the guest walk by itself on a copy of memory (the same faults, the same
//! accessed and dirty bits).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{cpu_access, shadow_leaf, FakeHost, Rng, GUEST_BASE};
use rvmm_arch::host::{Backing, GuestMemory, HostError, HostPages};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr0, Cr4};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Exception, Gfn, Gpa, Gva, Pfn, VcpuState};
use rvmm_mmu::walk::{walk, Traces, Walk, Walked};
use rvmm_mmu::{
    Env, FaultOutcome, Mmu, MmuConfig, MmuError, OverlayAccess, Paging, Reason, Reasons, Root, Space, ViewInstall,
    ViewProtection, WindowSlot,
};

const FRAMES: u64 = 48;
const DIRECTORIES: [u64; 3] = [1, 2, 3];
const TABLES: [u64; 6] = [4, 5, 6, 7, 8, 9];
const PDES: [u64; 8] = [0, 1, 2, 255, 256, 768, 769, 1023];
const PTES: [u64; 6] = [0, 1, 2, 511, 512, 1023];
const WINDOWS: [u64; 3] = [2, 768, 1023];
/// Views are frames of rvmm's own; which one is a function of the guest frame and the linear page, so that a stale one
/// is noticed.
const VIEW_BASE: u64 = 0x30_0000;
const PATCH: Pfn = Pfn(0x31_0000);
const PROTECTION: ViewProtection = ViewProtection { user: true, pkey: 1 };

struct World {
    host: FakeHost,
    mmu: Mmu,
    cpu: VcpuState,
    stats: Stats,
    rng: Rng,
    levels: u8,
    tracked: Vec<(Gfn, Reason)>,
    overlays: [Option<Gva>; 3],
    env: Env,
    seed: u64,
}

fn view_of(env: Env, gfn: Gfn, page: Gva) -> Pfn {
    Pfn(VIEW_BASE + (u64::from(env.0) << 30) + (gfn.0 << 20) + (page.0 >> 12))
}

impl World {
    fn new(seed: u64, levels: u8, max_shadow_pages: u32, quota: usize) -> Self {
        let mut config = MmuConfig::new(&Default::default());
        config.paging_levels = levels;
        config.vmm_slot = (260, 0x7777_0003);
        config.max_shadow_pages = max_shadow_pages;
        config.max_tracked = 64;
        let mut cpu = VcpuState::reset();
        cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::WP;
        cpu.cr3 = DIRECTORIES[0] << 12;
        cpu.cr4 = Cr4::PSE;
        let mut host = FakeHost::new(FRAMES as usize, quota);
        host.readonly = vec![FRAMES - 1, FRAMES - 2];
        let mut world = Self {
            host,
            mmu: Mmu::new(config).unwrap(),
            cpu,
            stats: Stats::default(),
            rng: Rng::new(seed),
            levels,
            tracked: Vec::new(),
            overlays: [None; 3],
            env: Env(0),
            seed,
        };
        for directory in DIRECTORIES {
            for pde in PDES {
                let value = world.random_pde();
                world.host.set_gpte(directory, pde as usize, value);
            }
        }
        for table in TABLES {
            for pte in PTES {
                let value = world.random_pte();
                world.host.set_gpte(table, pte as usize, value);
            }
        }
        world
    }

    fn random_pde(&mut self) -> u32 {
        let r = &mut self.rng;
        let base = match r.below(10) {
            0 if r.chance(50) => return 0,
            // A large page: the RAM of this guest, the same with nothing behind it, or with a reserved bit.
            1 | 2 => r.pick(&[0, 0, 0x40_0000, 0x20_0000]) | 0x80,
            // The directory itself as a page table.
            3 => (r.pick(&DIRECTORIES) as u32) << 12,
            _ => (r.pick(&TABLES) as u32) << 12,
        };
        base | self.random_flags()
    }

    fn random_pte(&mut self) -> u32 {
        let frame = match self.rng.below(8) {
            0 => return 0,
            1 => self.rng.pick(&DIRECTORIES),
            2 => self.rng.pick(&TABLES),
            3 => FRAMES - 3 + self.rng.below(5),
            _ => 10 + self.rng.below(6),
        };
        (frame as u32) << 12 | self.random_flags()
    }

    fn random_flags(&mut self) -> u32 {
        let r = &mut self.rng;
        let present = u32::from(r.chance(97));
        let write = u32::from(r.chance(80)) << 1;
        let user = u32::from(r.chance(85)) << 2;
        present | write | user | (r.below(4) as u32) << 5 | (r.below(2) as u32) << 8
    }

    fn random_gva(&mut self) -> Gva {
        let offset = self.rng.below(1024) * 4;
        Gva(self.rng.pick(&PDES) << 22 | self.rng.pick(&PTES) << 12 | offset)
    }

    fn paging(&self) -> Paging {
        Paging::of(&self.cpu, 32)
    }

    /// The guest walk by itself, on a copy of memory; gives the copy back too.
    fn reference(&self, space: Space, gva: Gva, kind: AccessKind) -> (Walked, Vec<u8>) {
        let mut copy = FakeHost::new(FRAMES as usize, 0);
        copy.ram.clone_from(&self.host.ram);
        copy.readonly.clone_from(&self.host.readonly);
        let privilege = if space == Space::User { Privilege::User } else { Privilege::Supervisor };
        let walked = walk(&mut copy, &self.paging(), gva, Access { kind, privilege }, Traces::Set);
        (walked.unwrap().unwrap(), copy.ram)
    }

    fn root(&mut self, space: Space) -> Root {
        let root = self.mmu.root(&mut self.host, &mut self.stats, &self.cpu, space, self.env).unwrap();
        let claimed = |o: Gva| self.host.gpte(self.cpu.cr3 >> 12, (o.0 >> 22) as usize) & 1 != 0;
        let conflict =
            space == Space::Kernel && self.overlays.iter().flatten().any(|o| !self.cpu.paging() || claimed(*o));
        assert_eq!(root.conflict, conflict, "seed {} {space:?}", self.seed);
        root
    }

    /// Does the kernel reach a window at this address?
    fn in_overlay(&self, gva: Gva) -> bool {
        let claimed = self.host.gpte(self.cpu.cr3 >> 12, (gva.0 >> 22) as usize) & 1 != 0;
        let window = self.overlays.iter().flatten().any(|o| o.0 >> 22 == gva.0 >> 22);
        self.cpu.paging() && window && !claimed
    }

    fn wrote(&mut self, gpa: Gpa, len: u64) {
        self.mmu.guest_wrote(&mut self.host, &mut self.stats, gpa, len).unwrap();
    }

    /// One access of the guest, from the first try to its end.
    fn access(&mut self, space: Space, gva: Gva, kind: AccessKind) {
        let context = format!("seed {} {space:?} {gva:?} {kind:?}", self.seed);
        for _ in 0..4 {
            let root = self.root(space);
            let overlay = space == Space::Kernel && self.in_overlay(gva);
            let before = self.host.ram.clone();
            let (reference, after) = self.reference(space, gva, kind);
            let hardware = cpu_access(&self.host, self.levels, root.hpa, space, gva, kind);
            let code = match hardware {
                Ok(pfn) if overlay => {
                    assert_eq!(pfn, PATCH, "{context}");
                    return;
                }
                Ok(pfn) => {
                    let Walked::Mapped(walk) = reference else {
                        panic!("{context}: the shadow permits what the guest forbids");
                    };
                    assert!(after == before, "{context}: accessed or dirty bits were missed");
                    self.check_reached(space, gva, kind, &walk, pfn, &context);
                    return;
                }
                Err(code) => code,
            };
            let outcome =
                self.mmu.fault(&mut self.host, &mut self.stats, &self.cpu, space, self.env, gva, code).unwrap();
            if overlay {
                match outcome {
                    FaultOutcome::Overlay => return,
                    FaultOutcome::Fixed => continue,
                    other => panic!("{context}: {other:?} in the window"),
                }
            }
            assert!(self.host.ram == after, "{context}: traces differ from the walk's, {outcome:?}");
            let walk = match reference {
                Walked::Fault(code) => {
                    let expected = Exception::page_fault(code, gva.0);
                    assert_eq!(outcome, FaultOutcome::Guest(expected), "{context}");
                    return;
                }
                Walked::Mapped(walk) => walk,
            };
            if self.resolve(space, gva, kind, &walk, outcome, &context) {
                return;
            }
        }
        panic!("{context}: no progress");
    }

    /// What the engine does with an outcome; `true` when the access is over.
    fn resolve(
        &mut self,
        space: Space,
        gva: Gva,
        kind: AccessKind,
        walk: &Walk,
        outcome: FaultOutcome,
        context: &str,
    ) -> bool {
        let gfn = walk.gpa.frame();
        let backing = self.host.backing(gfn).unwrap();
        let device = match backing {
            Backing::Mmio => true,
            Backing::Ram { readonly, .. } => readonly && kind == AccessKind::Write,
        };
        assert_eq!(outcome == FaultOutcome::Mmio { gpa: walk.gpa }, device, "{context}: {outcome:?}");
        match outcome {
            FaultOutcome::Mmio { .. } => true,
            FaultOutcome::Fixed => {
                let root = self.root(space);
                let reached = cpu_access(&self.host, self.levels, root.hpa, space, gva, kind);
                assert!(reached.is_ok(), "{context}: fixed, but {reached:?}");
                false
            }
            FaultOutcome::TrackedWrite { gpa, reasons } => {
                assert_eq!((gpa, kind), (walk.gpa, AccessKind::Write), "{context}");
                assert_eq!(reasons, self.mmu.reasons(gfn), "{context}");
                assert!(!reasons.is_empty(), "{context}");
                self.write_guest(gpa);
                true
            }
            FaultOutcome::NeedView { gpa, page } => {
                assert_eq!((gpa, page, space), (walk.gpa, gva.page(), Space::Kernel), "{context}");
                assert_eq!(kind, AccessKind::Fetch, "{context}");
                assert_eq!(self.mmu.view_at(&self.host, &self.cpu, self.env, page), None, "{context}");
                self.install_view(gfn, page, context);
                false
            }
            FaultOutcome::ViewAccess { gpa, write } => {
                assert_eq!((gpa, write), (walk.gpa, kind == AccessKind::Write), "{context}");
                let view = self.mmu.view_at(&self.host, &self.cpu, self.env, gva);
                assert_eq!(view, Some(view_of(self.env, gfn, gva.page())), "{context}");
                if write {
                    self.write_guest(gpa);
                }
                true
            }
            FaultOutcome::Guest(_) | FaultOutcome::Overlay | FaultOutcome::Slot { .. } | FaultOutcome::NonCanonical => {
                panic!("{context}: {outcome:?}")
            }
        }
    }

    fn install_view(&mut self, gfn: Gfn, page: Gva, context: &str) {
        let wrong = Gfn(gfn.0 ^ 1);
        let view = (view_of(self.env, gfn, page), PROTECTION);
        let (host, stats, env) = (&mut self.host, &mut self.stats, self.env);
        let moved = self.mmu.install_view(host, stats, &self.cpu, env, page, wrong, view);
        assert_eq!(moved, Ok(ViewInstall::Moved(gfn)), "{context}");
        let done = self.mmu.install_view(host, stats, &self.cpu, env, page, gfn, view);
        assert_eq!(done, Ok(ViewInstall::Installed), "{context}");
    }

    fn check_reached(&self, space: Space, gva: Gva, kind: AccessKind, walk: &Walk, pfn: Pfn, context: &str) {
        let gfn = walk.gpa.frame();
        if space == Space::Kernel && kind == AccessKind::Fetch {
            assert_eq!(pfn, view_of(self.env, gfn, gva.page()), "{context}: not the view");
        } else {
            assert_eq!(pfn, Pfn(GUEST_BASE + gfn.0), "{context}: another frame");
        }
        if kind == AccessKind::Write {
            assert_eq!(self.mmu.reasons(gfn), Reasons::empty(), "{context}: a tracked frame was writable");
            assert!(!self.host.readonly.contains(&gfn.0), "{context}: a read-only frame was writable");
        }
    }

    /// The guest or its devices write somewhere, seen by the engine.
    fn write_guest(&mut self, gpa: Gpa) {
        let value = if self.rng.chance(50) { self.random_pte() } else { self.random_pde() };
        let bytes = value.to_le_bytes();
        let len = if self.rng.chance(80) { 4 } else { 1 };
        let at = Gpa(gpa.0 & !3);
        if self.host.write_ram(at, &bytes[..len]).unwrap() {
            self.wrote(at, len as u64);
        }
    }

    fn edit_table(&mut self) {
        let (gfn, index, value) = if self.rng.chance(40) {
            (self.rng.pick(&DIRECTORIES), self.rng.pick(&PDES), self.random_pde())
        } else {
            (self.rng.pick(&TABLES), self.rng.pick(&PTES), self.random_pte())
        };
        let old = self.host.gpte(gfn, index as usize);
        // Often only the flags change.
        let value = if self.rng.chance(40) { old & !0x7f | value & 0x7f } else { value };
        let gpa = self.host.set_gpte(gfn, index as usize, value);
        self.wrote(gpa, 4);
    }

    /// Every leaf that the root last used holds, against the guest.
    fn check_tree(&mut self, space: Space) {
        let root = self.root(space);
        for pde in PDES {
            for pte in PTES {
                let gva = Gva(pde << 22 | pte << 12);
                if space == Space::Kernel && self.in_overlay(gva) {
                    continue;
                }
                let Some(leaf) = shadow_leaf(&self.host, self.levels, root.hpa, gva) else { continue };
                let context = format!("seed {} {space:?} {gva:?} {leaf:?}", self.seed);
                let kind = if leaf.write { AccessKind::Write } else { AccessKind::Read };
                let before = self.host.ram.clone();
                let (Walked::Mapped(walk), after) = self.reference(space, gva, kind) else {
                    panic!("{context}: a leaf that the guest forbids");
                };
                assert!(before == after, "{context}: a leaf before its accessed or dirty bit");
                let gfn = walk.gpa.frame();
                if leaf.write {
                    assert_eq!(self.mmu.reasons(gfn), Reasons::empty(), "{context}");
                }
                if space == Space::Kernel && leaf.execute {
                    assert_eq!(leaf.pfn, view_of(self.env, gfn, gva), "{context}");
                    assert_eq!((leaf.user, leaf.pkey, leaf.write), (true, 1, false), "{context}");
                } else {
                    assert_eq!(leaf.pfn, Pfn(GUEST_BASE + gfn.0), "{context}");
                    assert_eq!(leaf.user, space == Space::User, "{context}");
                }
            }
        }
    }

    fn step(&mut self) {
        if !self.cpu.paging() && self.rng.chance(5) {
            self.cpu.cr0.insert(Cr0::PG);
        }
        match self.rng.below(100) {
            0..=54 => {
                let space = self.rng.pick(&[Space::Kernel, Space::User]);
                let kind = self.rng.pick(&[AccessKind::Read, AccessKind::Write, AccessKind::Fetch]);
                let gva = self.random_gva();
                self.access(space, gva, kind);
            }
            55..=74 => self.edit_table(),
            75..=78 => self.cpu.cr3 = self.rng.pick(&DIRECTORIES) << 12,
            79..=80 => self.cpu.cr0.toggle(Cr0::WP),
            81 => self.cpu.cr4.toggle(Cr4::PSE),
            // Paging is off for a while now and then.
            82 if self.rng.chance(30) => self.cpu.cr0.remove(Cr0::PG),
            83..=84 => self.env = Env(self.rng.below(2) as u8),
            85..=88 => self.change_tracking(),
            89..=90 => {
                let gfn = Gfn(self.rng.below(FRAMES));
                self.drop_views(gfn);
            }
            91 => {
                // A memslot is replaced: other contents, and nobody tells of a write.
                let gfn = Gfn(self.rng.below(FRAMES - 2));
                let other = self.rng.pick(&TABLES) << 12;
                self.host.ram.copy_within(other as usize..other as usize + 4096, (gfn.0 << 12) as usize);
                self.mmu.zap_gfns(&mut self.host, gfn, 1);
            }
            92 if self.rng.chance(20) => self.mmu.flush_all(&mut self.host),
            93 => self.move_overlay(),
            94 if self.rng.chance(40) => {
                // A block of data arrives from a device.
                let gpa = Gpa(self.rng.below(FRAMES - 3) << 12 | 0xff0);
                let data = [0; 64];
                self.host.ram[gpa.0 as usize..gpa.0 as usize + 64].copy_from_slice(&data);
                self.wrote(gpa, 64);
            }
            _ => {
                let space = self.rng.pick(&[Space::Kernel, Space::User]);
                self.check_tree(space);
            }
        }
    }

    fn change_tracking(&mut self) {
        if self.rng.chance(50) || self.tracked.is_empty() {
            let gfn = Gfn(self.rng.below(FRAMES));
            let reason = self.rng.pick(&[Reason::View, Reason::Descriptor, Reason::Other]);
            match self.mmu.track(&mut self.host, gfn, reason) {
                Ok(()) => self.tracked.push((gfn, reason)),
                Err(e) => assert_eq!(e, MmuError::TrackingFull),
            }
            assert!(self.host.ram.len() as u64 >> 12 == FRAMES);
        } else {
            let at = self.rng.below(self.tracked.len() as u64) as usize;
            let (gfn, reason) = self.tracked.swap_remove(at);
            self.mmu.untrack(gfn, reason);
        }
        let gfn = Gfn(self.rng.below(FRAMES));
        for (reason, flag) in
            [(Reason::View, Reasons::VIEW), (Reason::Descriptor, Reasons::DESCRIPTOR), (Reason::Other, Reasons::OTHER)]
        {
            let expected = self.tracked.contains(&(gfn, reason));
            assert_eq!(self.mmu.reasons(gfn).contains(flag), expected, "seed {}", self.seed);
        }
    }

    fn drop_views(&mut self, gfn: Gfn) {
        let page = self.random_gva().page();
        let installed = |w: &Self, gfn: Gfn| {
            let view = w.mmu.view_at(&w.host, &w.cpu, w.env, page);
            view == Some(view_of(w.env, gfn, page))
        };
        if self.rng.chance(50) {
            // Aim at one that exists, if there is one here.
            let here = (0..FRAMES).map(Gfn).find(|&g| installed(self, g));
            let dropped = self.mmu.drop_view(&mut self.host, here.unwrap_or(gfn), page);
            assert!(here.is_none() || dropped > 0, "seed {}", self.seed);
            assert!(!installed(self, here.unwrap_or(gfn)), "seed {}", self.seed);
        } else {
            self.mmu.drop_views(&mut self.host, gfn);
            assert!(!installed(self, gfn), "seed {}", self.seed);
            assert_eq!(self.mmu.drop_views(&mut self.host, gfn), 0, "seed {}", self.seed);
        }
    }

    fn move_overlay(&mut self) {
        let start = if self.rng.chance(70) { Some(Gva(self.rng.pick(&WINDOWS) << 22)) } else { None };
        let number = self.rng.pick(&[0, 1, 2]) as usize;
        let slot = WindowSlot::ALL[number];
        let elsewhere = (0..3).any(|n| n != number && start.is_some() && self.overlays[n] == start);
        let set = self.mmu.set_overlay(&mut self.host, &mut self.stats, slot, start);
        if elsewhere {
            assert_eq!(set, Err(MmuError::BadOverlay));
            return;
        }
        set.unwrap();
        self.overlays[number] = start;
        if let Some(start) = start {
            let access = OverlayAccess { write: false, execute: true, user: true, pkey: 1 };
            for pte in [0, 1, 511, 1023] {
                let gva = start.add(pte << 12);
                self.mmu.install_overlay_page(&mut self.host, gva, PATCH, access).unwrap();
            }
            self.mmu.remove_overlay_page(&mut self.host, start.add(1 << 12));
        }
    }
}

fn run(seed: u64, levels: u8, max_shadow_pages: u32, quota: usize, steps: u32) -> Stats {
    let mut world = World::new(seed, levels, max_shadow_pages, quota);
    for _ in 0..steps {
        world.step();
        assert!(world.mmu.shadow_pages() <= max_shadow_pages);
    }
    let stats = world.stats.clone();
    world.mmu.free_all(&mut world.host);
    assert_eq!(world.host.live(), 0, "seed {seed}: pages leaked");
    assert_eq!(world.mmu.shadow_pages(), 0);
    stats
}

#[test]
fn plenty_of_memory() {
    for seed in 0..24 {
        let stats = run(seed, 4 + (seed & 1) as u8, 1024, 2000, 3000);
        assert_eq!(stats.get(Counter::ShadowReclaims), 0);
        assert!(stats.get(Counter::PageFaultHidden) > 100);
        assert!(stats.get(Counter::PageFaultTrue) > 100);
        assert!(stats.get(Counter::PageTableWrites) > 100);
    }
}

#[test]
fn a_tiny_pool() {
    for seed in 100..124 {
        let stats = run(seed, 4 + (seed & 1) as u8, 32, 300, 3000);
        assert!(stats.get(Counter::ShadowReclaims) > 100);
    }
}

#[test]
fn a_tiny_quota_of_the_host() {
    for seed in 200..224 {
        let stats = run(seed, 4 + (seed & 1) as u8, 256, 30, 3000);
        assert!(stats.get(Counter::ShadowReclaims) > 100);
    }
}

#[test]
fn no_memory_at_all_is_an_error_and_loses_nothing() {
    let mut world = World::new(1, 5, 64, 3);
    let fault = world.mmu.fault(
        &mut world.host,
        &mut world.stats,
        &world.cpu,
        Space::Kernel,
        Env(0),
        Gva(0),
        rvmm_arch::PageFaultCode::empty(),
    );
    assert_eq!(fault, Err(MmuError::Host(HostError::NoMemory)));
    world.host.quota = 100;
    for _ in 0..200 {
        world.step();
    }
    world.mmu.free_all(&mut world.host);
    assert_eq!(world.host.live(), 0);
    let page = world.host.alloc_page().unwrap();
    world.host.free_page(page);
}
