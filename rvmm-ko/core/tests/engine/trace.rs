//! Trace events against counters.

use crate::soft::guest::{End, Guest};
use crate::{image, options};
use rvmm_arch::host::WorldExit;
use rvmm_arch::stats::Counter;
use rvmm_arch::trace::TraceEvent;
use rvmm_arch::{Gpa, Model, Vector};
use rvmm_core::{ClientExit, Options, Verify};
use rvmm_patcher::TacticSet;

/// Each event that is counted is traced, and the other way round; entries and exits take turns.
#[test]
fn what_is_counted_is_traced() {
    for options in [
        Options {
            model: Model::Ring1,
            tactics: TacticSet::all().difference(TacticSet::REFLECT.union(TacticSet::SYSCALL)),
            ..options()
        },
        Options {
            model: Model::Ring1,
            tactics: TacticSet::all().difference(TacticSet::REFLECT.union(TacticSet::SYSCALL)),
            verify: Verify::First(1),
            ..options()
        },
        Options { interpret_all: true, ..options() },
        Options {
            model: Model::Ring3,
            tactics: TacticSet::all().difference(TacticSet::REFLECT.union(TacticSet::SYSCALL)),
            ..options()
        },
    ] {
        let Some(image) = image("every-exit") else { return };
        let mut guest = Guest::new(64 << 20, options);
        guest.host.trace = Some(Vec::new());
        let entry = guest.load_elf(&image);
        guest.start(entry);
        // Up to its first HLT: there is no timer here.
        assert_eq!(guest.run(500_000), End::Exit(ClientExit::Hlt), "{}", guest.serial);
        let trace = guest.host.trace.take().unwrap();
        let traced = |is: fn(&TraceEvent) -> bool| trace.iter().filter(|e| is(e)).count() as u64;
        let counted = |counters: &[Counter]| counters.iter().map(|c| guest.vcpu.stats().get(*c)).sum::<u64>();

        assert_eq!(traced(|e| matches!(e, TraceEvent::Entry { .. })), counted(&[Counter::WorldSwitches]));
        let mut turns = trace.iter().filter(|e| matches!(e, TraceEvent::Entry { .. } | TraceEvent::Exit { .. }));
        while let Some(entry) = turns.next() {
            assert!(matches!(entry, TraceEvent::Entry { .. }));
            assert!(matches!(turns.next(), Some(TraceEvent::Exit { ring: 1 | 3, .. })));
        }
        assert_eq!(traced(|e| matches!(e, TraceEvent::Interpret { .. })), counted(&[Counter::Interpreted]));
        assert_eq!(
            traced(|e| matches!(e, TraceEvent::Inject(_))),
            counted(&[Counter::InjectedExceptions, Counter::InjectedInterrupts, Counter::InjectedSoftware])
        );
        let software = |e: &TraceEvent| matches!(e, TraceEvent::Inject(e) if e.vector == Vector(0x80));
        assert_eq!(traced(software), 20);
        assert_eq!(traced(|e| matches!(e, TraceEvent::Scan { .. })), counted(&[Counter::BlocksScanned]));
        let jump = |e: &TraceEvent| matches!(e, TraceEvent::Patch { tactic: "jump", .. });
        assert_eq!(traced(jump), counted(&[Counter::SitesJump]));
        let outcome = |e: &TraceEvent| matches!(e, TraceEvent::PageFault { outcome: "true", .. });
        assert_eq!(traced(outcome), counted(&[Counter::PageFaultTrue]));
        let outcome = |e: &TraceEvent| matches!(e, TraceEvent::PageFault { outcome: "hidden", .. });
        assert_eq!(traced(outcome), counted(&[Counter::PageFaultHidden]));
        if !options.interpret_all {
            assert!(traced(jump) > 0);
            let mmio = |e: &TraceEvent| {
                matches!(e, TraceEvent::PageFault { outcome: "mmio", gpa: Some(Gpa(0xd000_0000)), .. })
            };
            assert!(traced(mmio) > 0);
            let call = |e: &TraceEvent| {
                matches!(e, TraceEvent::Exit { exit: WorldExit::Exception(13), ring: 3, error: 0x402, .. })
            };
            assert_eq!(traced(call), 20);
            let call = |e: &TraceEvent| {
                matches!(e, TraceEvent::Interpret { cpl: 3, cause: Counter::InterpretedPrivileged, .. })
            };
            assert!(traced(call) >= 20);
            assert!(traced(|e| matches!(e, TraceEvent::Entry { mode: "user", .. })) >= 20);
        }
    }
}
