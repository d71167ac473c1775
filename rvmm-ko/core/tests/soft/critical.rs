//! Instructions that show or change what is not the guest's, and that the CPU executes all the same at CPL 1 and 3: none of
//! them may ever be executed directly in the guest's kernel outside a patch block. A list of its own, made from SDM vol. 2, not from the
//! patcher's table.

/// What the CPU is about to execute, if it is one of them.
pub fn name(bytes: &[u8], long: bool) -> Option<&'static str> {
    let mut at = 0;
    let mut repeat = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            0xf3 => repeat = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 => {}
            0x40..=0x4f if long => {}
            _ => break,
        }
        at += 1;
    }
    let (opcode, next) = (*bytes.get(at)?, bytes.get(at + 1).copied());
    let middle = next.map(|modrm| (modrm >> 3 & 7, modrm >> 6 == 3));
    match opcode {
        0x9c => Some("pushf"),
        0x9d => Some("popf"),
        0xcf => Some("iret"),
        0xca | 0xcb => Some("far ret"),
        0xcd => Some("int n"),
        0xf1 => Some("int1"),
        0x9a | 0x0e | 0x16 | 0x17 | 0xea | 0xce if long => None,
        0x9a | 0xea => Some("far call or jump"),
        0xce => None, // INTO that does nothing is harmless, the other finds no gate.
        0x0e | 0x16 => Some("push of CS or SS"),
        0x17 => Some("pop SS"),
        0x8c if matches!(middle?.0, 1 | 2) => Some("mov from CS or SS"),
        0x8e if middle?.0 == 2 => Some("mov to SS"),
        0xff if matches!(middle?, (3 | 5, false)) => Some("far call or jump"),
        0x0f => two_bytes(bytes.get(at + 1..)?, repeat),
        _ => None,
    }
}

fn two_bytes(bytes: &[u8], repeat: bool) -> Option<&'static str> {
    let modrm = bytes.get(1).copied();
    let middle = modrm.map(|modrm| (modrm >> 3 & 7, modrm >> 6 == 3));
    match *bytes.first()? {
        0x00 => match middle?.0 {
            0 => Some("sldt"),
            1 => Some("str"),
            4 | 5 => Some("verr or verw"),
            _ => None,
        },
        0x01 => match (middle?, modrm?) {
            ((0 | 1, false), _) => Some("sgdt or sidt"),
            ((4, _), _) => Some("smsw"),
            (_, 0xee) => Some("rdpkru"),
            (_, 0xef) => Some("wrpkru"),
            _ => None,
        },
        0x02 => Some("lar"),
        0x03 => Some("lsl"),
        0xa2 => Some("cpuid"),
        0xb2 => Some("lss"),
        0xc7 if repeat && middle? == (7, true) => Some("rdpid"),
        _ => None,
    }
}
