//! `--display vnc`: a server of the Remote Framebuffer Protocol, 3.3, 3.7 and 3.8 (RFC 6143), without authentication: on this host's loopback address
//! or a socket that only this user can open, unless told otherwise.
//!
//! - [`connection`]: a client's two threads; [`handshake`], [`messages`]: what is said; [`format`], [`encodings`], [`changes`]: pixels.

mod changes;
mod connection;
mod encodings;
mod format;
mod handshake;
mod input;
mod messages;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::monitor::{server, Controls};
use connection::Stream;

/// The port of display 0.
const FIRST_PORT: u16 = 5900;
/// Clients at a time.
const CONNECTIONS: usize = 8;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Default for Address {
    fn default() -> Self {
        Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), FIRST_PORT))
    }
}

impl FromStr for Address {
    type Err = String;

    /// `ADDRESS:PORT`, `:DISPLAY` on the loopback address, or `unix:PATH`.
    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Address::Unix(path.into()));
        }
        if let Some(display) = text.strip_prefix(':') {
            let port = display.parse::<u16>().ok().and_then(|display| FIRST_PORT.checked_add(display));
            let port = port.ok_or_else(|| format!("{display} is no display's number"))?;
            return Ok(Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        let address = text.replacen("localhost:", "127.0.0.1:", 1);
        address.parse().map(Address::Tcp).map_err(|_| "give ADDRESS:PORT, :DISPLAY or unix:PATH".into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The server. It serves until the process ends; its socket file is removed with this.
pub struct Vnc {
    address: Address,
}

impl Vnc {
    /// Listens and serves in threads of its own. `name`: what viewers show as the title.
    pub fn start(address: &Address, name: &str, controls: Arc<dyn Controls>) -> io::Result<Vnc> {
        let (accept, address): (Box<dyn Fn() -> io::Result<Stream> + Send>, Address) = match address {
            Address::Tcp(socket) => {
                let listener = TcpListener::bind(socket)?;
                let bound = listener.local_addr()?;
                if !bound.ip().is_loopback() {
                    tracing::warn!("VNC at {bound} lets everyone who can reach it see and control the guest");
                }
                (Box::new(move || listener.accept().and_then(|(stream, _)| Stream::tcp(stream))), Address::Tcp(bound))
            }
            Address::Unix(path) => {
                let listener = server::listen(path)?;
                let accept = move || listener.accept().and_then(|(stream, _)| Stream::unix(stream));
                (Box::new(accept), Address::Unix(path.clone()))
            }
        };
        let name = name.to_string();
        let open = Arc::new(AtomicUsize::new(0));
        thread::Builder::new().name("vnc".into()).spawn(move || loop {
            let served = accept().and_then(|stream| {
                let guard = Open::new(&open)?;
                connection::start(stream, &name, Arc::clone(&controls), guard)
            });
            if let Err(error) = served {
                tracing::warn!("VNC could not take a connection: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        })?;
        Ok(Vnc { address })
    }

    /// Where it listens, with the port that was chosen if 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Vnc {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // It may be gone already; there is nobody to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// One of the connections that are allowed.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> io::Result<Open> {
        let open = Open(Arc::clone(count));
        if count.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            return Err(io::Error::other("too many connections"));
        }
        Ok(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
