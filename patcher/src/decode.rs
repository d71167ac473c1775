//! One decoder over one page, reused for every instruction and every middle of one.

use crate::page::{CodeSize, PageBytes, PAGE_SIZE};
use crate::table::{classify_index, row, Policy, RowId};
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction};

/// What the scanner has to know about the instruction at a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// May run verbatim.
    Harmless,
    /// Must not run verbatim: its row.
    Critical(RowId),
    /// The guest's own int3.
    Breakpoint,
    /// Not an instruction that the decoder knows.
    Invalid,
    /// Goes on in the next page.
    Crossing,
}

/// A decoded instruction's length and verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    /// Bytes, 1 to 15; for [`Verdict::Crossing`], the bytes that lie in this page.
    pub len: u8,
    pub verdict: Verdict,
}

/// A decoder bound to the guest's bytes of a page.
pub(crate) struct PageDecoder<'a> {
    /// Always there: the decoder knows every code size.
    decoder: Option<Decoder<'a>>,
    linear: u64,
    instruction: Instruction,
}

impl<'a> PageDecoder<'a> {
    /// Linear address of the page.
    pub(crate) fn linear(&self) -> u64 {
        self.linear
    }

    /// A decoder of the page at `linear`.
    pub(crate) fn new(page: &'a PageBytes, linear: u64, size: CodeSize) -> Self {
        let decoder = Decoder::try_with_ip(size.bits(), page.as_slice(), linear, DecoderOptions::NONE).ok();
        Self { decoder, linear, instruction: Instruction::default() }
    }

    /// Decode at this byte of the page.
    pub(crate) fn decode(&mut self, at: u16) -> Decoded {
        let at = at & 0xFFF;
        let Some(decoder) = &mut self.decoder else { return Decoded { len: 1, verdict: Verdict::Crossing } };
        if decoder.set_position(usize::from(at)).is_err() {
            return Decoded { len: 1, verdict: Verdict::Crossing };
        }
        decoder.set_ip(self.linear.wrapping_add(u64::from(at)));
        decoder.decode_out(&mut self.instruction);
        let in_page = (PAGE_SIZE as u16 - at).min(15) as u8;
        let len = (self.instruction.len().clamp(1, 15) as u8).min(in_page);
        let verdict = match decoder.last_error() {
            DecoderError::NoMoreBytes => return Decoded { len: in_page, verdict: Verdict::Crossing },
            DecoderError::None => match classify_index(&self.instruction) {
                None if self.instruction.code() == Code::INVALID => Verdict::Invalid,
                None => Verdict::Harmless,
                // With a prefix, the breakpoint's address is not that of its CC byte: emulation gets it right.
                Some(id) if self.instruction.code() == Code::Int3 => match len {
                    1 => Verdict::Breakpoint,
                    _ => Verdict::Critical(id),
                },
                Some(id) => match row(id).map(|row| row.policy) {
                    Some(Policy::Verbatim | Policy::TrapsByItself) => Verdict::Harmless,
                    Some(Policy::Critical) | None => Verdict::Critical(id),
                },
            },
            _ => Verdict::Invalid,
        };
        Decoded { len, verdict }
    }

    /// Where in the instruction decoded last its displacement is, if it has one.
    pub(crate) fn displacement_at(&self) -> usize {
        self.decoder.as_ref().map_or(0, |decoder| decoder.get_constant_offsets(&self.instruction).displacement_offset())
    }

    /// The instruction that [`PageDecoder::decode`] decoded last.
    pub(crate) fn instruction(&self) -> &Instruction {
        &self.instruction
    }
}
