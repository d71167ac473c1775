//! The engine on a host made of software: guest code runs "directly" in ring 1 through the shadow tables and views.
#![allow(clippy::unwrap_used)]

mod soft;

use rvmm_arch::stats::Counter;
use rvmm_core::{Options, Verify};
use rvmm_patcher::TacticSet;
use soft::guest::{End, Guest};

fn options() -> Options {
    Options { tactics: TacticSet::empty(), verify: Verify::Off, interpret_all: false, coherent_client: true }
}

fn image(name: &str) -> Option<Vec<u8>> {
    let path = format!("{}/../../build/guests/{name}.elf", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).map_err(|e| println!("skipped: {path}: {e} (build with make -C tests/guests)")).ok()
}

fn run(name: &str, options: Options) -> Option<(Guest, End)> {
    let image = image(name)?;
    let mut guest = Guest::new(32 << 20, options);
    let entry = guest.load_elf(&image);
    guest.start(entry);
    let end = guest.run(2_000_000);
    println!("{name}: {end:?}\n{}\n{:#?}", guest.serial, guest.host.log);
    for counter in Counter::ALL {
        let n = guest.vcpu.stats().get(*counter);
        if n != 0 {
            println!("  {:32} {n}", counter.name());
        }
    }
    Some((guest, end))
}

#[test]
fn hello_runs_directly_in_ring_1() {
    let Some((guest, end)) = run("hello", options()) else { return };
    assert_eq!(end, End::Status(0));
    assert!(guest.vcpu.stats().get(Counter::ExitCpl1) > 0);
    assert_eq!(guest.vcpu.stats().get(Counter::ExitCpl0), 0);
}
