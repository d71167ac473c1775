//! The machine: its devices on one port bus, and the interrupt lines between them.
//!
//! Still pure: time and received bytes come in as arguments, and the one thing that goes out besides data is what an access means
//! for the run ([`BusEvent`]). Accesses: [`ports`], [`memory`].

pub mod board;
mod console;
pub mod diskettes;
pub mod drives;
mod memory;
mod ports;
mod ticks;
pub mod video;

use std::io::Write;

use crate::devices::a20::SystemControl;
use crate::devices::debug_console::DebugConsole;
use crate::devices::pic_pair::{
    PicPair, IRQ_COM1, IRQ_DISKETTE, IRQ_KEYBOARD, IRQ_MOUSE, IRQ_POWER, IRQ_RTC, IRQ_TIMER,
};
use crate::devices::{i8042, pit::Pit, port61::Port61, reset, rtc::Rtc, serial};
use crate::memory::ram::Ram;
use board::Board;
use diskettes::Diskettes;
use drives::Drives;
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
    /// The reset control register (port CF9).
    ResetControl,
    /// Fast reset in system control port A (port 92).
    SystemControlA,
}

/// Where the serial port's output goes.
pub type SerialOutput = Box<dyn Write + Send>;

/// What a machine is made of.
pub struct Parts {
    /// Size of the guest's memory.
    pub memory_bytes: u64,
    pub ram: Ram,
    /// The time of day at power-on: nanoseconds after 1970.
    pub unix_ns: i64,
    pub serial_output: SerialOutput,
    pub debug: Option<DebugConsole>,
    pub board: Option<Board>,
    pub drives: Option<Drives>,
    pub diskettes: Option<Diskettes>,
    pub display: Option<Display>,
}

/// All devices of the machine.
pub struct Machine {
    pics: PicPair,
    pit: Pit,
    port61: Port61,
    rtc: Rtc,
    com1: serial::Com<SerialOutput>,
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
}

impl Machine {
    /// A machine, switched on.
    pub fn new(parts: Parts) -> Self {
        let below = crate::memory::below_hole(parts.memory_bytes);
        let mut machine = Machine {
            pics: PicPair::new(),
            pit: Pit::new(),
            port61: Port61::default(),
            rtc: Rtc::new(parts.unix_ns, below),
            com1: serial::Com::new(parts.serial_output),
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
        };
        machine.set_up_diskettes();
        machine
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

    /// Has firmware try drives in this order: halves of bytes as SeaBIOS reads them, 0 for none.
    pub fn set_boot_order(&mut self, [first, second, third]: [u8; 3]) {
        // Bit 0 of 38 switches off the check of a floppy's signature.
        self.rtc.set_up(0x3D, second << 4 | first);
        self.rtc.set_up(0x38, third << 4);
    }

    /// The reset line: every device is as after power-on, but for the clock, whose battery keeps it, and what lies in memory.
    pub fn reset(&mut self, now_ns: u64) {
        self.pics = PicPair::new();
        self.pit = Pit::new();
        self.port61 = Port61::default();
        self.rtc.reset(now_ns);
        self.com1.reset();
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
        if let Some(board) = &mut self.board {
            board.power.update(now_ns);
            self.pics.set_irq(IRQ_POWER, board.power.irq());
        }
        if let Some(drives) = &self.drives {
            drives::update_lines(drives, &mut self.pics);
        }
        if let Some(diskettes) = &self.diskettes {
            self.pics.set_irq(IRQ_DISKETTE, diskettes.irq());
        }
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
            self.board.as_ref().and_then(|board| board.power.next_event_ns(now_ns)),
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
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
