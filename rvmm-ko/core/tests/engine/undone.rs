//! An event that is given back to the engine, because its delivery was stopped, leaves what the turns before it made of the virtual CPU.

use crate::soft::guest::{profile64, End, Guest};
use crate::soft::SoftHost;
use crate::{expected, image, options, syscall_of, REFLECT};
use rvmm_arch::stats::Counter;
use rvmm_core::Options;

/// In one stay: SWAPGS by a block, a turn back to the program, and an event of it that does not get its frame.
#[test]
fn the_kernels_gs_base_outlives_an_event_undone() {
    let name = "x64-event-gs";
    let Some(image) = image(name) else { return };
    let expected = expected(name);
    let mut undone = 0;
    // Which instruction ends a stay, and whether the kernel ran in it, wanders.
    for timer in (190..400).step_by(3) {
        let (mut host, cpuid) = (SoftHost::new(64 << 20), profile64(b"GenuineIntel"));
        host.features.syscall = syscall_of(&cpuid);
        host.timer = timer;
        let mut guest = Guest::with_cpu(host, Options { tactics: REFLECT, ..options() }, cpuid);
        guest.slices = 1_000_000;
        let entry = guest.load_elf(&image);
        guest.start(entry);
        let end = guest.run(2_000_000);
        assert_eq!(end, End::Status(0), "{timer}: {}\n{:#?}", guest.serial, guest.host.log);
        assert_eq!(format!("{}end: exit 0\n", guest.serial), expected, "{timer}");
        undone += guest.vcpu.stats().get(Counter::EventsUndone);
    }
    assert!(undone > 100, "{undone} events undone");
}
