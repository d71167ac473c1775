//! Vector instructions on device memory and on the page of their own code.

use crate::soft::guest::Guest;
use crate::{bare, REPORT_7};
use rvmm_arch::regs::Cr4;
use rvmm_arch::stats::Counter;
use rvmm_arch::Gpa;
use rvmm_core::io::IoAccess;
use rvmm_core::{ClientExit, RunRequest};

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

/// The client may look at and change the virtual CPU between them: the instruction has retired.
#[test]
fn a_client_that_sets_registers_makes_the_other_writes_all_the_same() {
    let mut guest = bare_sse(&[&load(0x5000), &store(0x20_0000)]);
    let write = |at: u64, data: u64| IoAccess::MmioWrite { gpa: Gpa(0x20_0000 + at), len: 8, data };
    for access in [write(0, 0x0807_0605_0403_0201), write(8, 0x100f_0e0d_0c0b_0a09)] {
        assert_eq!(guest.vcpu.run(&mut guest.host, RunRequest::default()), ClientExit::Io(access));
        let state = guest.vcpu.state().clone();
        assert_eq!(state.rip, 0x300e);
        guest.vcpu.set_state(&mut guest.host, state).unwrap();
        guest.vcpu.complete_io(0);
    }
    assert_eq!(device_accesses(&mut guest, |_| 0), []);
}

#[test]
fn a_vector_comes_from_two_pages_of_a_device() {
    let mut guest = bare_sse(&[&load(0x20_0ff6), &store(0x5100)]);
    let read = |at: u64, len: u8| IoAccess::MmioRead { gpa: Gpa(0x20_0000 + at), len };
    let asked = device_accesses(&mut guest, |at| (0..8).map(|i| ((at + i) & 0xff) << (8 * i)).sum());
    assert_eq!(asked, [read(0xff6, 2), read(0xff8, 8), read(0x1000, 4), read(0x1004, 2)]);
    let bytes: Vec<u8> = (0xf6..=0xff).chain(0..6).collect();
    assert_eq!(guest.host.ram[0x5100..0x5110], bytes);
    assert_eq!(guest.vcpu.stats().get(Counter::StandIns), 2);
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
fn a_string_of_port_reads_is_asked_for_by_what_a_page_and_kvm_run_have_room_for() {
    // cld; mov edx, 0x1f0; mov edi, 0x20f00; mov ecx, 0x700; rep insb
    let code = [0xfc, 0xba, 0xf0, 1, 0, 0, 0xbf, 0, 0x0f, 2, 0, 0xb9, 0, 7, 0, 0, 0xf3, 0x6c];
    let mut guest = bare(&[&code[..], REPORT_7].concat(), &[]);
    let (mut counts, mut sent) = (Vec::new(), 0u8);
    loop {
        match guest.vcpu.run(&mut guest.host, RunRequest::default()) {
            ClientExit::Io(IoAccess::PortInString { port: 0x1f0, size: 1, count }) => {
                counts.push(count);
                let first = sent;
                guest.vcpu.complete_string(|at| first.wrapping_add(at as u8).wrapping_mul(3));
                sent = sent.wrapping_add(count as u8);
            }
            ClientExit::Io(IoAccess::PortOut { port: 0x501, value: 7, .. }) => break,
            other => {
                assert!(matches!(other, ClientExit::Interrupted), "{other:?} {counts:?} {:x?}", guest.vcpu.state().gpr)
            }
        }
    }
    assert_eq!(counts, [0x100, 0x400, 0x200]);
    let read = guest.host.ram[0x2_0f00..0x2_1600].iter().zip(0u8..=255).all(|(byte, at)| *byte == at.wrapping_mul(3));
    assert!(read && guest.host.ram[0x2_0eff] == 0 && guest.host.ram[0x2_1600] == 0);
}

#[test]
fn a_string_of_port_reads_downwards_comes_one_by_one() {
    // std; mov edx, 0x1f0; mov edi, 0x6f00; mov ecx, 3; rep insw
    let down = [0xfd, 0xba, 0xf0, 1, 0, 0, 0xbf, 0, 0x6f, 0, 0, 0xb9, 3, 0, 0, 0, 0x66, 0xf3, 0x6d];
    let asked = device_accesses(&mut bare(&[&down[..], REPORT_7].concat(), &[]), |_| 0);
    assert_eq!(asked, [IoAccess::PortIn { port: 0x1f0, size: 2 }; 3]);
}

#[test]
fn a_string_of_port_writes_is_given_by_what_a_page_and_kvm_run_have_room_for() {
    // cld; mov edx, 0x1f0; mov esi, 0x20f00; mov ecx, 0x380; rep outsw
    let code = [0xfc, 0xba, 0xf0, 1, 0, 0, 0xbe, 0, 0x0f, 2, 0, 0xb9, 0x80, 3, 0, 0, 0x66, 0xf3, 0x6f];
    let mut guest = bare(&[&code[..], REPORT_7].concat(), &[]);
    let data: Vec<u8> = (0..0x700u32).map(|at| (at * 7) as u8 ^ (at >> 8) as u8).collect();
    guest.host.ram[0x2_0f00..0x2_1600].copy_from_slice(&data);
    let (mut counts, mut got) = (Vec::new(), Vec::new());
    loop {
        match guest.vcpu.run(&mut guest.host, RunRequest::default()) {
            ClientExit::Io(access @ IoAccess::PortOutString { port: 0x1f0, size: 2, count }) => {
                // An interrupted client comes back without having taken it, and is given it again.
                let again = guest.vcpu.run(&mut guest.host, RunRequest::default());
                assert_eq!(again, ClientExit::Io(access));
                counts.push(count);
                got.extend_from_slice(guest.vcpu.io_string(2 * usize::from(count)));
                // What a device does to the memory meanwhile comes too late.
                guest.host.ram[0x2_0f00..0x2_0f00 + got.len()].fill(0);
                guest.vcpu.complete_io(0);
            }
            ClientExit::Io(IoAccess::PortOut { port: 0x501, value: 7, .. }) => break,
            other => {
                assert!(matches!(other, ClientExit::Interrupted), "{other:?} {counts:?} {:x?}", guest.vcpu.state().gpr)
            }
        }
    }
    assert_eq!(counts, [0x80, 0x200, 0x100]);
    assert!(got == data);
}
