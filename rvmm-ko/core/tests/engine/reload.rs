//! Null selectors with an RPL in a kernel that has them from its program.

use crate::soft::guest::{profile64, End, Guest};
use crate::soft::SoftHost;
use crate::{expected, image, options};
use rvmm_arch::stats::Counter;
use rvmm_core::Options;
use rvmm_patcher::TacticSet;

/// The last direct entry was one of the program, which has no blocks.
#[test]
fn a_kernel_entered_from_a_program_with_null_selectors_runs_directly() {
    let name = "x64-null-rpl-user";
    let Some(image) = image(name) else { return };
    let host = SoftHost::new(64 << 20);
    let mut guest =
        Guest::with_cpu(host, Options { tactics: TacticSet::all(), ..options() }, profile64(b"GenuineIntel"));
    let entry = guest.load_elf(&image);
    guest.slices = 1_000_000;
    guest.start(entry);
    assert_eq!(guest.run(2_000_000), End::Status(0), "{}\n{:#?}", guest.serial, guest.host.log);
    assert_eq!(format!("{}end: exit 0\n", guest.serial), expected(name));
    let [loaded, interpreted] = [Counter::Reloads, Counter::InterpretedStaleSegment].map(|c| guest.vcpu.stats().get(c));
    assert!(loaded >= 300 && interpreted < 3000, "{loaded} {interpreted}");
}
