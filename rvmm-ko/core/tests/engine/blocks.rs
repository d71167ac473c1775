//! What blocks and turns save, as the counters say: the guest shows the same without them, and needs more world switches.

use crate::soft::guest::{profile, profile64, profile_pae, End, Guest};
use crate::soft::SoftHost;
use crate::{expected, image, jumps, options, run, syscall_of};
use rvmm_arch::host::SyscallSupport;
use rvmm_arch::stats::Counter;
use rvmm_arch::Model;
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::{Options, Verify};
use rvmm_patcher::TacticSet;

/// Neither a program's SYSCALL nor its kernel's return traps where it need not, and the tactic changes nothing else.
#[test]
fn system_calls_are_turns() {
    let run = |name, tactics, support| {
        let image = image(name)?;
        let mut host = SoftHost::new(64 << 20);
        host.features.syscall = support;
        let mut guest = Guest::with_cpu(host, Options { tactics, ..options() }, profile64(b"GenuineIntel"));
        let entry = guest.load_elf(&image);
        guest.start(entry);
        assert_eq!(guest.run(500_000), End::Status(0));
        let expected = expected(name);
        assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{tactics:?}");
        let stats = guest.vcpu.stats();
        Some([Counter::Syscall, Counter::TurnBack, Counter::ExitSyscall, Counter::WorldSwitches].map(|c| stats.get(c)))
    };
    let Some([turns, _, calls, _]) = run("x64-syscall-turn", TacticSet::SYSCALL, SyscallSupport::Long) else { return };
    assert!(turns > 1190 && calls > 0, "{turns} {calls}");
    let name = "x64-turn-back";
    let Some([turns, returns, calls, few]) = run(name, TacticSet::all(), SyscallSupport::Long) else { return };
    let Some([none, no_returns, no_calls, many]) = run(name, TacticSet::JUMP, SyscallSupport::Long) else { return };
    assert!(turns > 10_000 && returns > 6_000 && calls > 1000, "{turns} {returns} {calls}");
    assert_eq!((none, no_returns, no_calls), (0, 0, 0));
    assert!(few + turns < many, "{few} {many} world switches");
    // Compatibility code of this host's CPU has SYSCALL, and the guest's must find #UD, RCX and R11 unchanged; or there is no SYSCALL.
    for support in [SyscallSupport::Compatibility, SyscallSupport::None] {
        let turns = run(name, TacticSet::SYSCALL, support).map(|[turns, returns, calls, _]| [turns, returns, calls]);
        assert_eq!(turns, Some([0; 3]));
    }
}

/// Nor does a 32-bit program's system call, by SYSENTER or on AMD's CPUs by SYSCALL, and the return from it.
#[test]
fn system_calls_of_32_bit_programs_are_turns() {
    let run = |name, tactics, vendor| {
        let (mut host, cpuid) = (SoftHost::new(64 << 20), profile64(vendor));
        host.features.syscall = syscall_of(&cpuid);
        let mut guest = Guest::with_cpu(host, Options { tactics, ..options() }, cpuid);
        let image = image(name)?;
        let entry = guest.load_elf(&image);
        guest.start(entry);
        assert_eq!(guest.run(500_000), End::Status(0), "{}", guest.serial);
        assert_eq!(format!("{}end: exit 0\n", guest.serial), expected(name), "{tactics:?}");
        let stats = guest.vcpu.stats();
        let counters =
            [Counter::SysenterTurn, Counter::Syscall, Counter::Sysenter, Counter::TurnBack, Counter::WorldSwitches];
        Some(counters.map(|counter| stats.get(counter)))
    };
    let (intel, amd) = (b"GenuineIntel", b"AuthenticAMD");
    let Some([turns, _, exits, back, few]) = run("x64-sysenter-turn", TacticSet::all(), intel) else { return };
    let Some([none, _, all, _, many]) = run("x64-sysenter-turn", TacticSet::JUMP, intel) else { return };
    assert!(turns > 2600 && back > 2600 && none == 0 && turns + exits == all, "{turns} {exits} {all} {back}");
    assert!(few + turns < many, "{few} {many} world switches");
    let Some([none, turns, _, back, few]) = run("x64-compat-turn", TacticSet::all(), amd) else { return };
    let Some([_, _, _, _, many]) = run("x64-compat-turn", TacticSet::JUMP, amd) else { return };
    assert!(turns > 1190 && back > 1500 && none == 0, "{turns} {back}");
    assert!(few + turns + back < many, "{few} {many} world switches");
}

/// Nor does that of a 32-bit kernel, or SYSEXIT, by which one goes back and a 64-bit one may.
#[test]
fn sysexit_is_a_turn_back() {
    let run = |name, tactics, cpuid: Vec<CpuidEntry>, model| {
        let mut host = SoftHost::new(64 << 20);
        host.features.syscall = syscall_of(&cpuid);
        let mut guest = Guest::with_cpu(host, Options { tactics, model, ..options() }, cpuid);
        let image = image(name)?;
        let entry = guest.load_elf(&image);
        guest.start(entry);
        assert_eq!(guest.run(500_000), End::Status(0), "{}", guest.serial);
        assert_eq!(format!("{}end: exit 0\n", guest.serial), expected(name), "{tactics:?} {model:?}");
        let counters = [Counter::SysenterTurn, Counter::Sysenter, Counter::TurnBack, Counter::WorldSwitches];
        Some((counters.map(|counter| guest.vcpu.stats().get(counter)), jumps(&guest, "sysexit")))
    };
    for (name, cpuid, least) in [
        ("sysenter-turn", profile(), 2900),
        ("pae-sysenter-turn", profile_pae(), 2900),
        ("x64-sysexit-turn", profile64(b"GenuineIntel"), 1100),
    ] {
        // SYSENTER needs no gate that is lent.
        for tactics in [TacticSet::all(), TacticSet::SYSCALL | TacticSet::JUMP] {
            for model in [Model::Ring1, Model::Ring3] {
                let Some(([turns, exits, back, few], blocks)) = run(name, tactics, cpuid.clone(), model) else {
                    return;
                };
                let ([none, all, not, many], without) = run(name, TacticSet::JUMP, cpuid.clone(), model).unwrap();
                assert_eq!((none, not, without, turns + exits), (0, 0, 0, all), "{name} {model:?}");
                assert!(turns > 1800 && back > least && blocks > 1, "{name} {model:?}: {turns} {back} {blocks}");
                assert!(few + back < many, "{name} {model:?}: {few} {many} world switches");
            }
        }
    }
}

/// A kernel with null selectors that have an RPL runs directly, wherever the block that loads them again is interrupted.
#[test]
fn null_selectors_are_loaded_again_behind_an_entry() {
    let name = "x64-null-rpl";
    let Some(image) = image(name) else { return };
    let expected = expected(name);
    let run = |options, timer| {
        let mut host = SoftHost::new(64 << 20);
        host.timer = timer;
        let mut guest = Guest::with_cpu(host, options, profile64(b"GenuineIntel"));
        let entry = guest.load_elf(&image);
        guest.slices = 1_000_000;
        guest.start(entry);
        assert_eq!(guest.run(2_000_000), End::Status(0), "{timer}: {}\n{:#?}", guest.serial, guest.host.log);
        assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{timer} {options:?}");
        let counters = [Counter::Reloads, Counter::InterpretedStaleSegment, Counter::Verified];
        counters.map(|counter| guest.vcpu.stats().get(counter))
    };
    let default = options();
    let [loaded, interpreted, _] = run(Options { tactics: TacticSet::all(), ..default }, 10_000);
    let [none, all, _] = run(Options { tactics: TacticSet::empty(), ..default }, 10_000);
    // Half of the guest is without the instructions that set the bases.
    assert!(loaded > 200 && none == 0, "{loaded} {none}");
    assert!(all > interpreted + 2000, "{all} {interpreted}");
    // Steps that are compared need no block, but for what sees the selectors.
    let [none, some, compared] = run(Options { tactics: TacticSet::all(), verify: Verify::Always, ..default }, 10_000);
    assert!(none == 0 && compared > 14_000 && some + 4000 < all, "{none} {compared} {some} {all}");
    let [few, _, _] = run(Options { tactics: TacticSet::all(), verify: Verify::First(2), ..default }, 10_000);
    assert!(few > 0, "{few}");
    // Long enough for the longest block; which instruction ends a stay wanders.
    for timer in [37, 41, 43, 47, 53, 59, 61] {
        let [often, ..] = run(Options { tactics: TacticSet::all(), ..default }, timer);
        assert!(often > loaded, "{timer}: {often} {loaded}");
    }
}

#[test]
fn a_hot_return_to_the_same_ring_is_not_interpreted() {
    let interpreted = |tactics, model| {
        let (guest, end) = run("iret-nested", Options { model, tactics, ..options() })?;
        assert_eq!(end, End::Status(0));
        Some((jumps(&guest, "iret"), guest.vcpu.stats().get(Counter::Interpreted)))
    };
    let Some((blocks, with)) = interpreted(TacticSet::IRET, Model::Ring1) else { return };
    let Some((none, without)) = interpreted(TacticSet::CLI, Model::Ring1) else { return };
    assert!(blocks > 0 && none == 0);
    // It has 1056 of them, of which those with IOPL, NT or AC in the frame (5 in 11) stay with the interpreter.
    assert!(with + 500 < without, "{with} {without}");
}

#[test]
fn a_verw_of_a_word_that_stays_is_not_interpreted() {
    for (name, cpuid, least) in [("verw", None, 900), ("x64-verw", Some(profile64(b"GenuineIntel")), 1400)] {
        let Some(image) = image(name) else { return };
        let run = |tactics| {
            let (host, options) = (SoftHost::new(64 << 20), Options { tactics, ..options() });
            let mut guest = match &cpuid {
                Some(cpuid) => Guest::with_cpu(host, options, cpuid.clone()),
                None => Guest::new(64 << 20, options),
            };
            let entry = guest.load_elf(&image);
            guest.start(entry);
            assert_eq!(guest.run(2_000_000), End::Status(0));
            (jumps(&guest, "verw"), guest.vcpu.stats().get(Counter::Interpreted))
        };
        let (blocks, with) = run(TacticSet::VERW);
        let (none, without) = run(TacticSet::CLI);
        assert!(blocks > 0 && none == 0, "{name}: {blocks} {none}");
        // 200 of each kind that says "writable", but for those before the block is made and once another word was asked for.
        assert!(with + least < without, "{name}: {with} {without}");
        println!("{name}: {with} interpreted, {without} without blocks");
    }
}

#[test]
fn hot_sites_too_close_for_a_jump_each_share_one() {
    let Some(image) = image("x64-jump-neighbours") else { return };
    let run = |tactics| {
        let cpuid = profile64(b"GenuineIntel");
        let mut guest = Guest::with_cpu(SoftHost::new(64 << 20), Options { tactics, ..options() }, cpuid);
        let entry = guest.load_elf(&image);
        guest.start(entry);
        assert_eq!(guest.run(2_000_000), End::Status(0));
        let count = |counter| guest.vcpu.stats().get(counter);
        (jumps(&guest, "iret"), jumps(&guest, "cli"), count(Counter::JumpsMerged), count(Counter::WorldSwitches))
    };
    let (irets, clis, merged, with) = run(TacticSet::JUMP);
    let (none, no_clis, no_merged, without) = run(TacticSet::INTERIOR);
    assert!(irets > 0 && clis > 0 && merged > 0, "{irets} {clis} {merged}");
    assert_eq!((none, no_clis, no_merged), (0, 0, 0));
    assert!(with < without, "{with} {without}");
    println!("{with} entries, {without} without blocks");
}
