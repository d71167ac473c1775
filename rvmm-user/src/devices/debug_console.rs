//! Debug ports: 402, which SeaBIOS writes to, and E9, where Bochs has one. What is written goes to the host, byte by byte.

use std::io::Write;

/// QEMU's `isa-debugcon`, as firmware expects it.
pub const PORT_QEMU: u16 = 0x402;
/// Bochs' port E9 hack.
pub const PORT_BOCHS: u16 = 0xE9;
/// What both ports read as while there is a console.
pub const READ_BACK: u8 = 0xE9;

/// The console.
pub struct DebugConsole {
    output: Box<dyn Write + Send>,
    failed: bool,
}

impl DebugConsole {
    /// A console that writes to `output`.
    pub fn new(output: Box<dyn Write + Send>) -> DebugConsole {
        DebugConsole { output, failed: false }
    }

    /// Writes a byte. A failing output is the host's matter: the guest does not notice.
    pub fn write(&mut self, value: u8) {
        let written = self.output.write_all(&[value]).and_then(|()| self.output.flush());
        if written.is_err() && !std::mem::replace(&mut self.failed, true) {
            tracing::warn!("the debug console cannot be written any more; output is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sent(mpsc::Sender<u8>);

    impl Write for Sent {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            data.iter().for_each(|byte| self.0.send(*byte).unwrap());
            Ok(data.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_come_out_as_they_are() {
        let (sender, receiver) = mpsc::channel();
        let mut console = DebugConsole::new(Box::new(Sent(sender)));
        b"\x00S\xFF".iter().for_each(|byte| console.write(*byte));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), b"\x00S\xFF");
    }
}
