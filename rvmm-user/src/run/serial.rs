//! Where the serial ports and the debug ports are on the host.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use crate::cli::{RunArgs, SerialArg};
use crate::devices::serial::PLACES;
use crate::error::Error;
use crate::host::input;
use crate::host::output::OutputQueue;
use crate::host::pty::Pty;
use crate::host::terminal::{self, RawTerminal};
use crate::shared::Shared;

/// The queue to where the debug ports write.
pub fn debug_console(args: &RunArgs) -> Result<Option<OutputQueue>, Error> {
    let Some(place) = &args.firmware.debugcon else { return Ok(None) };
    let (sink, _) = open(place, "")?;
    OutputQueue::start(sink).map(Some)
}

/// A serial port's other end.
pub struct Port {
    place: SerialArg,
    pub output: OutputQueue,
    pty: Option<Pty>,
}

/// Can a machine have these?
pub fn check(serials: &[SerialArg]) -> Result<(), Error> {
    if serials.len() > PLACES.len() {
        return Err(Error::SerialPorts("a PC has four serial ports at most"));
    }
    if serials.iter().filter(|place| **place == SerialArg::Stdio).count() > 1 {
        return Err(Error::SerialPorts("two serial ports cannot both be on standard input and output"));
    }
    Ok(())
}

/// The other ends of all of them, COM1's first.
pub fn ports(serials: &[SerialArg]) -> Result<Vec<Port>, Error> {
    let names = ["the serial port", "COM2", "COM3", "COM4"];
    let port = |(place, name): (&SerialArg, &str)| {
        let (sink, pty) = open(place, name)?;
        Ok(Port { place: place.clone(), output: OutputQueue::start(sink)?, pty })
    };
    serials.iter().zip(names).map(port).collect()
}

/// Where a port's output goes, and the pseudo-terminal, whose name is told, if it is one.
fn open(serial: &SerialArg, name: &str) -> Result<(Box<dyn Write + Send>, Option<Pty>), Error> {
    Ok(match serial {
        SerialArg::Stdio => (Box::new(io::stdout()), None),
        SerialArg::None => (Box::new(io::sink()), None),
        SerialArg::File(path) => {
            let failed = |source| Error::SerialFile { path: path.clone(), source };
            (Box::new(File::create(path).map_err(failed)?), None)
        }
        SerialArg::Pty => {
            let failed = |source| Error::Host { what: "making a pseudo-terminal", source };
            let pty = Pty::open().map_err(failed)?;
            eprintln!("rvmm: {name} is {}", pty.path().display());
            (Box::new(pty.writer().map_err(failed)?), Some(pty))
        }
    })
}

/// Connects the inputs of the ports, and standard input to the one that has it, a terminal in raw mode.
pub fn attach_inputs(args: &RunArgs, ports: Vec<Port>, shared: &Arc<Shared>) -> Result<Option<RawTerminal>, Error> {
    let with_stdin = ports.iter().position(|port| port.place == SerialArg::Stdio);
    for (index, port) in ports.into_iter().enumerate() {
        if let Some(pty) = port.pty {
            pty.start_reader(Arc::clone(shared), index)?;
        }
    }
    with_stdin.map_or(Ok(None), |index| attach_stdin(args, index, shared))
}

fn attach_stdin(args: &RunArgs, index: usize, shared: &Arc<Shared>) -> Result<Option<RawTerminal>, Error> {
    if terminal::stdin_is_interactive() {
        let raw = RawTerminal::enter().map_err(|source| Error::Host { what: "setting the terminal", source })?;
        eprint!("rvmm: {0} x ends the run, {0} h helps\r\n", args.escape);
        input::start(Arc::clone(shared), index, Some(args.escape))?;
        return Ok(Some(raw));
    }
    // A background process would be stopped if it read its terminal.
    if !terminal::stdin_is_terminal() {
        input::start(Arc::clone(shared), index, None)?;
    }
    Ok(None)
}
