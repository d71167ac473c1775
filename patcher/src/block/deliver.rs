//! The blocks that bring an event of a program to the 64-bit kernel's handler: they push its frame, and jump there.
//!
//! Ring 0 puts the words of the frame into the vCPU page, the stack pointer of the guest's TSS into RSP, and enters here at the kernel's ring.
//! So the pushes are the kernel's own, and a fault of its stack is one that ring 0 need not understand. They stand in for no guest instruction
//! and have no map: whatever stops them, the VMM goes back to the program, and the event has not happened. No register is used and no flag
//! changes.

use super::layout::{VcpuPageLayout, EVENT_WORDS};

/// Offset of the block for events without an error code; the other one is at 0.
pub const WITHOUT_ERROR: u64 = 64;

/// Bytes of `push [rip+x]` and `jmp [rip+x]`.
const INSTRUCTION: usize = 6;
/// Their opcode, and ModRM of either.
const GROUP_5: u8 = 0xff;
const PUSH: u8 = 0x35;
const JUMP: u8 = 0x25;
/// Number of the error code's word, and of the handler's.
const ERROR: usize = 5;
const HANDLER: usize = 6;
const _: () = assert!(HANDLER < EVENT_WORDS && (HANDLER + 1) * INSTRUCTION <= WITHOUT_ERROR as usize);

/// Writes both to the beginning of `code`, a page at linear address `address`. False: the vCPU page is out of reach, or there is no room.
#[must_use]
pub fn deliver(layout: &VcpuPageLayout, address: u64, code: &mut [u8]) -> bool {
    let words = |error: bool| (0..HANDLER).filter(move |word| error || *word != ERROR);
    [(0, true), (WITHOUT_ERROR as usize, false)].into_iter().all(|(start, error)| {
        let last = words(error).count();
        (start..).step_by(INSTRUCTION).zip(words(error).chain([HANDLER]).enumerate()).all(|(at, (n, word))| {
            let field = layout.linear.wrapping_add(u64::from(layout.event)).wrapping_add(8 * word as u64);
            let next = address.wrapping_add((at + INSTRUCTION) as u64);
            let Ok(distance) = i32::try_from(field.wrapping_sub(next) as i64) else { return false };
            let Some([opcode, modrm, displacement @ ..]) = code.get_mut(at..at + INSTRUCTION) else { return false };
            (*opcode, *modrm) = (GROUP_5, if n < last { PUSH } else { JUMP });
            displacement.copy_from_slice(&distance.to_le_bytes());
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};

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
        assert!(deliver(&LAYOUT, address, &mut code));
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

    #[test]
    fn out_of_reach_is_said() {
        assert!(!deliver(&LAYOUT, 0x7000_0000_0000, &mut [0; 4096]));
        assert!(!deliver(&LAYOUT, LAYOUT.linear, &mut [0; 90]));
    }
}
