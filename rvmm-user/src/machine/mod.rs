//! The machine: its devices on one port bus, and the interrupt lines between them.
//!
//! Still pure: time and received bytes come in as arguments, and the one thing that goes out besides data is what an access means
//! for the run ([`BusEvent`]).

mod ticks;

use std::io::Write;

use crate::devices::pic_pair::{PicPair, IRQ_COM1, IRQ_KEYBOARD, IRQ_MOUSE, IRQ_RTC, IRQ_TIMER};
use crate::devices::{debug_exit, i8042, pit::Pit, port61::Port61, reset, rtc::Rtc, serial, OPEN_BUS};
use ticks::Ticks;
pub use ticks::{TickCounters, MAX_BACKLOG};

/// What a write to a port means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// The guest ended its run with this status (isa-debug-exit).
    GuestExit(u32),
    /// The guest reset the machine.
    Reset(ResetLine),
}

/// Which of the ways to reset a PC was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetLine {
    /// The keyboard controller (port 64).
    KeyboardController,
    /// The reset control register (port CF9).
    ResetControl,
    /// Fast reset in system control port A (port 92).
    SystemControlA,
}

/// Where the serial port's output goes.
pub type SerialOutput = Box<dyn Write + Send>;

/// All devices of the machine.
pub struct Machine {
    pics: PicPair,
    pit: Pit,
    port61: Port61,
    rtc: Rtc,
    com1: serial::Com<SerialOutput>,
    keyboard: i8042::I8042,
    reset: reset::ResetControl,
    /// Port 92: A20 is always open; bit 0 resets.
    port92: u8,
    /// The last byte of the power-on self-test port, which a guest may use for I/O delays.
    post_code: u8,
    ticks: Ticks,
}

impl Machine {
    /// A machine with `memory_bytes` of memory below 4 GiB, switched on at `unix_ns` nanoseconds after 1970.
    pub fn new(memory_bytes: u64, unix_ns: i64, serial_output: SerialOutput) -> Self {
        Machine {
            pics: PicPair::new(),
            pit: Pit::new(),
            port61: Port61::default(),
            rtc: Rtc::new(unix_ns, memory_bytes),
            com1: serial::Com::new(serial_output),
            keyboard: i8042::I8042::new(),
            reset: reset::ResetControl::default(),
            port92: 0x02,
            post_code: 0,
            ticks: Ticks::default(),
        }
    }

    /// A read of `data.len()` bytes (1, 2 or 4) from `port`.
    pub fn read_port(&mut self, port: u16, data: &mut [u8], now_ns: u64) {
        if belongs_to_pci(port, data.len()) {
            data.fill(OPEN_BUS);
            return;
        }
        // A device is one byte wide: a wider access is so many byte accesses on consecutive ports, as on the ISA bus.
        for (offset, byte) in (0u16..).zip(data.iter_mut()) {
            *byte = self.read_byte(port.wrapping_add(offset), now_ns);
        }
    }

    /// A write of `data` (1, 2 or 4 bytes) to `port`.
    pub fn write_port(&mut self, port: u16, data: &[u8], now_ns: u64) -> Option<BusEvent> {
        if port == debug_exit::PORT {
            return debug_exit::status(data).map(BusEvent::GuestExit);
        }
        if belongs_to_pci(port, data.len()) {
            return None;
        }
        let mut event = None;
        for (offset, byte) in (0u16..).zip(data) {
            event = event.or(self.write_byte(port.wrapping_add(offset), *byte, now_ns));
        }
        event
    }

    /// Bytes that COM1 can take now.
    pub fn serial_room(&self) -> usize {
        self.com1.room()
    }

    /// Bytes arriving at COM1; returns how many were taken.
    pub fn serial_receive(&mut self, bytes: &[u8]) -> usize {
        self.com1.receive(bytes)
    }

    /// Brings every interrupt line up to `now_ns`. To be called after accesses, at [`Machine::next_event_ns`], and before INTR is
    /// looked at.
    pub fn update_lines(&mut self, now_ns: u64) {
        self.ticks.came(self.pit.take_irq_edges(now_ns));
        let master = self.pics.master();
        if !master.is_in_service(IRQ_TIMER) && !master.is_masked(IRQ_TIMER) {
            self.ticks.handled(now_ns);
        }
        if !master.is_requested(IRQ_TIMER) && self.ticks.take() {
            self.pics.pulse(IRQ_TIMER);
        }
        self.rtc.update_flags(now_ns);
        self.pics.set_irq(IRQ_RTC, self.rtc.irq_line());
        self.keyboard.update(now_ns);
        self.pics.set_irq(IRQ_KEYBOARD, self.keyboard.keyboard_irq());
        self.pics.set_irq(IRQ_MOUSE, self.keyboard.mouse_irq());
        if self.com1.take_interrupt() {
            self.pics.pulse(IRQ_COM1);
        }
    }

    /// When [`Machine::update_lines`] should next be called although nothing happened.
    pub fn next_event_ns(&mut self, now_ns: u64) -> Option<u64> {
        let candidates = [
            self.pit.next_irq_edge_ns(now_ns),
            self.rtc.next_event_ns(now_ns),
            self.ticks.held_back_until(now_ns),
            self.keyboard.next_event_ns(now_ns),
        ];
        candidates.into_iter().flatten().min()
    }

    /// The CPU waits for an interrupt.
    pub fn cpu_idles(&mut self) {
        self.ticks.idle();
    }

    /// The level of the CPU's INTR pin.
    pub fn intr(&self, now_ns: u64) -> bool {
        match self.pics.most_urgent() {
            None => false,
            Some(IRQ_TIMER) => self.ticks.held_back_until(now_ns).is_none(),
            Some(_) => true,
        }
    }

    /// The CPU's INTA cycle: the vector to deliver. Only to be called while [`Machine::intr`] is high.
    pub fn acknowledge(&mut self, now_ns: u64) -> u8 {
        let taken = self.pics.acknowledge();
        if taken.irq == IRQ_TIMER {
            self.ticks.delivered(now_ns);
        }
        taken.vector
    }

    /// The interrupt controllers and the backlog of ticks in a line.
    pub fn describe(&self, now_ns: u64) -> String {
        format!("INTR {}, {:?}, {:?}, {:?}", self.intr(now_ns), self.pics, self.ticks, self.pit)
    }

    /// How ticks fared.
    pub fn tick_counters(&self) -> TickCounters {
        self.ticks.counters()
    }

    /// The last byte written to port 80.
    pub fn post_code(&self) -> u8 {
        self.post_code
    }

    fn read_byte(&mut self, port: u16, now_ns: u64) -> u8 {
        match port {
            0x20 | 0x21 | 0xA0 | 0xA1 | 0x4D0 | 0x4D1 => self.pics.read(port).unwrap_or(OPEN_BUS),
            0x40..=0x43 => self.pit.read(port, now_ns),
            0x60 => self.keyboard.read_data(now_ns),
            0x61 => self.port61.read(&mut self.pit, now_ns),
            0x64 => self.keyboard.read_status(now_ns),
            0x71 => self.rtc.read_data(now_ns),
            0x80 => self.post_code,
            0x92 => self.port92,
            reset::PORT => self.reset.read(),
            _ => match port.checked_sub(serial::BASE) {
                Some(offset @ 0..=7) => self.com1.read(offset as u8),
                _ => OPEN_BUS,
            },
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now_ns: u64) -> Option<BusEvent> {
        match port {
            0x20 | 0x21 | 0xA0 | 0xA1 | 0x4D0 | 0x4D1 => {
                self.pics.write(port, value);
            }
            0x40..=0x43 => {
                if self.pit.write(port, value, now_ns) {
                    self.ticks.forget();
                }
            }
            0x60 => return keyboard_event(self.keyboard.write_data(value, now_ns)),
            0x61 => self.port61.write(value, &mut self.pit, now_ns),
            0x64 => return keyboard_event(self.keyboard.write_command(value, now_ns)),
            0x70 => self.rtc.write_index(value),
            0x71 => self.rtc.write_data(value, now_ns),
            0x80 => self.post_code = value,
            0x92 => {
                let reset = value & 1 != 0 && self.port92 & 1 == 0;
                self.port92 = value | 0x02;
                if reset {
                    return Some(BusEvent::Reset(ResetLine::SystemControlA));
                }
            }
            reset::PORT => {
                if self.reset.write(value) {
                    return Some(BusEvent::Reset(ResetLine::ResetControl));
                }
            }
            _ => {
                if let Some(offset @ 0..=7) = port.checked_sub(serial::BASE) {
                    self.com1.write(offset as u8, value);
                }
            }
        }
        None
    }
}

/// PCI configuration mechanism #1, whose address register hides the reset register in its second byte: only byte accesses reach
/// that. There is no PCI bus, so nobody answers; that the address does not read back is how a guest finds out.
fn belongs_to_pci(port: u16, width: usize) -> bool {
    (0xCF8..0xD00).contains(&port) && (port != reset::PORT || width != 1)
}

fn keyboard_event(effect: i8042::Effect) -> Option<BusEvent> {
    match effect {
        i8042::Effect::None => None,
        i8042::Effect::Reset => Some(BusEvent::Reset(ResetLine::KeyboardController)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::new(64 << 20, 0, Box::new(std::io::sink()))
    }

    fn programmed() -> Machine {
        let mut machine = machine();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 0x04),
            (0x21, 0x01),
            (0x21, 0x00),
            (0x43, 0x34),
            (0x40, 0xA5),
            (0x40, 0x12),
        ] {
            assert_eq!(machine.write_port(port, &[value], 0), None);
        }
        machine.update_lines(0);
        if machine.intr(0) {
            // The output's rise when the mode was set.
            machine.acknowledge(0);
            machine.write_port(0x20, &[0x20], 0);
            machine.update_lines(0);
        }
        machine
    }

    #[test]
    fn unclaimed_ports_read_as_ones_in_every_width() {
        let mut machine = machine();
        for port in [0x10, 0x2F8, 0x501, 0xCF8, 0xCFC, 0xFFFF] {
            for width in [1, 2, 4] {
                let mut data = vec![0; width];
                machine.read_port(port, &mut data, 0);
                assert_eq!(data, vec![0xFF; width], "port {port:x}");
            }
        }
    }

    #[test]
    fn the_timer_interrupts_with_its_vector() {
        let mut machine = programmed();
        let due = machine.next_event_ns(0).unwrap();
        assert_eq!(due / 1_000_000, 4);
        machine.update_lines(due - 1);
        assert!(!machine.intr(due - 1));
        machine.update_lines(due);
        assert!(machine.intr(due));
        assert_eq!(machine.acknowledge(due), 0x30);
        machine.update_lines(due);
        assert!(!machine.intr(due));
    }

    #[test]
    fn missed_ticks_come_after_each_end_of_interrupt() {
        let mut machine = programmed();
        let late = 41_000_000;
        let mut delivered = 0;
        for step in 0..20u64 {
            let now = late + step;
            machine.update_lines(now);
            if machine.intr(now) {
                machine.acknowledge(now);
                machine.write_port(0x20, &[0x20], now);
                delivered += 1;
            }
        }
        assert_eq!(delivered, 10, "41 ms hold ten ticks of 4 ms");
    }

    #[test]
    fn a_tick_is_requested_while_masked_or_in_service_as_on_the_real_part() {
        let mut machine = programmed();
        let due = machine.next_event_ns(0).unwrap();
        machine.update_lines(due);
        machine.acknowledge(due);
        machine.write_port(0x21, &[0x01], due);
        let next = machine.next_event_ns(due).unwrap();
        machine.update_lines(next);
        let mut requests = [0];
        machine.read_port(0x20, &mut requests, next);
        assert_eq!(requests, [1]);
        assert!(!machine.intr(next));
        machine.write_port(0x20, &[0x20], next);
        machine.write_port(0x21, &[0x00], next);
        assert!(machine.intr(next));
    }

    #[test]
    fn the_guest_ends_the_run_or_resets_the_machine() {
        let mut machine = machine();
        let exit = |status| Some(BusEvent::GuestExit(status));
        assert_eq!(machine.write_port(0x501, &[42], 0), exit(42));
        assert_eq!(machine.write_port(0x501, &[1, 0, 0, 0], 0), exit(1));
        let reset = |line| Some(BusEvent::Reset(line));
        assert_eq!(machine.write_port(0x64, &[0xFE], 0), reset(ResetLine::KeyboardController));
        assert_eq!(machine.write_port(0xCF9, &[0x06], 0), reset(ResetLine::ResetControl));
        assert_eq!(machine.write_port(0x92, &[0x03], 0), reset(ResetLine::SystemControlA));
    }

    #[test]
    fn probing_for_pci_does_not_reset() {
        let mut machine = machine();
        assert_eq!(machine.write_port(0xCF8, &[0, 0xFF, 0xFF, 0x80], 0), None);
        assert_eq!(machine.write_port(0xCFB, &[1], 0), None);
        assert_eq!(machine.write_port(0xCF8, &[0, 0], 0), None);
    }

    #[test]
    fn received_bytes_raise_com1_s_line() {
        let mut machine = programmed();
        machine.write_port(0x3FC, &[0x08], 0);
        machine.write_port(0x3F9, &[0x01], 0);
        assert_eq!(machine.serial_receive(b"hi"), 2);
        machine.update_lines(0);
        assert_eq!(machine.acknowledge(0), 0x34);
    }
}
