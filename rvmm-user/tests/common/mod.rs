//! What the tests of the command share: scratch files, and guests of a few bytes.
#![allow(dead_code)] // not every test program uses all of it

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The command under test.
pub fn rvmm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rvmm"));
    command.stdin(Stdio::null());
    command
}

/// A file of this test process with `bytes` in it.
pub fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("rvmm-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Exit status and standard error.
pub fn ended(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A multiboot 1 ELF image whose one segment, at 1 MiB, is the header and then `code`.
pub fn guest(code: &[u8]) -> Vec<u8> {
    const HEADER: u32 = 0x1BAD_B002;
    const LOAD: u32 = 0x10_0000;
    let words = |values: &[u32]| values.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let halves = |values: &[u16]| values.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    let size = 12 + code.len() as u32;
    let mut file = b"\x7FELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for the 386; entry behind the multiboot header; one program header behind this one.
    file.extend(halves(&[2, 3]));
    file.extend(words(&[1, LOAD + 12, 52, 0, 0]));
    file.extend(halves(&[52, 32, 1, 40, 0, 0]));
    file.extend(words(&[1, 84, LOAD, LOAD, size, size, 7, 4]));
    file.extend(words(&[HEADER, 0, 0u32.wrapping_sub(HEADER)]));
    file.extend(code);
    file
}

/// A bzImage with a 64-bit entry point: `code32` at the 32-bit entry, `code64` 200h behind it.
pub fn bzimage_64(code32: &[u8], code64: &[u8]) -> Vec<u8> {
    const SIZE: usize = 4096;
    let mut file = vec![0; 1024 + SIZE];
    file[0x1F1] = 1;
    file[0x1F4..0x1F8].copy_from_slice(&(SIZE as u32 / 16).to_le_bytes());
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020Fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    file[0x22C..0x230].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
    file[0x236] = 1;
    file[1024..1024 + code32.len()].copy_from_slice(code32);
    file[1536..1536 + code64.len()].copy_from_slice(code64);
    file
}

/// mov edx,501; mov al,status; out dx,al; hlt
pub fn exit_code(status: u8) -> Vec<u8> {
    vec![0xBA, 0x01, 0x05, 0x00, 0x00, 0xB0, status, 0xEE, 0xF4]
}

/// The engine that guests can be run on: RVMM_TEST_ENGINE, else /dev/kvm if a guest runs on it.
pub fn engine() -> Option<String> {
    let engine = std::env::var("RVMM_TEST_ENGINE").unwrap_or_else(|_| "kvm".into());
    let kernel = scratch("probe.elf", &guest(&exit_code(7)));
    let output = rvmm()
        .args(["run", "--memory", "4", "--timeout", "30", "--engine", &engine, "--kernel"])
        .arg(kernel)
        .output()
        .unwrap();
    if output.status.code() == Some(7) {
        return Some(engine);
    }
    assert!(std::env::var_os("RVMM_TEST_ENGINE").is_none(), "no guest runs on {engine}: {}", ended(&output).1);
    eprintln!("skipped: no usable /dev/kvm here; set RVMM_TEST_ENGINE to run this test on another engine");
    None
}
