//! The block through which a 64-bit kernel is entered whose DS, ES, FS or GS is a null selector with an RPL: it loads such selectors again.
//!
//! Ring 0 enters by an IRETQ to an outer ring, which makes each of them 0 (SDM vol. 2 IRET). The VMM says in words of the vCPU page which of them
//! there are, by where each part goes on, so that no other register is loaded: its descriptor may be there for the entry only. A load of
//! a null selector may or may not clear the base, so the bases of FS and GS are set behind it. Like [`super::deliver`] it stands in for no guest
//! instruction: whatever stops it, the entry has not happened. No flag changes.

/// u64 words that the block reads.
pub const RELOAD_WORDS: usize = 12;
/// Selectors to load: ES, DS, FS, GS.
const SELECTORS: usize = 0;
/// Where each of their parts goes on.
const NEXT: usize = 4;
/// Bases of FS and GS, RAX, and where the kernel goes on.
const FS_BASE: usize = 8;
const GS_BASE: usize = 9;
const RAX: usize = 10;
const TARGET: usize = 11;

/// Bytes of the part of one selector: `mov sreg, [rip+x]; jmp [rip+x]`.
const PART: usize = 12;
/// Bytes of the whole block.
pub const RELOAD_BYTES: usize = 4 * PART + 37;

/// Numbers of ES, DS, FS and GS in ModRM.
const NUMBERS: [u8; 4] = [0, 3, 4, 5];

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// ES, DS, FS and GS: the selector, if it is to be loaded.
    pub selectors: [Option<u16>; 4],
    /// Bases of FS and GS.
    pub bases: [u64; 2],
    /// RAX.
    pub rax: u64,
    /// Where the kernel goes on.
    pub target: u64,
}

impl Reload {
    /// Are bases to be set? By instructions that need CR4.FSGSBASE.
    #[must_use]
    pub const fn sets_bases(&self) -> bool {
        matches!(self.selectors, [_, _, Some(_), _] | [_, _, _, Some(_)])
    }

    /// The words, and where to enter, for a block at `address`.
    #[must_use]
    pub fn words(&self, address: u64) -> ([u64; RELOAD_WORDS], u64) {
        let mut words = [0; RELOAD_WORDS];
        let mut next = if self.sets_bases() { address.wrapping_add(4 * PART as u64) } else { self.target };
        for (n, selector) in self.selectors.into_iter().enumerate().rev() {
            let Some(selector) = selector else { continue };
            set(&mut words, SELECTORS + n, selector.into());
            set(&mut words, NEXT + n, next);
            next = address.wrapping_add((n * PART) as u64);
        }
        let [fs_base, gs_base] = self.bases;
        for (word, value) in [(FS_BASE, fs_base), (GS_BASE, gs_base), (RAX, self.rax), (TARGET, self.target)] {
            set(&mut words, word, value);
        }
        (words, next)
    }
}

fn set(words: &mut [u64; RELOAD_WORDS], n: usize, value: u64) {
    if let Some(word) = words.get_mut(n) {
        *word = value;
    }
}

/// Writes instructions one behind the other.
struct Writer<'a> {
    code: &'a mut [u8],
    at: usize,
    /// Linear addresses of the code and of the words.
    address: u64,
    words: u64,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.code.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// An instruction that ends in the RIP-relative displacement of a word.
    fn with_word(&mut self, opcode: &[u8], word: usize) -> Option<()> {
        self.bytes(opcode)?;
        let next = self.address.wrapping_add(self.at as u64).wrapping_add(4);
        let distance = self.words.wrapping_add(8 * word as u64).wrapping_sub(next);
        let distance = i32::try_from(distance as i64).ok()?;
        self.bytes(&distance.to_le_bytes())
    }

    fn block(&mut self) -> Option<()> {
        for (n, number) in NUMBERS.into_iter().enumerate() {
            self.with_word(&[0x8e, number << 3 | 5], SELECTORS + n)?;
            self.with_word(&[0xff, 0x25], NEXT + n)?;
        }
        // MOV RAX, word; WRFSBASE RAX; the same for GS.
        self.with_word(&[0x48, 0x8b, 0x05], FS_BASE)?;
        self.bytes(&[0xf3, 0x48, 0x0f, 0xae, 0xd0])?;
        self.with_word(&[0x48, 0x8b, 0x05], GS_BASE)?;
        self.bytes(&[0xf3, 0x48, 0x0f, 0xae, 0xd8])?;
        self.with_word(&[0x48, 0x8b, 0x05], RAX)?;
        self.with_word(&[0xff, 0x25], TARGET)
    }
}

/// Writes the block, for linear address `address`, to the beginning of `code`; its words are at linear address `words`. False: they are out of
/// reach, or there is no room.
#[must_use]
pub fn reload(words: u64, address: u64, code: &mut [u8]) -> bool {
    Writer { code, at: 0, address, words }.block().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
    use std::vec::Vec;

    const WORDS: u64 = 0xffff_ffff_c000_00e0;
    const AT: u64 = 0xffff_ffff_c000_1080;

    fn decode(from: u64, code: &[u8]) -> Vec<Instruction> {
        let bytes = &code[(from - AT) as usize..];
        Decoder::with_ip(64, bytes, from, DecoderOptions::NONE).into_iter().collect()
    }

    /// Follows the block through its words; the selectors and bases that it loads, and where it ends.
    fn follow(what: Reload) -> (Vec<(Register, u64)>, u64) {
        let mut code = [0xcc; RELOAD_BYTES];
        assert!(reload(WORDS, AT, &mut code));
        let (words, mut at) = what.words(AT);
        let word = |i: &Instruction| words[((i.memory_displacement64() - WORDS) / 8) as usize];
        let (mut loaded, mut rax) = (Vec::new(), 0);
        while (AT..AT + RELOAD_BYTES as u64).contains(&at) {
            for i in decode(at, &code) {
                at = i.next_ip();
                match i.code() {
                    Code::Mov_r64_rm64 => rax = word(&i),
                    Code::Wrfsbase_r64 => loaded.push((Register::FS, rax)),
                    Code::Wrgsbase_r64 => loaded.push((Register::GS, rax)),
                    Code::Jmp_rm64 => {
                        at = word(&i);
                        break;
                    }
                    load => {
                        assert_eq!(load, Code::Mov_Sreg_r32m16);
                        loaded.push((i.op0_register(), word(&i) & 0xffff));
                    }
                }
            }
        }
        if what.sets_bases() {
            loaded.push((Register::RAX, rax));
        }
        (loaded, at)
    }

    #[test]
    fn what_is_named_is_loaded_and_nothing_else() {
        let bases = [0x1111_2222_3333, 0xffff_8880_0000_0000];
        for which in 0..16u16 {
            let selectors = [0, 1, 2, 3].map(|n| (which >> n & 1 != 0).then_some(n % 3 + 1));
            let what = Reload { selectors, bases, rax: 0x5555, target: 0xffff_ffff_8100_0000 };
            let registers = [Register::ES, Register::DS, Register::FS, Register::GS];
            let mut expected: Vec<_> =
                registers.into_iter().zip(selectors).filter_map(|(reg, sel)| Some((reg, sel?.into()))).collect();
            if which & 12 != 0 {
                expected.extend([(Register::FS, bases[0]), (Register::GS, bases[1]), (Register::RAX, 0x5555)]);
            }
            assert_eq!(follow(what), (expected, what.target), "{selectors:?}");
        }
    }

    #[test]
    fn out_of_reach_is_said() {
        assert!(!reload(0x7000_0000_0000, AT, &mut [0; 4096]));
        assert!(!reload(WORDS, AT, &mut [0; RELOAD_BYTES - 1]));
    }
}
