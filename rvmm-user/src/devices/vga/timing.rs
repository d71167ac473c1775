//! Where the beam is: the bits of input status 1 (3DA), by the time and the CRT controller's registers.

use super::Registers;

/// Input status 1: the beam is not in the picture.
pub const NOT_DISPLAYING: u8 = 1 << 0;
/// Input status 1: vertical retrace.
pub const VERTICAL_RETRACE: u8 = 1 << 3;

/// The times of a frame, in picoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    line: u64,
    /// From the start of a line to the end of its picture.
    displayed: u64,
    frame: u64,
    displayed_lines: u64,
    retrace: (u64, u64),
}

/// Dot clocks in Hz, by bits 3–2 of the miscellaneous output register; the last two are inputs that nothing is connected to.
const CLOCKS: [u64; 4] = [25_175_000, 28_322_000, 25_175_000, 25_175_000];

impl Timing {
    /// As the registers say.
    pub fn new(registers: &Registers) -> Self {
        let clock = CLOCKS.get(usize::from(registers.misc >> 2 & 3)).copied().unwrap_or(25_175_000);
        let dots = u64::from(registers.dots()) << u8::from(registers.half_clock());
        let character = dots * 1_000_000_000_000 / clock;
        let total = u64::from(registers.crtc(0)) + 5;
        let lines = u64::from(registers.ten_bits(0x06, 0, 5)) + 2;
        let displayed_lines = u64::from(registers.lines()).min(lines - 1);
        let start = u64::from(registers.ten_bits(0x10, 2, 7)).min(lines - 1);
        // The end is told by its low four bits.
        let length = (u64::from(registers.crtc(0x11)).wrapping_sub(start) & 0x0F).max(1);
        let line = total * character;
        Timing {
            line,
            displayed: u64::from(registers.columns()).min(total - 1) * character,
            frame: lines * line,
            displayed_lines,
            retrace: (start * line, (start + length).min(lines) * line),
        }
    }

    /// A frame's time in nanoseconds.
    pub fn frame_ns(&self) -> u64 {
        (self.frame / 1000).max(1)
    }

    fn vertical_retrace(&self, now: u128) -> bool {
        let at = (now % u128::from(self.frame)) as u64;
        (self.retrace.0..self.retrace.1).contains(&at)
    }

    fn vertical_blank(&self, now: u128) -> bool {
        (now % u128::from(self.frame)) as u64 / self.line >= self.displayed_lines
    }

    fn horizontal_blank(&self, now: u128) -> bool {
        (now % u128::from(self.line)) as u64 >= self.displayed
    }
}

/// What the guest has seen of the beam.
///
/// A bit is told to have changed if it did so since the last read, even when it has changed back: a retrace takes 64 µs, and a guest that looks
/// less often than that, because every look is an exit, would wait for it for long.
#[derive(Debug, Default)]
pub struct Retrace {
    read_at: u128,
    status: u8,
}

impl Retrace {
    /// The two bits at `now_ns`, for a guest that reads them.
    pub fn read(&mut self, timing: &Timing, now_ns: u64) -> u8 {
        let now = u128::from(now_ns) * 1000;
        let since = std::mem::replace(&mut self.read_at, now);
        let passed = |period: u64, phase: u64| {
            let (period, phase) = (u128::from(period), u128::from(phase));
            let edges = |at: u128| (at + period - phase) / period;
            edges(now) > edges(since)
        };
        let follow = |was: bool, is: bool, rose: bool, fell: bool| if was { is && !fell } else { is || rose };
        let was = |bit| self.status & bit != 0;
        let retrace = follow(
            was(VERTICAL_RETRACE),
            timing.vertical_retrace(now),
            passed(timing.frame, timing.retrace.0),
            passed(timing.frame, timing.retrace.1 % timing.frame),
        );
        let blank = timing.vertical_blank(now)
            || follow(
                was(NOT_DISPLAYING),
                timing.horizontal_blank(now),
                passed(timing.line, timing.displayed),
                passed(timing.line, 0),
            );
        self.status = if retrace { VERTICAL_RETRACE } else { 0 } | if blank { NOT_DISPLAYING } else { 0 };
        self.status
    }
}
