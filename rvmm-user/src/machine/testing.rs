//! Machines for the tests.

use super::*;
use crate::memory::ram::{Backing, Roms};

/// A machine of 2 MiB, with firmware or without.
pub fn machine(firmware: Option<&[u8]>) -> Machine {
    let roms = firmware.map(|image| Roms::new(image, None).unwrap().into());
    let board = roms.is_some().then(|| Board::new(&board::Setup { memory_bytes: 2 << 20, ..Default::default() }));
    let ram = Ram::new(Backing { memory: crate::memory::create(2).unwrap(), roms, video: None });
    Machine::new(Parts {
        memory_bytes: 2 << 20,
        ram,
        unix_ns: 0,
        serial_output: Box::new(std::io::sink()),
        debug: None,
        board,
        drives: None,
        diskettes: None,
        display: None,
    })
}
