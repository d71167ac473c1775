//! The engine on a host made of software: guest code runs "directly" in ring 1 or 3 through the shadow tables and views.
#![allow(clippy::unwrap_used)]

mod any_state;
mod blocks;
mod clients;
mod devices;
mod guests;
mod interrupts;
mod reload;
mod served;
#[path = "../soft/mod.rs"]
mod soft;
mod trace;
mod undone;
mod xstate;

use rvmm_arch::host::SyscallSupport;
use rvmm_arch::segment::TableRegister;
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gpa, Model};
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::{Options, Verify};
use rvmm_patcher::table::ROWS;
use rvmm_patcher::TacticSet;
use soft::guest::{multiboot_state, End, Guest};

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
    let image = std::fs::read(&path);
    if let Err(error) = &image {
        assert!(!are_built(), "{path}: {error}");
        println!("skipped: {path}: {error} (build with make -C tests/guests)");
    }
    image.ok()
}

/// Has the script that runs the tests built the images? Without, they are skipped.
fn are_built() -> bool {
    std::env::var_os("RVMM_GUESTS").is_some()
}

/// The tactics with which events of programs end no stay, without those that leave page tables out of sync.
const REFLECT: TacticSet = TacticSet::JUMP.union(TacticSet::SYSCALL).union(TacticSet::REFLECT);

/// SYSCALL on a host with a CPU of the guest's vendor.
fn syscall_of(cpuid: &[CpuidEntry]) -> SyscallSupport {
    let intel = cpuid.first().is_none_or(|leaf| leaf.regs[1] == u32::from_le_bytes(*b"Genu"));
    if intel {
        SyscallSupport::Long
    } else {
        SyscallSupport::Compatibility
    }
}

/// What the guest prints, with how it ends, as the bare emulator has it.
fn expected(name: &str) -> String {
    let path = format!("{}/../../tests/guests/expected/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
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

/// Sites of a row of the table that have a block.
fn jumps(guest: &Guest, row: &str) -> u64 {
    let id = ROWS.iter().position(|r| r.name == row).unwrap();
    guest.vcpu.scan_counts().unwrap().jump_rows[id]
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
