//! What a client may do between two runs: answers, CR8, NMIs, memory written and memory slots changed.

use crate::soft::guest::{End, Guest};
use crate::{bare, options, REPORT_7};
use rvmm_arch::regs::Rflags;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Gfn, Gpa};
use rvmm_core::io::IoAccess;
use rvmm_core::{ClientExit, RunRequest};

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
