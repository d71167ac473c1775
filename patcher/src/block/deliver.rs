//! The blocks that bring an event of a program to the kernel's handler: they push its frame, and jump there.
//!
//! Ring 0 puts the words of the frame into the vCPU page, the stack pointer of the guest's TSS into RSP, and enters here at the kernel's ring.
//! So the pushes are the kernel's own, and a fault of its stack is one that ring 0 need not understand. They stand in for no guest instruction
//! and have no map: whatever stops them, the VMM goes back to the program, and the event has not happened. No register is used and no flag
//! changes.

use super::layout::{VcpuPageLayout, EVENT_WORDS};
use crate::page::CodeSize;

/// Offset of the block for events without an error code; the other one is at 0.
pub const WITHOUT_ERROR: u64 = 64;

/// Opcode of `push [x]` and `jmp [x]`, and ModRM of either: an address relative to RIP, or in 32-bit code an absolute one.
const GROUP_5: u8 = 0xff;
const PUSH: u8 = 0x35;
const JUMP: u8 = 0x25;
/// SS segment override: DS is the program's, and need not be flat.
const SS: u8 = 0x36;
/// Bytes of such an instruction, with that prefix.
const INSTRUCTION: usize = 7;
/// Number of the error code's word, and of the handler's.
const ERROR: usize = 5;
const HANDLER: usize = 6;
const _: () = assert!(HANDLER < EVENT_WORDS && (HANDLER + 1) * INSTRUCTION <= WITHOUT_ERROR as usize);

/// Writes both, for a kernel of `size`, to the beginning of `code`, a page at linear address `address`. False: the vCPU page is out of
/// reach, or there is no room.
#[must_use]
pub fn deliver(layout: &VcpuPageLayout, size: CodeSize, address: u64, code: &mut [u8]) -> bool {
    let words = |error: bool| (0..HANDLER).filter(move |word| error || *word != ERROR);
    let (prefix, len): (&[u8], usize) =
        if size == CodeSize::Bits64 { (&[], INSTRUCTION - 1) } else { (&[SS], INSTRUCTION) };
    [(0, true), (WITHOUT_ERROR as usize, false)].into_iter().all(|(start, error)| {
        let last = words(error).count();
        (start..).step_by(len).zip(words(error).chain([HANDLER]).enumerate()).all(|(at, (n, word))| {
            let field = layout.linear.wrapping_add(u64::from(layout.event)).wrapping_add(8 * word as u64);
            let next = address.wrapping_add((at + len) as u64);
            let operand = match size {
                CodeSize::Bits64 => i32::try_from(field.wrapping_sub(next) as i64).map(|distance| distance as u32),
                _ => u32::try_from(field),
            };
            let Ok(operand) = operand else { return false };
            let opcode = [GROUP_5, if n < last { PUSH } else { JUMP }];
            let bytes = prefix.iter().chain(&opcode).copied().chain(operand.to_le_bytes());
            let Some(to) = code.get_mut(at..at + len) else { return false };
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = byte;
            }
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, Register};

    const LAYOUT: VcpuPageLayout = VcpuPageLayout {
        linear: 0xffff_ffff_c000_0000,
        vif: 0,
        pending: 4,
        shadow: 24,
        vflags: 8,
        cs: 12,
        ss: 16,
        return_cs: 20,
        control: 32,
        kernel_gs: 64,
        program: 72,
        scratch: 88,
        event: 176,
        writable: 240,
    };

    /// The frame of an interrupt in 64-bit mode (SDM vol. 3 figure 6-9): SS first, the error code last.
    #[test]
    fn each_block_pushes_the_frame_and_jumps() {
        let address = LAYOUT.linear + 0x1000;
        let mut code = [0xcc; 4096];
        assert!(deliver(&LAYOUT, CodeSize::Bits64, address, &mut code));
        for (start, words) in [(0, &[0, 1, 2, 3, 4, 5, 6][..]), (WITHOUT_ERROR, &[0, 1, 2, 3, 4, 6])] {
            let bytes = &code[start as usize..];
            let mut decoder = Decoder::with_ip(64, bytes, address + start, DecoderOptions::NONE);
            for (n, word) in words.iter().enumerate() {
                let instruction = decoder.decode();
                let last = n + 1 == words.len();
                assert_eq!(instruction.mnemonic(), if last { Mnemonic::Jmp } else { Mnemonic::Push });
                assert!(instruction.is_ip_rel_memory_operand());
                assert_eq!(instruction.memory_size().size(), 8);
                assert_eq!(instruction.memory_displacement64(), LAYOUT.linear + 176 + 8 * word);
            }
            assert_eq!(decoder.decode().mnemonic(), Mnemonic::Int3);
        }
    }

    /// The frame of an interrupt from an outer ring in 32-bit code (SDM vol. 3 figure 6-4), of double words.
    #[test]
    fn in_32_bit_code_they_are_double_words_through_ss() {
        let layout = VcpuPageLayout { linear: 0xffc0_0000, ..LAYOUT };
        let address = layout.linear + 0x1000;
        let mut code = [0xcc; 4096];
        assert!(deliver(&layout, CodeSize::Bits32, address, &mut code));
        for (start, words) in [(0, &[0, 1, 2, 3, 4, 5, 6][..]), (WITHOUT_ERROR, &[0, 1, 2, 3, 4, 6])] {
            let mut decoder = Decoder::with_ip(32, &code[start as usize..], address + start, DecoderOptions::NONE);
            for (n, word) in words.iter().enumerate() {
                let instruction = decoder.decode();
                let last = n + 1 == words.len();
                assert_eq!(instruction.mnemonic(), if last { Mnemonic::Jmp } else { Mnemonic::Push });
                assert_eq!(instruction.memory_segment(), Register::SS);
                assert_eq!((instruction.memory_base(), instruction.memory_index()), (Register::None, Register::None));
                assert_eq!(instruction.memory_size().size(), 4);
                assert_eq!(instruction.memory_displacement64(), layout.linear + u64::from(layout.event) + 8 * word);
            }
            assert_eq!(decoder.decode().mnemonic(), Mnemonic::Int3);
        }
    }

    #[test]
    fn out_of_reach_is_said() {
        assert!(!deliver(&LAYOUT, CodeSize::Bits64, 0x7000_0000_0000, &mut [0; 4096]));
        assert!(!deliver(&LAYOUT, CodeSize::Bits64, LAYOUT.linear, &mut [0; 90]));
        assert!(!deliver(&LAYOUT, CodeSize::Bits32, LAYOUT.linear, &mut [0; 4096]), "above 4 GiB");
    }
}
