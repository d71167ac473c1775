//! What a target takes its decisions from.

/// The fuzzer's bytes, then zeros without end.
pub struct Input<'a>(pub &'a [u8]);

#[allow(dead_code)]
impl Input<'_> {
    pub fn u8(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub fn u64(&mut self) -> u64 {
        (0..8).fold(0, |v, _| v << 8 | u64::from(self.u8()))
    }

    /// A number of few bytes, of the kind that addresses, selectors and counts are.
    pub fn value(&mut self) -> u64 {
        match self.u8() & 7 {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(self.u8()),
            3 => (u64::from(self.u8()) << 8 | u64::from(self.u8())) & 0xffff,
            4 => u64::from(self.u64() as u32),
            5 => (self.u8() as i8) as u64,
            6 => 1 << (self.u8() & 63),
            _ => self.u64(),
        }
    }
}
