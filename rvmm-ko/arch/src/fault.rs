//! Exceptions and events on their way into the guest (Intel SDM vol. 3 chapter 6).

use bitflags::bitflags;

/// Exception vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Vector(pub u8);

#[allow(missing_docs)]
impl Vector {
    pub const DE: Self = Self(0);
    pub const DB: Self = Self(1);
    pub const NMI: Self = Self(2);
    pub const BP: Self = Self(3);
    pub const OF: Self = Self(4);
    pub const BR: Self = Self(5);
    pub const UD: Self = Self(6);
    pub const NM: Self = Self(7);
    pub const DF: Self = Self(8);
    pub const TS: Self = Self(10);
    pub const NP: Self = Self(11);
    pub const SS: Self = Self(12);
    pub const GP: Self = Self(13);
    pub const PF: Self = Self(14);
    pub const MF: Self = Self(16);
    pub const AC: Self = Self(17);
    pub const MC: Self = Self(18);
    pub const XM: Self = Self(19);
}

bitflags! {
    /// The error code of #PF (SDM vol. 3 §4.7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PageFaultCode: u32 {
        /// The translation was present: a protection violation.
        const P = 1 << 0;
        /// The access was a write.
        const W = 1 << 1;
        /// The access was made in user mode.
        const U = 1 << 2;
        /// A reserved bit was set.
        const RSVD = 1 << 3;
        /// The access was an instruction fetch (only with NX or SMEP).
        const I = 1 << 4;
        /// A protection key forbade the access.
        const PK = 1 << 5;
    }
}

/// An exception raised by an instruction, not yet delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Its vector.
    pub vector: Vector,
    /// Its error code, where the vector has one.
    pub error: Option<u32>,
    /// CR2 for #PF; the DR6 bits to set for #DB; else 0.
    pub payload: u64,
}

impl Exception {
    /// An exception without an error code.
    #[must_use]
    #[inline]
    pub const fn new(vector: Vector) -> Self {
        Self { vector, error: None, payload: 0 }
    }
    /// An exception with an error code.
    #[must_use]
    #[inline]
    pub const fn with_code(vector: Vector, code: u32) -> Self {
        Self { vector, error: Some(code), payload: 0 }
    }
    /// #GP(code).
    #[must_use]
    #[inline]
    pub const fn gp(code: u32) -> Self {
        Self::with_code(Vector::GP, code)
    }
    /// #UD.
    #[must_use]
    #[inline]
    pub const fn ud() -> Self {
        Self::new(Vector::UD)
    }
    /// #PF at linear address `cr2`.
    #[must_use]
    #[inline]
    pub const fn page_fault(code: PageFaultCode, cr2: u64) -> Self {
        Self { vector: Vector::PF, error: Some(code.bits()), payload: cr2 }
    }
    /// #DB with the given DR6 bits.
    #[must_use]
    #[inline]
    pub const fn debug(dr6: u64) -> Self {
        Self { vector: Vector::DB, error: None, payload: dr6 }
    }
    /// True for the traps, whose saved RIP is that of the next instruction: #BP, #OF by instruction, and #DB where
    /// `payload` reports a single step or a data breakpoint. The raiser has already moved RIP.
    #[must_use]
    #[inline]
    pub const fn has_error_code(&self) -> bool {
        self.error.is_some()
    }
}

/// Where an event to be delivered comes from; decides gate DPL checks, the EXT bit and the RF and IF rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventSource {
    /// An exception of the CPU.
    Exception,
    /// INT n, INT3, INTO: the gate's DPL is checked, EXT is 0.
    Software,
    /// INT1: like a software interrupt for RIP, without the DPL check.
    PrivilegedSoftware,
    /// An external interrupt.
    External,
    /// A non-maskable interrupt.
    Nmi,
}

/// An event to be delivered through the guest's IDT. RIP already holds the value to be pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Vector in the IDT.
    pub vector: Vector,
    /// Error code to push, if any.
    pub error: Option<u32>,
    /// CR2 for #PF, DR6 bits for #DB, else 0.
    pub payload: u64,
    /// Where it comes from.
    pub source: EventSource,
}

impl From<Exception> for Event {
    fn from(e: Exception) -> Self {
        Self { vector: e.vector, error: e.error, payload: e.payload, source: EventSource::Exception }
    }
}
