//! The instruction of a kernel that reads a 32-bit register of a device: MOV r32, m32.

use iced_x86::{Code, Decoder, DecoderOptions, OpKind};

/// The number of the register that `bytes`, code of `bits` bits, load from 32 bits of memory, if they do that and nothing else. Not for RSP.
#[must_use]
pub fn loaded_register(bytes: &[u8], bits: u32) -> Option<u8> {
    let ins = Decoder::with_ip(bits, bytes, 0, DecoderOptions::NONE).decode();
    let loads = match ins.code() {
        Code::Mov_r32_rm32 => ins.op1_kind() == OpKind::Memory,
        Code::Mov_EAX_moffs32 => true,
        _ => false,
    };
    let register = u8::try_from(ins.op0_register().number()).ok()?;
    (loads && ins.len() == bytes.len() && register != 4).then_some(register)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_loads_are_known() {
        assert_eq!(loaded_register(&[0xa1, 0x20, 0, 0xe0, 0xfe], 32), Some(0), "mov eax, [0xfee00020]");
        assert_eq!(loaded_register(&[0x8b, 0x40, 0x20], 32), Some(0), "mov eax, [eax+0x20]");
        assert_eq!(loaded_register(&[0x8b, 0x5e, 0x20], 64), Some(3), "mov ebx, [rsi+0x20]");
        assert_eq!(loaded_register(&[0x44, 0x8b, 0x7e, 0x20], 64), Some(15), "mov r15d, [rsi+0x20]");
        assert_eq!(loaded_register(&[0x64, 0x8b, 0x40, 0x20], 32), Some(0), "mov eax, fs:[eax+0x20]");
    }

    #[test]
    fn others_are_not() {
        for (bytes, bits) in [
            (&[0x8b, 0xc1][..], 32),         // mov eax, ecx
            (&[0x8b, 0x60, 0x20], 32),       // mov esp, [eax+0x20]
            (&[0x66, 0x8b, 0x40, 0x20], 32), // mov ax, [eax+0x20]
            (&[0x48, 0x8b, 0x40, 0x20], 64), // mov rax, [rax+0x20]
            (&[0x89, 0x40, 0x20], 32),       // mov [eax+0x20], eax
            (&[0x0f, 0xb6, 0x40, 0x20], 32), // movzx eax, byte [eax+0x20]
            (&[0x03, 0x40, 0x20], 32),       // add eax, [eax+0x20]
            (&[0x8b, 0x40, 0x20, 0x90], 32), // one and a NOP
            (&[0x8b, 0x40], 32),             // half of one
            (&[], 32),
        ] {
            assert_eq!(loaded_register(bytes, bits), None, "{bytes:02x?}");
        }
    }
}
