//! The monitor's socket: a thread that accepts, and one for each connection.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::commands::Context;
use super::controls::Controls;
use super::session::{Message, Session};
use super::typist::Typist;

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// A client that does not read for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(2);

/// The listening socket. It is removed with this.
pub struct Server {
    path: PathBuf,
    clients: Arc<Mutex<Clients>>,
}

#[derive(Default)]
struct Clients {
    next: u64,
    connected: Vec<Client>,
}

struct Client {
    number: u64,
    stream: UnixStream,
    wants_events: bool,
}

impl Server {
    /// Listens at `path`, for this user only, and serves in threads of its own. A socket that nobody listens at any more is replaced.
    pub fn start(path: &Path, controls: Arc<dyn Controls>) -> io::Result<Server> {
        let listener = listen(path)?;
        let server = Server { path: path.to_path_buf(), clients: Arc::default() };
        let context = Context { typist: Typist::start(Arc::clone(&controls))?, controls };
        let clients = Arc::clone(&server.clients);
        thread::Builder::new().name("monitor".into()).spawn(move || {
            for stream in listener.incoming() {
                match stream.and_then(|stream| connect(stream, &context, &clients)) {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!("the monitor could not take a connection: {error}");
                        // Whatever it was (no descriptors, no memory), it is not over at once.
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
        Ok(server)
    }

    /// Tells all clients of an event: SHUTDOWN at the run's end, RESET at a reset by the guest.
    pub fn event(&self, name: &str, data: Value) {
        broadcast(&self.clients, name, data);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A listening socket at `path`. One that is left over from a run that was killed is replaced, one in use is not.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match UnixStream::connect(path) {
            Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            _ => return Err(error),
        },
        other => other?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn connect(stream: UnixStream, context: &Context, clients: &Arc<Mutex<Clients>>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let reader = stream.try_clone()?;
    let mut list = lock(clients);
    if list.connected.len() >= CONNECTIONS {
        return Err(io::Error::other("too many connections"));
    }
    let number = list.next;
    list.next += 1;
    send(&stream, &Session::greeting())?;
    list.connected.push(Client { number, stream, wants_events: false });
    drop(list);
    let (context, clients) = (context.clone(), Arc::clone(clients));
    thread::Builder::new()
        .name("monitor".into())
        .spawn(move || {
            // An error is the client's going away, however it does so.
            let _ = serve(reader, &context, &clients, number);
            lock(&clients).connected.retain(|client| client.number != number);
        })
        .map(drop)
}

fn serve(mut reader: UnixStream, context: &Context, clients: &Mutex<Clients>, number: u64) -> io::Result<()> {
    let mut session = Session::default();
    let mut buffer = [0; 4096];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // No lock is held while a command is executed: it may wait for the guest.
        for message in session.receive(context, buffer.get(..count).unwrap_or_default()) {
            match message {
                Message::Answer(value) => {
                    let mut list = lock(clients);
                    let client = list.connected.iter_mut().find(|client| client.number == number);
                    let client = client.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
                    client.wants_events = session.is_negotiated();
                    send(&client.stream, &value)?;
                }
                Message::Event(name) => broadcast(clients, name, Value::Null),
            }
        }
    }
}

fn broadcast(clients: &Mutex<Clients>, name: &str, data: Value) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut event = json!({
        "event": name,
        "timestamp": { "seconds": now.as_secs(), "microseconds": now.subsec_micros() },
    });
    if let (Some(members), false) = (event.as_object_mut(), data.is_null()) {
        members.insert("data".into(), data);
    }
    lock(clients).connected.retain(|client| !client.wants_events || send(&client.stream, &event).is_ok());
}

/// One message, one line.
fn send(mut stream: &UnixStream, message: &Value) -> io::Result<()> {
    stream.write_all(format!("{message}\r\n").as_bytes())
}

fn lock(clients: &Mutex<Clients>) -> MutexGuard<'_, Clients> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}
