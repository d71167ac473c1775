//! A serial port: rust-vmm's 16550A with an interrupt line that the machine can look at.

use std::convert::Infallible;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use super::pic_pair::{IRQ_COM1, IRQ_COM2};
use vm_superio::{serial::NoEvents, Serial, Trigger};

/// Where a PC has one.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The first of its I/O ports.
    pub base: u16,
    /// Its interrupt line.
    pub irq: u8,
}

/// COM1 to COM4.
pub const PLACES: [Place; 4] = [
    Place { base: 0x3F8, irq: IRQ_COM1 },
    Place { base: 0x2F8, irq: IRQ_COM2 },
    Place { base: 0x3E8, irq: IRQ_COM1 },
    Place { base: 0x2E8, irq: IRQ_COM2 },
];

/// I/O ports of one.
pub const REGISTERS: u16 = 8;

/// MCR bit 3, the auxiliary output, as after power-on.
const MCR_OUT2: u8 = 1 << 3;
const MCR: u8 = 4;
const LCR: u8 = 3;
/// The interrupt identification when read, the FIFO control register when written.
const IIR: u8 = 2;
/// IIR: the FIFOs are on.
const IIR_FIFOS: u8 = 0xC0;
/// FCR: switches the FIFOs on.
const FCR_ENABLE: u8 = 1;
/// LCR: offsets 0 and 1 are the divisor.
const DLAB: u8 = 0x80;

/// Remembers that the UART wants to interrupt.
#[derive(Clone, Debug, Default)]
struct Request(Arc<AtomicBool>);

impl Trigger for Request {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        // The machine's lock orders it; the atomic is only what lets the UART keep a second handle.
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A 16550A whose transmitted bytes go to `W`.
pub struct Com<W: Write> {
    uart: Serial<Request, NoEvents, W>,
    request: Request,
    /// The output failed once; said once.
    output_failed: bool,
    /// The guest has switched the FIFOs on. That is only told: they are there all the time.
    fifos: bool,
}

impl<W: Write> Com<W> {
    /// A UART after power-on.
    pub fn new(output: W) -> Self {
        let request = Request::default();
        Com { uart: Serial::new(request.clone(), output), request, output_failed: false, fifos: false }
    }

    /// The machine's reset: the registers that decide over interrupts and speed are as after power-on.
    pub fn reset(&mut self) {
        for (offset, value) in [(LCR, DLAB), (0, 0x0C), (1, 0x00), (LCR, 0x03), (1, 0x00), (MCR, MCR_OUT2)] {
            self.write(offset, value);
        }
        self.fifos = false;
        self.request.0.store(false, Ordering::Relaxed);
    }

    /// Reads register `offset` (0–7).
    pub fn read(&mut self, offset: u8) -> u8 {
        let value = self.uart.read(offset);
        // The 8250's drivers never switch FIFOs on and take the whole register for the cause (Linux 0.11).
        if offset == IIR && !self.fifos {
            return value & !IIR_FIFOS;
        }
        value
    }

    /// Writes register `offset` (0–7).
    pub fn write(&mut self, offset: u8, value: u8) {
        if offset == IIR {
            self.fifos = value & FCR_ENABLE != 0;
        }
        // The one possible error is a failing output. The guest must not notice (a real UART would not either).
        if self.uart.write(offset, value).is_err() && !self.output_failed {
            self.output_failed = true;
            tracing::warn!("the serial output cannot be written any more; output is lost");
        }
    }

    /// How many bytes the receiver can take.
    pub fn room(&self) -> usize {
        self.uart.fifo_capacity()
    }

    /// Gives received bytes to the UART and returns how many it took.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        self.uart.enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    /// Whether the UART has asked for an interrupt since the last call; the line is to be pulsed then. On a PC's board OUT2 gates the line; as in
    /// QEMU's UART it does not here, for teaching kernels that were only ever started there leave it low and wait for input (xv6).
    pub fn take_interrupt(&mut self) -> bool {
        self.request.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IER: u8 = 1;
    const LSR: u8 = 5;

    #[test]
    fn transmitted_bytes_come_out() {
        let mut com = Com::new(Vec::new());
        for byte in b"ok" {
            com.write(0, *byte);
        }
        assert_eq!(com.uart.writer(), b"ok");
    }

    #[test]
    fn received_bytes_interrupt_when_enabled() {
        let mut com = Com::new(Vec::new());
        assert_eq!(com.receive(b"a"), 1);
        assert!(!com.take_interrupt(), "not enabled");
        com.write(IER, 1);
        assert!(com.take_interrupt());
        assert_eq!(com.read(IIR) & 0x0F, 0x04);
        assert_eq!(com.read(LSR) & 1, 1);
        assert_eq!(com.read(0), b'a');
        assert_eq!(com.read(LSR) & 1, 0);
    }

    #[test]
    fn a_reset_takes_interrupts_away() {
        let mut com = Com::new(Vec::new());
        com.write(MCR, MCR_OUT2);
        com.write(IER, 1);
        com.receive(b"a");
        com.reset();
        assert!(!com.take_interrupt());
        assert_eq!((com.read(IER), com.read(LCR)), (0, 3));
    }

    #[test]
    fn fifos_show_only_once_they_are_on() {
        let mut com = Com::new(Vec::new());
        com.write(IER, 2);
        assert_eq!(com.read(IIR), 0x02, "the transmitter is empty");
        assert_eq!(com.read(IIR), 0x01);
        com.write(IIR, FCR_ENABLE);
        assert_eq!(com.read(IIR), IIR_FIFOS | 0x01);
        com.reset();
        assert_eq!(com.read(IIR), 0x01);
    }

    #[test]
    fn out2_does_not_gate_the_line() {
        let mut com = Com::new(Vec::new());
        com.write(MCR, 0);
        com.write(IER, 1);
        com.receive(b"a");
        assert!(com.take_interrupt());
    }

    #[test]
    fn the_receiver_takes_no_more_than_it_can_hold() {
        let mut com = Com::new(Vec::new());
        let room = com.room();
        assert_eq!(com.receive(&vec![b'x'; room + 10]), room);
        assert_eq!(com.room(), 0);
        assert_eq!(com.receive(b"y"), 0);
    }
}
