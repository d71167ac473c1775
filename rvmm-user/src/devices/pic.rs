//! One 8259A programmable interrupt controller (Intel 8259A data sheet, order number 231468).
//!
//! Covered: initialisation (ICW1–ICW4), masks (OCW1), all seven end-of-interrupt and rotation commands (OCW2), register reads,
//! poll and special mask mode (OCW3), automatic EOI, special fully nested mode, and the PC's edge/level register (ELCR).
//!
//! One deliberate simplification: in edge mode a request stays latched when its line falls before the acknowledge, where the real
//! part would answer with a spurious IR7. Devices here may therefore signal with a pulse.

/// Which register a read of the command port returns (OCW3, bits RR and RIS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadSelect {
    Requests,
    InService,
}

/// Which initialisation word the data port expects next; `Ready` means that initialisation is over and it is OCW1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Init {
    Ready,
    Icw2,
    Icw3,
    Icw4,
}

/// The controller's place in the cascade, which only matters to special fully nested mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has a slave on input 2.
    Master,
    /// Hangs on the master's input 2.
    Slave,
}

/// An 8259A.
#[derive(Debug)]
pub struct Pic {
    role: Role,
    irr: u8,
    isr: u8,
    imr: u8,
    lines: u8,
    /// ELCR: a one makes that input level-triggered.
    level_inputs: u8,
    init: Init,
    /// ICW1's IC4 and SNGL, kept while the initialisation words arrive.
    wants_icw4: bool,
    single: bool,
    vector_base: u8,
    /// The input that has the highest priority now; rotation moves it.
    top: u8,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    special_fully_nested: bool,
    read_select: ReadSelect,
    poll: bool,
}

impl Pic {
    /// A controller after power-on. Nothing can be delivered before the guest initialises it: all inputs are masked.
    pub fn new(role: Role) -> Self {
        Pic {
            role,
            irr: 0,
            isr: 0,
            imr: 0xFF,
            lines: 0,
            level_inputs: 0,
            init: Init::Ready,
            wants_icw4: false,
            single: false,
            vector_base: 0,
            top: 0,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_mask: false,
            special_fully_nested: false,
            read_select: ReadSelect::Requests,
            poll: false,
        }
    }

    /// Drives input `input` (0–7) high or low.
    pub fn set_line(&mut self, input: u8, high: bool) {
        let bit = 1u8 << (input & 7);
        if high {
            if self.level_inputs & bit != 0 || self.lines & bit == 0 {
                self.irr |= bit;
            }
            self.lines |= bit;
        } else {
            if self.level_inputs & bit != 0 {
                self.irr &= !bit;
            }
            self.lines &= !bit;
        }
    }

    /// Whether `input` is requested and not yet acknowledged.
    pub fn is_requested(&self, input: u8) -> bool {
        self.irr & (1 << (input & 7)) != 0
    }

    /// Whether `input` is in service.
    pub fn is_in_service(&self, input: u8) -> bool {
        self.isr & (1 << (input & 7)) != 0
    }

    /// Whether the guest has masked `input`.
    pub fn is_masked(&self, input: u8) -> bool {
        self.imr & (1 << (input & 7)) != 0
    }

    /// The input whose request would be delivered now: INT is high exactly when there is one.
    pub fn requested(&self) -> Option<u8> {
        self.requested_without(0)
    }

    /// The same as if the inputs in `held` requested nothing: bit 0 is input 0.
    pub fn requested_without(&self, held: u8) -> Option<u8> {
        let wanted = self.highest(self.irr & !self.imr & !held)?;
        let mut busy = self.isr;
        if self.special_mask {
            busy &= !self.imr;
        }
        if self.special_fully_nested && self.role == Role::Master {
            // A slave's second, more urgent request must get through while its first is in service.
            busy &= !(1 << 2);
        }
        match self.highest(busy) {
            Some(serving) if self.rank(serving) <= self.rank(wanted) => None,
            _ => Some(wanted),
        }
    }

    /// The INTA cycle: takes the most urgent request and returns its input, or 7 for a spurious one.
    pub fn acknowledge(&mut self) -> u8 {
        self.acknowledge_without(0)
    }

    /// The same as if the inputs in `held` requested nothing.
    pub fn acknowledge_without(&mut self, held: u8) -> u8 {
        let Some(input) = self.requested_without(held) else {
            return 7;
        };
        let bit = 1u8 << input;
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.top = (input + 1) & 7;
            }
        } else {
            self.isr |= bit;
        }
        if self.level_inputs & bit == 0 {
            self.irr &= !bit;
        }
        input
    }

    /// The vector that this controller puts on the bus for `input`.
    pub fn vector(&self, input: u8) -> u8 {
        self.vector_base | (input & 7)
    }

    /// Writes the command port (A0 = 0).
    pub fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.start_init(value);
        } else if value & 0x08 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    /// Writes the data port (A0 = 1).
    pub fn write_data(&mut self, value: u8) {
        match self.init {
            Init::Ready => self.imr = value,
            Init::Icw2 => {
                self.vector_base = value & 0xF8;
                self.init = match (self.single, self.wants_icw4) {
                    (false, _) => Init::Icw3,
                    (true, true) => Init::Icw4,
                    (true, false) => Init::Ready,
                };
            }
            // Which input carries the slave is wired on a PC; the word itself says nothing new.
            Init::Icw3 => self.init = if self.wants_icw4 { Init::Icw4 } else { Init::Ready },
            Init::Icw4 => {
                self.auto_eoi = value & 0x02 != 0;
                self.special_fully_nested = value & 0x10 != 0;
                self.init = Init::Ready;
            }
        }
    }

    /// Reads the command port: IRR or ISR, or the poll word after a poll command.
    pub fn read_command(&mut self) -> u8 {
        if let Some(word) = self.take_poll() {
            return word;
        }
        match self.read_select {
            ReadSelect::Requests => self.irr,
            ReadSelect::InService => self.isr,
        }
    }

    /// Reads the data port: the mask, or the poll word after a poll command.
    pub fn read_data(&mut self) -> u8 {
        self.take_poll().unwrap_or(self.imr)
    }

    /// The edge/level register (ports 4D0 and 4D1).
    pub fn read_elcr(&self) -> u8 {
        self.level_inputs
    }

    /// Sets the edge/level register; `writable` has ones where the chipset lets an input be level-triggered.
    pub fn write_elcr(&mut self, value: u8, writable: u8) {
        self.level_inputs = value & writable;
    }

    fn start_init(&mut self, icw1: u8) {
        self.irr = 0;
        self.isr = 0;
        self.imr = 0;
        // The edge sense is cleared: a line that is high already must fall and rise to request again.
        self.top = 0;
        self.auto_eoi = false;
        self.rotate_on_auto_eoi = false;
        self.special_mask = false;
        self.special_fully_nested = false;
        self.read_select = ReadSelect::Requests;
        self.poll = false;
        self.wants_icw4 = icw1 & 0x01 != 0;
        self.single = icw1 & 0x02 != 0;
        self.init = Init::Icw2;
    }

    fn write_ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0b001 => self.end_highest(false),
            0b101 => self.end_highest(true),
            0b011 => self.isr &= !(1 << level),
            0b111 => {
                self.isr &= !(1 << level);
                self.top = (level + 1) & 7;
            }
            0b110 => self.top = (level + 1) & 7,
            0b100 => self.rotate_on_auto_eoi = true,
            0b000 => self.rotate_on_auto_eoi = false,
            // 0b010 is "no operation".
            _ => {}
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        if value & 0x04 != 0 {
            self.poll = true;
        } else if value & 0x02 != 0 {
            self.read_select = if value & 0x01 != 0 { ReadSelect::InService } else { ReadSelect::Requests };
        }
    }

    fn end_highest(&mut self, rotate: bool) {
        let mut busy = self.isr;
        if self.special_mask {
            // A masked in-service bit is not cleared by a non-specific EOI in special mask mode.
            busy &= !self.imr;
        }
        if let Some(input) = self.highest(busy) {
            self.isr &= !(1 << input);
            if rotate {
                self.top = (input + 1) & 7;
            }
        }
    }

    fn take_poll(&mut self) -> Option<u8> {
        if !self.poll {
            return None;
        }
        self.poll = false;
        Some(match self.requested() {
            Some(_) => 0x80 | self.acknowledge(),
            None => 0,
        })
    }

    /// 0 for the most urgent input under the present rotation, 7 for the least.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.top) & 7
    }

    fn highest(&self, set: u8) -> Option<u8> {
        (0..8).map(|rank| (self.top + rank) & 7).find(|input| set & (1 << input) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Pic {
        let mut pic = Pic::new(Role::Master);
        pic.write_command(0x11);
        pic.write_data(0x20);
        pic.write_data(0x04);
        pic.write_data(0x01);
        pic
    }

    #[test]
    fn nothing_is_delivered_before_initialisation() {
        let mut pic = Pic::new(Role::Master);
        pic.set_line(0, true);
        assert_eq!(pic.requested(), None);
    }

    #[test]
    fn an_edge_is_latched_once_and_acknowledged_with_its_vector() {
        let mut pic = ready();
        pic.set_line(3, true);
        assert_eq!(pic.requested(), Some(3));
        let input = pic.acknowledge();
        assert_eq!(pic.vector(input), 0x23);
        assert_eq!(pic.requested(), None);
        pic.write_command(0x20);
        assert_eq!(pic.requested(), None, "the line is still high: no new edge");
        pic.set_line(3, false);
        pic.set_line(3, true);
        assert_eq!(pic.requested(), Some(3));
    }

    #[test]
    fn a_level_input_requests_until_its_line_falls() {
        let mut pic = ready();
        pic.write_elcr(0x08, 0xF8);
        pic.set_line(3, true);
        pic.acknowledge();
        pic.write_command(0x20);
        assert_eq!(pic.requested(), Some(3));
        pic.set_line(3, false);
        assert_eq!(pic.requested(), None);
    }

    #[test]
    fn elcr_keeps_the_system_inputs_edge_triggered() {
        let mut pic = ready();
        pic.write_elcr(0xFF, 0xF8);
        assert_eq!(pic.read_elcr(), 0xF8);
    }

    #[test]
    fn a_less_urgent_request_waits_for_the_end_of_interrupt() {
        let mut pic = ready();
        pic.set_line(1, true);
        pic.acknowledge();
        pic.set_line(4, true);
        assert_eq!(pic.requested(), None);
        pic.set_line(0, true);
        assert_eq!(pic.requested(), Some(0), "a more urgent one nests");
        pic.acknowledge();
        pic.write_command(0x20);
        assert_eq!(pic.requested(), None, "input 1 is still in service: 4 waits");
        pic.write_command(0x20);
        assert_eq!(pic.requested(), Some(4));
    }

    #[test]
    fn the_mask_holds_a_request_back_without_losing_it() {
        let mut pic = ready();
        pic.write_data(0x10);
        pic.set_line(4, true);
        assert_eq!(pic.requested(), None);
        assert_eq!(pic.read_command(), 0x10);
        assert_eq!(pic.read_data(), 0x10);
        pic.write_data(0);
        assert_eq!(pic.requested(), Some(4));
    }

    #[test]
    fn specific_end_of_interrupt_clears_only_its_level() {
        let mut pic = ready();
        pic.set_line(5, true);
        pic.acknowledge();
        pic.set_line(2, true);
        pic.acknowledge();
        pic.write_command(0x60 | 5);
        pic.write_command(0x0B);
        assert_eq!(pic.read_command(), 1 << 2);
    }

    #[test]
    fn rotation_makes_the_served_input_the_least_urgent() {
        let mut pic = ready();
        pic.set_line(2, true);
        pic.acknowledge();
        pic.write_command(0xA0);
        pic.set_line(2, false);
        pic.set_line(2, true);
        pic.set_line(7, true);
        assert_eq!(pic.requested(), Some(7));
    }

    #[test]
    fn set_priority_command_names_the_least_urgent_input() {
        let mut pic = ready();
        pic.write_command(0xC0 | 4);
        pic.set_line(4, true);
        pic.set_line(5, true);
        assert_eq!(pic.requested(), Some(5));
    }

    #[test]
    fn automatic_eoi_leaves_nothing_in_service() {
        let mut pic = Pic::new(Role::Master);
        for (command, value) in [(true, 0x11), (false, 8), (false, 4), (false, 3)] {
            if command {
                pic.write_command(value);
            } else {
                pic.write_data(value);
            }
        }
        pic.set_line(6, true);
        assert_eq!(pic.acknowledge(), 6);
        pic.write_command(0x0B);
        assert_eq!(pic.read_command(), 0);
    }

    #[test]
    fn special_mask_mode_lets_less_urgent_inputs_through() {
        let mut pic = ready();
        pic.set_line(1, true);
        pic.acknowledge();
        pic.write_data(0x02);
        pic.write_command(0x68);
        pic.set_line(6, true);
        assert_eq!(pic.requested(), Some(6));
    }

    #[test]
    fn poll_acknowledges_and_reports() {
        let mut pic = ready();
        pic.write_command(0x0C);
        assert_eq!(pic.read_command(), 0);
        pic.set_line(5, true);
        pic.write_command(0x0C);
        assert_eq!(pic.read_command(), 0x85);
        assert_eq!(pic.requested(), None);
    }

    #[test]
    fn an_acknowledge_without_a_request_is_spurious() {
        let mut pic = ready();
        assert_eq!(pic.acknowledge(), 7);
        pic.write_command(0x0B);
        assert_eq!(pic.read_command(), 0, "a spurious interrupt is not in service");
    }

    #[test]
    fn initialisation_without_icw4_and_without_slave() {
        let mut pic = Pic::new(Role::Master);
        pic.write_command(0x12);
        pic.write_data(0x40);
        pic.write_data(0xAA);
        assert_eq!(pic.read_data(), 0xAA, "the second data write is OCW1");
    }
}
