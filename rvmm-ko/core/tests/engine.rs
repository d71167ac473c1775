//! The engine on a host made of software: guest code runs "directly" in ring 1 or 3 through the shadow tables and views.
#![allow(clippy::unwrap_used)]

mod soft;

use rvmm_arch::host::{HostFeatures, SyscallSupport, WorldExit};
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::stats::Counter;
use rvmm_arch::trace::TraceEvent;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Gfn, Gpa, Model, VcpuState, Vector};
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::io::IoAccess;
use rvmm_core::{ClientExit, Options, RunRequest, Verify};
use rvmm_patcher::table::ROWS;
use rvmm_patcher::TacticSet;
use soft::guest::{multiboot_state, profile, profile64, profile_pae, End, Guest};
use soft::SoftHost;

fn options() -> Options {
    Options {
        model: Model::Ring1,
        tactics: TacticSet::empty(),
        verify: Verify::Off,
        interpret_all: false,
        coherent_client: true,
    }
}

fn image(name: &str) -> Option<Vec<u8>> {
    let path = format!("{}/../../build/guests/{name}.elf", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).map_err(|e| println!("skipped: {path}: {e} (build with make -C tests/guests)")).ok()
}

fn run(name: &str, options: Options) -> Option<(Guest, End)> {
    let image = image(name)?;
    let mut guest = Guest::new(64 << 20, options);
    let entry = guest.load_elf(&image);
    guest.start(entry);
    let end = guest.run(2_000_000);
    println!("{name}: {end:?}\n{}\n{:#?}", guest.serial, guest.host.log);
    show(&guest);
    Some((guest, end))
}

/// Prints the counters.
fn show(guest: &Guest) {
    for counter in Counter::ALL {
        let n = guest.vcpu.stats().get(*counter);
        if n != 0 {
            println!("  {:32} {n}", counter.name());
        }
    }
    for (row, jumps) in ROWS.iter().zip(guest.vcpu.scan_counts().unwrap().jump_rows) {
        if jumps != 0 {
            println!("  jump.{:27} {jumps}", row.name);
        }
    }
}

#[test]
fn hello_runs_directly_in_ring_1() {
    let Some((guest, end)) = run("hello", options()) else { return };
    assert_eq!(end, End::Status(0));
    assert!(guest.vcpu.stats().get(Counter::ExitCpl1) > 0);
    assert_eq!(guest.vcpu.stats().get(Counter::ExitCpl0), 0);
}

#[test]
fn interrupts_at_any_instruction_lose_nothing() {
    let Some(image) = image("iret-nested") else { return };
    let expected = format!("{}/../../tests/guests/expected/iret-nested.txt", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(expected).unwrap();
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
            guest.host.timer = timer;
            guest.host.slice = slice;
            (guest.irq, guest.slices) = (Some(0x20), 1_000_000);
            let entry = guest.load_elf(&image);
            guest.start(entry);
            let end = guest.run(4_000_000);
            assert_eq!(end, End::Status(0), "{timer} {slice}: {}\n{:#?}", guest.serial, guest.host.log);
            assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{timer} {slice}");
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
    let turns = interrupts_lose_nothing("x64-syscall-turn", 1204, &timers, &ways)
        + interrupts_lose_nothing("x64-turn-back", 14_400, &[(3, 2), (211, 3)], &ways);
    assert!(turns > 10_000 || turns == 0, "{turns} turns");
}

/// And for events of programs, which may be interrupted before their frame is complete, and are undone then. x64-reflect looks at CR2 in
/// each interrupt.
#[test]
fn interrupts_around_events_lose_nothing() {
    let ways = [(REFLECT, b"GenuineIntel"), (TacticSet::all(), b"AuthenticAMD")];
    let undone = interrupts_lose_nothing("x64-int-turn", 0, &[(211, 40)], &ways)
        + interrupts_lose_nothing("x64-reflect", 0, &[(211, 40)], &ways)
        + interrupts_lose_nothing("x64-event-stack", 0, &[(31, 20), (37, 25), (43, 30), (97, 20)], &ways);
    assert!(undone > 100 || undone == 0, "{undone} events undone");
}

/// Turns at SYSCALL, of which there are at most `calls`; where there are none, events undone.
fn interrupts_lose_nothing(name: &str, calls: u64, timers: &[(u32, u64)], ways: &[(TacticSet, &[u8; 12])]) -> u64 {
    let Some(image) = image(name) else { return 0 };
    let expected = format!("{}/../../tests/guests/expected/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(expected).unwrap();
    let (mut delivered, mut turns) = (0, 0);
    for &(timer, slice) in timers {
        for &(tactics, vendor) in ways {
            let (mut host, cpuid) = (SoftHost::new(64 << 20), profile64(vendor));
            host.features.syscall = syscall_of(&cpuid);
            let mut guest = Guest::with_cpu(host, Options { tactics, ..options() }, cpuid);
            // Long enough for a block.
            guest.host.timer = timer + if tactics.intersects(TacticSet::JUMP) { 70 } else { 12 };
            guest.host.slice = slice;
            (guest.irq, guest.slices) = (Some(0x20), 1_000_000);
            let entry = guest.load_elf(&image);
            guest.start(entry);
            let end = guest.run(4_000_000);
            assert_eq!(end, End::Status(0), "{timer} {slice}: {}\n{:#?}", guest.serial, guest.host.log);
            assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{timer} {slice} {tactics:?}");
            let stats = guest.vcpu.stats();
            let made = stats.get(Counter::Syscall);
            if calls == 0 {
                let [taken, undone] = [Counter::InterruptTurn, Counter::EventsUndone].map(|counter| stats.get(counter));
                assert!(taken > 0, "{timer} {slice} {tactics:?}: no INT n was a turn");
                println!(
                    "{name} {timer} {slice}: {taken} turns, {} faults, {undone} undone",
                    stats.get(Counter::Reflected)
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
    turns
}

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
        let expected = format!("{}/../../tests/guests/expected/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let expected = std::fs::read_to_string(expected).unwrap();
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

/// A kernel with null selectors that have an RPL runs directly, wherever the block that loads them again is interrupted.
#[test]
fn null_selectors_are_loaded_again_behind_an_entry() {
    let name = "x64-null-rpl";
    let Some(image) = image(name) else { return };
    let expected = format!("{}/../../tests/guests/expected/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(expected).unwrap();
    let run = |options, timer| {
        let mut host = SoftHost::new(64 << 20);
        host.timer = timer;
        let mut guest = Guest::with_cpu(host, options, profile64(b"GenuineIntel"));
        let entry = guest.load_elf(&image);
        guest.slices = 1_000_000;
        guest.start(entry);
        assert_eq!(guest.run(2_000_000), End::Status(0), "{timer}: {}\n{:#?}", guest.serial, guest.host.log);
        assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{timer} {options:?}");
        [Counter::Reloads, Counter::InterpretedStaleSegment].map(|counter| guest.vcpu.stats().get(counter))
    };
    let default = options();
    let [loaded, interpreted] = run(Options { tactics: TacticSet::all(), ..default }, 10_000);
    let [none, all] = run(Options { tactics: TacticSet::empty(), ..default }, 10_000);
    // Half of the guest is without the instructions that set the bases.
    assert!(loaded > 200 && none == 0, "{loaded} {none}");
    assert!(all > interpreted + 2000, "{all} {interpreted}");
    let [none, _] = run(Options { tactics: TacticSet::all(), verify: Verify::Always, ..default }, 10_000);
    assert_eq!(none, 0);
    // Long enough for the longest block; which instruction ends a stay wanders.
    for timer in [37, 41, 43, 47, 53, 59, 61] {
        let [often, _] = run(Options { tactics: TacticSet::all(), ..default }, timer);
        assert!(often > loaded, "{timer}: {often} {loaded}");
    }
}

/// The tactics with which events of programs end no stay, without those that leave page tables out of sync.
const REFLECT: TacticSet = TacticSet::JUMP.union(TacticSet::SYSCALL).union(TacticSet::REFLECT);

/// Sites of a row of the table that have a block.
fn jumps(guest: &Guest, row: &str) -> u64 {
    let id = ROWS.iter().position(|r| r.name == row).unwrap();
    guest.vcpu.scan_counts().unwrap().jump_rows[id]
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

/// Each event that is counted is traced, and the other way round; entries and exits take turns.
#[test]
fn what_is_counted_is_traced() {
    for options in [
        Options { model: Model::Ring1, tactics: TacticSet::all(), ..options() },
        Options { model: Model::Ring1, tactics: TacticSet::all(), verify: Verify::First(1), ..options() },
        Options { interpret_all: true, ..options() },
        Options { model: Model::Ring3, tactics: TacticSet::all(), ..options() },
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

/// Guests that need devices which this host does not have (the lab has them), or end in a way it cannot show.
const NOT_HERE: &[&str] = &[
    "paging-full",
    "timer",
    "in-out",
    "ins-outs",
    "io-bitmap",
    "irq-nested",
    "irq-pending-user",
    "irq-pic",
    "irq-ring3",
    "irq-storm",
    "iret-pending",
    "prefixes",
    "sti-shadow",
    "reset-cf9",
    "reset-keyboard",
    "halt",
    "spin",
    "spin-faults",
    "cli-sti",
    "x64-sti-shadow",
    "x64-irq",
    "x64-in-out",
    "x64-avx",
    "x64-state",
    // Its expected output is Bochs', which pops no SS:RSP for IRETD in 64-bit mode. SDM vol. 3 §6.14.3 and TCG: always popped there.
    "x64-iret-odd",
    // They write to the vCPU page and jump into blocks, which verification rightly calls a difference; and they take minutes here.
    "hostile",
    "x64-hostile",
    // AVX, which the soft CPU does not offer.
    "x64-fpu-tracked",
];

/// Which guests, and on what CPU: `bits` of tests/guests/list.cfg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bits {
    Protected,
    Long,
}

/// What tests/guests/list.cfg says of a guest.
fn listed(list: &str, name: &str, option: &str) -> Option<String> {
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    let words = line.split_whitespace();
    words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == option).map(|(_, value)| value.to_owned())
}

/// The CPU that a guest is to see.
fn cpu_for(list: &str, name: &str) -> (Bits, Vec<CpuidEntry>) {
    match listed(list, name, "bits").as_deref() {
        Some("64") => {
            let vendor = listed(list, name, "vendor").unwrap_or(String::from("GenuineIntel"));
            (Bits::Long, profile64(vendor.as_bytes().try_into().unwrap()))
        }
        Some("pae") => (Bits::Protected, profile_pae()),
        _ => (Bits::Protected, profile()),
    }
}

/// SYSCALL on a host with a CPU of the guest's vendor.
fn syscall_of(cpuid: &[CpuidEntry]) -> SyscallSupport {
    let intel = cpuid.first().is_none_or(|leaf| leaf.regs[1] == u32::from_le_bytes(*b"Genu"));
    if intel {
        SyscallSupport::Long
    } else {
        SyscallSupport::Compatibility
    }
}

/// Every 32-bit image that was built, against what the bare emulator printed.
fn all(options: Options) {
    all_on(Bits::Protected, options, |_| {});
}

/// Every 64-bit one.
fn all64(options: Options) {
    all_on(Bits::Long, options, |_| {});
}

/// The same on another host.
fn all_on(bits: Bits, options: Options, host_is: fn(&mut HostFeatures)) {
    let list = format!("{}/../../tests/guests/list.cfg", env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(list).unwrap();
    let dir = format!("{}/../../build/guests", env!("CARGO_MANIFEST_DIR"));
    let only = std::env::var("GUEST").ok();
    let (mut passed, mut failed, mut lacking) = (0, Vec::new(), Vec::new());
    let mut entries: Vec<_> = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries.iter().filter(|p| p.extension().is_some_and(|e| e == "elf")) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Ok(expected) = std::fs::read_to_string(format!("{dir}/../../tests/guests/expected/{name}.txt")) else {
            println!("{name}: no expected output, not run");
            continue;
        };
        if NOT_HERE.contains(&name.as_str()) || only.as_ref().is_some_and(|o| *o != name) {
            continue;
        }
        let (wants, cpuid) = cpu_for(&list, &name);
        if wants != bits {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| {
            let image = std::fs::read(path).unwrap();
            let mut host = SoftHost::new(64 << 20);
            host.features.syscall = syscall_of(&cpuid);
            host_is(&mut host.features);
            let mut guest = Guest::with_cpu(host, options, cpuid);
            let entry = guest.load_elf(&image);
            guest.start(entry);
            let end = guest.run(500_000);
            if std::env::var_os("SHOW_STATS").is_some() {
                show(&guest);
            }
            let mut log = guest.host.log;
            guest.host.critical.sort_unstable();
            guest.host.critical.dedup();
            if !guest.host.critical.is_empty() {
                log.push(format!("executed directly: {:x?}", guest.host.critical));
                guest.serial.push_str("(executed a critical instruction directly)\n");
            }
            (if guest.host.lacking { None } else { Some(end) }, guest.serial, log)
        });
        let (text, log) = match outcome {
            Ok((None, ..)) => {
                lacking.push(name);
                continue;
            }
            Ok((Some(End::Status(status)), serial, log)) => (format!("{serial}end: exit {status}\n"), log),
            Ok((Some(End::Exit(ClientExit::Shutdown)), serial, log)) => (format!("{serial}end: reset\n"), log),
            Ok((Some(end), serial, log)) => (format!("{serial}end: {end:?}\n"), log),
            Err(_) => (String::from("panic\n"), Vec::new()),
        };
        if text.trim_end() == expected.trim_end() {
            passed += 1;
        } else {
            let differs = text.lines().zip(expected.lines()).find(|(a, b)| a != b);
            println!("{name}: {differs:?}\n  {log:#?}");
            if only.is_some() {
                println!("--- got\n{text}--- expected\n{expected}");
            }
            failed.push(name);
        }
    }
    println!("not run to the end for want of x87 and SSE in the soft CPU: {lacking:?}");
    println!("{passed} passed, {} failed: {failed:?}", failed.len());
    assert!(failed.is_empty());
}

#[test]
fn guests_run_as_on_the_bare_emulator() {
    all(options());
}

#[test]
fn guests_run_in_ring_3() {
    all(Options { model: Model::Ring3, ..options() });
}

#[test]
fn guests_run_in_ring_3_when_all_is_interpreted() {
    all(Options { model: Model::Ring3, interpret_all: true, ..options() });
}

#[test]
fn guests_run_in_ring_3_with_patch_blocks() {
    all(Options { model: Model::Ring3, tactics: TacticSet::all(), ..options() });
}

#[test]
fn guests_verify_in_ring_3() {
    all(Options { model: Model::Ring3, verify: Verify::First(3), ..options() });
}

#[test]
fn guests_verify_in_ring_3_with_patch_blocks() {
    all(Options { model: Model::Ring3, tactics: TacticSet::all(), verify: Verify::First(3), ..options() });
}

#[test]
fn guests_run_when_all_is_interpreted() {
    all(Options { interpret_all: true, ..options() });
}

#[test]
fn guests_run_with_patch_blocks() {
    all(Options { model: Model::Ring1, tactics: TacticSet::all(), ..options() });
}

#[test]
fn guests_verify_with_patch_blocks() {
    all(Options { model: Model::Ring1, tactics: TacticSet::all(), verify: Verify::First(3), ..options() });
}

#[test]
fn guests_verify() {
    all(Options { verify: Verify::First(3), ..options() });
}

#[test]
fn guests_run_on_a_host_with_five_levels() {
    all_on(Bits::Protected, Options { tactics: TacticSet::all(), ..options() }, |host| host.paging_levels = 5);
}

#[test]
fn long_mode_guests_run_as_on_the_bare_emulator() {
    all64(options());
}

#[test]
fn long_mode_guests_run_in_ring_3() {
    all64(Options { model: Model::Ring3, ..options() });
}

#[test]
fn long_mode_guests_run_when_all_is_interpreted() {
    all64(Options { interpret_all: true, ..options() });
}

#[test]
fn long_mode_guests_run_with_patch_blocks() {
    all64(Options { tactics: TacticSet::all(), ..options() });
}

#[test]
fn long_mode_guests_run_with_events_in_the_vmm_area() {
    all64(Options { tactics: REFLECT, ..options() });
}

#[test]
fn long_mode_guests_verify() {
    all64(Options { verify: Verify::First(3), ..options() });
}

#[test]
fn long_mode_guests_verify_with_patch_blocks() {
    all64(Options { tactics: TacticSet::all(), verify: Verify::First(3), ..options() });
}

#[test]
fn long_mode_guests_run_on_a_host_with_five_levels() {
    all_on(Bits::Long, options(), |host| host.paging_levels = 5);
}

/// A guest without an image: flat segments, `code` at 0x3000 and behind vector 2 `handler`.
fn bare(code: &[u8], handler: &[u8]) -> Guest {
    let mut guest = Guest::new(1 << 20, options());
    let gdt = [0_u64, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    let gate = 0x0000_8e00_0008_4000_u64;
    guest.load_code(Gpa(0x1000), gdt.map(u64::to_le_bytes).as_flattened());
    guest.load_code(Gpa(0x2010), &gate.to_le_bytes());
    guest.load_code(Gpa(0x3000), code);
    guest.load_code(Gpa(0x4000), handler);
    let mut state = multiboot_state(0x3000);
    state.gdtr = TableRegister { base: 0x1000, limit: 23 };
    state.idtr = TableRegister { base: 0x2000, limit: 0x7ff };
    state.gpr[4] = 0x8000;
    guest.vcpu.set_state(&mut guest.host, state).unwrap();
    guest
}

/// mov dx, 0x501; mov al, 7; out dx, al
const REPORT_7: &[u8] = &[0x66, 0xba, 0x01, 0x05, 0xb0, 7, 0xee];

#[test]
fn an_answer_survives_another_cr8() {
    // in al, 0x10; mov dx, 0x501; out dx, al
    let mut guest = bare(&[0xe4, 0x10, 0x66, 0xba, 0x01, 0x05, 0xee], &[]);
    let asked = guest.vcpu.run(&mut guest.host, RunRequest::default());
    assert!(matches!(asked, ClientExit::Io(IoAccess::PortIn { port: 0x10, .. })), "{asked:?}");
    guest.vcpu.complete_io(9);
    guest.vcpu.set_cr8(3);
    let next = guest.vcpu.run(&mut guest.host, RunRequest::default());
    assert!(matches!(next, ClientExit::Io(IoAccess::PortOut { port: 0x501, value: 9, .. })), "{next:?}");
    assert_eq!(guest.vcpu.state().cr8, 3);
}

/// What the client was asked for until the guest reported 7.
#[allow(clippy::panic)]
fn device_accesses(guest: &mut Guest, mut answer: impl FnMut(u64) -> u64) -> Vec<IoAccess> {
    let mut asked = Vec::new();
    for _ in 0..1000 {
        match guest.vcpu.run(&mut guest.host, RunRequest::default()) {
            ClientExit::Io(IoAccess::PortOut { port: 0x501, value: 7, .. }) => return asked,
            ClientExit::Io(access) => {
                asked.push(access);
                // An interrupted client comes back without an answer, and is asked again.
                let again = guest.vcpu.run(&mut guest.host, RunRequest::default());
                assert_eq!(again, ClientExit::Io(access));
                guest.vcpu.complete_io(match access {
                    IoAccess::MmioRead { gpa, .. } => answer(gpa.0),
                    _ => 0,
                });
            }
            other => panic!("{other:?}, {:#?}", guest.host.log),
        }
    }
    panic!("no end: {asked:x?}")
}

/// `bare`, with SSE.
fn bare_sse(code: &[&[u8]]) -> Guest {
    let mut guest = bare(&[&code.concat(), REPORT_7].concat(), &[]);
    let mut state = guest.vcpu.state().clone();
    state.cr4 |= Cr4::OSFXSR;
    guest.vcpu.set_state(&mut guest.host, state).unwrap();
    guest.load_code(Gpa(0x5000), &core::array::from_fn::<u8, 16, _>(|i| i as u8 + 1));
    guest
}

/// movups xmm0, [address]
fn load(address: u32) -> Vec<u8> {
    [&[0x0f, 0x10, 0x05][..], &address.to_le_bytes()].concat()
}

/// movups [address], xmm0
fn store(address: u32) -> Vec<u8> {
    [&[0x0f, 0x11, 0x05][..], &address.to_le_bytes()].concat()
}

#[test]
fn a_vector_goes_to_a_device_once_and_in_pieces() {
    let mut guest = bare_sse(&[&load(0x5000), &store(0x20_0003)]);
    let write = |at: u64, len: u8, data: u64| IoAccess::MmioWrite { gpa: Gpa(0x20_0000 + at), len, data };
    let pieces = [
        write(3, 1, 1),
        write(4, 4, 0x0504_0302),
        write(8, 8, 0x0d0c_0b0a_0908_0706),
        write(16, 2, 0x0f0e),
        write(18, 1, 16),
    ];
    assert_eq!(device_accesses(&mut guest, |_| 0), pieces);
    assert_eq!(guest.vcpu.stats().get(Counter::StandIns), 1);
    assert_eq!(guest.vcpu.stats().get(Counter::NativeSteps), 1);
}

#[test]
fn a_vector_comes_from_two_pages_of_a_device() {
    let mut guest = bare_sse(&[&load(0x20_0ff6), &store(0x5100)]);
    let read = |at: u64, len: u8| IoAccess::MmioRead { gpa: Gpa(0x20_0000 + at), len };
    let asked = device_accesses(&mut guest, |at| (0..8).map(|i| ((at + i) & 0xff) << (8 * i)).sum());
    assert_eq!(asked, [read(0xff6, 2), read(0xff8, 8), read(0x1000, 4), read(0x1004, 2)]);
    let bytes: Vec<u8> = (0xf6..=0xff).chain(0..6).collect();
    assert_eq!(guest.host.ram[0x5100..0x5110], bytes);
    // The third is for the LDT, which lies at 0 after a reset.
    assert_eq!(guest.vcpu.stats().get(Counter::StandIns), 3);
}

#[test]
fn a_vector_goes_half_to_memory_and_half_to_a_device() {
    let mut guest = bare_sse(&[&load(0x5000), &store(0xf_fffc), &load(0xf_fff8), &store(0x5100)]);
    let asked = device_accesses(&mut guest, |_| 0x8877_6655_4433_2211);
    let write = |at: u64, len: u8, data: u64| IoAccess::MmioWrite { gpa: Gpa(at), len, data };
    let read = IoAccess::MmioRead { gpa: Gpa(0x10_0000), len: 8 };
    let data = (0x0c0b_0a09_0807_0605, 0x100f_0e0d);
    assert_eq!(asked, [write(0x10_0000, 8, data.0), write(0x10_0008, 4, data.1), read]);
    assert_eq!(guest.host.ram[0xf_fffc..], [1, 2, 3, 4]);
    assert_eq!(guest.host.ram[0x5104..0x5110], [1, 2, 3, 4, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
}

#[test]
fn a_vector_is_read_from_and_written_to_the_code_s_own_page() {
    // The last store replaces itself, the instruction before it and what comes behind it: by a jump to the report.
    let code = [load(0x3f00), store(0x3e00), load(0x5000), store(0x300e)].concat();
    let mut guest = bare_sse(&[&code]);
    guest.load_code(Gpa(0x3f00), &[0xaa; 16]);
    guest.load_code(Gpa(0x3060), REPORT_7);
    let mut patch = [0x90; 16];
    patch[14..].copy_from_slice(&[0xeb, 0x60 - 0x1e]);
    guest.load_code(Gpa(0x5000), &patch);
    assert_eq!(device_accesses(&mut guest, |_| 0), []);
    assert_eq!(guest.host.ram[0x3e00..0x3e10], [0xaa; 16]);
    assert_eq!(guest.host.ram[0x300e..0x301e], patch);
    assert_eq!(guest.vcpu.stats().get(Counter::NativeRefused), 0);
}

#[test]
fn an_nmi_comes_behind_an_interrupt_shadow_that_does_not_end_by_itself() {
    // sti; 1: jmp 1b
    let mut guest = bare(&[0xfb, 0xeb, 0xfe], REPORT_7);
    guest.host.slice = 4;
    guest.slices = 3;
    assert_eq!(guest.run(100), End::Timeout);
    guest.vcpu.nmi();
    assert_eq!(guest.run(100), End::Status(7));
}

#[test]
fn a_client_cannot_keep_the_engine_busy_with_memory_that_is_not_there() {
    let mut guest = bare(&[0xeb, 0xfe], &[]);
    guest.vcpu.memory_written(&mut guest.host, Gpa(0), u64::MAX).unwrap();
    guest.vcpu.memory_written(&mut guest.host, Gpa(u64::MAX - 5), 100).unwrap();
}

#[test]
fn an_nmi_wakes_what_halts_in_an_interrupt_shadow() {
    let mut guest = bare(&[0xf4, 0xeb, 0xfe], REPORT_7);
    let mut state = guest.vcpu.state().clone();
    state.rflags |= Rflags::IF;
    state.shadow = InterruptShadow::Sti;
    guest.vcpu.set_state(&mut guest.host, state).unwrap();
    guest.vcpu.nmi();
    assert_eq!(guest.run(100), End::Status(7));
}

/// The client may announce more than there is. (`0..2^64` page by page would take the host years.)
#[test]
fn a_write_to_everywhere_is_told_at_once() {
    let mut guest = Guest::new(64 << 20, options());
    // mov eax, 5; mov edx, 0x501; out dx, eax; jmp back
    guest.load_code(Gpa(0x10_0000), &[0xb8, 5, 0, 0, 0, 0xba, 1, 5, 0, 0, 0xef, 0xeb, 0xf3]);
    guest.start(0x10_0000);
    assert_eq!(guest.run(100), End::Status(5));
    for (status, gpa, len) in [(6, 0, u64::MAX), (7, 0x10_0000, u64::MAX), (8, 0x10_0001, 32 << 20), (9, 0x10_0001, 1)]
    {
        guest.vcpu.complete_io(0);
        guest.load_code(Gpa(0x10_0001), &[status]);
        guest.vcpu.memory_written(&mut guest.host, Gpa(gpa), len).unwrap();
        assert_eq!(guest.run(100), End::Status(status.into()));
    }
}

/// Other memory behind the same frames (a client that takes a slot away and makes another) is another descriptor table.
#[test]
fn descriptors_follow_memory_slots() {
    let data: u64 = 0x00cf_9300_0000_ffff;
    let mut guest = Guest::new(1 << 20, options());
    guest.load_code(Gpa(0x10), &data.to_le_bytes());
    guest.start(0x1000);
    let old = guest.host.gdt[2];
    assert_ne!(old, 0);
    guest.load_code(Gpa(0x10), &(data & !(1 << 41)).to_le_bytes());
    guest.vcpu.memory_changed(&mut guest.host, Gfn(0), 256).unwrap();
    assert_eq!(guest.host.gdt[2], old & !(1 << 41));
}

fn no_keys(host: &mut HostFeatures) {
    host.pku = false;
}

fn nothing_hides(host: &mut HostFeatures) {
    (host.pku, host.smap) = (false, false);
}

/// Where views could be read the kernel is interpreted, which is counted and said once.
#[test]
fn kernels_that_could_read_their_views_are_interpreted() {
    let Some(image) = image("read-own-text") else { return };
    for (host_is, model, interpreted) in [
        (no_keys as fn(&mut HostFeatures), Model::Ring3, true),
        (no_keys, Model::Ring1, false),
        (nothing_hides, Model::Ring1, true),
        (|_| {}, Model::Ring3, false),
    ] {
        let mut host = SoftHost::new(64 << 20);
        host_is(&mut host.features);
        let mut guest = Guest::with_cpu(host, Options { model, tactics: TacticSet::all(), ..options() }, profile());
        let entry = guest.load_elf(&image);
        guest.start(entry);
        assert_eq!(guest.run(500_000), End::Status(0), "{}", guest.serial);
        assert!(!guest.serial.contains("NO"), "{}", guest.serial);
        let stats = guest.vcpu.stats();
        assert_eq!(stats.get(Counter::InterpretedUnhidden) > 0, interpreted);
        assert_eq!(stats.get(Counter::Views) == 0, interpreted);
        assert_eq!(guest.host.log.iter().filter(|line| line.contains("cannot hide")).count(), usize::from(interpreted));
    }
}

#[test]
fn guests_run_in_ring_1_without_protection_keys() {
    all_on(Bits::Protected, Options { tactics: TacticSet::all(), ..options() }, no_keys);
}

#[test]
fn guests_run_where_nothing_hides_views() {
    all_on(Bits::Protected, options(), nothing_hides);
    all_on(Bits::Protected, Options { model: Model::Ring3, tactics: TacticSet::all(), ..options() }, no_keys);
}

#[test]
fn long_mode_guests_run_where_nothing_hides_views() {
    all_on(Bits::Long, Options { tactics: TacticSet::all(), ..options() }, no_keys);
}

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A small number, one near a boundary, or any.
    fn odd(&mut self) -> u64 {
        let n = self.throw();
        match n >> 60 {
            0..=5 => n & 0xffff,
            6 | 7 => 0xffff_f000 | n & 0xfff,
            8 | 9 => 0x7fff_ffff_f000 | n & 0xfff,
            10 | 11 => 0xffff_8000_0000_0000 | n & 0xffff,
            12 | 13 => u64::MAX - (n & 0xff),
            _ => n,
        }
    }

    fn segment(&mut self) -> Segment {
        let (selector, attrs) = (self.throw() as u16 & 0x3f, self.throw() as u16 & 0xf0ff);
        Segment { selector: Selector(selector), base: self.odd(), limit: self.odd() as u32, attrs }
    }
}

/// A state that KVM_SET_SREGS lets through (`possible` in the module's convert.rs), with everything else as a hostile client likes.
fn any_state(dice: &mut Dice, ordinary: VcpuState) -> VcpuState {
    let mut s = ordinary;
    s.gpr = std::array::from_fn(|_| dice.odd());
    s.rip = if dice.throw() & 1 == 0 { s.rip } else { dice.odd() };
    s.rflags = Rflags::from_bits_truncate(dice.throw()) | Rflags::ONE;
    for reg in SegReg::ALL {
        if dice.throw() & 3 == 0 {
            *s.segment_mut(reg) = dice.segment();
        }
    }
    (s.ldtr, s.tr) = (dice.segment(), dice.segment());
    s.gdtr = TableRegister { base: dice.odd(), limit: dice.throw() as u16 };
    s.idtr = TableRegister { base: dice.odd(), limit: dice.throw() as u16 };
    s.cr0 = Cr0::from_bits_truncate(dice.throw()) | Cr0::ET;
    s.cr0.set(Cr0::PE, s.cr0.contains(Cr0::PG) || dice.throw() & 3 != 0);
    s.cr0.set(Cr0::NW, s.cr0.contains(Cr0::NW | Cr0::CD));
    s.cr4 = Cr4::from_bits_truncate(dice.throw());
    (s.cr2, s.cr3, s.cr8) = (dice.odd(), dice.odd(), dice.throw() & 15);
    s.efer = Efer::from_bits_truncate(dice.throw()) - Efer::LMA;
    let mut code = *s.segment(SegReg::Cs);
    if s.efer.contains(Efer::LME) && s.cr0.contains(Cr0::PG) {
        (s.efer, s.cr4) = (s.efer | Efer::LMA, s.cr4 | Cr4::PAE);
        code.attrs &= if dice.throw() & 1 == 0 { !0x2000 } else { !0x4000 };
        code.attrs |= if code.attrs & 0x4000 == 0 { 0x2000 } else { 0 };
        let canonical = |a: u64| ((a << 16) as i64 >> 16) as u64;
        for reg in [SegReg::Fs, SegReg::Gs] {
            s.segment_mut(reg).base = canonical(s.segment(reg).base);
        }
        (s.tr.base, s.ldtr.base) = (canonical(s.tr.base), canonical(s.ldtr.base));
        (s.gdtr.base, s.idtr.base) = (canonical(s.gdtr.base), canonical(s.idtr.base));
        s.cr3 &= 0xff_ffff_ffff;
    } else {
        code.attrs &= !0x2000;
        s.cr4 -= Cr4::PCIDE;
    }
    *s.segment_mut(SegReg::Cs) = code;
    s.cpl = match s.mode() {
        CpuMode::Real => 0,
        CpuMode::Virtual8086 => 3,
        _ => s.segment(SegReg::Ss).dpl(),
    };
    s.dr = std::array::from_fn(|_| dice.odd());
    s.dr7 = dice.throw() & 0xffff_2fff | 0x400;
    s
}

/// No state of a client's and no memory of a guest's makes the engine panic, and none runs for ever without a return.
#[test]
fn any_state_of_a_client_ends_in_an_exit() {
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_u64);
    for seed in 1..=seeds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let model = if seed & 1 == 0 { Model::Ring1 } else { Model::Ring3 };
        let tactics = if seed & 2 == 0 { TacticSet::all() } else { TacticSet::empty() };
        let cpuid = match seed % 3 {
            0 => profile(),
            1 => profile64(b"GenuineIntel"),
            // A CPU that has everything.
            _ => [0, 1, 7, 0x8000_0000, 0x8000_0001, 0x8000_0008]
                .map(|function| CpuidEntry { function, regs: [!0; 4], ..CpuidEntry::default() })
                .to_vec(),
        };
        let mut host = SoftHost::new(1 << 20);
        host.features.pku = seed & 4 == 0;
        host.slice = 16;
        let mut guest = Guest::with_cpu(host, Options { model, tactics, ..options() }, cpuid);
        for chunk in guest.host.ram.chunks_exact_mut(8).take(0x4000 / 8) {
            chunk.copy_from_slice(&dice.odd().to_le_bytes());
        }
        for _ in 0..4 {
            let state = any_state(&mut dice, multiboot_state(0x3000));
            // EINVAL for the client, at worst.
            let _set = guest.vcpu.set_state(&mut guest.host, state);
            for _ in 0..32 {
                match guest.vcpu.run(&mut guest.host, RunRequest::default()) {
                    ClientExit::Io(_) => guest.vcpu.complete_io(dice.odd()),
                    ClientExit::Hlt | ClientExit::Shutdown | ClientExit::InternalError(_) => break,
                    _ => {}
                }
            }
        }
    }
}

/// The 32-bit CPU with XSAVE, the components that Intel's have, and RDTSCP.
fn profile_with_xsave() -> Vec<CpuidEntry> {
    let leaf = |function, regs| CpuidEntry { function, regs, ..CpuidEntry::default() };
    let sub = |index, regs| CpuidEntry { function: 0xd, index, indexed: true, regs };
    let mut profile = profile();
    profile[0].regs[0] = 0xd;
    profile[1].regs[2] |= 1 << 26;
    profile.extend([sub(0, [0x207, 0, 0, 0]), sub(1, [0, 0, 0, 0]), sub(2, [256, 576, 0, 0]), sub(9, [8, 2688, 0, 0])]);
    profile.extend([leaf(0x8000_0000, [0x8000_0001, 0, 0, 0]), leaf(0x8000_0001, [0, 0, 0, 1 << 27])]);
    profile
}

/// XCR0 is the guest's, from XSETBV to XGETBV and leaf D, and never more than the host switches. (The soft CPU checks what it is entered with.)
#[test]
fn the_guest_has_its_own_xcr0() {
    #[rustfmt::skip]
    let code = [
        0x0f, 0x20, 0xe0,                   // mov eax, cr4
        0x0d, 0, 0, 4, 0,                   // or eax, OSXSAVE
        0x0f, 0x22, 0xe0,                   // mov cr4, eax
        0x31, 0xc9, 0x31, 0xd2,             // xor ecx, ecx; xor edx, edx
        0xb8, 7, 0, 0, 0, 0x0f, 0x01, 0xd1, // mov eax, 7; xsetbv
        0x31, 0xc0, 0x0f, 0x01, 0xd0,       // xor eax, eax; xgetbv
        0x89, 0xc6,                         // mov esi, eax
        0xb8, 0xd, 0, 0, 0, 0x0f, 0xa2,     // mov eax, 0xd; cpuid
        0x89, 0xdf, 0x89, 0xc5,             // mov edi, ebx; mov ebp, eax
        0x31, 0xc9, 0x31, 0xd2,             // xor ecx, ecx; xor edx, edx
        0xb8, 7, 2, 0, 0, 0x0f, 0x01, 0xd1, // mov eax, 0x207; xsetbv: #GP, and there is no IDT
    ];
    for (offered, taken) in [(7, true), (3, false), (0, false)] {
        for interpret_all in [false, true] {
            let mut host = SoftHost::new(1 << 20);
            host.features.xcr0 = offered;
            let options = Options { interpret_all, ..options() };
            let mut guest = Guest::with_cpu(host, options, profile_with_xsave());
            guest.load_code(Gpa(0x1000), &code);
            guest.start(0x1000);
            assert_eq!(guest.run(1000), End::Exit(ClientExit::Shutdown), "{:#?}", guest.host.log);
            let state = guest.vcpu.state();
            if taken {
                assert_eq!((state.rip, state.xcr0), (0x1000 + code.len() as u64 - 3, 7));
                assert_eq!([state.gpr[6], state.gpr[7], state.gpr[5]], [7, 832, 7]);
            } else {
                assert_eq!((state.rip, state.xcr0), (0x1014, 1), "AVX is not there");
            }
        }
    }
}

/// A program's RDTSCP reads the guest's IA32_TSC_AUX, not the host's.
#[test]
fn programs_read_the_guest_s_tsc_aux() {
    // rdtscp; mov esi, ecx; hlt, which a program may not.
    let code = [0x0f, 0x01, 0xf9, 0x89, 0xce, 0xf4];
    let mut guest = Guest::with_cpu(SoftHost::new(1 << 20), options(), profile_with_xsave());
    guest.load_code(Gpa(0x1000), &code);
    for (i, raw) in [0, 0x00cf_fb00_0000_ffff_u64, 0x00cf_f300_0000_ffff].into_iter().enumerate() {
        guest.load_code(Gpa(0x500 + 8 * i as u64), &raw.to_le_bytes());
    }
    let mut state = multiboot_state(0x1000);
    state.gdtr = TableRegister { base: 0x500, limit: 0x17 };
    state.idtr.limit = 0;
    state.cpl = 3;
    state.rflags |= Rflags::IF;
    for (n, segment) in state.seg.iter_mut().enumerate() {
        segment.selector.0 = if n == 1 { 0xb } else { 0x13 };
        segment.attrs |= 3 << 5;
    }
    state.msrs.tsc_aux = 0xabcd;
    guest.vcpu.set_state(&mut guest.host, state).unwrap();
    assert_eq!(guest.run(1000), End::Exit(ClientExit::Shutdown), "{:#?}", guest.host.log);
    assert_eq!(guest.vcpu.state().gpr[6], 0xabcd);
    assert!(guest.host.direct > 0);
}
