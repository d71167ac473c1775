//! Sizes and positions inside one guest page.

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// The longest x86 instruction, in bytes (SDM 2, section 2.3.11).
pub const MAX_INSTRUCTION: u16 = 15;

/// The bytes of one page.
pub type PageBytes = [u8; PAGE_SIZE];

/// A byte's position in a page: always below 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageOffset(u16);

impl PageOffset {
    /// The offset of a linear address in its page.
    pub const fn of(linear: u64) -> Self {
        Self((linear & 0xFFF) as u16)
    }

    /// The offset as a number below 4096.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<PageOffset> for usize {
    fn from(offset: PageOffset) -> usize {
        usize::from(offset.0)
    }
}

/// The byte at position `at`, which wraps at the page's end so that no index can fail.
pub(crate) fn byte(page: &PageBytes, at: u16) -> u8 {
    page[usize::from(at & 0xFFF)]
}

/// Code size of a segment: the decoder's bitness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CodeSize {
    /// 16-bit code (CS.D=0): never runs directly, see [`crate::ScanRefusal`].
    Bits16,
    /// 32-bit code (CS.D=1).
    Bits32,
    /// 64-bit code (CS.L=1).
    Bits64,
}

impl CodeSize {
    /// The number of bits, as the decoder wants it.
    pub const fn bits(self) -> u32 {
        match self {
            CodeSize::Bits16 => 16,
            CodeSize::Bits32 => 32,
            CodeSize::Bits64 => 64,
        }
    }
}

/// A half-open range of page offsets, grown by the changes made to a page: `start..end`, `end` at most 4096.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// One past the last byte.
    pub end: u16,
}

impl Span {
    /// No byte at all.
    pub const EMPTY: Span = Span { start: 0, end: 0 };
    /// The whole page.
    pub const PAGE: Span = Span { start: 0, end: PAGE_SIZE as u16 };

    /// The range `start..end`, cut at the page's end.
    pub fn new(start: u16, end: u16) -> Self {
        let end = end.min(PAGE_SIZE as u16);
        if start < end {
            Self { start, end }
        } else {
            Self::EMPTY
        }
    }

    /// True if it holds no byte.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn union(self, other: Span) -> Span {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Span { start: self.start.min(other.start), end: self.end.max(other.end) },
        }
    }

    /// True if the two share a byte.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}
