//! The ends of a run, on an engine: each has its message and status, and no guest keeps rvmm from being ended.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{ended, engine, exit_code, guest, rvmm, scratch};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn command(engine: &str, name: &str, code: &[u8]) -> Command {
    let mut command = rvmm();
    command
        .args(["run", "--memory", "4", "--timeout", "60", "--engine", engine, "--kernel"])
        .arg(scratch(name, &guest(code)));
    command
}

/// jmp $
const SPIN: [u8; 2] = [0xEB, 0xFE];

#[test]
fn every_end_has_its_status_and_message() {
    let Some(engine) = engine() else { return };
    let cases: [(&str, &[u8], i32, &str); 8] = [
        ("exit-0", &exit_code(0), 0, ""),
        ("exit-42", &exit_code(42), 42, "status 42"),
        // mov edx,501; mov eax,0x12345; out dx,eax
        ("exit-large", &[0xBA, 0x01, 0x05, 0, 0, 0xB8, 0x45, 0x23, 0x01, 0, 0xEF], 64, "74565"),
        // cli; hlt
        ("halt", &[0xFA, 0xF4], 82, "interrupts off"),
        // xor ecx,ecx; div ecx: an exception with an empty IDT
        ("triple-fault", &[0x31, 0xC9, 0xF7, 0xF1], 81, "triple-faulted"),
        // mov al,FE; out 64,al; jmp $
        ("reset-8042", &[0xB0, 0xFE, 0xE6, 0x64, 0xEB, 0xFE], 80, "port 64"),
        // mov edx,CF9; mov al,6; out dx,al; jmp $
        ("reset-cf9", &[0xBA, 0xF9, 0x0C, 0, 0, 0xB0, 0x06, 0xEE, 0xEB, 0xFE], 80, "port CF9"),
        // mov al,1; out 92,al; jmp $
        ("reset-92", &[0xB0, 0x01, 0xE6, 0x92, 0xEB, 0xFE], 80, "port 92"),
    ];
    for (name, code, status, message) in cases {
        let (code, text) = ended(&command(&engine, name, code).output().unwrap());
        assert_eq!(code, status, "{name}: {text}");
        assert!(text.contains(message), "{name}: {text}");
    }
}

#[test]
fn a_spinning_guest_is_ended_by_the_time_limit() {
    let Some(engine) = engine() else { return };
    let start = Instant::now();
    let (code, text) = ended(&command(&engine, "spin-time", &SPIN).args(["--timeout", "1"]).output().unwrap());
    assert_eq!(code, 124, "{text}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_spinning_guest_is_ended_by_signals() {
    let Some(engine) = engine() else { return };
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
        let child = command(&engine, "spin-signal", &SPIN).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: the child was just started and has not been waited for, so its number is its own.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        let (code, text) = ended(&child.wait_with_output().unwrap());
        assert_eq!(code, status, "{text}");
    }
}

/// Echoes what COM1 receives until `q`, then exits with 5.
const ECHO: [u8; 36] = [
    0xBA, 0xFD, 0x03, 0, 0,    // wait: mov edx,3FD
    0xEC, // in al,dx
    0xA8, 0x01, // test al,1
    0x74, 0xF6, // jz wait
    0xBA, 0xF8, 0x03, 0, 0,    // mov edx,3F8
    0xEC, // in al,dx
    0xEE, // out dx,al
    0x3C, b'q', // cmp al,'q'
    0x75, 0xEB, // jne wait
    0xBA, 0x01, 0x05, 0, 0, // mov edx,501
    0xB0, 0x05, // mov al,5
    0xEE, // out dx,al
    0xF4, 0xEB, 0xFE, 0x90, 0x90, 0x90, 0x90,
];

#[test]
fn standard_input_reaches_the_guest_and_its_answer_standard_output() {
    let Some(engine) = engine() else { return };
    let mut child = command(&engine, "echo", &ECHO)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More than the UART and the first queue hold.
    let text: Vec<u8> = (0..70_000u32).map(|index| b'a' + (index % 16) as u8).chain(*b"q").collect();
    let mut input = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == text, "{} bytes came back", output.stdout.len());
}

#[test]
fn an_output_that_nobody_reads_does_not_hold_the_run() {
    let Some(engine) = engine() else { return };
    // mov edx,3F8; again: out dx,al; jmp again
    let code = [0xBA, 0xF8, 0x03, 0, 0, 0xEE, 0xEB, 0xFD];
    let child = command(&engine, "flood", &code)
        .args(["--timeout", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let mut child = child;
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(124));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn only_rvmm_s_engine_takes_its_options() {
    let Some(engine) = engine().filter(|engine| engine == "kvm") else { return };
    for option in ["--verify", "--interpret-all", "--tactics=int3"] {
        let (code, text) = ended(&command(&engine, "options", &exit_code(0)).arg(option).output().unwrap());
        assert_eq!(code, 65, "{option}: {text}");
        assert!(text.contains("rvmm's own engine"), "{text}");
    }
}

#[test]
fn counters_come_as_json() {
    let Some(engine) = engine() else { return };
    let file = scratch("stats.json", b"");
    let output =
        command(&engine, "stats", &exit_code(0)).arg("--stats=json").arg("--stats-file").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = std::fs::read_to_string(file).unwrap();
    let counters: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(counters["helper.port_writes"], 1, "{text}");
}

#[test]
fn the_serial_port_is_a_pseudo_terminal_and_two_guests_have_their_own() {
    let Some(engine) = engine() else { return };
    let start = |name| {
        let mut child = command(&engine, name, &ECHO).args(["--serial", "pty"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut errors = std::io::BufReader::new(child.stderr.take().unwrap());
        std::io::BufRead::read_line(&mut errors, &mut line).unwrap();
        let path = line.trim_end().strip_prefix("rvmm: the serial port is ").unwrap().to_string();
        (child, path, errors)
    };
    let mut guests = [start("pty-1"), start("pty-2")];
    assert_ne!(guests[0].1, guests[1].1);
    let open = |path: &str| std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    // Each answers on its own, also a second one who opens it after the first has gone.
    for round in *b"ab" {
        let mut terminals: Vec<_> = guests.iter().map(|(_, path, _)| open(path)).collect();
        for (terminal, own) in terminals.iter_mut().zip(*b"12") {
            terminal.write_all(&[round, own]).unwrap();
        }
        for (terminal, own) in terminals.iter_mut().zip(*b"12") {
            let mut answer = [0; 2];
            terminal.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round, own]);
        }
    }
    for (child, path, _) in &mut guests {
        open(path).write_all(b"q").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }
}

/// A pseudo-terminal: our end, and the child's.
fn open_terminal() -> (std::fs::File, std::fs::File) {
    use std::os::fd::FromRawFd;
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two valid places for descriptors; name and settings are not wanted.
    let result = unsafe { libc::openpty(&mut ours, &mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(result, 0, "no pseudo-terminal");
    // SAFETY: both descriptors are new and nobody else's.
    unsafe { (std::fs::File::from_raw_fd(ours), std::fs::File::from_raw_fd(theirs)) }
}

fn local_modes(terminal: &std::fs::File) -> libc::tcflag_t {
    use std::os::fd::AsRawFd;
    // SAFETY: all-zero is a valid termios, which tcgetattr fills in.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to a termios.
    assert_eq!(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut settings) }, 0);
    settings.c_lflag
}

fn start_on_terminal(engine: &str, name: &str, theirs: &std::fs::File) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = command(engine, name, &SPIN);
    command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs.try_clone().unwrap());
    // SAFETY: between fork and exec only these two system calls are made.
    unsafe {
        command.pre_exec(|| {
            // A session of its own with the terminal on descriptor 0 as its controlling one, as a login has it.
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    command.spawn().unwrap()
}

fn wait_for(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn the_terminal_is_raw_during_the_run_and_as_before_after_it() {
    let Some(engine) = engine() else { return };
    let (mut ours, theirs) = open_terminal();
    let before = local_modes(&theirs);
    assert_ne!(before & libc::ICANON, 0);
    let is_raw = || local_modes(&theirs) & (libc::ICANON | libc::ECHO | libc::ISIG) == 0;

    // By the escape key: Ctrl-C is the guest's and does not end the run.
    let mut child = start_on_terminal(&engine, "escape", &theirs);
    assert!(wait_for(is_raw));
    ours.write_all(b"\x03").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "Ctrl-C must reach the guest");
    ours.write_all(b"\x01h").unwrap();
    ours.write_all(b"\x01x").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(local_modes(&theirs), before);
    let mut shown = [0; 4096];
    let count = ours.read(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown[..count]);
    assert!(shown.contains("Ctrl-A"), "{shown}");

    // By a signal.
    let child = start_on_terminal(&engine, "signal", &theirs);
    assert!(wait_for(is_raw));
    // SAFETY: the child was just started and has not been waited for, so its number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    let mut child = child;
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(local_modes(&theirs), before);
}
