//! The table is complete: every instruction that the decoder's own data calls privileged, and every one on a list checked
//! by hand against the manuals, has a row; and no row is there twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use iced_x86::{Code, CodeSize, Decoder, DecoderOptions, Instruction, Mnemonic, Register};
use rvmm_patcher::table::{classify, Behaviour, Match, Modes, Policy, ROWS};
use std::collections::HashSet;

/// An instruction of this encoding whose segment-register operand, if it has one, is `sreg`.
fn instruction(code: Code, sreg: Register) -> Instruction {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    match code {
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => instruction.set_op1_register(sreg),
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => instruction.set_op0_register(sreg),
        _ => {}
    }
    instruction
}

/// Encodings that the scanner's decoder can produce: those of other vendors' options are invalid for it and so int3.
fn decodable(code: Code) -> bool {
    let info = code.op_code();
    info.is_instruction() && info.decoder_option() == DecoderOptions::NONE
}

#[test]
fn every_privileged_instruction_has_a_row() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for code in Code::values().filter(|&code| decodable(code)) {
        let info = code.op_code();
        let ring_matters = !info.cpl1() || !info.cpl0() || !info.cpl3();
        if !(info.is_privileged() || ring_matters || info.is_input_output()) {
            continue;
        }
        seen += 1;
        if classify(&instruction(code, Register::SS)).is_none() {
            missing.push(code);
        }
    }
    assert!(seen > 80, "the decoder's data names only {seen} privileged encodings");
    assert!(missing.is_empty(), "privileged but not in the table: {missing:?}");
}

/// Sensitive without being privileged, from Robin and Irvine's list, the issue's facts page and a reading of the SDM and APM.
const SENSITIVE: &[Mnemonic] = &[
    Mnemonic::Sgdt,
    Mnemonic::Sidt,
    Mnemonic::Sldt,
    Mnemonic::Str,
    Mnemonic::Smsw,
    Mnemonic::Lar,
    Mnemonic::Lsl,
    Mnemonic::Verr,
    Mnemonic::Verw,
    Mnemonic::Arpl,
    Mnemonic::Pushf,
    Mnemonic::Pushfd,
    Mnemonic::Pushfq,
    Mnemonic::Popf,
    Mnemonic::Popfd,
    Mnemonic::Popfq,
    Mnemonic::Iret,
    Mnemonic::Iretd,
    Mnemonic::Iretq,
    Mnemonic::Retf,
    Mnemonic::Lds,
    Mnemonic::Les,
    Mnemonic::Lfs,
    Mnemonic::Lgs,
    Mnemonic::Lss,
    Mnemonic::Int,
    Mnemonic::Int1,
    Mnemonic::Int3,
    Mnemonic::Into,
    Mnemonic::Cpuid,
    Mnemonic::Rdtsc,
    Mnemonic::Rdtscp,
    Mnemonic::Rdpid,
    Mnemonic::Rdpru,
    Mnemonic::Rdpmc,
    Mnemonic::Syscall,
    Mnemonic::Sysenter,
    Mnemonic::Xgetbv,
    Mnemonic::Rdpkru,
    Mnemonic::Wrpkru,
    Mnemonic::Xsave,
    Mnemonic::Xsavec,
    Mnemonic::Xsaveopt,
    Mnemonic::Xrstor,
    Mnemonic::Vmcall,
    Mnemonic::Vmmcall,
    Mnemonic::Vmfunc,
    Mnemonic::Monitor,
    Mnemonic::Mwait,
    Mnemonic::Monitorx,
    Mnemonic::Mwaitx,
    Mnemonic::Umonitor,
    Mnemonic::Umwait,
    Mnemonic::Tpause,
    Mnemonic::Enqcmd,
    Mnemonic::Enclu,
    Mnemonic::Rdfsbase,
    Mnemonic::Wrgsbase,
    Mnemonic::Uiret,
];

#[test]
fn every_sensitive_instruction_has_a_row() {
    for code in Code::values().filter(|&code| SENSITIVE.contains(&code.mnemonic())) {
        assert!(classify(&instruction(code, Register::SS)).is_some(), "{code:?}");
    }
}

#[test]
fn each_row_finds_only_itself() {
    let mut names = HashSet::new();
    for row in ROWS {
        assert!(names.insert(row.name), "two rows called {}", row.name);
        assert!(!row.manual.is_empty() && !row.opcode.is_empty());
        let cases: Vec<Instruction> = match row.matches {
            Match::Mnemonics(list) => Code::values()
                .filter(|c| list.contains(&c.mnemonic()))
                .map(|c| instruction(c, Register::None))
                .collect(),
            Match::Codes(list) => list.iter().map(|&code| instruction(code, Register::None)).collect(),
            Match::StoreSreg(list) => list.iter().map(|&r| instruction(Code::Mov_r32m16_Sreg, r)).collect(),
            Match::LoadSreg(list) => list.iter().map(|&r| instruction(Code::Mov_Sreg_r32m16, r)).collect(),
        };
        assert!(!cases.is_empty(), "{} matches nothing", row.name);
        for case in cases {
            let found = classify(&case).expect("a row finds itself");
            assert!(std::ptr::eq(found, row), "{:?} is found as {}", case.code(), found.name);
        }
    }
}

#[test]
fn what_runs_silently_is_critical() {
    // Ring 1 is for 32-bit kernels only, ring 3 for both.
    let rings = ROWS.iter().flat_map(|row| [(row, row.cpl1, Modes::M32), (row, row.cpl3, Modes::ALL)]);
    for (row, behaviour, _) in rings.filter(|(row, _, modes)| row.modes.intersects(*modes)) {
        match row.policy {
            Policy::Critical => {}
            Policy::TrapsByItself => {
                assert!(matches!(behaviour, Behaviour::Gp | Behaviour::Ud | Behaviour::VmmGate), "{}", row.name);
            }
            // RDTSC is right where it does not trap: CR4.TSD is set wherever the counters differ.
            Policy::Verbatim => assert!(behaviour == Behaviour::Right || row.name == "rdtsc", "{}", row.name),
        }
    }
}

#[test]
fn modes_agree_with_the_decoder() {
    for row in ROWS {
        if let Match::Mnemonics(list) = row.matches {
            let codes: Vec<Code> = Code::values().filter(|c| list.contains(&c.mnemonic())).collect();
            let in32 = codes.iter().any(|c| c.op_code().mode32());
            let in64 = codes.iter().any(|c| c.op_code().mode64());
            assert_eq!(row.modes.contains(Modes::M32), in32, "{}", row.name);
            assert_eq!(row.modes.contains(Modes::M64), in64, "{}", row.name);
        }
    }
}

/// Prefixes that the processor ignores must not hide an instruction from the table.
#[test]
fn prefixes_do_not_hide_an_instruction() {
    let bare: &[(&[u8], &str)] = &[
        (&[0x9C], "pushf"),
        (&[0x9D], "popf"),
        (&[0xFA], "cli"),
        (&[0xFB], "sti"),
        (&[0xCF], "iret"),
        (&[0xF4], "hlt"),
        (&[0x0F, 0xA2], "cpuid"),
        (&[0x0F, 0x01, 0xE0], "smsw"),
        (&[0x0F, 0x00, 0xC0], "sldt"),
        (&[0x8C, 0xC8], "mov-from-cs-ss"),
        (&[0x8E, 0xD0], "mov-to-ss"),
        (&[0x0E], "push-cs-ss"),
        (&[0x17], "pop-ss"),
        (&[0xCB], "ret-far"),
        (&[0x6C], "ins"),
        (&[0x6F], "outs"),
        (&[0x0F, 0x09], "cache-control"),
    ];
    let prefixes: &[&[u8]] =
        &[&[], &[0x66], &[0x67], &[0x2E], &[0x3E], &[0x64], &[0xF2], &[0xF3], &[0x66, 0xF3, 0x2E], &[0x66, 0x2E, 0xF3]];
    // REX comes last, or does not count.
    let rex: &[&[u8]] = &[&[0x48], &[0x4F], &[0x66, 0x41], &[0xF2, 0x2E, 0x40], &[0x4F, 0x66]];
    for (bytes, name) in bare {
        let legacy =
            prefixes.iter().flat_map(|prefix| [(32, CodeSize::Code32, prefix), (64, CodeSize::Code64, prefix)]);
        let with_rex = rex.iter().map(|prefix| (64, CodeSize::Code64, prefix));
        for (bits, size, prefix) in legacy.chain(with_rex) {
            let mut code = prefix.to_vec();
            code.extend_from_slice(bytes);
            let instruction = Decoder::with_ip(bits, &code, 0, DecoderOptions::NONE).decode();
            assert_eq!(instruction.code_size(), size);
            match classify(&instruction) {
                Some(row) => assert_eq!(row.name, *name, "{code:02X?}"),
                // Not this instruction with these prefixes: then it must not be one at all.
                None => assert_eq!(instruction.code(), Code::INVALID, "{code:02X?}"),
            }
        }
    }
}

/// What 64-bit code has instead of these opcodes, and the forms of the others that only it has.
#[test]
fn instructions_of_64_bit_code_have_their_rows() {
    let cases: &[(&[u8], Option<&str>)] = &[
        (&[0x63, 0xC1], None), // movsxd eax, ecx
        (&[0x48, 0x9D], Some("popf")),
        (&[0x48, 0xCF], Some("iret")),
        (&[0x48, 0xCB], Some("ret-far")),
        (&[0x48, 0xFF, 0x28], Some("jmp-far")),
        (&[0x48, 0xFF, 0x18], Some("call-far")),
        (&[0x48, 0x0F, 0x07], Some("sysret")),
        (&[0x48, 0x0F, 0x35], Some("sysexit")),
        (&[0x0F, 0x05], Some("syscall")),
        (&[0x0F, 0x01, 0xF8], Some("swapgs")),
        (&[0x44, 0x0F, 0x20, 0xC0], Some("mov-from-cr")), // mov rax, cr8
        (&[0x44, 0x0F, 0x22, 0xC0], Some("mov-to-cr")),
        (&[0x48, 0x8C, 0xD0], Some("mov-from-cs-ss")),
        (&[0x48, 0x8E, 0xD0], Some("mov-to-ss")),
        (&[0x48, 0x8E, 0xE8], Some("mov-to-data-sreg")),
        (&[0x0F, 0xA8], Some("push-data-sreg")),
        (&[0x48, 0x0F, 0xB5, 0x00], Some("load-far-pointer")),
        (&[0x48, 0x0F, 0xB2, 0x00], Some("lss")),
        (&[0xF3, 0x48, 0x0F, 0xAE, 0xD8], Some("fsgsbase")),
        (&[0x48, 0x0F, 0xAE, 0x20], Some("xsave")),
        (&[0x48, 0x0F, 0xC7, 0x18], Some("xsaves")),
        (&[0xF3, 0x0F, 0x01, 0xEC], Some("user-interrupt")),
        (&[0xF3, 0x0F, 0x1E, 0xFA], None),       // endbr64
        (&[0xF3, 0x48, 0x0F, 0x1E, 0xC8], None), // rdsspq rax
        (&[0xF3, 0x48, 0x0F, 0xAE, 0xE8], None), // incsspq rax
        (&[0x0F, 0xAE, 0xF8], None),             // sfence
    ];
    for (code, name) in cases {
        let instruction = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
        assert_ne!(instruction.code(), Code::INVALID, "{code:02X?}");
        assert_eq!(instruction.len(), code.len(), "{code:02X?}");
        assert_eq!(classify(&instruction).map(|row| row.name), *name, "{code:02X?}");
    }
}
