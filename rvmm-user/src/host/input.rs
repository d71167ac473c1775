//! Reads standard input for one of the guest's serial ports, in a thread of its own: so it may be a terminal, a pipe, a file or /dev/null.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;

use crate::error::Error;
use crate::host::escape::{Escape, Key, Request};
use crate::outcome::RunEnd;
use crate::shared::Shared;

/// Starts the reader for a serial port (0 is COM1). `escape`: the escape key to look for, if standard input is a terminal. The thread ends with the input or the process.
pub fn start(shared: Arc<Shared>, port: usize, escape: Option<Key>) -> Result<(), Error> {
    let body = move || {
        let mut escape = escape.map(Escape::new);
        let mut buffer = [0; 4096];
        loop {
            let typed = match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!("standard input cannot be read any more: {error}");
                    return;
                }
            };
            let go_on = match &mut escape {
                None => shared.serial_input(port, typed),
                Some(escape) => {
                    let (through, request) = escape.filter(typed);
                    match request {
                        Some(Request::Quit) => shared.stop(RunEnd::EscapeKey),
                        // A failing standard error leaves nobody to tell.
                        Some(Request::Help) => drop(io::stderr().write_all(escape.help().as_bytes())),
                        None => {}
                    }
                    shared.serial_input(port, &through)
                }
            };
            if !go_on {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("serial-in".into())
        .spawn(body)
        .map(drop)
        .map_err(|source| Error::Host { what: "starting the serial input thread", source })
}
