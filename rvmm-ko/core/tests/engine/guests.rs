//! All micro-guests, in each way to run them, against what they print on the bare emulator.

use crate::soft::guest::{profile, profile64, profile_pae, End, Guest};
use crate::soft::SoftHost;
use crate::{image, options, show, syscall_of, REFLECT};
use rvmm_arch::host::HostFeatures;
use rvmm_arch::stats::Counter;
use rvmm_arch::Model;
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::{ClientExit, Options, Verify};
use rvmm_patcher::TacticSet;

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
    "sysexit-pending",
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

/// Guests that come to an instruction which the soft CPU has not, x87 or one more of SSE; they go no further here.
const NEED_FPU: &[&str] = &["fpu-lazy", "fpu-state", "mf", "nm", "xm", "x64-xsave", "fpu16"];

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
    // `make` exports it empty where it is not given.
    let only = std::env::var("GUEST").ok().filter(|name| !name.is_empty());
    for name in [NOT_HERE, NEED_FPU].concat().into_iter().chain(only.as_deref()) {
        assert!(
            list.lines().any(|line| line.split_whitespace().next() == Some(name)),
            "{name} is not in tests/guests/list.cfg"
        );
    }
    let (mut passed, mut failed, mut lacking) = (0, Vec::new(), Vec::new());
    let mut entries: Vec<_> = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries.iter().filter(|p| p.extension().is_some_and(|e| e == "elf")) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Ok(expected) = std::fs::read_to_string(format!("{dir}/../../tests/guests/expected/{name}.txt")) else {
            println!("{name}: no expected output, not run");
            continue;
        };
        let nowhere = listed(&list, &name, "models").is_some_and(|models| models == "none");
        if nowhere || NOT_HERE.contains(&name.as_str()) || only.as_ref().is_some_and(|o| *o != name) {
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
            Ok((None, ..)) if NEED_FPU.contains(&name.as_str()) => {
                lacking.push(name);
                continue;
            }
            Ok((None, serial, log)) => (format!("{serial}end: the soft CPU lacks an instruction\n"), log),
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
    assert!(passed > 0 || only.is_some() || !crate::are_built(), "no image in {dir}");
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
