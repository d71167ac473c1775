//! Page faults and int3 that are dealt with in the middle of a stay in the guest world: what the host asks the engine, and what it may answer.
//! docs/architecture.md, "Served in place".

use crate::addr::Hpa;
use crate::host::{GuestMemory, HostPages};

/// A page fault of guest code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StayFault {
    /// The top table of the shadow root that was loaded.
    pub root: Hpa,
    /// CR2.
    pub cr2: u64,
    /// The hardware's error code.
    pub error: u32,
    /// RIP of the frame.
    pub rip: u64,
    /// CS of the frame.
    pub cs: u16,
}

/// A #BP of guest code, which came from an int3 at its RIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StayTrap {
    /// The top table of the shadow root that was loaded.
    pub root: Hpa,
    /// RIP of the frame: behind the int3.
    pub rip: u64,
    /// CS of the frame.
    pub cs: u16,
}

/// What is to become of the stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// The fault is hidden: guest code goes on at the instruction that met it.
    Resume,
    /// The fault is the guest's own, with this error code. It may be taken to the guest's kernel as the event of
    /// [`crate::host::EventLoan::PAGE_FAULT`], or end the stay: nothing has been counted.
    Reflect(u32),
    /// The instruction is done with this. Until the stay is over the same instruction with the same fault in the same root is done with the
    /// same, and nobody need be asked again.
    Loaded(Load),
    /// The stay ends, as if nobody had been asked.
    Exit,
}

/// What becomes of an instruction that loads a general register from memory, and does nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Which, in encoding order; never RSP.
    pub register: u8,
    /// What all of it holds then.
    pub value: u32,
    /// The RIP at which guest code goes on.
    pub next: u64,
}

/// Where guest code goes on behind an int3, with nothing else changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// Its RIP.
    pub rip: u64,
    /// Until the stay is over the same int3 in the same root leads there, and nobody need be asked again.
    pub lasting: bool,
}

/// As much of the host as there is in the middle of a stay: pages that are there already. Memory that is not pinned is an error, and so is
/// [`HostPages::alloc_page`]; pages that are given back may be kept until the stay is over. Nothing sleeps or takes a lock.
pub trait StayHost: GuestMemory + HostPages {}
impl<T: GuestMemory + HostPages + ?Sized> StayHost for T {}

/// Who is asked.
pub trait Serve {
    /// Interrupts are off and nothing of the guest's CPU state can be changed. The root that is loaded must live on, and so must all that
    /// the stay was lent.
    fn page_fault(&mut self, host: &mut dyn StayHost, fault: StayFault) -> Served;

    /// `None`: the stay ends, as if nobody had been asked.
    fn breakpoint(&mut self, host: &mut dyn StayHost, trap: StayTrap) -> Option<Behind>;
}
