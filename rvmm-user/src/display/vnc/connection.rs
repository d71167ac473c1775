//! A client: one thread reads what it says, another sends it the screen.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::changes::{all, between, fitted};
use super::encodings::{desktop_size, update, Encoder, DESKTOP_SIZE, ZLIB};
use super::format::PixelFormat;
use super::handshake::shake;
use super::input::Input;
use super::messages::{read, Message};
use super::Open;
use crate::devices::vga::Image;
use crate::monitor::controls::RunState;
use crate::monitor::Controls;

/// How often the screen is looked at while the client waits for a change.
const PERIOD: Duration = Duration::from_millis(40);
/// A client that takes nothing for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is sent while the machine has no screen, or one too large for the protocol.
const NO_SCREEN: (u32, u32) = (640, 400);

/// A connection of either kind.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Over the network.
    pub fn tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Stream::Tcp(stream))
    }

    /// Over a socket in the file system.
    pub fn unix(stream: UnixStream) -> io::Result<Stream> {
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Stream::Unix(stream))
    }

    fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    /// Ends the connection, for both threads.
    fn shutdown(&self) {
        // It may have been ended by the other side.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the client has asked for.
#[derive(Default)]
struct Wanted {
    /// It waits for an update.
    update: bool,
    /// The update is to be of everything.
    everything: bool,
    format: Option<PixelFormat>,
    encodings: Option<Vec<i32>>,
    gone: bool,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a client in threads of its own.
pub fn start(stream: Stream, name: &str, controls: Arc<dyn Controls>, open: Open) -> io::Result<()> {
    let name = name.to_string();
    let body = move || {
        let _open = open;
        // An error is the client's going away, however it does so.
        let _ = serve(stream, &name, &controls);
    };
    thread::Builder::new().name("vnc-in".into()).spawn(body).map(drop)
}

fn serve(mut stream: Stream, name: &str, controls: &Arc<dyn Controls>) -> io::Result<()> {
    let image = picture(&**controls);
    let size = (image.width, image.height);
    shake(&mut stream, (size.0 as u16, size.1 as u16), name)?;
    let shared = Arc::new(Shared::default());
    let sender = thread::Builder::new().name("vnc-out".into()).spawn({
        let (shared, controls, mut stream) = (Arc::clone(&shared), Arc::clone(controls), stream.try_clone()?);
        move || {
            // An error is the client's going away. The reader notices by the shutdown.
            let _ = send(&mut stream, size, &shared, &*controls);
            stream.shutdown();
        }
    })?;
    let mut input = Input::default();
    let ended = listen(&mut stream, &shared, &mut input, &**controls);
    input.release(&**controls);
    shared.lock().gone = true;
    shared.changed.notify_all();
    stream.shutdown();
    // It has nothing to tell.
    let _ = sender.join();
    ended
}

fn listen(stream: &mut Stream, shared: &Shared, input: &mut Input, controls: &dyn Controls) -> io::Result<()> {
    let mut stream = io::BufReader::new(stream);
    loop {
        match read(&mut stream)? {
            Message::Key { symbol, down } => input.key(controls, symbol, down),
            Message::Pointer { buttons, x, y } => input.pointer(controls, buttons, x, y),
            Message::SetPixelFormat(format) => {
                let mut wanted = shared.lock();
                wanted.format = Some(format);
                // What the client shows is in the old format.
                wanted.everything = true;
            }
            Message::SetEncodings(encodings) => shared.lock().encodings = Some(encodings),
            Message::UpdateRequest { incremental } => {
                let mut wanted = shared.lock();
                wanted.update = true;
                wanted.everything |= !incremental;
                shared.changed.notify_all();
            }
            Message::CutText => {}
        }
    }
}

fn send(stream: &mut Stream, size: (u32, u32), shared: &Shared, controls: &dyn Controls) -> io::Result<()> {
    let mut encoder = Encoder::new();
    let mut resizes = false;
    let mut shown = Image::filled(size.0, size.1, [0; 3]);
    while controls.state() != RunState::Ended {
        let mut everything = {
            let mut wanted = shared.lock();
            while !wanted.update && !wanted.gone {
                wanted = shared.changed.wait_timeout(wanted, PERIOD).unwrap_or_else(PoisonError::into_inner).0;
                if controls.state() == RunState::Ended {
                    return Ok(());
                }
            }
            if wanted.gone {
                return Ok(());
            }
            if let Some(format) = wanted.format.take() {
                encoder.format = format;
                if format.needs_map() {
                    stream.write_all(&PixelFormat::colour_map())?;
                }
            }
            if let Some(encodings) = wanted.encodings.take() {
                encoder.compresses = encodings.contains(&ZLIB);
                resizes = encodings.contains(&DESKTOP_SIZE);
            }
            wanted.update = false;
            std::mem::take(&mut wanted.everything)
        };
        let mut image = picture(controls);
        let mut resized = Vec::new();
        if !resizes {
            image = fitted(image, (shown.width, shown.height));
        } else if (image.width, image.height) != (shown.width, shown.height) {
            desktop_size(image.width, image.height, &mut resized);
            everything = true;
        }
        let parts = if everything { all(&image) } else { between(&shown, &image) };
        if parts.is_empty() {
            // The request stands until there is something to tell.
            shared.lock().update = true;
            thread::sleep(PERIOD);
            continue;
        }
        let mut message = update(parts.len() + usize::from(!resized.is_empty()));
        message.extend(resized);
        for part in parts {
            encoder.rectangle(&image, part, &mut message)?;
        }
        stream.write_all(&message)?;
        shown = image;
        // Not more often than that, however fast the client asks.
        thread::sleep(PERIOD);
    }
    Ok(())
}

/// The screen now.
fn picture(controls: &dyn Controls) -> Image {
    let image = controls.screen().map(|screen| screen.render());
    let fits = |image: &Image| u16::try_from(image.width.max(image.height)).is_ok();
    image.filter(fits).unwrap_or_else(|| Image::filled(NO_SCREEN.0, NO_SCREEN.1, [0; 3]))
}
