//! Extended state and TSC_AUX: the guest's own, and never more than the host switches.

use crate::options;
use crate::soft::guest::{multiboot_state, profile, End, Guest};
use crate::soft::SoftHost;
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::TableRegister;
use rvmm_arch::Gpa;
use rvmm_core::cpuid::CpuidEntry;
use rvmm_core::{ClientExit, Options};

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
