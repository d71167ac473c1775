//! Port 61, "system control port B" of the AT: the speaker's gate and data, counter 2's output, and the refresh toggle.

use super::pit::Pit;

const GATE: u8 = 1 << 0;
const REFRESH: u8 = 1 << 4;
const OUTPUT: u8 = 1 << 5;
/// Bits 3–0 are read back as written: gate, speaker, and the two check enables.
const WRITABLE: u8 = 0x0F;

/// The refresh toggle changes once per memory refresh of the AT.
const REFRESH_NS: u64 = 15_085;

/// The port's own latch.
#[derive(Debug, Default)]
pub struct Port61 {
    latch: u8,
}

impl Port61 {
    /// Reads the port.
    pub fn read(&self, pit: &mut Pit, now_ns: u64) -> u8 {
        let mut value = self.latch;
        if (now_ns / REFRESH_NS) & 1 != 0 {
            value |= REFRESH;
        }
        if pit.speaker_output(now_ns) {
            value |= OUTPUT;
        }
        value
    }

    /// Writes the port.
    pub fn write(&mut self, value: u8, pit: &mut Pit, now_ns: u64) {
        self.latch = value & WRITABLE;
        pit.set_speaker_gate(value & GATE != 0, now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bits_read_back_and_the_rest_is_the_hardware_s() {
        let mut pit = Pit::new();
        let mut port = Port61::default();
        port.write(0xFF, &mut pit, 0);
        assert_eq!(port.read(&mut pit, 0) & 0x0F, 0x0F);
        assert_eq!(port.read(&mut pit, 0) & 0xC0, 0, "no parity or channel check");
    }

    #[test]
    fn the_refresh_bit_toggles() {
        let mut pit = Pit::new();
        let port = Port61::default();
        let first = port.read(&mut pit, 0) & REFRESH;
        let second = port.read(&mut pit, REFRESH_NS) & REFRESH;
        assert_ne!(first, second);
    }

    #[test]
    fn the_gate_reaches_counter_2() {
        let mut pit = Pit::new();
        let mut port = Port61::default();
        pit.write(0x43, 0xB0, 0);
        pit.write(0x42, 0x10, 0);
        pit.write(0x42, 0x00, 0);
        assert_eq!(port.read(&mut pit, 1_000_000) & OUTPUT, 0, "held by the gate");
        port.write(GATE, &mut pit, 1_000_000);
        assert_eq!(port.read(&mut pit, 2_000_000) & OUTPUT, OUTPUT);
    }
}
