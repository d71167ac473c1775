//! The interrupt controllers and the lines to them: two 8259As, and with them, if the machine has them, a local APIC and an I/O APIC.
//!
//! Every line goes to both: to an 8259A and, with the same number, to the I/O APIC; only the timer's is pin 2 there, as the cascade needs
//! no pin. The 8259As reach the CPU through the local APIC's LINT0.

use crate::devices::ioapic::{self, Ioapic};
use crate::devices::lapic::{self, Lapic, Signals};
use crate::devices::pic_pair::{PicPair, IRQ_TIMER};

/// The timer's pin of the I/O APIC.
pub const TIMER_PIN: u8 = 2;
/// The pin that the 8259As' cascade leaves free.
const CASCADE: u8 = 2;

/// What the CPU would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The local APIC's most urgent vector.
    Local,
    /// The 8259As'.
    External,
}

/// What the CPU has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub vector: u8,
    /// It is the timer's.
    pub tick: bool,
}

/// Local APIC and I/O APIC.
#[derive(Debug)]
struct Apics {
    local: Lapic,
    io: Ioapic,
}

/// The controllers.
#[derive(Debug)]
pub struct Interrupts {
    pics: PicPair,
    apics: Option<Apics>,
}

impl Apics {
    fn new() -> Apics {
        Apics { local: Lapic::new(), io: Ioapic::new() }
    }

    /// Sends what the I/O APIC has, and shows the local APIC the 8259As' output.
    fn settle(&mut self, intr: bool) {
        if self.io.is_busy() {
            for pin in 0..ioapic::PINS {
                if let Some(message) = self.io.due(pin) {
                    let accepted = self.local.receive(message);
                    self.io.sent(pin, accepted);
                }
            }
        }
        self.local.set_lint0(intr);
    }
}

impl Interrupts {
    /// Controllers after power-on.
    pub fn new(apic: bool) -> Interrupts {
        Interrupts { pics: PicPair::new(), apics: apic.then(Apics::new) }
    }

    /// The reset line.
    pub fn reset(&mut self) {
        *self = Interrupts::new(self.apics.is_some());
    }

    /// As firmware leaves the local APIC.
    pub fn set_virtual_wire(&mut self) {
        if let Some(apics) = &mut self.apics {
            apics.local.set_virtual_wire();
        }
    }

    /// Drives interrupt request line `irq` (0–15). What follows is seen after [`Interrupts::settle`].
    pub fn set_irq(&mut self, irq: u8, high: bool) {
        self.pics.set_irq(irq, high);
        if let Some(apics) = &mut self.apics {
            match irq {
                IRQ_TIMER => apics.io.set_line(TIMER_PIN, high),
                CASCADE => {}
                irq => apics.io.set_line(irq, high),
            }
        }
    }

    /// A rising edge followed by a falling one.
    pub fn pulse(&mut self, irq: u8) {
        self.set_irq(irq, true);
        self.settle();
        self.set_irq(irq, false);
    }

    /// Brings what the lines have changed to the local APIC.
    pub fn settle(&mut self) {
        if let Some(apics) = &mut self.apics {
            apics.settle(self.pics.most_urgent(0).is_some());
        }
    }

    /// Brings the local APIC's timer up to `now_ns`.
    pub fn update(&mut self, now_ns: u64) {
        if let Some(apics) = &mut self.apics {
            apics.local.update(now_ns);
        }
        self.settle();
    }

    /// When [`Interrupts::update`] should next be called although nothing happened.
    pub fn next_event_ns(&self, now_ns: u64) -> Option<u64> {
        self.apics.as_ref()?.local.next_event_ns(now_ns)
    }

    /// Reads a port of the 8259As.
    pub fn read_port(&mut self, port: u16) -> Option<u8> {
        let value = self.pics.read(port);
        self.settle();
        value
    }

    /// Writes a port of the 8259As.
    pub fn write_port(&mut self, port: u16, value: u8) {
        self.pics.write(port, value);
        self.settle();
    }

    /// Whether `gpa` is a register of one of the APICs, and was read.
    pub fn read_memory(&mut self, gpa: u64, data: &mut [u8], now_ns: u64) -> bool {
        let Some(apics) = &mut self.apics else { return false };
        if let Some(offset) = apics.local.offset(gpa) {
            apics.local.read(offset, data, now_ns);
        } else if let Some(offset) = gpa.checked_sub(ioapic::BASE).filter(|offset| *offset < ioapic::SIZE) {
            apics.io.read(offset, data);
        } else {
            return false;
        }
        true
    }

    /// Whether `gpa` is a register of one of the APICs, and was written.
    pub fn write_memory(&mut self, gpa: u64, data: &[u8], now_ns: u64) -> bool {
        let Some(apics) = &mut self.apics else { return false };
        if let Some(offset) = apics.local.offset(gpa) {
            if let Some(ended) = apics.local.write(offset, data, now_ns) {
                apics.io.end_of_interrupt(ended);
            }
        } else if let Some(offset) = gpa.checked_sub(ioapic::BASE).filter(|offset| *offset < ioapic::SIZE) {
            apics.io.write(offset, data);
        } else {
            return false;
        }
        self.settle();
        true
    }

    /// What the CPU has in CR8 and IA32_APIC_BASE.
    pub fn set_cpu(&mut self, cr8: u64, apic_base: u64) {
        if let Some(apics) = &mut self.apics {
            apics.local.set_cr8(cr8);
            apics.local.set_base(apic_base);
        }
    }

    /// Registers that read the same until the guest writes to their device.
    pub fn constants(&self) -> Option<lapic::Constants> {
        self.apics.as_ref()?.local.constants()
    }

    /// What CR8 is to be, if it is the local APIC's.
    pub fn cr8(&self) -> Option<u64> {
        self.apics.as_ref().map(|apics| apics.local.cr8())
    }

    /// What came for the CPU besides interrupts.
    pub fn take_signals(&mut self) -> Signals {
        self.apics.as_mut().map(|apics| apics.local.take_signals()).unwrap_or_default()
    }

    /// Whether something came for the CPU besides interrupts.
    pub fn has_signals(&self) -> bool {
        self.apics.as_ref().is_some_and(|apics| apics.local.has_signals())
    }

    /// Whether the timer's line still requests what it did last.
    pub fn tick_requested(&self) -> bool {
        match self.tick_vector() {
            Some((apics, vector)) => apics.local.is_requested(vector),
            None => self.pics.master().is_requested(IRQ_TIMER),
        }
    }

    /// Whether the guest would take another tick.
    pub fn tick_wanted(&self) -> bool {
        match self.tick_vector() {
            Some((apics, vector)) => !apics.local.is_in_service(vector),
            None => !self.pics.master().is_in_service(IRQ_TIMER) && !self.pics.master().is_masked(IRQ_TIMER),
        }
    }

    /// Whether the timer's interrupts can reach the CPU neither way.
    pub fn tick_masked(&self) -> bool {
        let by_8259 = !self.pics.master().is_masked(IRQ_TIMER);
        let passes = self.apics.as_ref().is_none_or(|apics| apics.local.passes_external());
        self.tick_vector().is_none() && !(by_8259 && passes)
    }

    /// The CPU would take an interrupt now.
    pub fn cpu_is_ready(&mut self, now_ns: u64) {
        if let Some(apics) = &mut self.apics {
            apics.local.cpu_is_ready(now_ns);
        }
    }

    /// The CPU waits for an interrupt.
    pub fn cpu_idles(&mut self) {
        if let Some(apics) = &mut self.apics {
            apics.local.cpu_idles();
        }
    }

    /// Whether the CPU has an interrupt to take; `hold_ticks`: other than the timer's.
    pub fn is_pending(&self, hold_ticks: bool) -> bool {
        self.source(hold_ticks).is_some()
    }

    /// The CPU takes it. Only to be called while there is one.
    pub fn take(&mut self, hold_ticks: bool) -> Taken {
        let tick_vector = self.tick_vector().map(|(_, vector)| vector);
        if self.source(hold_ticks) == Some(Source::Local) {
            let held = tick_vector.filter(|_| hold_ticks);
            if let Some(vector) = self.apics.as_mut().and_then(|apics| apics.local.acknowledge(held)) {
                return Taken { vector, tick: Some(vector) == tick_vector };
            }
        }
        if let Some(apics) = &mut self.apics {
            apics.local.external_taken();
        }
        let taken = self.pics.acknowledge(u8::from(hold_ticks) << IRQ_TIMER);
        self.settle();
        Taken { vector: taken.vector, tick: taken.irq == IRQ_TIMER }
    }

    /// What is less urgent than a tick that is held back is taken before it.
    fn source(&self, hold_ticks: bool) -> Option<Source> {
        let requested = self.pics.most_urgent(u8::from(hold_ticks) << IRQ_TIMER).is_some();
        let Some(apics) = &self.apics else {
            return requested.then_some(Source::External);
        };
        let held = self.tick_vector().filter(|_| hold_ticks).map(|(_, vector)| vector);
        if apics.local.deliverable(held).is_some() {
            return Some(Source::Local);
        }
        // A message asks for whatever the 8259s have; if that is a tick which is held back, it waits with it.
        let asked = apics.local.external_requested() && (requested || self.pics.most_urgent(0).is_none());
        (requested && apics.local.passes_external() || asked).then_some(Source::External)
    }

    /// The timer's vector, if its interrupts come through the I/O APIC.
    fn tick_vector(&self) -> Option<(&Apics, u8)> {
        let apics = self.apics.as_ref()?;
        Some((apics, apics.io.vector(TIMER_PIN)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::pic_pair::{IRQ_POWER, IRQ_RTC};

    fn write(interrupts: &mut Interrupts, gpa: u64, value: u32) {
        assert!(interrupts.write_memory(gpa, &value.to_le_bytes(), 0));
    }

    fn route(interrupts: &mut Interrupts, pin: u8, entry: u32) {
        write(interrupts, ioapic::BASE, 0x10 + 2 * u32::from(pin));
        write(interrupts, ioapic::BASE + 0x10, entry);
    }

    /// 8259As with vectors 30–3F and nothing masked, the local APIC on.
    fn ready(apic: bool) -> Interrupts {
        let mut interrupts = Interrupts::new(apic);
        for (port, value) in
            [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0xA0, 0x11), (0xA1, 0x38), (0xA1, 2), (0xA1, 1)]
        {
            interrupts.write_port(port, value);
        }
        if apic {
            write(&mut interrupts, lapic::BASE + 0xF0, 0x1FF);
        }
        interrupts
    }

    fn take(interrupts: &mut Interrupts) -> Option<u8> {
        interrupts.settle();
        interrupts.is_pending(false).then(|| interrupts.take(false).vector)
    }

    #[test]
    fn without_apics_the_8259s_are_the_cpu_s() {
        let mut interrupts = ready(false);
        assert!(
            !interrupts.read_memory(lapic::BASE, &mut [0; 4], 0) && !interrupts.write_memory(ioapic::BASE, &[0], 0)
        );
        interrupts.pulse(IRQ_RTC);
        assert_eq!((take(&mut interrupts), take(&mut interrupts), interrupts.cr8()), (Some(0x38), None, None));
    }

    #[test]
    fn the_8259s_pass_through_lint0_until_it_is_masked() {
        let mut interrupts = ready(true);
        write(&mut interrupts, lapic::BASE + 0x350, 0x8700);
        interrupts.pulse(IRQ_TIMER);
        assert_eq!(interrupts.take(false), Taken { vector: 0x30, tick: true });
        interrupts.write_port(0x20, 0x20);
        write(&mut interrupts, lapic::BASE + 0x350, 0x18700);
        interrupts.pulse(IRQ_TIMER);
        assert_eq!(take(&mut interrupts), None);
        interrupts.set_cpu(0, lapic::BASE);
        assert_eq!(take(&mut interrupts), Some(0x30), "switched off, the local APIC is not in between");
    }

    #[test]
    fn the_timer_is_pin_2_and_its_ticks_can_be_held_back() {
        let mut interrupts = ready(true);
        write(&mut interrupts, lapic::BASE + 0x350, 0x10700);
        route(&mut interrupts, 2, 0x40);
        route(&mut interrupts, 0, 0x41);
        interrupts.pulse(IRQ_TIMER);
        assert!(interrupts.tick_requested() && interrupts.tick_wanted());
        assert!(interrupts.is_pending(false) && !interrupts.is_pending(true));
        assert_eq!(interrupts.take(false), Taken { vector: 0x40, tick: true });
        assert!(!interrupts.tick_requested() && !interrupts.tick_wanted());
        write(&mut interrupts, lapic::BASE + 0xB0, 0);
        assert!(interrupts.tick_wanted());
        assert_eq!(take(&mut interrupts), None);
    }

    #[test]
    fn what_is_less_urgent_does_not_wait_for_a_tick_that_is_held_back() {
        let mut interrupts = ready(false);
        interrupts.pulse(IRQ_TIMER);
        assert!(!interrupts.is_pending(true));
        interrupts.pulse(6);
        assert!(interrupts.is_pending(true));
        assert_eq!(interrupts.take(true), Taken { vector: 0x36, tick: false });
        assert!(!interrupts.is_pending(true));
        assert_eq!(take(&mut interrupts), Some(0x30), "more urgent than what is in service");

        let mut interrupts = ready(true);
        write(&mut interrupts, lapic::BASE + 0x350, 0x10700);
        route(&mut interrupts, 2, 0x80);
        route(&mut interrupts, 6, 0x40);
        interrupts.pulse(IRQ_TIMER);
        interrupts.pulse(6);
        assert_eq!(interrupts.take(true), Taken { vector: 0x40, tick: false });
        assert!(!interrupts.is_pending(true));
        assert_eq!(take(&mut interrupts), Some(0x80));
    }

    #[test]
    fn a_level_comes_again_after_its_end_while_it_lasts() {
        let mut interrupts = ready(true);
        write(&mut interrupts, lapic::BASE + 0x350, 0x10700);
        route(&mut interrupts, IRQ_POWER, 0x8051);
        interrupts.set_irq(IRQ_POWER, true);
        assert_eq!((take(&mut interrupts), take(&mut interrupts)), (Some(0x51), None));
        write(&mut interrupts, lapic::BASE + 0xB0, 0);
        assert_eq!(take(&mut interrupts), Some(0x51));
        interrupts.set_irq(IRQ_POWER, false);
        write(&mut interrupts, lapic::BASE + 0xB0, 0);
        assert_eq!(take(&mut interrupts), None);
    }

    #[test]
    fn a_pin_for_external_interrupts_has_the_8259s_vector() {
        let mut interrupts = ready(true);
        write(&mut interrupts, lapic::BASE + 0x350, 0x10700);
        route(&mut interrupts, 2, 0x700);
        interrupts.pulse(IRQ_TIMER);
        assert_eq!((take(&mut interrupts), take(&mut interrupts)), (Some(0x30), None));
    }

    #[test]
    fn local_timer_and_reset() {
        let mut interrupts = ready(true);
        write(&mut interrupts, lapic::BASE + 0x320, 0x60);
        write(&mut interrupts, lapic::BASE + 0x380, 1000);
        assert_eq!(interrupts.next_event_ns(0), Some(2000));
        interrupts.update(2000);
        assert_eq!(take(&mut interrupts), Some(0x60));
        interrupts.reset();
        assert_eq!((take(&mut interrupts), interrupts.next_event_ns(0), interrupts.cr8()), (None, None, Some(0)));
    }
}
