//! A random guest in all paging modes against two references: the CPU's walk of the shadow tables (never more than the guest
//! permits, and after "fixed" exactly the access), and the guest walk by itself on a copy of memory (the same faults, the
//! same accessed and dirty bits).
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod expect;
mod guest;
mod history;

use std::collections::{BTreeMap, HashMap};

use common::{cpu_access, shadow_leaf, FakeHost, Rng, GUEST_BASE};
use expect::{access, claim, reference, with, Claim};
use guest::{Edit, FRAMES, MODES};
use history::History;
use rvmm_arch::host::{Backing, GuestMemory, HostError, HostPage, HostPages};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Exception, Gfn, Gpa, Gva, Model, PageFaultCode, Pfn, VcpuState};
use rvmm_mmu::paging::{canonical, GuestMode};
use rvmm_mmu::walk::{probe, Walk, Walked};
use rvmm_mmu::{
    Env, FaultOutcome, Mmu, MmuConfig, MmuError, OverlayAccess, Paging, Reason, Reasons, Root, Space, TranslateStop,
    ViewInstall, ViewProtection, WindowSlot,
};

/// Views are frames of rvmm's own, one for each guest frame, linear page and environment, so that a stale one is noticed.
const VIEW_BASE: u64 = 0x30_0000;
const PATCH: Pfn = Pfn(0x7f_0000);
const PROTECTION: ViewProtection = ViewProtection { user: true, pkey: 1 };
/// Pages of a window that something is put into; the second is taken out again.
const OVERLAY_PAGES: [u64; 5] = [0, 1, 511, 512, 1023];
const SLOT: u64 = 260;
const SLOT_ENTRY: u64 = 0x7777_0003;
const KINDS: [AccessKind; 3] = [AccessKind::Read, AccessKind::Write, AccessKind::Fetch];
const SPACES: [Space; 2] = [Space::Kernel, Space::User];

/// A run's circumstances.
#[derive(Clone, Copy, Debug)]
struct Setting {
    seed: u64,
    levels: u8,
    model: Model,
    physical_bits: u8,
    /// The only paging mode, or all of them one after the other.
    mode: Option<GuestMode>,
    max_shadow_pages: u32,
    quota: usize,
    prefill: bool,
    /// Page tables go out of sync: translations may be old until a flush.
    unsync: bool,
    absent: u64,
}

struct World {
    host: FakeHost,
    mmu: Mmu,
    cpu: VcpuState,
    stats: Stats,
    rng: Rng,
    set: Setting,
    mode: GuestMode,
    pages: Vec<Gva>,
    /// The pages that it uses most for a while.
    busy: Vec<Gva>,
    tracked: Vec<(Gfn, Reason)>,
    overlays: [Option<Gva>; 3],
    views: HashMap<(u8, u64, u64), Pfn>,
    env: Env,
    history: History,
    /// The entry that the guest's kernel means to write.
    aim: Option<Gpa>,
    seen: Seen,
}

/// How often each thing happened, by paging mode, so that what a run does not test is noticed.
type Seen = BTreeMap<(String, &'static str), u64>;

impl World {
    fn new(set: Setting) -> Self {
        let mut config = MmuConfig::new(&Default::default());
        config.paging_levels = set.levels;
        config.vmm_slot = (SLOT as u16, SLOT_ENTRY);
        config.max_shadow_pages = set.max_shadow_pages;
        config.max_tracked = 64;
        config.model = set.model;
        config.guest_physical_bits = set.physical_bits;
        config.prefill = set.prefill;
        config.unsync = set.unsync;
        config.absent = set.absent;
        let mut cpu = VcpuState::reset();
        cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::WP;
        let mut rng = Rng::new(set.seed);
        let mut host = FakeHost::new(FRAMES as usize, set.quota);
        host.readonly = vec![FRAMES - 1, FRAMES - 2];
        guest::build(&mut rng, &mut host);
        let mut world = Self {
            host,
            mmu: Mmu::new(config).unwrap(),
            cpu,
            stats: Stats::default(),
            rng,
            set,
            mode: GuestMode::Off,
            pages: Vec::new(),
            busy: Vec::new(),
            tracked: Vec::new(),
            overlays: [None; 3],
            views: HashMap::new(),
            env: Env(0),
            history: History::default(),
            aim: None,
            seen: Seen::new(),
        };
        world.enter_mode();
        world
    }

    /// Paging on, in a mode that this run allows.
    fn enter_mode(&mut self) {
        let mode = self.set.mode.unwrap_or_else(|| self.rng.pick(&MODES));
        self.cpu.cr0.insert(Cr0::PG);
        self.cpu.cr4.set(Cr4::PAE, mode != GuestMode::TwoLevel);
        self.cpu.cr4.set(Cr4::PSE, self.rng.chance(80));
        self.cpu.efer.set(Efer::LMA, mode == GuestMode::FourLevel);
        self.cpu.efer.set(Efer::NXE, self.rng.chance(80));
        self.cpu.cr3 = guest::cr3(&mut self.rng, mode);
        self.mode = mode;
        self.pages = guest::pages(mode);
        self.busy.clear();
        self.flush();
    }

    fn paging_off(&mut self) {
        self.cpu.cr0.remove(Cr0::PG);
        self.cpu.efer.remove(Efer::LMA);
        self.mode = GuestMode::Off;
        self.pages = guest::pages(self.mode);
        self.busy.clear();
        self.flush();
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry((format!("{:?}", self.mode), what)).or_default() += 1;
    }

    fn view_of(&mut self, gfn: Gfn, page: Gva) -> Pfn {
        let next = Pfn(VIEW_BASE + self.views.len() as u64);
        *self.views.entry((self.env.0, gfn.0, page.page().0)).or_insert(next)
    }

    fn random_gva(&mut self) -> Gva {
        let rng = &mut self.rng;
        if self.busy.is_empty() || rng.chance(2) {
            self.busy = (0..16).map(|_| rng.pick(&self.pages)).collect();
        }
        let wide = self.mode == GuestMode::FourLevel;
        let window = self.overlays.iter().flatten().find(|o| wide || o.0 >> 32 == 0);
        if let Some(window) = window.filter(|_| rng.chance(5)) {
            return window.add(rng.pick(&OVERLAY_PAGES) << 12 | 8);
        }
        let pages = if rng.chance(80) { &self.busy } else { &self.pages };
        guest::address(rng, pages)
    }

    fn paging(&self) -> Paging {
        Paging::of(&self.cpu, self.set.physical_bits)
    }

    /// No shadow can be at `gva`: the VMM area is there.
    fn in_slot(&self, gva: Gva) -> bool {
        self.set.levels == 4 && self.mode == GuestMode::FourLevel && (gva.0 >> 39) & 511 == SLOT
    }

    fn claim(&self, start: Gva) -> Claim {
        match claim(&self.host, &self.paging(), self.mode, start) {
            _ if self.in_slot(start) => Claim::Taken,
            claim => claim,
        }
    }

    fn root(&mut self, space: Space) -> Root {
        let before = self.host.ram.clone();
        let root = self.mmu.root(&mut self.host, &mut self.stats, &self.cpu, space, self.env).unwrap();
        if before != self.host.ram {
            // Entries on the way to a window count as accessed.
            for (before, after) in before.chunks(4).zip(self.host.ram.chunks(4)) {
                let changed =
                    u32::from_le_bytes(before.try_into().unwrap()) ^ u32::from_le_bytes(after.try_into().unwrap());
                assert!(changed == 0 || changed == 0x20 && before[0] & 1 != 0, "{:?}", self.set);
            }
        }
        let conflict = space == Space::Kernel && self.overlays.iter().flatten().any(|&o| self.claim(o) != Claim::Free);
        assert_eq!(root.conflict, conflict, "{:?} {space:?}", self.set);
        let top = HostPage((root.hpa.frame().0 - common::HOST_BASE) as u32);
        assert_eq!(self.host.read_entry(top, SLOT as usize), SLOT_ENTRY, "{:?} {space:?}", self.set);
        if conflict {
            self.note("conflict");
        }
        root
    }

    /// Does the kernel reach a window at this address? `None`: it may, but the guest's own fault is right, too.
    fn in_overlay(&self, space: Space, gva: Gva) -> Option<bool> {
        let window = self.overlays.iter().flatten().find(|o| o.0 >> 22 == gva.0 >> 22);
        match window.filter(|_| space == Space::Kernel).map(|&o| self.claim(o)) {
            None | Some(Claim::Taken) => Some(false),
            Some(Claim::Free) => Some(true),
            Some(Claim::Forbidden) => None,
        }
    }

    fn wrote(&mut self, gpa: Gpa, len: u64) {
        let wrote = self.mmu.guest_wrote(&mut self.host, &mut self.stats, gpa, len).unwrap();
        let expected = self.reasons(gpa.frame()) | self.reasons(gpa.add(len - 1).frame());
        assert_eq!(wrote.reasons - Reasons::TABLE, expected, "{:?}", self.set);
    }

    fn reasons(&self, gfn: Gfn) -> Reasons {
        let mut reasons = Reasons::empty();
        for (reason, flag) in
            [(Reason::View, Reasons::VIEW), (Reason::Descriptor, Reasons::DESCRIPTOR), (Reason::Other, Reasons::OTHER)]
        {
            reasons.set(flag, self.tracked.contains(&(gfn, reason)));
        }
        reasons
    }

    /// One access of the guest, from the first try to its end.
    fn access(&mut self, space: Space, gva: Gva, kind: AccessKind) {
        let context = format!("{:?} {:?} {space:?} {gva:?} {kind:?}", self.set, self.mode);
        for _ in 0..4 {
            let root = self.root(space);
            let overlay = self.in_overlay(space, gva);
            let (expected, traces) = reference(&self.host, &self.paging(), gva, access(space, kind));
            let hardware = if self.in_slot(gva) {
                let mut code = PageFaultCode::P | PageFaultCode::U;
                code.set(PageFaultCode::W, kind == AccessKind::Write);
                code.set(PageFaultCode::I, kind == AccessKind::Fetch);
                Err(code)
            } else {
                cpu_access(&self.host, self.set.levels, root.hpa, space, gva, kind)
            };
            let code = match hardware {
                Ok(pfn) if overlay != Some(false) => {
                    self.note("window");
                    assert_eq!(pfn, PATCH, "{context}");
                    return;
                }
                Ok(pfn) => {
                    let exact = space == Space::Kernel && kind == AccessKind::Fetch;
                    let meanings = self.meanings(space, gva, kind, exact);
                    let wanted = |walk: &&Walk| exact || pfn == Pfn(GUEST_BASE + walk.gpa.frame().0);
                    let Some(walk) = meanings.iter().find(wanted).copied() else {
                        panic!("{context}: the shadow permits what the guest forbids, or before it is recorded: {expected:?}, {traces:?}, {meanings:?}, {pfn:?}");
                    };
                    if Walked::Mapped(walk) != expected {
                        self.note("old translation");
                    }
                    self.check_reached(space, gva, kind, &walk, pfn, &context);
                    if kind == AccessKind::Write {
                        self.write_untold(walk.gpa);
                    }
                    self.note(if walk.bits > 12 { "reached by a large page" } else { "reached" });
                    return;
                }
                Err(code) if code.contains(PageFaultCode::RSVD) => {
                    // Nobody need look: it is the guest's, at an entry that is not present.
                    let own = matches!(expected, Walked::Fault(own) if !own.contains(PageFaultCode::P));
                    assert!(own && space == Space::User, "{context}: marked as absent, but {expected:?}");
                    self.note("marked");
                    if self.rng.chance(50) {
                        self.mmu.reflected(&mut self.stats, &self.cpu, gva, 1);
                        return;
                    }
                    code
                }
                Err(code) => code,
            };
            let after = with(&self.host.ram, &traces);
            let outcome = self.mmu.fault(&mut self.host, &mut self.stats, &self.cpu, space, self.env, gva, code);
            let outcome = outcome.unwrap_or_else(|e| panic!("{context}: {e:?}"));
            self.note(outcome.name());
            if self.mode == GuestMode::FourLevel && !canonical(gva) {
                assert_eq!(outcome, FaultOutcome::NonCanonical, "{context}");
                return;
            }
            if overlay == Some(true) {
                match outcome {
                    FaultOutcome::Overlay => return,
                    FaultOutcome::Fixed => continue,
                    other => panic!("{context}: {other:?} in the window"),
                }
            }
            assert!(self.host.ram == after, "{context}: traces differ from the walk's, {outcome:?}");
            let walk = match expected {
                Walked::Fault(code) => {
                    let expected = Exception::page_fault(code, gva.0);
                    assert_eq!(outcome, FaultOutcome::Guest(expected), "{context}");
                    self.history.forget(gva);
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
        if self.in_slot(gva) {
            assert_eq!(outcome, FaultOutcome::Slot { gpa: walk.gpa }, "{context}");
            return true;
        }
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
                let reached = cpu_access(&self.host, self.set.levels, root.hpa, space, gva, kind);
                // Where memory is short, looking after the windows may have taken it away again; and what the guest's kernel resolves may
                // lead to a table in the very frame.
                let short = self.set.quota < 100 || self.set.max_shadow_pages < 100;
                let tracked = kind == AccessKind::Write && !self.mmu.reasons(gfn).is_empty();
                assert!(reached.is_ok() || short || tracked, "{context}: fixed, but {reached:?}");
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
                assert_eq!(view, Some(self.view_of(gfn, gva)), "{context}");
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
        let view = (self.view_of(gfn, page), PROTECTION);
        let (host, stats, env) = (&mut self.host, &mut self.stats, self.env);
        let moved = self.mmu.install_view(host, stats, &self.cpu, env, page, wrong, view);
        assert_eq!(moved, Ok(ViewInstall::Moved(gfn)), "{context}");
        let done = self.mmu.install_view(host, stats, &self.cpu, env, page, gfn, view);
        assert_eq!(done, Ok(ViewInstall::Installed), "{context}");
    }

    fn check_reached(&mut self, space: Space, gva: Gva, kind: AccessKind, walk: &Walk, pfn: Pfn, context: &str) {
        let gfn = walk.gpa.frame();
        if space == Space::Kernel && kind == AccessKind::Fetch {
            assert_eq!(pfn, self.view_of(gfn, gva), "{context}: not the view");
        } else {
            assert_eq!(pfn, Pfn(GUEST_BASE + gfn.0), "{context}: another frame");
        }
        if kind == AccessKind::Write {
            assert_eq!(self.mmu.reasons(gfn), Reasons::empty(), "{context}: a tracked frame was writable");
            assert!(!self.host.readonly.contains(&gfn.0), "{context}: a read-only frame was writable");
        }
    }

    /// What an access may find: what the guest's tables say and, while the page table is not in sync, what they have said since the last
    /// flush: all of them at one time, the way to the table included, as a TLB can have read nothing else. Only what has nothing
    /// left to record.
    fn meanings(&mut self, space: Space, gva: Gva, kind: AccessKind, exact: bool) -> Vec<Walk> {
        let paging = self.paging();
        let mut meanings = Vec::new();
        let mut add = |host: &FakeHost| {
            if let (Walked::Mapped(walk), traces) = reference(host, &paging, gva, access(space, kind)) {
                if traces.is_empty() {
                    meanings.push(walk);
                }
            }
        };
        add(&self.host);
        let Ok((path, _)) = probe(&mut self.host, &paging, self.mode, gva) else { return meanings };
        let Some(at) = path.step(1).map(|s| s.at).filter(|_| self.set.unsync && !exact) else { return meanings };
        if !self.mmu.reasons(at.frame()).contains(Reasons::TABLE) {
            self.history.rewind(gva, &mut self.host, add);
        }
        meanings
    }

    /// The guest writes where the shadow lets it, and nobody hears of it. Mostly its tables.
    fn write_untold(&mut self, gpa: Gpa) {
        assert_eq!(self.mmu.reasons(gpa.frame()), Reasons::empty());
        if gpa.frame().0 < 18 && !self.host.readonly.contains(&gpa.frame().0) {
            if self.set.unsync {
                self.note("table written untold");
            }
            let Edit { index, value, bytes, .. } = guest::edit_of(&mut self.rng, &self.host, self.mode, gpa.frame().0);
            let at = match self.aim.filter(|at| at.frame() == gpa.frame() && self.rng.chance(80)) {
                Some(at) => Gpa(at.0 & !(bytes - 1)),
                None => Gpa(gpa.page().0 | index * bytes),
            };
            self.put(at, &value.to_le_bytes()[..bytes as usize]);
        }
    }

    /// The kernel writes the page table of a page in use, and without a flush leads another entry to the table, or to one above it.
    fn move_used_table(&mut self, space: Space) {
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
        let Ok((from, _)) = probe(&mut self.host, &paging, self.mode, used) else { return };
        let Ok((to, _)) = probe(&mut self.host, &paging, self.mode, Gva(place)) else { return };
        let (Some(table), Some(entry)) = (from.step(level - 1).map(|s| s.at.frame()), to.step(level).map(|s| s.at))
        else {
            return;
        };
        if !guest::is_table(entry.frame().0, level, self.mode) {
            return;
        }
        let bytes = usize::from(self.mode.entry_bytes());
        let value = table.base().0 | guest::USED;
        let told = !self.mmu.reasons(entry.frame()).is_empty();
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

    /// The kernel writes the page table of a page in use, where it finds it mapped.
    fn write_used_table(&mut self, space: Space, used: Gva) {
        let kind = self.rng.pick(&KINDS);
        self.access(space, used, kind);
        let paging = self.paging();
        let Ok((path, _)) = probe(&mut self.host, &paging, self.mode, used) else { return };
        let Some(at) = path.step(1).map(|s| s.at) else { return };
        let offset = at.frame().0 << 12 & 0x1f_f000;
        let first = self.rng.below(self.pages.len() as u64) as usize;
        for i in 0..self.pages.len() {
            let page = self.pages[(first + i) % self.pages.len()].0;
            let page = if i % 2 == 0 { page } else { page & !0x1f_ffff | offset };
            let (walked, _) = reference(&self.host, &paging, Gva(page), access(Space::Kernel, AccessKind::Write));
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

    /// A write to guest memory, told or not.
    fn put(&mut self, at: Gpa, data: &[u8]) {
        let place = at.0 as usize..at.0 as usize + data.len();
        self.history.wrote(at, &self.host.ram[place.clone()]);
        self.host.ram[place].copy_from_slice(data);
    }

    /// MOV to a control register.
    fn flush(&mut self) {
        self.mmu.cr3_loaded(&mut self.host, &mut self.stats);
        self.history.forget_all();
    }

    /// The interpreter makes an access.
    fn translate(&mut self, gva: Gva, kind: AccessKind) {
        let access =
            Access { kind, privilege: self.rng.pick(&[Privilege::User, Privilege::Supervisor, Privilege::Implicit]) };
        let context = format!("{:?} {:?} {access:?} {gva:?}", self.set, self.mode);
        let (expected, traces) = reference(&self.host, &self.paging(), gva, access);
        let after = with(&self.host.ram, &traces);
        let before = self.host.ram.clone();
        let peeked = self.mmu.peek(&mut self.host, &self.cpu, gva, access).unwrap();
        assert!(self.host.ram == before, "{context}: traces of a peek");
        let got = self.mmu.translate(&mut self.host, &self.cpu, gva, access);
        assert!(self.host.ram == after, "{context}: traces differ from the walk's");
        match expected {
            Walked::Mapped(walk) => assert_eq!((got, peeked), (Ok(walk.gpa), Ok(walk.gpa)), "{context}"),
            Walked::Fault(code) => {
                self.history.forget(gva);
                let expected = Err(TranslateStop::Guest(Exception::page_fault(code, gva.0)));
                assert_eq!((got, peeked), (expected, Err(code)), "{context}");
            }
        }
    }

    /// The guest or its devices write somewhere, seen by the engine.
    fn write_guest(&mut self, gpa: Gpa) {
        let rng = &mut self.rng;
        let level = 1 + rng.below(4) as usize;
        let value =
            if rng.chance(50) { guest::narrow_entry(rng, level.min(2)) } else { guest::wide_entry(rng, level, false) };
        let len = rng.pick(&[1, 4, 4, 8, 8, 8]);
        let at = Gpa(gpa.0 & !(len - 1 | 3));
        if at.0 < FRAMES << 12 && !self.host.readonly.contains(&at.frame().0) {
            self.put(at, &value.to_le_bytes()[..len as usize]);
            self.wrote(at, len);
        }
    }

    fn edit_table(&mut self) {
        let Edit { gfn, index, value, bytes } = guest::edit(&mut self.rng, &self.host, self.mode);
        let at = Gpa(gfn << 12 | index * bytes);
        let value = value.to_le_bytes();
        // A table that is not watched may be written by the guest itself.
        let told = !self.mmu.reasons(Gfn(gfn)).is_empty() || self.rng.chance(30);
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

    /// Every leaf that the root last used holds, against the guest.
    fn check_tree(&mut self, space: Space) {
        let root = self.root(space);
        let kernel_user = self.mode == GuestMode::FourLevel || self.set.model == Model::Ring3;
        for gva in self.pages.clone() {
            if self.set.levels == 5 && self.mode == GuestMode::FourLevel {
                let hole = Gva(gva.0 ^ 1 << 47);
                let leaf = shadow_leaf(&self.host, self.set.levels, root.hpa, hole);
                assert_eq!(leaf, None, "{:?} {hole:?}: not an address of 4-level paging", self.set);
            }
            if self.in_slot(gva) || self.in_overlay(space, gva) != Some(false) {
                continue;
            }
            let Some(leaf) = shadow_leaf(&self.host, self.set.levels, root.hpa, gva) else { continue };
            self.note("leaf");
            let context = format!("{:?} {:?} {space:?} {gva:?} {leaf:?}", self.set, self.mode);
            let kind = if leaf.write { AccessKind::Write } else { AccessKind::Read };
            let view = space == Space::Kernel && (leaf.execute || leaf.pkey != 0);
            let meanings = self.meanings(space, gva, kind, view);
            let wanted = |walk: &&Walk| view || leaf.pfn == Pfn(GUEST_BASE + walk.gpa.frame().0);
            let Some(walk) = meanings.iter().find(wanted).copied() else {
                panic!("{context}: a leaf that the guest forbids, or before its accessed or dirty bit");
            };
            let gfn = walk.gpa.frame();
            if leaf.write {
                assert_eq!(self.mmu.reasons(gfn), Reasons::empty(), "{context}");
            }
            if leaf.execute {
                let fetch = self.meanings(space, gva, AccessKind::Fetch, view);
                assert!(!fetch.is_empty(), "{context}: executable");
            }
            if view {
                assert_eq!(leaf.pfn, self.view_of(gfn, gva), "{context}");
                assert_eq!((leaf.user, leaf.pkey, leaf.write), (true, 1, false), "{context}");
            } else {
                assert_eq!(leaf.pfn, Pfn(GUEST_BASE + gfn.0), "{context}");
                assert_eq!(leaf.user, space == Space::User || kernel_user, "{context}");
            }
        }
    }

    fn step(&mut self) {
        if !self.cpu.paging() && self.rng.chance(5) {
            self.enter_mode();
        }
        let space = self.rng.pick(&SPACES);
        match self.rng.below(100) {
            0..=48 => {
                let kind = self.rng.pick(&KINDS);
                let gva = self.random_gva();
                self.access(space, gva, kind);
            }
            49 if self.set.levels == 5 && self.mode == GuestMode::FourLevel => {
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
                self.cpu.cr3 = guest::cr3(&mut self.rng, self.mode);
                self.flush();
            }
            78 => {
                let gva = self.random_gva();
                self.mmu.invlpg(&mut self.host, &mut self.stats, gva);
                self.history.forget(gva);
            }
            79..=80 => {
                self.cpu.cr0.toggle(Cr0::WP);
                self.flush();
            }
            81 => {
                self.cpu.cr4.toggle(Cr4::PSE);
                self.flush();
            }
            82 if self.rng.chance(30) => self.paging_off(),
            82 => {
                self.cpu.efer.toggle(Efer::NXE);
                self.flush();
            }
            83..=84 => self.env = Env(self.rng.below(4) as u8),
            85..=88 => self.change_tracking(),
            89..=90 => {
                let gfn = Gfn(self.rng.below(FRAMES));
                self.drop_views(gfn);
            }
            91 => {
                // A memslot is replaced: other contents, and nobody tells of a write.
                let (gfn, other) = (Gfn(self.rng.below(FRAMES - 2)), self.rng.below(FRAMES) << 12);
                self.host.ram.copy_within(other as usize..other as usize + 4096, (gfn.0 << 12) as usize);
                self.mmu.zap_gfns(&mut self.host, gfn, 1);
                self.history.replaced(gfn);
            }
            92 if self.rng.chance(20) => {
                self.mmu.flush_all(&mut self.host);
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
    fn with_a_failing_host(&mut self, space: Space) {
        let (gva, quota) = (self.random_gva(), self.host.quota);
        if self.rng.chance(60) {
            self.cpu.cr3 = guest::cr3(&mut self.rng, self.mode);
            self.flush();
            self.host.broken = Some(if self.rng.chance(40) { self.cpu.cr3 >> 12 } else { self.rng.below(18) });
        } else {
            self.host.quota = self.host.live() + self.rng.below(4) as usize;
        }
        let _ = self.mmu.root(&mut self.host, &mut self.stats, &self.cpu, space, self.env);
        let code = if self.rng.chance(50) { PageFaultCode::W } else { PageFaultCode::empty() };
        let failed = self.mmu.fault(&mut self.host, &mut self.stats, &self.cpu, space, self.env, gva, code).is_err();
        self.note(if failed { "host failure" } else { "no host failure" });
        if self.rng.chance(30) {
            self.move_overlay();
        }
        (self.host.broken, self.host.quota) = (None, quota);
    }

    fn change_tracking(&mut self) {
        if self.rng.chance(50) || self.tracked.is_empty() {
            let gfn = Gfn(self.rng.below(FRAMES));
            let reason = self.rng.pick(&[Reason::View, Reason::Descriptor, Reason::Other]);
            match self.mmu.track(&mut self.host, gfn, reason) {
                Ok(()) => self.tracked.push((gfn, reason)),
                Err(e) => assert_eq!(e, MmuError::TrackingFull),
            }
        } else {
            let at = self.rng.below(self.tracked.len() as u64) as usize;
            let (gfn, reason) = self.tracked.swap_remove(at);
            self.mmu.untrack(gfn, reason);
        }
        let gfn = Gfn(self.rng.below(FRAMES));
        assert_eq!(self.mmu.reasons(gfn) - Reasons::TABLE, self.reasons(gfn), "{:?}", self.set);
    }

    fn drop_views(&mut self, gfn: Gfn) {
        let page = self.random_gva().page();
        let view = self.mmu.view_at(&self.host, &self.cpu, self.env, page);
        let here = view.and_then(|v| self.views.iter().find(|(_, &pfn)| pfn == v)).map(|(key, _)| Gfn(key.1));
        if self.rng.chance(50) {
            // Aim at one that exists, if there is one here.
            let dropped = self.mmu.drop_view(&mut self.host, here.unwrap_or(gfn), page);
            assert!(here.is_none() || dropped > 0, "{:?}", self.set);
            assert_eq!(self.mmu.view_at(&self.host, &self.cpu, self.env, page), None, "{:?}", self.set);
        } else {
            self.mmu.drop_views(&mut self.host, gfn);
            let view = self.mmu.view_at(&self.host, &self.cpu, self.env, page);
            assert!(view.is_none() || here != Some(gfn), "{:?}", self.set);
            assert_eq!(self.mmu.drop_views(&mut self.host, gfn), 0, "{:?}", self.set);
        }
    }

    fn move_overlay(&mut self) {
        let start = if self.rng.chance(70) { Some(guest::window(&mut self.rng, self.mode)) } else { None };
        let number = self.rng.pick(&[0, 1, 2]) as usize;
        let slot = WindowSlot::ALL[number];
        let elsewhere = (0..3).any(|n| n != number && start.is_some() && self.overlays[n] == start);
        let set = self.mmu.set_overlay(&mut self.host, &mut self.stats, slot, start);
        if elsewhere {
            assert_eq!(set, Err(MmuError::BadOverlay));
            return;
        }
        if self.host.broken.is_some() || set == Err(MmuError::Host(HostError::NoMemory)) {
            assert_eq!(self.mmu.overlay(slot), if set.is_ok() { start } else { None });
        } else {
            set.unwrap();
        }
        let start = self.mmu.overlay(slot);
        self.overlays[number] = start;
        if let Some(start) = start {
            let access = OverlayAccess { write: false, execute: true, user: true, pkey: 1 };
            for pte in OVERLAY_PAGES {
                let gva = start.add(pte << 12);
                self.mmu.install_overlay_page(&mut self.host, gva, PATCH, access).unwrap();
            }
            self.mmu.remove_overlay_page(&mut self.host, start.add(1 << 12));
        }
    }
}

fn run(set: Setting, steps: u32, seen: &mut Seen) -> Stats {
    let mut world = World::new(set);
    for _ in 0..steps {
        world.step();
        assert!(world.mmu.shadow_pages() <= set.max_shadow_pages);
    }
    let stats = world.stats.clone();
    world.mmu.free_all(&mut world.host);
    assert_eq!(world.host.live(), 0, "{set:?}: pages leaked");
    assert_eq!(world.mmu.shadow_pages(), 0);
    for (what, times) in world.seen {
        *seen.entry(what).or_default() += times;
    }
    stats
}

/// Has everything happened that can?
fn check_seen(seen: &Seen) {
    const ALWAYS: [&str; 12] = [
        "true",
        "hidden",
        "mmio",
        "tracked-view",
        "tracked-descriptor",
        "tracked-table",
        "view-fetch",
        "view-read",
        "view-write",
        "reached",
        "conflict",
        "leaf",
    ];
    for mode in MODES {
        let at_least = |least, what| seen.get(&(format!("{mode:?}"), what)).is_some_and(|&n| n >= least);
        let often = |what| at_least(10, what);
        for what in ALWAYS.into_iter().chain(["host failure", "reached by a large page", "window", "patch-memory"]) {
            assert!(often(what), "{what} in {mode:?}: {seen:#?}");
        }
        for what in ["table written untold", "table moved"] {
            assert!(often(what), "{what} in {mode:?}: {seen:#?}");
        }
        // Reclaim leaves few of them where the pool is tiny.
        assert!(at_least(3, "old translation"), "in {mode:?}: {seen:#?}");
        let long = mode == GuestMode::FourLevel;
        assert_eq!((often("vmm-slot"), often("non-canonical")), (long, long), "{seen:#?}");
        assert_eq!(often("marked"), long, "{seen:#?}");
    }
}

/// The circumstances that follow from a seed: hosts, models, widths and modes in turn.
fn setting(seed: u64) -> Setting {
    let modes = [Some(GuestMode::TwoLevel), Some(GuestMode::Pae), Some(GuestMode::FourLevel), None];
    Setting {
        seed,
        levels: 4 + (seed & 1) as u8,
        model: if seed & 2 == 0 { Model::Ring1 } else { Model::Ring3 },
        mode: modes[(seed >> 2) as usize & 3],
        physical_bits: [36, 40, 46, 52][(seed >> 4) as usize & 3],
        max_shadow_pages: 1024,
        quota: 2000,
        prefill: seed % 5 != 0,
        unsync: seed % 3 != 0,
        absent: if seed % 7 == 1 { 0 } else { common::BEYOND },
    }
}

/// Seeds for each test; SEEDS in the environment for more, SEED for that one alone.
fn seeds() -> u64 {
    std::env::var("SEEDS").map_or(64, |n| n.parse().unwrap())
}

/// The only seed to look at.
fn only() -> Option<u64> {
    std::env::var("SEED").ok().map(|n| n.parse().unwrap())
}

const STEPS: u32 = 1500;

fn run_all(first: u64, max_shadow_pages: u32, quota: usize) -> u64 {
    let mut seen = Seen::new();
    let mut reclaims = 0;
    for seed in first..first + seeds() {
        if only().is_some_and(|only| only != seed) {
            continue;
        }
        let stats = run(Setting { max_shadow_pages, quota, ..setting(seed) }, STEPS, &mut seen);
        reclaims += stats.get(Counter::ShadowReclaims);
    }
    if std::env::var_os("SEEN").is_some() {
        println!("{seen:#?}");
    }
    if only().is_none() {
        check_seen(&seen);
    }
    reclaims
}

#[test]
fn plenty_of_memory() {
    // Some, where the host fails.
    assert!(run_all(0, 1024, 2000) < 100 * seeds());
}

#[test]
fn a_tiny_pool() {
    assert!(run_all(1 << 20, 64, 300) > 10 * seeds());
}

#[test]
fn a_tiny_quota_of_the_host() {
    assert!(run_all(2 << 20, 256, 34) > 100 * seeds());
}

#[test]
fn no_memory_at_all_is_an_error_and_loses_nothing() {
    let mut world = World::new(Setting { quota: 3, max_shadow_pages: 64, ..setting(1) });
    let fault = world.mmu.fault(
        &mut world.host,
        &mut world.stats,
        &world.cpu,
        Space::Kernel,
        Env(0),
        Gva(0),
        PageFaultCode::empty(),
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
