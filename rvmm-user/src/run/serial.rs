//! Where the serial port and the debug ports are on the host.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use crate::cli::{RunArgs, SerialArg};
use crate::error::Error;
use crate::host::input;
use crate::host::output::OutputQueue;
use crate::host::pty::Pty;
use crate::host::terminal::{self, RawTerminal};
use crate::shared::Shared;

/// The queue to where the debug ports write.
pub fn debug_console(args: &RunArgs) -> Result<Option<OutputQueue>, Error> {
    let Some(place) = &args.firmware.debugcon else { return Ok(None) };
    let (sink, _) = port(place)?;
    OutputQueue::start(sink).map(Some)
}

/// Where COM1's output goes, and the pseudo-terminal if it is one.
pub fn port(serial: &SerialArg) -> Result<(Box<dyn Write + Send>, Option<Pty>), Error> {
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
            eprintln!("rvmm: the serial port is {}", pty.path().display());
            (Box::new(pty.writer().map_err(failed)?), Some(pty))
        }
    })
}

/// Connects standard input to COM1, a terminal in raw mode.
pub fn attach_input(args: &RunArgs, shared: &Arc<Shared>) -> Result<Option<RawTerminal>, Error> {
    if args.serial() != SerialArg::Stdio {
        return Ok(None);
    }
    if terminal::stdin_is_interactive() {
        let raw = RawTerminal::enter().map_err(|source| Error::Host { what: "setting the terminal", source })?;
        eprint!("rvmm: {0} x ends the run, {0} h helps\r\n", args.escape);
        input::start(Arc::clone(shared), Some(args.escape))?;
        return Ok(Some(raw));
    }
    // A background process would be stopped if it read its terminal.
    if !terminal::stdin_is_terminal() {
        input::start(Arc::clone(shared), None)?;
    }
    Ok(None)
}
