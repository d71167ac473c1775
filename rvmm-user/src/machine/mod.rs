//! The machine: its devices on one port bus, and the interrupt lines between them.
//!
//! Still pure: time and received bytes come in as arguments, and the one thing that goes out besides data is what an access means
//! for the run ([`BusEvent`]). Accesses: [`ports`], [`memory`].

pub mod board;
mod console;
pub mod diskettes;
pub mod drives;
mod interrupts;
mod memory;
mod ports;
mod serial_ports;
mod ticks;
pub mod video;

use std::io::Write;

use crate::devices::a20::SystemControl;
use crate::devices::debug_console::DebugConsole;
use crate::devices::dma::{Dma, NoMemory};
use crate::devices::ide::geometry::Geometry;
use crate::devices::lapic::{self, Signals};
use crate::devices::mp_table;
use crate::devices::pic_pair::{IRQ_DISKETTE, IRQ_KEYBOARD, IRQ_MOUSE, IRQ_POWER, IRQ_RTC, IRQ_TIMER};
use crate::devices::{i8042, pit::Pit, port61::Port61, reset, rtc::Rtc};
use crate::memory::ram::Ram;
use board::Board;
use diskettes::Diskettes;
use drives::Drives;
use interrupts::Interrupts;
use serial_ports::SerialPorts;
use ticks::Ticks;
pub use ticks::{TickCounters, MAX_BACKLOG};
use video::Display;

/// What a write to a port means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// The guest ended its run with this status (isa-debug-exit).
    GuestExit(u32),
    /// The guest reset the machine.
    Reset(ResetLine),
    /// The guest switched the machine off.
    PowerOff,
    /// Firmware is done: the kernel starts now. The memory map has so many entries.
    StartKernel(u16),
}

/// Which of the ways to reset a PC was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetLine {
    /// The reset button, pressed through the monitor.
    Button,
    /// The keyboard controller (port 64).
    KeyboardController,
    /// INIT, which the guest's CPU sent to itself.
    Init,
    /// The reset control register (port CF9).
    ResetControl,
    /// Fast reset in system control port A (port 92).
    SystemControlA,
}

/// Where a serial port's output goes.
pub type SerialOutput = Box<dyn Write + Send>;

/// What a machine is made of.
pub struct Parts {
    /// Size of the guest's memory.
    pub memory_bytes: u64,
    pub ram: Ram,
    /// The time of day at power-on: nanoseconds after 1970.
    pub unix_ns: i64,
    /// The machine has a local APIC and an I/O APIC.
    pub apic: bool,
    /// One for each serial port, COM1's first.
    pub serial_outputs: Vec<SerialOutput>,
    /// The port of isa-debug-exit.
    pub debug_exit: u16,
    pub debug: Option<DebugConsole>,
    pub board: Option<Board>,
    pub drives: Option<Drives>,
    pub diskettes: Option<Diskettes>,
    pub display: Option<Display>,
}

/// All devices of the machine.
pub struct Machine {
    interrupts: Interrupts,
    pit: Pit,
    port61: Port61,
    rtc: Rtc,
    serial: SerialPorts,
    debug_exit: u16,
    keyboard: i8042::I8042,
    reset: reset::ResetControl,
    system_control: SystemControl,
    debug: Option<DebugConsole>,
    /// What only a machine with firmware has.
    board: Option<Board>,
    drives: Option<Drives>,
    diskettes: Option<Diskettes>,
    display: Option<Display>,
    ram: Ram,
    /// Size of the guest's memory.
    memory_bytes: u64,
    /// What the guest is to see of memory may have changed.
    layout_changed: bool,
    /// The last byte of the power-on self-test port, which a guest may use for I/O delays.
    post_code: u8,
    ticks: Ticks,
    /// What [`Machine::take_constants`] said last.
    constants: Option<lapic::Constants>,
}

impl Machine {
    /// A machine, switched on.
    pub fn new(parts: Parts) -> Self {
        let below = crate::memory::below_hole(parts.memory_bytes);
        let mut machine = Machine {
            interrupts: Interrupts::new(parts.apic),
            pit: Pit::new(),
            port61: Port61::default(),
            rtc: Rtc::new(parts.unix_ns, below),
            serial: SerialPorts::new(parts.serial_outputs),
            debug_exit: parts.debug_exit,
            keyboard: i8042::I8042::new(),
            reset: reset::ResetControl::default(),
            system_control: SystemControl::new(),
            debug: parts.debug,
            board: parts.board,
            drives: parts.drives,
            diskettes: parts.diskettes,
            display: parts.display,
            ram: parts.ram,
            memory_bytes: parts.memory_bytes,
            layout_changed: true,
            post_code: 0,
            ticks: Ticks::default(),
            constants: None,
        };
        machine.set_up_diskettes();
        machine.set_up_disks();
        machine.set_up_interrupts();
        machine
    }

    /// Where there is no firmware that could do it, the machine is as one would leave it.
    fn set_up_interrupts(&mut self) {
        if self.board.is_none() {
            self.interrupts.set_virtual_wire();
        }
    }

    /// Tells a kernel that is started without firmware of the APICs. The arguments are CPUID leaf 1's EAX and EDX.
    pub fn describe_processors(&mut self, signature: u32, features: u32) -> Result<(), NoMemory> {
        self.ram.write(mp_table::ADDRESS, &mp_table::table(signature, features))
    }

    /// Tells firmware of the diskette drives: their types, their number among the equipment.
    fn set_up_diskettes(&mut self) {
        let Some(diskettes) = &self.diskettes else { return };
        let types @ [first, second] = diskettes.types();
        self.rtc.set_up(0x10, first << 4 | second);
        let equipment = match types.into_iter().filter(|kind| *kind != 0).count() {
            0 => 0x06,
            1 => 0x07,
            _ => 0x47,
        };
        self.rtc.set_up(0x14, equipment);
    }

    /// Tells of the hard disks that a PC/AT's set-up program would know: their types and, as they are not in the firmware's table of types,
    /// what they are made of. Firmware of today asks the disks themselves; systems of the PC/AT's days believe the type alone (Linux 0.11
    /// takes a disk without one for a controller that is no AT's, and has no root then).
    fn set_up_disks(&mut self) {
        let Some(drives) = &self.drives else { return };
        let mut types = 0;
        for ((disk, nibble), (kind, parts)) in
            drives.primary_geometries().into_iter().zip([0xF0, 0x0F]).zip([(0x19, 0x1B), (0x1A, 0x24)])
        {
            let Some(Geometry { cylinders, heads, sectors }) = disk else { continue };
            types |= nibble;
            // 47: the type is given here.
            self.rtc.set_up(kind, 47);
            let [low, high] = cylinders.to_le_bytes();
            // No write precompensation; the control byte's bit 3 is for more than eight heads; heads are parked on the last cylinder.
            let control = 0xC0 | if heads > 8 { 0x08 } else { 0 };
            for (index, value) in (parts..).zip([low, high, heads, 0xFF, 0xFF, control, low, high, sectors]) {
                self.rtc.set_up(index, value);
            }
        }
        self.rtc.set_up(0x12, types);
        // Two bits for each drive, for SeaBIOS.
        let translations = drives.translations().into_iter().flatten().rev();
        self.rtc.set_up(0x39, translations.fold(0, |bits, translation| bits << 2 | translation as u8));
    }

    /// Has firmware try drives in this order: halves of bytes as SeaBIOS reads them, 0 for none.
    pub fn set_boot_order(&mut self, [first, second, third]: [u8; 3]) {
        // Bit 0 of 38 switches off the check of a floppy's signature.
        self.rtc.set_up(0x3D, second << 4 | first);
        self.rtc.set_up(0x38, third << 4);
    }

    /// The reset line: every device is as after power-on, but for the clock, whose battery keeps it, and what lies in memory.
    pub fn reset(&mut self, now_ns: u64) {
        self.interrupts.reset();
        self.set_up_interrupts();
        self.pit = Pit::new();
        self.port61 = Port61::default();
        self.rtc.reset(now_ns);
        self.serial.reset();
        self.keyboard = i8042::I8042::new();
        self.reset = reset::ResetControl::default();
        self.system_control = SystemControl::new();
        self.ticks.forget();
        if let Some(board) = &mut self.board {
            board.reset();
        }
        if let Some(drives) = &mut self.drives {
            drives.reset();
        }
        if let Some(diskettes) = &mut self.diskettes {
            diskettes.reset();
        }
        if let Some(display) = &mut self.display {
            display.vga.reset();
        }
        self.layout_changed = true;
    }

    /// Bytes that a serial port (0 is COM1) can take now.
    pub fn serial_room(&self, port: usize) -> usize {
        self.serial.room(port)
    }

    /// Bytes arriving at a serial port (0 is COM1); returns how many were taken.
    pub fn serial_receive(&mut self, port: usize, bytes: &[u8]) -> usize {
        self.serial.receive(port, bytes)
    }

    /// Brings every interrupt line up to `now_ns`. To be called after accesses, at [`Machine::next_event_ns`], and before INTR is
    /// looked at.
    pub fn update_lines(&mut self, now_ns: u64) {
        let (edges, period_ns) = (self.pit.take_irq_edges(now_ns), self.pit.irq_period_ns());
        if self.interrupts.tick_masked() {
            self.ticks.came_masked(edges, period_ns, self.interrupts.tick_requested(), now_ns);
        } else {
            self.ticks.came(edges, period_ns);
        }
        if self.interrupts.tick_wanted() {
            self.ticks.handled(now_ns);
        }
        if !self.interrupts.tick_requested() && self.ticks.take() {
            self.interrupts.pulse(IRQ_TIMER);
        }
        self.rtc.update_flags(now_ns);
        self.interrupts.set_irq(IRQ_RTC, self.rtc.irq_line());
        self.keyboard.update(now_ns);
        self.interrupts.set_irq(IRQ_KEYBOARD, self.keyboard.keyboard_irq());
        self.interrupts.set_irq(IRQ_MOUSE, self.keyboard.mouse_irq());
        if let Some(board) = &mut self.board {
            board.power.update(now_ns);
            self.interrupts.set_irq(IRQ_POWER, board.power.irq());
        }
        if let Some(drives) = &self.drives {
            drives::update_lines(drives, &mut self.interrupts);
        }
        if let Some(diskettes) = &self.diskettes {
            self.interrupts.set_irq(IRQ_DISKETTE, diskettes.irq());
        }
        self.serial.update_lines(&mut self.interrupts);
        self.interrupts.update(now_ns);
    }

    /// When [`Machine::update_lines`] should next be called although nothing happened.
    pub fn next_event_ns(&mut self, now_ns: u64) -> Option<u64> {
        let candidates = [
            self.pit.next_irq_edge_ns(now_ns),
            self.rtc.next_event_ns(now_ns),
            self.ticks.held_back_until(now_ns),
            self.keyboard.next_event_ns(now_ns),
            self.board.as_ref().and_then(|board| board.power.next_event_ns(now_ns)),
            self.interrupts.next_event_ns(now_ns),
        ];
        candidates.into_iter().flatten().min()
    }

    /// The CPU waits for an interrupt.
    pub fn cpu_idles(&mut self) {
        self.ticks.idle();
        self.interrupts.cpu_idles();
    }

    /// The CPU would take an interrupt now. To be called before [`Machine::update_lines`].
    pub fn cpu_is_ready(&mut self, now_ns: u64) {
        self.interrupts.cpu_is_ready(now_ns);
    }

    /// The level of the CPU's INTR pin.
    pub fn intr(&self, now_ns: u64) -> bool {
        self.interrupts.is_pending(self.ticks.held_back_until(now_ns).is_some())
    }

    /// The CPU's INTA cycle: the vector to deliver. Only to be called while [`Machine::intr`] is high.
    pub fn acknowledge(&mut self, now_ns: u64) -> u8 {
        let taken = self.interrupts.take(self.ticks.held_back_until(now_ns).is_some());
        if taken.tick {
            self.ticks.delivered(now_ns);
        }
        taken.vector
    }

    /// What the CPU is to be told besides interrupts.
    pub fn take_signals(&mut self) -> Signals {
        self.interrupts.take_signals()
    }

    /// Whether [`Machine::take_signals`] has something.
    pub fn has_signals(&self) -> bool {
        self.interrupts.has_signals()
    }

    /// What the CPU has in CR8 and IA32_APIC_BASE.
    pub fn set_cpu(&mut self, cr8: u64, apic_base: u64) {
        self.interrupts.set_cpu(cr8, apic_base);
    }

    /// Registers that read the same, without effect, until the guest writes to their device (address and value), if they are not
    /// what they were at the last call.
    pub fn take_constants(&mut self) -> Option<Vec<(u64, u32)>> {
        let constants = self.interrupts.constants();
        if self.constants == constants {
            return None;
        }
        self.constants = constants;
        Some(constants.into_iter().flatten().collect())
    }

    /// What CR8 is to be, if the task priority is not the CPU's alone.
    pub fn cr8(&self) -> Option<u64> {
        self.interrupts.cr8()
    }

    /// The interrupt controllers and the backlog of ticks in a line.
    pub fn describe(&self, now_ns: u64) -> String {
        format!("INTR {}, {:?}, {:?}, {:?}", self.intr(now_ns), self.interrupts, self.ticks, self.pit)
    }

    /// How ticks fared.
    pub fn tick_counters(&self) -> TickCounters {
        self.ticks.counters()
    }

    /// The last byte written to port 80.
    pub fn post_code(&self) -> u8 {
        self.post_code
    }
}

#[cfg(test)]
mod robust_tests;

#[cfg(test)]
mod testing {
    use super::*;
    use crate::memory::ram::{Backing, Roms};

    /// A machine of 2 MiB, with firmware or without.
    pub fn machine(firmware: Option<&[u8]>) -> Machine {
        let roms_apic = firmware.is_some();
        let roms = firmware.map(|image| Roms::new(image, None).unwrap().into());
        let board = roms.is_some().then(|| Board::new(&board::Setup { memory_bytes: 2 << 20, ..Default::default() }));
        let ram = Ram::new(Backing { memory: crate::memory::create(2).unwrap(), roms, video: None });
        Machine::new(Parts {
            memory_bytes: 2 << 20,
            ram,
            unix_ns: 0,
            apic: roms_apic,
            serial_outputs: vec![Box::new(std::io::sink())],
            debug_exit: 0x501,
            debug: None,
            board,
            drives: None,
            diskettes: None,
            display: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        testing::machine(None)
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
    fn a_period_that_ends_right_after_register_c_was_read_is_an_edge() {
        let mut machine = programmed();
        for (port, value) in [(0xA0, 0x11), (0xA1, 0x38), (0xA1, 2), (0xA1, 1), (0xA1, 0xFE), (0x21, 0xFB)] {
            machine.write_port(port, &[value], 0);
        }
        for (index, value) in [(0x0A, 0x26), (0x0B, 0x42)] {
            machine.write_port(0x70, &[index], 0);
            machine.write_port(0x71, &[value], 0);
        }
        // The guest takes as long as a period from one look at the lines to the next.
        for period in 1..=5u64 {
            let now = period * 1_000_000;
            machine.update_lines(now);
            assert!(machine.intr(now), "period {period}");
            assert_eq!(machine.acknowledge(now), 0x38);
            machine.write_port(0x70, &[0x0C], now);
            let mut flags = [0];
            machine.read_port(0x71, &mut flags, now);
            assert_eq!(flags[0] & 0xC0, 0xC0);
            machine.write_port(0xA0, &[0x20], now);
            machine.write_port(0x20, &[0x20], now);
        }
    }

    #[test]
    fn missed_ticks_come_one_after_each_end_of_interrupt() {
        let mut machine = programmed();
        let late = 41_000_000;
        let mut delivered = Vec::new();
        for step in 0..60u64 {
            let now = late + step * 500_000;
            machine.update_lines(now);
            if machine.intr(now) {
                machine.acknowledge(now);
                machine.write_port(0x20, &[0x20], now);
                delivered.push(now);
            }
        }
        assert!((16..=18).contains(&delivered.len()), "41 ms hold ten ticks of 4 ms, and 30 ms seven: {delivered:?}");
        assert!(delivered[9] <= late + 5_000_000, "what was missed comes first: {delivered:?}");
        assert!(delivered[12..].windows(2).all(|pair| pair[1] - pair[0] >= 3_500_000), "{delivered:?}");
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
        assert_eq!(machine.serial_receive(0, b"hi"), 2);
        machine.update_lines(0);
        assert_eq!(machine.acknowledge(0), 0x34);
    }
}
