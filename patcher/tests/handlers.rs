//! No row lacks a handler: the interpreter has a definite answer for an instruction of every row that exists in 32-bit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use iced_x86::{Decoder, DecoderOptions};
use rvmm_interp::testing::{flat32, TestMachine};
use rvmm_interp::{step, Step, Unsupported};
use rvmm_patcher::table::{classify, Handler, Modes, ROWS};
use std::collections::HashSet;

/// Instructions, at least one for each row. EAX is an address in RAM, ECX and EDX are small.
const SAMPLES: &[&[u8]] = &[
    &[0x0F, 0x01, 0x00],             // sgdt [eax]
    &[0x0F, 0x01, 0x08],             // sidt [eax]
    &[0x0F, 0x00, 0xC3],             // sldt ebx
    &[0x0F, 0x00, 0xCB],             // str ebx
    &[0x0F, 0x01, 0xE3],             // smsw ebx
    &[0x0F, 0x02, 0xD9],             // lar ebx, ecx
    &[0x0F, 0x03, 0xD9],             // lsl ebx, ecx
    &[0x0F, 0x00, 0xE1],             // verr cx
    &[0x0F, 0x00, 0xE9],             // verw cx
    &[0x63, 0xD1],                   // arpl cx, dx
    &[0x9C],                         // pushfd
    &[0x66, 0x9C],                   // pushf
    &[0x9D],                         // popfd
    &[0x66, 0x9D],                   // popf
    &[0x8C, 0xCB],                   // mov ebx, cs
    &[0x8C, 0x10],                   // mov [eax], ss
    &[0x0E],                         // push cs
    &[0x16],                         // push ss
    &[0x8C, 0xDB],                   // mov ebx, ds
    &[0x1E],                         // push ds
    &[0x0F, 0xA8],                   // push gs
    &[0x8E, 0xD1],                   // mov ss, ecx
    &[0x17],                         // pop ss
    &[0x0F, 0xB2, 0x18],             // lss ebx, [eax]
    &[0x8E, 0xD9],                   // mov ds, ecx
    &[0x07],                         // pop es
    &[0x0F, 0xB4, 0x18],             // lfs ebx, [eax]
    &[0x0F, 0xA2],                   // cpuid
    &[0x0F, 0x31],                   // rdtsc
    &[0x0F, 0x01, 0xF9],             // rdtscp
    &[0xF3, 0x0F, 0xC7, 0xF9],       // rdpid ecx
    &[0x0F, 0x01, 0xFD],             // rdpru
    &[0x0F, 0x01, 0xD0],             // xgetbv
    &[0x0F, 0x01, 0xD1],             // xsetbv
    &[0x0F, 0x01, 0xEE],             // rdpkru
    &[0x0F, 0x01, 0xEF],             // wrpkru
    &[0x0F, 0xAE, 0x20],             // xsave [eax]
    &[0x0F, 0xAE, 0x28],             // xrstor [eax]
    &[0x0F, 0x01, 0xC1],             // vmcall
    &[0x0F, 0x01, 0xD9],             // vmmcall
    &[0x0F, 0x01, 0xD4],             // vmfunc
    &[0x0F, 0x01, 0xD7],             // enclu
    &[0xF2, 0x0F, 0x38, 0xF8, 0x18], // enqcmd ebx, [eax]
    &[0x0F, 0x01, 0xFA],             // monitorx
    &[0xF2, 0x0F, 0xAE, 0xF1],       // umwait ecx
    &[0xCF],                         // iretd
    &[0x9A, 0, 0, 0, 0, 8, 0],       // call far
    &[0xFF, 0x18],                   // call far [eax]
    &[0xEA, 0, 0, 0, 0, 8, 0],       // jmp far
    &[0xCB],                         // retf
    &[0xCD, 0x80],                   // int 0x80
    &[0xCC],                         // int3
    &[0xCE],                         // into
    &[0xF1],                         // int1
    &[0x0F, 0x05],                   // syscall
    &[0x0F, 0x34],                   // sysenter
    &[0x0F, 0x07],                   // sysret
    &[0x0F, 0x35],                   // sysexit
    &[0xFA],                         // cli
    &[0xFB],                         // sti
    &[0xEC],                         // in al, dx
    &[0xEE],                         // out dx, al
    &[0x6C],                         // insb
    &[0x6E],                         // outsb
    &[0xF4],                         // hlt
    &[0x0F, 0x01, 0x10],             // lgdt [eax]
    &[0x0F, 0x01, 0x18],             // lidt [eax]
    &[0x0F, 0x00, 0xD1],             // lldt cx
    &[0x0F, 0x00, 0xD9],             // ltr cx
    &[0x0F, 0x01, 0xF1],             // lmsw cx
    &[0x0F, 0x06],                   // clts
    &[0x0F, 0x20, 0xC3],             // mov ebx, cr0
    &[0x0F, 0x22, 0xC3],             // mov cr0, ebx
    &[0x0F, 0x21, 0xFB],             // mov ebx, dr7
    &[0x0F, 0x01, 0x38],             // invlpg [eax]
    &[0x66, 0x0F, 0x38, 0x82, 0x08], // invpcid ecx, [eax]
    &[0x0F, 0x32],                   // rdmsr
    &[0x0F, 0x30],                   // wrmsr
    &[0x0F, 0x33],                   // rdpmc
    &[0x0F, 0x08],                   // invd
    &[0x0F, 0x09],                   // wbinvd
    &[0x0F, 0x01, 0xCA],             // clac
    &[0x0F, 0x01, 0xC8],             // monitor
    &[0x0F, 0x01, 0xC9],             // mwait
    &[0x0F, 0xAA],                   // rsm
    &[0x0F, 0xC7, 0x28],             // xsaves [eax]
    &[0x0F, 0x01, 0xC4],             // vmxoff
    &[0x0F, 0x01, 0xD8],             // vmrun
    &[0x66, 0x0F, 0x01, 0xCC],       // tdcall
    &[0xF2, 0x0F, 0x01, 0xFF],       // pvalidate
    &[0xF3, 0x0F, 0x01, 0xE8],       // setssbsy
    &[0x0F, 0x01, 0xC5],             // pconfig
    &[0x0F, 0x37],                   // getsec
];

#[test]
fn the_interpreter_knows_every_row() {
    let (mut seen, mut failures) = (HashSet::new(), Vec::new());
    for bytes in SAMPLES {
        let instruction = Decoder::with_ip(32, bytes, 0, DecoderOptions::NONE).decode();
        let row = classify(&instruction).unwrap_or_else(|| panic!("{bytes:02x?} has no row"));
        seen.insert(row.name);
        let mut machine = TestMachine::new(0x8000);
        machine.poke(0x4000, bytes);
        let mut cpu = flat32(0x4000, 0x3000);
        for (register, value) in [(0, 0x1000), (1, 0x10), (2, 0x80), (6, 0x1000), (7, 0x1100)] {
            cpu.gpr[register] = value;
        }
        match step(&mut cpu, &mut machine) {
            Step::Retired | Step::Halted | Step::Exception(_) => {}
            // The engine answers these: #UD, and the CPU's own answer under the guest's CR4.
            Step::Unsupported(Unsupported::Privileged) if row.handler == Handler::NotInGuest => {}
            Step::Unsupported(Unsupported::StateSave) if row.handler == Handler::Xsave => {}
            other => failures.push(format!("{} ({bytes:02x?}): {other:?}", row.name)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    for row in ROWS.iter().filter(|row| row.modes.contains(Modes::M32)) {
        assert!(seen.contains(row.name), "{} has no sample", row.name);
    }
}
