//! Interrupts and NMIs at any instruction, in blocks and in what the VMM area does by itself, lose nothing and change nothing.

use crate::soft::guest::{profile, profile64, profile_pae, End, Guest};
use crate::soft::SoftHost;
use crate::{expected, image, jumps, options, syscall_of, REFLECT};
use rvmm_arch::stats::Counter;
use rvmm_arch::Model;
use rvmm_core::Options;
use rvmm_patcher::TacticSet;

/// Runs the guest with stays of `timer` instructions, and a client that has its thread back after `slice` of them and interrupts; it prints what it prints without.
fn ends_as_expected(guest: &mut Guest, image: &[u8], (timer, slice): (u32, u64), expected: &str) {
    (guest.host.timer, guest.host.slice) = (timer, slice);
    (guest.irq, guest.slices) = (Some(0x20), 1_000_000);
    let entry = guest.load_elf(image);
    guest.start(entry);
    let end = guest.run(4_000_000);
    assert_eq!(end, End::Status(0), "{timer} {slice}: {}\n{:#?}", guest.serial, guest.host.log);
    assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{timer} {slice}");
}

#[test]
fn interrupts_at_any_instruction_lose_nothing() {
    let Some(image) = image("iret-nested") else { return };
    let expected = expected("iret-nested");
    let mut delivered = 0;
    // A stay in the guest world must be long enough for the longest block; which instruction ends it wanders.
    for (timer, slice) in [(53, 2), (59, 3), (61, 5), (67, 2), (71, 7), (73, 11), (79, 3), (97, 2), (101, 40)] {
        for (tactics, model) in [
            (TacticSet::all(), Model::Ring1),
            (TacticSet::IRET, Model::Ring1),
            (TacticSet::all(), Model::Ring3),
            (TacticSet::IRET, Model::Ring3),
        ] {
            let mut guest = Guest::new(64 << 20, Options { model, tactics, ..options() });
            ends_as_expected(&mut guest, &image, (timer, slice), &expected);
            let injected = guest.vcpu.stats().get(Counter::InjectedInterrupts);
            assert!(guest.nmis > 10 && injected >= guest.nmis, "{injected} of {}", guest.nmis);
            delivered += injected;
            assert_ne!(jumps(&guest, "iret"), 0);
        }
    }
    assert!(delivered > 1000, "{delivered} interrupts");
}

/// The same for system calls of 64-bit programs: wherever one is interrupted, before its turn or behind it, it is one system call.
#[test]
fn interrupts_around_system_calls_lose_nothing() {
    let timers = [(1, 2), (2, 3), (3, 2), (5, 2), (7, 3), (13, 5), (31, 2), (97, 2), (211, 3)];
    let ways = [
        (TacticSet::SYSCALL, b"GenuineIntel"),
        (TacticSet::all(), b"AuthenticAMD"),
        (TacticSet::JUMP, b"GenuineIntel"),
    ];
    let Some(turns) = interrupts_lose_nothing("x64-syscall-turn", 1204, &timers, &ways) else { return };
    let back = interrupts_lose_nothing("x64-turn-back", 14_400, &[(3, 2), (211, 3)], &ways).unwrap();
    assert!(turns + back > 10_000, "{turns} and {back} turns");
}

/// And for events of programs, which may be interrupted before their frame is complete, and are undone then. x64-reflect looks at CR2 in
/// each interrupt.
#[test]
fn interrupts_around_events_lose_nothing() {
    let ways = [(REFLECT, b"GenuineIntel"), (TacticSet::all(), b"AuthenticAMD")];
    let mut undone = 0;
    for (name, timers) in [
        ("x64-int-turn", [(211, 40)].as_slice()),
        ("x64-reflect", &[(211, 40)]),
        ("x64-event-stack", &[(31, 20), (37, 25), (43, 30), (97, 20)]),
    ] {
        let Some(here) = interrupts_lose_nothing(name, 0, timers, &ways) else { return };
        undone += here;
    }
    assert!(undone > 100, "{undone} events undone");
}

/// The same for 32-bit guests, whose kernel is in ring 1 or in ring 3.
#[test]
fn interrupts_around_events_of_32_bit_guests_lose_nothing() {
    let (mut turns, mut undone) = (0, 0);
    for (name, cpuid, timers) in [
        ("int-turn", profile(), &[(131, 40), (211, 40)][..]),
        ("iret-turn", profile(), &[(97, 20), (173, 40)]),
        ("reflect", profile(), &[(211, 40)]),
        ("pae-reflect", profile_pae(), &[(307, 30)]),
        ("event-stack", profile(), &[(97, 20), (137, 30)]),
        ("sysenter-turn", profile(), &[(89, 20), (97, 30), (211, 40)]),
        ("pae-sysenter-turn", profile_pae(), &[(131, 30)]),
    ] {
        let Some(image) = image(name) else { continue };
        let expected = expected(name);
        for &(timer, slice) in timers {
            for (tactics, model) in [(REFLECT, Model::Ring1), (TacticSet::all(), Model::Ring3)] {
                let options = Options { model, tactics, ..options() };
                let mut guest = Guest::with_cpu(SoftHost::new(64 << 20), options, cpuid.clone());
                (guest.host.timer, guest.host.slice) = (timer, slice);
                (guest.irq, guest.slices) = (Some(0x20), 1_000_000);
                let entry = guest.load_elf(&image);
                guest.start(entry);
                let end = guest.run(4_000_000);
                assert_eq!(end, End::Status(0), "{name} {timer} {slice}: {}\n{:#?}", guest.serial, guest.host.log);
                assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{name} {timer} {slice} {model:?}");
                let stats = guest.vcpu.stats();
                let [interrupts, sysenters, faults, back, un, injected] = [
                    Counter::InterruptTurn,
                    Counter::SysenterTurn,
                    Counter::Reflected,
                    Counter::TurnBack,
                    Counter::EventsUndone,
                    Counter::InjectedInterrupts,
                ]
                .map(|counter| stats.get(counter));
                let taken = interrupts + sysenters;
                println!("{name} {timer} {slice} {model:?}: {taken} turns, {faults} faults, {back} back, {un} undone, {injected} interrupts");
                assert!(taken > 0 && injected > 100, "{name} {timer} {slice} {model:?}");
                (turns, undone) = (turns + taken + faults + back, undone + un);
            }
        }
    }
    assert!(turns > 10_000 && undone > 50 || turns == 0, "{turns} turns, {undone} undone");
}

/// And for 32-bit programs: SYSENTER, INT n, and returns to compatibility code by SYSRET, SYSEXIT and IRETQ.
#[test]
fn interrupts_around_calls_of_32_bit_programs_lose_nothing() {
    let ways = [(REFLECT, b"GenuineIntel"), (TacticSet::SYSCALL | TacticSet::JUMP, b"GenuineIntel")];
    let timers = [(3, 2), (11, 3), (97, 2), (211, 40)];
    interrupts_lose_nothing("x64-sysenter-turn", 0, &timers, &ways);
    interrupts_lose_nothing("x64-sysexit-turn", 0, &timers[1..], &ways);
    interrupts_lose_nothing("x64-compat-back", 0, &timers[2..], &ways);
}

/// Turns at SYSCALL, of which there are at most `calls`; where there are none, events undone. None: there is no image.
fn interrupts_lose_nothing(
    name: &str,
    calls: u64,
    timers: &[(u32, u64)],
    ways: &[(TacticSet, &[u8; 12])],
) -> Option<u64> {
    let image = image(name)?;
    let expected = expected(name);
    let (mut delivered, mut turns) = (0, 0);
    for &(timer, slice) in timers {
        for &(tactics, vendor) in ways {
            let (mut host, cpuid) = (SoftHost::new(64 << 20), profile64(vendor));
            host.features.syscall = syscall_of(&cpuid);
            let mut guest = Guest::with_cpu(host, Options { tactics, ..options() }, cpuid);
            // Long enough for a block.
            let timer = timer + if tactics.intersects(TacticSet::JUMP) { 70 } else { 12 };
            ends_as_expected(&mut guest, &image, (timer, slice), &expected);
            let stats = guest.vcpu.stats();
            let made = stats.get(Counter::Syscall);
            if calls == 0 {
                let [interrupts, sysenters, back, undone, faults] = [
                    Counter::InterruptTurn,
                    Counter::SysenterTurn,
                    Counter::TurnBack,
                    Counter::EventsUndone,
                    Counter::Reflected,
                ]
                .map(|counter| stats.get(counter));
                assert!(interrupts + sysenters > 0 && back > 0, "{name} {timer} {slice} {tactics:?}: no turns");
                println!(
                    "{name} {timer} {slice}: INT n {interrupts}, SYSENTER {sysenters}, back {back}, {faults} faults, {undone} undone"
                );
                turns += undone;
            } else {
                assert_eq!(made > 0, tactics.contains(TacticSet::SYSCALL));
            }
            assert!(made <= calls);
            delivered += stats.get(Counter::InjectedInterrupts);
            turns += made;
        }
    }
    assert!(delivered > 1000, "{delivered} interrupts");
    Some(turns)
}
