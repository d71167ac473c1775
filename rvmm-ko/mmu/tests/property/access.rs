//! One access of the guest from the first try to its end, by the CPU or by the interpreter, against the walk of the guest's tables.

use rvmm_arch::host::{Backing, GuestMemory};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::{Exception, Gfn, Gpa, Gva, PageFaultCode, Pfn};
use rvmm_mmu::paging::canonical;
use rvmm_mmu::walk::{Walk, Walked};
use rvmm_mmu::{FaultOutcome, GuestMode, Reasons, Space, TranslateStop, ViewInstall};

use crate::check::PATCH;
use crate::common::{cpu_access, Machine};
use crate::expect::{access, reference, with};
use crate::world::World;

pub const KINDS: [AccessKind; 3] = [AccessKind::Read, AccessKind::Write, AccessKind::Fetch];

/// An access, and what to say where it goes wrong.
struct Attempt {
    space: Space,
    gva: Gva,
    kind: AccessKind,
    context: String,
}

impl Attempt {
    /// Code of the guest's kernel is executed from views only.
    fn is_of_view(&self) -> bool {
        self.space == Space::Kernel && self.kind == AccessKind::Fetch
    }
}

#[derive(PartialEq, Eq)]
enum After {
    Over,
    Again,
}

impl World {
    /// One access of the guest, from the first try to its end.
    pub fn access(&mut self, space: Space, gva: Gva, kind: AccessKind) {
        let context = format!("{:?} {:?} {space:?} {gva:?} {kind:?}", self.set, self.mode);
        let attempt = Attempt { space, gva, kind, context };
        for _ in 0..4 {
            if self.attempt(&attempt) == After::Over {
                return;
            }
        }
        panic!("{}: no progress", attempt.context);
    }

    /// One try of the CPU, with the fault that it may end in.
    fn attempt(&mut self, attempt: &Attempt) -> After {
        let Attempt { space, gva, kind, ref context } = *attempt;
        let hardware = self.hardware(attempt);
        let overlay = self.in_overlay(space, gva);
        let (expected, traces) = reference(&self.machine.host, &self.paging(), gva, access(space, kind));
        let code = match hardware {
            Ok(pfn) if overlay != Some(false) => {
                self.note("window");
                assert_eq!(pfn, PATCH, "{context}");
                return After::Over;
            }
            Ok(pfn) => {
                self.reached(attempt, pfn, expected, &traces);
                return After::Over;
            }
            Err(code) => code,
        };
        if code.contains(PageFaultCode::RSVD) {
            // Nobody need look: it is the guest's, at an entry that is not present.
            let own = matches!(expected, Walked::Fault(own) if !own.contains(PageFaultCode::P));
            assert!(own && space == Space::User, "{context}: marked as absent, but {expected:?}");
            self.note("marked");
            if self.rng.chance(50) {
                self.machine.mmu.reflected(&mut self.machine.stats, &self.machine.cpu, gva, 1);
                return After::Over;
            }
        }
        let after = with(&self.machine.host.ram, &traces);
        let outcome = self.served(space, gva, code).map_or_else(|| self.machine.handle(space, gva, code), Ok);
        let outcome = outcome.unwrap_or_else(|e| panic!("{context}: {e:?}"));
        self.note(outcome.name());
        if self.mode == GuestMode::FourLevel && !canonical(gva) {
            assert_eq!(outcome, FaultOutcome::NonCanonical, "{context}");
            return After::Over;
        }
        if overlay == Some(true) {
            return match outcome {
                FaultOutcome::Overlay => After::Over,
                FaultOutcome::Fixed => After::Again,
                other => panic!("{context}: {other:?} in the window"),
            };
        }
        assert!(self.machine.host.ram == after, "{context}: traces differ from the walk's, {outcome:?}");
        match expected {
            Walked::Fault(code) => {
                let expected = Exception::page_fault(code, gva.0);
                assert_eq!(outcome, FaultOutcome::Guest(expected), "{context}");
                self.history.forget(gva);
                After::Over
            }
            Walked::Mapped(walk) => self.carry_out(attempt, &walk, outcome),
        }
    }

    /// The fault is brought to the MMU in the middle of a stay, sometimes: what it was, if it can be told there.
    fn served(&mut self, space: Space, gva: Gva, code: PageFaultCode) -> Option<FaultOutcome> {
        if !self.rng.chance(50) {
            return None;
        }
        let machine = &mut self.machine;
        let known = |machine: &mut Machine, space| {
            machine.mmu.known_root(&mut machine.host, &machine.cpu, space, machine.env).map(|root| root.hpa)
        };
        let root = known(machine, space)?;
        let other = if space == Space::Kernel { Space::User } else { Space::Kernel };
        let lent = known(machine, other);
        if self.rng.chance(30) {
            machine.mmu.stock(&mut machine.host);
        }
        let pages = machine.host.live();
        let outcome = machine.serve(space, root, gva, code);
        assert!(machine.host.live() <= pages, "{gva:?}: a page was allocated");
        assert_eq!(known(machine, space), Some(root), "{gva:?}: the root has gone");
        assert!(lent.is_none() || known(machine, other) == lent, "{gva:?}: the other root has gone");
        self.note(if outcome.is_some() { "served" } else { "not served" });
        outcome
    }

    /// What the CPU makes of it. In the VMM area it always faults.
    fn hardware(&mut self, attempt: &Attempt) -> Result<Pfn, PageFaultCode> {
        let Attempt { space, gva, kind, .. } = *attempt;
        let root = self.root(space);
        if !self.in_slot(gva) {
            return cpu_access(&self.machine.host, self.machine.levels, root.hpa, space, gva, kind);
        }
        let mut code = PageFaultCode::P | PageFaultCode::U;
        code.set(PageFaultCode::W, kind == AccessKind::Write);
        code.set(PageFaultCode::I, kind == AccessKind::Fetch);
        Err(code)
    }

    /// It got through: to what the guest may reach, and no tracked or read-only frame by a write.
    fn reached(&mut self, attempt: &Attempt, pfn: Pfn, expected: Walked, traces: &[(Gpa, Vec<u8>)]) {
        let Attempt { space, gva, kind, ref context } = *attempt;
        let view = attempt.is_of_view();
        let walk = self.meaning(space, gva, kind, view, pfn).unwrap_or_else(|meanings| {
            panic!("{context}: the shadow permits what the guest forbids, or before it is recorded: {expected:?}, {traces:?}, {meanings:?}, {pfn:?}")
        });
        if Walked::Mapped(walk) != expected {
            self.note("old translation");
        }
        let gfn = walk.gpa.frame();
        self.check_frame(gva, gfn, view, pfn, context);
        if kind == AccessKind::Write {
            assert_eq!(self.machine.mmu.reasons(gfn), Reasons::empty(), "{context}: a tracked frame was writable");
            assert!(!self.machine.host.readonly.contains(&gfn.0), "{context}: a read-only frame was writable");
            self.write_untold(walk.gpa);
        }
        self.note(if walk.bits > 12 { "reached by a large page" } else { "reached" });
    }

    /// What the engine does with an outcome.
    fn carry_out(&mut self, attempt: &Attempt, walk: &Walk, outcome: FaultOutcome) -> After {
        let Attempt { space, gva, kind, ref context } = *attempt;
        if self.in_slot(gva) {
            assert_eq!(outcome, FaultOutcome::Slot { gpa: walk.gpa }, "{context}");
            return After::Over;
        }
        let gfn = walk.gpa.frame();
        let backing = self.machine.host.backing(gfn).unwrap();
        let device = match backing {
            Backing::Mmio => true,
            Backing::Ram { readonly, .. } => readonly && kind == AccessKind::Write,
        };
        assert_eq!(outcome == FaultOutcome::Mmio { gpa: walk.gpa }, device, "{context}: {outcome:?}");
        match outcome {
            FaultOutcome::Mmio { .. } => After::Over,
            FaultOutcome::Fixed => {
                let reached = self.hardware(attempt);
                // Where memory is short, looking after the windows may have taken it away again; and what the guest's kernel resolves may
                // lead to a table in the very frame.
                let short = self.set.quota < 100 || self.set.max_shadow_pages < 100;
                let tracked = kind == AccessKind::Write && !self.machine.mmu.reasons(gfn).is_empty();
                assert!(reached.is_ok() || short || tracked, "{context}: fixed, but {reached:?}");
                After::Again
            }
            FaultOutcome::TrackedWrite { gpa, reasons } => {
                assert_eq!((gpa, kind), (walk.gpa, AccessKind::Write), "{context}");
                assert_eq!(reasons, self.machine.mmu.reasons(gfn), "{context}");
                assert!(!reasons.is_empty(), "{context}");
                self.write_guest(gpa);
                After::Over
            }
            FaultOutcome::NeedView { gpa, page } => {
                assert_eq!((gpa, page, space), (walk.gpa, gva.page(), Space::Kernel), "{context}");
                assert_eq!(kind, AccessKind::Fetch, "{context}");
                assert_eq!(self.machine.view_at(page), None, "{context}");
                self.install_view(gfn, page, context);
                After::Again
            }
            FaultOutcome::ViewAccess { gpa, write } => {
                assert_eq!((gpa, write), (walk.gpa, kind == AccessKind::Write), "{context}");
                let view = self.machine.view_at(gva);
                assert_eq!(view, Some(self.view_of(gfn, gva)), "{context}");
                if write {
                    self.write_guest(gpa);
                }
                After::Over
            }
            FaultOutcome::Guest(_) | FaultOutcome::Overlay | FaultOutcome::Slot { .. } | FaultOutcome::NonCanonical => {
                panic!("{context}: {outcome:?}")
            }
        }
    }

    fn install_view(&mut self, gfn: Gfn, page: Gva, context: &str) {
        let wrong = Gfn(gfn.0 ^ 1);
        let view = self.view_of(gfn, page);
        let moved = self.machine.install(page, wrong, view);
        assert_eq!(moved, Ok(ViewInstall::Moved(gfn)), "{context}");
        let done = self.machine.install(page, gfn, view);
        assert_eq!(done, Ok(ViewInstall::Installed), "{context}");
    }

    /// The interpreter makes an access.
    pub fn translate(&mut self, gva: Gva, kind: AccessKind) {
        let access =
            Access { kind, privilege: self.rng.pick(&[Privilege::User, Privilege::Supervisor, Privilege::Implicit]) };
        let context = format!("{:?} {:?} {access:?} {gva:?}", self.set, self.mode);
        let (expected, traces) = reference(&self.machine.host, &self.paging(), gva, access);
        let after = with(&self.machine.host.ram, &traces);
        let before = self.machine.host.ram.clone();
        let peeked = self.machine.mmu.peek(&mut self.machine.host, &self.machine.cpu, gva, access).unwrap();
        assert!(self.machine.host.ram == before, "{context}: traces of a peek");
        let got = self.machine.mmu.translate(&mut self.machine.host, &self.machine.cpu, gva, access);
        assert!(self.machine.host.ram == after, "{context}: traces differ from the walk's");
        match expected {
            Walked::Mapped(walk) => assert_eq!((got, peeked), (Ok(walk.gpa), Ok(walk.gpa)), "{context}"),
            Walked::Fault(code) => {
                self.history.forget(gva);
                let expected = Err(TranslateStop::Guest(Exception::page_fault(code, gva.0)));
                assert_eq!((got, peeked), (expected, Err(code)), "{context}");
            }
        }
    }
}
