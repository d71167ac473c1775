//! Page faults that end no stay: the guest shows the same, and its faults cost fewer exits.

use crate::soft::guest::{profile, profile64, profile_pae, End, Guest};
use crate::soft::SoftHost;
use crate::{expected, image, options};
use rvmm_arch::host::SyscallSupport;
use rvmm_arch::stats::Counter;
use rvmm_arch::Model;
use rvmm_core::Options;
use rvmm_patcher::TacticSet;

const COUNTERS: [Counter; 5] =
    [Counter::Served, Counter::Reflected, Counter::ExitPageFault, Counter::PageFaultHidden, Counter::PageFaultTrue];

/// Runs a guest; its counters.
fn run(name: &str, bits: u8, options: Options, reserved_bit: u64) -> Option<[u64; COUNTERS.len()]> {
    counters(name, bits, options, reserved_bit, COUNTERS)
}

fn counters<const N: usize>(
    name: &str,
    bits: u8,
    options: Options,
    reserved_bit: u64,
    counters: [Counter; N],
) -> Option<[u64; N]> {
    let image = image(name)?;
    let mut host = SoftHost::new(64 << 20);
    (host.features.syscall, host.features.reserved_bit) = (SyscallSupport::Long, reserved_bit);
    let cpuid = match bits {
        64 => profile64(b"GenuineIntel"),
        36 => profile_pae(),
        _ => profile(),
    };
    let mut guest = Guest::with_cpu(host, options, cpuid);
    let entry = guest.load_elf(&image);
    guest.start(entry);
    assert_eq!(guest.run(2_000_000), End::Status(0), "{name}: {}", guest.serial);
    assert_eq!(format!("{}end: exit 0\n", guest.serial), expected(name), "{name} {options:?}");
    Some(counters.map(|counter| guest.vcpu.stats().get(counter)))
}

#[test]
fn hidden_faults_and_those_of_programs_end_no_stay() {
    for model in [Model::Ring1, Model::Ring3] {
        for (name, bits) in [("reflect", 32), ("pae-reflect", 36), ("x64-reflect", 64), ("paging-edit", 32)] {
            let of = |tactics| run(name, bits, Options { model, tactics, ..options() }, 1 << 51);
            let Some([served, reflected, exits, hidden, own]) = of(TacticSet::all()) else { return };
            let Some([none, fewer, many, _, same]) = of(TacticSet::all() - TacticSet::SERVE) else { return };
            println!(
                "{name}: {served} of {hidden} served, {reflected} for {fewer} reflected, {exits} for {many} exits"
            );
            assert!(none == 0 && served <= hidden && 2 * served > hidden, "{name}: {served} of {hidden}");
            assert!(exits + served <= many + 64, "{name}: {exits} {served} {many}");
            assert_eq!(own, same, "{name}: true faults");
            assert!(reflected >= fewer, "{name}: {reflected} {fewer}");
        }
    }
}

/// Where the CPU does not tell of reserved bits, it is told all the same.
#[test]
fn faults_of_programs_reach_their_kernel_where_no_entry_can_be_marked() {
    for (name, bits) in [("reflect", 32), ("pae-reflect", 36), ("x64-reflect", 64)] {
        let of = |tactics| run(name, bits, Options { tactics, ..options() }, 0);
        let Some([_, reflected, ..]) = of(TacticSet::all()) else { return };
        let Some([_, none, ..]) = of(TacticSet::all() - TacticSet::SERVE) else { return };
        assert!(reflected > 100 && none == 0, "{name}: {reflected} {none}");
    }
}

#[test]
fn sites_without_a_jump_go_on_in_a_block_in_the_middle_of_a_stay() {
    const COUNTERS: [Counter; 3] = [Counter::SitesTrap, Counter::TrapsServed, Counter::InterpretedSite];
    for model in [Model::Ring1, Model::Ring3] {
        for (name, bits) in [("trap-block", 32), ("x64-trap-block", 64)] {
            let of = |tactics| counters(name, bits, Options { model, tactics, ..options() }, 1 << 51, COUNTERS);
            let Some([sites, served, interpreted]) = of(TacticSet::all()) else { return };
            let Some([none, elsewhere, all]) = of(TacticSet::all() - TacticSet::TRAP) else { return };
            let Some([behind, unserved, fewer]) = of(TacticSet::all() - TacticSet::SERVE) else { return };
            println!("{name}: {sites} sites, {served} served, {interpreted} interpreted; without {elsewhere} and {all}; {fewer}");
            assert!(none == 0 && sites >= 5 && behind >= 5, "{name}: {sites} and {behind} sites");
            assert!(served > 2000 && unserved == 0 && elsewhere < 200, "{name}: {served}, {elsewhere}");
            assert!(interpreted + 2000 < all && fewer + 2000 < all, "{name}: {interpreted}, {fewer} of {all}");
        }
    }
}
