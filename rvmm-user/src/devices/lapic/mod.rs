//! The local APIC of the one CPU (Intel SDM volume 3, chapter 11), an xAPIC: version 14, six entries in the local vector table.
//!
//! Messages and pins request vectors, the CPU takes the most urgent one that its priority lets through, and an end of interrupt takes it
//! out of service. The registers: [`registers`], the timer: [`timer`], interrupts to other CPUs: [`command`].
//!
//! Two things are as in QEMU's and KVM's, not as in the manual, because 8259s would not reach the CPU before firmware has set the table:
//! after a reset entry LINT0 is unmasked and for external interrupts. And no interrupt is ever spurious, for nothing happens between a
//! request and its acknowledge.

mod command;
mod pace;
mod registers;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

use super::apic_message::{Delivery, Destination, Message};
use pace::Pace;
use timer::Timer;
pub use timer::FREQUENCY_HZ;
use vectors::Vectors;

/// Guest-physical addresses of registers, and what they read as.
pub type Constants = [(u64, u32); 5];

/// Where the registers are after a reset.
pub const BASE: u64 = 0xFEE0_0000;
/// Bytes of the registers.
pub const SIZE: u64 = 0x1000;
/// IA32_APIC_BASE after a reset: the base, globally enabled, the bootstrap processor.
pub const APIC_BASE_RESET: u64 = BASE | BASE_ENABLED | 1 << 8;
/// IA32_APIC_BASE: globally enabled.
const BASE_ENABLED: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The entries of the local vector table, in the order of their registers.
const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_LINT1: usize = 4;
const LVT_ERROR: usize = 5;
const LVT_ENTRIES: usize = 6;

/// Bits of its entries.
const LVT_MASKED: u32 = 1 << 16;
const LVT_LEVEL: u32 = 1 << 15;
const LVT_REMOTE_IRR: u32 = 1 << 14;
const LVT_PERIODIC: u32 = 1 << 17;

/// Spurious interrupt register: the local APIC is on.
const SOFTWARE_ENABLED: u32 = 1 << 8;
const SPURIOUS_RESET: u32 = 0xFF;
/// Destination format register: the flat model.
const FORMAT_FLAT: u32 = u32::MAX;

/// Errors (error status register).
const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const RECEIVED_ILLEGAL_VECTOR: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;
/// Vectors below are the CPU's own.
const FIRST_VECTOR: u8 = 16;

/// What the CPU is to do besides taking interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// A non-maskable interrupt came.
    pub nmi: bool,
    /// INIT came.
    pub init: bool,
}

/// A local APIC.
#[derive(Clone, Debug)]
pub struct Lapic {
    /// IA32_APIC_BASE.
    base: u64,
    id: u8,
    task_priority: u8,
    logical_id: u8,
    format: u32,
    spurious: u32,
    requests: Vectors,
    in_service: Vectors,
    /// The vector was last requested by a level (TMR).
    level: Vectors,
    /// Errors since the status register was written last, and what it shows.
    errors: u32,
    error_status: u32,
    /// The interrupt command register, lower half first.
    command: [u32; 2],
    lvt: [u32; LVT_ENTRIES],
    timer: Timer,
    pace: Pace,
    /// What time it was when somebody last said.
    now_ns: u64,
    /// The level of pin LINT0, the 8259s' output.
    lint0: bool,
    /// A message asked for an external interrupt.
    external: bool,
    signals: Signals,
}

impl Lapic {
    /// After a reset.
    pub fn new() -> Lapic {
        let mut lvt = [LVT_MASKED; LVT_ENTRIES];
        lvt[LVT_LINT0] = 0x700;
        Lapic {
            base: APIC_BASE_RESET,
            id: 0,
            task_priority: 0,
            logical_id: 0,
            format: FORMAT_FLAT,
            spurious: SPURIOUS_RESET,
            requests: Vectors::default(),
            in_service: Vectors::default(),
            level: Vectors::default(),
            errors: 0,
            error_status: 0,
            command: [0; 2],
            lvt,
            timer: Timer::new(),
            pace: Pace::default(),
            now_ns: 0,
            lint0: false,
            external: false,
            signals: Signals::default(),
        }
    }

    /// As firmware leaves it to an operating system: virtual wire mode (MultiProcessor Specification 1.4, section 3.6.2.2).
    pub fn set_virtual_wire(&mut self) {
        self.spurious |= SOFTWARE_ENABLED;
        self.lvt[LVT_LINT0] = 0x8700;
        self.lvt[LVT_LINT1] = 0x8400;
    }

    /// IA32_APIC_BASE as the CPU has it now. A local APIC that is switched off forgets its state.
    pub fn set_base(&mut self, value: u64) {
        if self.is_enabled() && value & BASE_ENABLED == 0 {
            *self = Lapic { lint0: self.lint0, signals: self.signals, ..Lapic::new() };
        }
        self.base = value;
    }

    /// The offset of `gpa` in the registers, if they are there.
    pub fn offset(&self, gpa: u64) -> Option<u64> {
        gpa.checked_sub(self.base & BASE_ADDRESS).filter(|offset| self.is_enabled() && *offset < SIZE)
    }

    /// The registers that nothing but the guest's writes to this device change, and whose reads have no effect.
    pub fn constants(&self) -> Option<Constants> {
        self.is_enabled()
            .then(|| self.constant_registers().map(|(offset, value)| ((self.base & BASE_ADDRESS) + offset, value)))
    }

    /// Bits 4–7 of the task priority register, which are CR8, too.
    pub fn cr8(&self) -> u64 {
        u64::from(self.task_priority >> 4)
    }

    /// CR8 as the CPU has it now. Bits 0–3 of the register are cleared by writes to CR8 only.
    pub fn set_cr8(&mut self, value: u64) {
        if self.cr8() != value {
            self.task_priority = (value as u8) << 4;
        }
    }

    /// Brings the timer up to `now_ns`.
    pub fn update(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        if self.timer.take_expiry(now_ns) {
            if self.is_ticking() {
                self.pace.expired(now_ns);
            }
            self.local_interrupt(LVT_TIMER);
        }
    }

    /// When [`Lapic::update`] should next be called although nothing happened.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        // A timer that nobody hears needs no waking; its count follows from the time.
        let heard = self.lvt[LVT_TIMER] & LVT_MASKED == 0;
        let expiry = self.timer.next_event_ns(now_ns).filter(|_| heard);
        expiry.into_iter().chain(self.pace.held_until(now_ns)).min()
    }

    /// The CPU would take an interrupt now.
    pub fn cpu_is_ready(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.pace.ready(now_ns);
    }

    /// The CPU waits for an interrupt.
    pub fn cpu_idles(&mut self) {
        self.pace.idle();
    }

    /// Drives pin LINT0.
    pub fn set_lint0(&mut self, high: bool) {
        let rises = high && !self.lint0;
        self.lint0 = high;
        let entry = self.lvt[LVT_LINT0];
        if Delivery::of(entry) == Delivery::Fixed && entry & LVT_LEVEL != 0 {
            self.raise_level();
        } else if rises && Delivery::of(entry) != Delivery::External {
            self.local_interrupt(LVT_LINT0);
        }
    }

    /// Whether what the 8259s request reaches the CPU.
    pub fn passes_external(&self) -> bool {
        let entry = self.lvt[LVT_LINT0];
        !self.is_enabled() || entry & LVT_MASKED == 0 && Delivery::of(entry) == Delivery::External
    }

    /// Whether the CPU is to take an external interrupt because of a message.
    pub fn external_requested(&self) -> bool {
        self.external
    }

    /// The external interrupt of a message was taken.
    pub fn external_taken(&mut self) {
        self.external = false;
    }

    /// Takes a message; whether it was for this local APIC, and accepted.
    pub fn receive(&mut self, message: Message) -> bool {
        if !self.is_enabled() || !self.is_meant(message.to) {
            return false;
        }
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                if self.spurious & SOFTWARE_ENABLED == 0 {
                    return false;
                }
                self.request(message.vector, message.level);
            }
            Delivery::Nmi => self.signals.nmi = true,
            Delivery::Init => self.signals.init = true,
            Delivery::External => self.external = true,
            // There is no system management mode, and a CPU that runs does not wait for a start.
            Delivery::Smi | Delivery::StartUp => {}
            Delivery::Reserved => return false,
        }
        true
    }

    /// Whether `vector` is requested.
    pub fn is_requested(&self, vector: u8) -> bool {
        self.requests.has(vector)
    }

    /// Whether `vector` is in service.
    pub fn is_in_service(&self, vector: u8) -> bool {
        self.in_service.has(vector)
    }

    /// The vector that the CPU would take now, were `held` not requested.
    pub fn deliverable(&self, held: Option<u8>) -> Option<u8> {
        let mut requests = self.requests;
        let paced = self.pace.held_until(self.now_ns).map(|_| self.lvt[LVT_TIMER] as u8);
        for vector in held.into_iter().chain(paced) {
            requests.set(vector, false);
        }
        requests.highest().filter(|vector| vector >> 4 > self.processor_priority() >> 4)
    }

    /// The CPU takes that vector.
    pub fn acknowledge(&mut self, held: Option<u8>) -> Option<u8> {
        let vector = self.deliverable(held)?;
        self.requests.set(vector, false);
        self.in_service.set(vector, true);
        if self.is_ticking() && self.lvt[LVT_TIMER] as u8 == vector {
            self.pace.taken(self.now_ns);
        }
        Some(vector)
    }

    /// What else came for the CPU since the last call.
    pub fn take_signals(&mut self) -> Signals {
        std::mem::take(&mut self.signals)
    }

    /// Whether [`Lapic::take_signals`] has something.
    pub fn has_signals(&self) -> bool {
        self.signals != Signals::default()
    }

    /// The timer interrupts again and again.
    fn is_ticking(&self) -> bool {
        self.lvt[LVT_TIMER] & (LVT_PERIODIC | LVT_MASKED) == LVT_PERIODIC
    }

    /// Globally enabled.
    fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    fn is_meant(&self, to: Destination) -> bool {
        match to {
            Destination::Physical(0xFF) | Destination::Logical(0xFF) => true,
            Destination::Physical(id) => id == self.id,
            Destination::Logical(wanted) if self.format >> 28 == 0xF => wanted & self.logical_id != 0,
            // The cluster model: a cluster, and a bit for each in it.
            Destination::Logical(wanted) => wanted >> 4 == self.logical_id >> 4 && wanted & self.logical_id & 0xF != 0,
        }
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < FIRST_VECTOR {
            self.error(RECEIVED_ILLEGAL_VECTOR);
            return;
        }
        self.requests.set(vector, true);
        self.level.set(vector, level);
    }

    /// What entry `index` of the local vector table says is done.
    fn local_interrupt(&mut self, index: usize) {
        let entry = self.lvt.get(index).copied().unwrap_or(LVT_MASKED);
        if !self.is_enabled() || entry & LVT_MASKED != 0 {
            return;
        }
        match Delivery::of(entry) {
            Delivery::Fixed => self.request(entry as u8, false),
            Delivery::Nmi => self.signals.nmi = true,
            Delivery::Init => self.signals.init = true,
            Delivery::External => self.external = true,
            Delivery::Smi | Delivery::StartUp | Delivery::LowestPriority | Delivery::Reserved => {}
        }
    }

    /// LINT0 as a level: requested as long as it is high and the request before has ended.
    fn raise_level(&mut self) {
        let entry = self.lvt[LVT_LINT0];
        if self.lint0 && self.is_enabled() && entry & (LVT_MASKED | LVT_REMOTE_IRR) == 0 {
            self.lvt[LVT_LINT0] |= LVT_REMOTE_IRR;
            self.request(entry as u8, true);
        }
    }

    /// Takes the most urgent vector out of service. The vector if the I/O APIC is to be told.
    fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.in_service.highest()?;
        self.in_service.set(vector, false);
        if !self.level.has(vector) {
            return None;
        }
        let entry = self.lvt[LVT_LINT0];
        if entry & LVT_REMOTE_IRR != 0 && entry as u8 == vector {
            self.lvt[LVT_LINT0] &= !LVT_REMOTE_IRR;
            self.raise_level();
        }
        Some(vector)
    }

    /// The priority below which nothing is taken (figure 11-19).
    fn processor_priority(&self) -> u8 {
        let serving = self.in_service.highest().unwrap_or(0) & 0xF0;
        if self.task_priority & 0xF0 >= serving {
            self.task_priority
        } else {
            serving
        }
    }

    fn error(&mut self, bit: u32) {
        let new = self.errors & bit == 0;
        self.errors |= bit;
        let entry = self.lvt[LVT_ERROR];
        // An entry with a vector that is an error itself is not one more.
        if new && entry & LVT_MASKED == 0 && entry as u8 >= FIRST_VECTOR {
            self.local_interrupt(LVT_ERROR);
        }
    }
}
