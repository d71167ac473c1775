use std::io::Cursor;
use std::sync::Arc;

use super::super::server::Server;
use super::super::soft::SoftRun;
use super::*;

#[test]
fn a_run_is_controlled_through_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("monitor");
    let run = SoftRun::new();
    let server = Server::start(&socket, run.clone()).unwrap();
    let picture = dir.path().join("screen.png");
    screenshot(&socket, &picture).unwrap();
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    let mut output = Vec::new();
    let words = ["info", "status"].map(String::from);
    monitor(&socket, &words, &mut Cursor::new(""), &mut output).unwrap();
    assert_eq!(output, b"VM status: running\n");
    output.clear();
    let mut lines = Cursor::new("stop\n{\"execute\": \"query-status\"}\n");
    monitor(&socket, &[], &mut lines, &mut output).unwrap();
    assert_eq!(output, b"{\"return\":{\"running\":false,\"status\":\"paused\"}}\n");
    let error = screenshot(&socket, "/nonexistent/x.png".as_ref()).unwrap_err();
    assert!(error.to_string().starts_with("failed to write file"), "{error}");
    drop(server);
    assert!(!socket.exists());
}

#[test]
fn every_client_is_told_of_events() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("monitor");
    let server = Server::start(&socket, SoftRun::new()).unwrap();
    let mut watcher = Client::connect(&socket).unwrap();
    Client::connect(&socket).unwrap().execute("stop", json!({})).unwrap();
    assert_eq!(watcher.message().unwrap()["event"], "STOP");
    server.event("SHUTDOWN", json!({ "guest": true }));
    let message = watcher.message().unwrap();
    assert_eq!((&message["event"], &message["data"]["guest"]), (&json!("SHUTDOWN"), &json!(true)));
}

#[test]
fn a_socket_in_use_is_left_alone_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("monitor");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let server = Server::start(&socket, SoftRun::new()).unwrap();
    let run: Arc<SoftRun> = SoftRun::new();
    let second = Server::start(&socket, run).map(drop).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    Client::connect(&socket).unwrap();
    drop(server);
}
