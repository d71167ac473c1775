//! The serial ports: up to four, at the addresses and on the interrupts of a PC's COM1 to COM4.

use super::interrupts::Interrupts;
use super::SerialOutput;
use crate::devices::serial::{Com, PLACES, REGISTERS};

/// The UARTs that the machine has, COM1 first.
pub struct SerialPorts(Vec<Com<SerialOutput>>);

impl SerialPorts {
    /// One for each output; a PC has no place for more than four.
    pub fn new(outputs: Vec<SerialOutput>) -> SerialPorts {
        SerialPorts(outputs.into_iter().take(PLACES.len()).map(Com::new).collect())
    }

    /// The machine's reset.
    pub fn reset(&mut self) {
        self.0.iter_mut().for_each(Com::reset);
    }

    /// The UART with I/O port `port`, and which of its registers that is.
    fn at(&mut self, port: u16) -> Option<(&mut Com<SerialOutput>, u8)> {
        self.0.iter_mut().zip(PLACES).find_map(|(com, place)| {
            let offset = port.checked_sub(place.base).filter(|offset| *offset < REGISTERS)?;
            Some((com, offset as u8))
        })
    }

    /// Reads I/O port `port`, if it is one of a UART that is there.
    pub fn read(&mut self, port: u16) -> Option<u8> {
        self.at(port).map(|(com, offset)| com.read(offset))
    }

    /// Writes I/O port `port`, if it is one of a UART that is there.
    pub fn write(&mut self, port: u16, value: u8) {
        if let Some((com, offset)) = self.at(port) {
            com.write(offset, value);
        }
    }

    /// Bytes that a UART (0 is COM1) can take now.
    pub fn room(&self, index: usize) -> usize {
        self.0.get(index).map_or(0, Com::room)
    }

    /// Bytes arriving at a UART (0 is COM1); returns how many were taken.
    pub fn receive(&mut self, index: usize, bytes: &[u8]) -> usize {
        self.0.get_mut(index).map_or(0, |com| com.receive(bytes))
    }

    /// Pulses the lines of those that ask.
    pub fn update_lines(&mut self, interrupts: &mut Interrupts) {
        for (com, place) in self.0.iter_mut().zip(PLACES) {
            if com.take_interrupt() {
                interrupts.pulse(place.irq);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_port_has_its_own_output_and_one_that_is_not_there_does_not_answer() {
        let outputs: Vec<Written> = (0..3).map(|_| Written::default()).collect();
        let mut ports = SerialPorts::new(outputs.iter().map(|out| Box::new(out.clone()) as SerialOutput).collect());
        for (base, byte) in [(0x3F8, b'1'), (0x2F8, b'2'), (0x3E8, b'3'), (0x2E8, b'4')] {
            ports.write(base, byte);
        }
        let written: Vec<_> = outputs.iter().map(|out| out.0.lock().unwrap().clone()).collect();
        assert_eq!(written, [b"1", b"2", b"3"]);
        // The line status: the transmitter is empty.
        let status = [0x3FD, 0x2FD, 0x3ED, 0x2ED].map(|port| ports.read(port));
        assert_eq!(status, [Some(0x60), Some(0x60), Some(0x60), None]);
        assert_eq!([0x3F7, 0x400, 0x2F7, 0x300].map(|port| ports.read(port)), [None; 4]);
    }

    #[test]
    fn received_bytes_go_to_one_of_them() {
        let mut ports = SerialPorts::new((0..2).map(|_| Box::new(std::io::sink()) as SerialOutput).collect());
        assert_eq!((ports.receive(1, b"ab"), ports.receive(2, b"c")), (2, 0));
        assert_eq!((ports.read(0x2FD), ports.read(0x3FD)), (Some(0x61), Some(0x60)));
        assert_eq!((ports.read(0x2F8), ports.read(0x2F8), ports.room(2)), (Some(b'a'), Some(b'b'), 0));
    }
}
