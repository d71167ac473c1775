//! Bad input: each kind has its own message, says what to do next, and gives the documented status.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{ended, exit_code, guest, rvmm, scratch};
use std::path::Path;

const USAGE: i32 = 65;
const INPUT: i32 = 66;
const HOST: i32 = 69;

#[track_caller]
fn refused(args: &[&str], status: i32, words: &[&str]) {
    let (code, text) = ended(&rvmm().args(args).output().unwrap());
    assert_eq!(code, status, "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[track_caller]
fn kernel_refused(name: &str, bytes: &[u8], words: &[&str]) {
    let path = scratch(name, bytes);
    refused(&["run", "--engine", "/dev/null", "--kernel", path.to_str().unwrap()], INPUT, words);
}

/// A bzImage header with one setup sector and `syssize` paragraphs of kernel, of which `present` bytes are there.
fn bzimage(syssize: u32, present: usize, xloadflags: u8) -> Vec<u8> {
    let mut file = vec![0; 1024 + present];
    file[0x1F1] = 1;
    file[0x1F4..0x1F8].copy_from_slice(&syssize.to_le_bytes());
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020Fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    file[0x236] = xloadflags;
    file
}

#[test]
fn a_missing_kernel_or_initrd() {
    refused(&["run", "--kernel", "/nonexistent/vmlinuz"], INPUT, &["/nonexistent/vmlinuz", "check the path"]);
    let kernel = scratch("ok-for-initrd.elf", &guest(&exit_code(0)));
    let kernel = kernel.to_str().unwrap();
    refused(&["run", "--kernel", kernel, "--initrd", "/nonexistent/initrd"], INPUT, &["initrd", "check the path"]);
}

#[test]
fn firmware_that_is_missing_or_none() {
    refused(&["run", "--bios", "/nonexistent/bios"], INPUT, &["/nonexistent/bios", "seabios"]);
    let odd = scratch("odd.bin", &[0; 1000]);
    refused(&["run", "--bios", odd.to_str().unwrap()], INPUT, &["1000 bytes", "64 KiB"]);
    let bios = scratch("bios.bin", &[0; 128 << 10]);
    let bios = bios.to_str().unwrap();
    refused(&["run", "--bios", bios, "--vgabios", "/nonexistent/vga"], INPUT, &["/nonexistent/vga", "seabios"]);
    refused(&["run", "--bios", bios, "--vgabios", bios], INPUT, &["55 AA"]);
}

#[test]
fn disks_that_are_missing_or_too_many() {
    let bios = scratch("bios-for-disks.bin", &[0; 128 << 10]);
    let run = ["run", "--engine", "/dev/null", "--vgabios", "none", "--bios", bios.to_str().unwrap()];
    let with = |more: &[&str], status, words: &[&str]| refused(&[&run, more].concat(), status, words);
    with(&["--disk", "/nonexistent/disk"], INPUT, &["/nonexistent/disk", "check the path"]);
    with(&["--disk", "x,format=vmdk"], USAGE, &["raw or qcow2"]);
    let disk = scratch("disk.img", &[0; 65536]);
    let disk = format!("{},readonly=on", disk.display());
    let d = disk.as_str();
    with(&["--disk", d, "--disk", d, "--disk", d, "--disk", d, "--disk", d], USAGE, &["four places"]);
    let large = scratch("large.img", &[0; 3 << 20]);
    with(&["--floppy", large.to_str().unwrap()], INPUT, &["too large for a diskette"]);
    with(&["--disk", d], HOST, &["no KVM-compatible device"]);
}

#[test]
fn what_is_no_kernel() {
    kernel_refused("text", b"hello", &["neither a Linux bzImage nor an ELF"]);
    kernel_refused("empty", b"", &["neither"]);
    kernel_refused("zeroes", &[0; 100_000], &["neither"]);
}

#[test]
fn a_truncated_or_damaged_kernel() {
    kernel_refused("short-header", &bzimage(4096, 0, 0)[..0x220], &["truncated"]);
    kernel_refused("short", &bzimage(4096, 30_000, 0), &["truncated", "66560", "checksum"]);
    kernel_refused("empty-bz", &bzimage(0, 30_000, 0), &["damaged"]);
    let whole = guest(&exit_code(0));
    kernel_refused("short-elf", &whole[..whole.len() - 3], &["damaged"]);
    kernel_refused("elf-head", &whole[..40], &["damaged"]);
}

#[test]
fn a_kernel_for_another_processor() {
    let mut arm = guest(&exit_code(0));
    arm[18] = 40;
    kernel_refused("arm", &arm, &["another architecture", "40"]);
    let mut amd64 = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    amd64.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    amd64.resize(4096, 0);
    kernel_refused("amd64", &amd64, &["damaged"]);
}

#[test]
fn a_kernel_that_is_not_entered_like_that() {
    let cases: [(&str, Vec<u8>, &str, &str); 5] = [
        ("bz-32", bzimage(64, 4096, 0), "linux64", "no 64-bit entry"),
        ("bz-pvh", bzimage(64, 4096, 1), "pvh", "bzImage"),
        ("bz-multiboot", bzimage(64, 4096, 1), "multiboot", "bzImage"),
        ("elf-linux", guest(&exit_code(0)), "linux32", "ELF file"),
        ("elf-pvh", guest(&exit_code(0)), "pvh", "PVH entry point"),
    ];
    for (name, image, protocol, words) in cases {
        let path = scratch(name, &image);
        let path = path.to_str().unwrap();
        refused(&["run", "--engine", "/dev/null", "--kernel", path, "--boot", protocol], INPUT, &[words, "--boot"]);
    }
}

#[test]
fn an_elf_file_without_multiboot() {
    let mut file = guest(&exit_code(0));
    file[84] = 0;
    kernel_refused("no-multiboot", &file, &["multiboot 1", "multiboot 2", "PVH"]);
}

#[test]
fn too_little_memory() {
    let kernel = scratch("ok-for-memory.elf", &guest(&exit_code(0)));
    let kernel = kernel.to_str().unwrap();
    refused(&["run", "--kernel", kernel, "--memory", "1"], INPUT, &["1 MiB", "too small", "--memory 2"]);
    let large = scratch("large-initrd", &vec![0; 3 << 20]);
    let large = large.to_str().unwrap();
    let args = ["run", "--kernel", kernel, "--memory", "2", "--initrd", large];
    refused(&args, INPUT, &["too small", "module", "--memory 5"]);
}

#[test]
fn a_wrong_command_line() {
    refused(&[], USAGE, &["Usage"]);
    refused(&["run"], USAGE, &["--kernel", "--disk", "--bios"]);
    for (option, value, word) in [
        ("--memory", "lots", "not a size"),
        ("--memory", "1024G", "1047552"),
        ("--engine", "xen", "unknown engine"),
        ("--model", "0/2/3", "0/1/3"),
        ("--cpu", "16", "64"),
        ("--boot", "bios", "linux64"),
        ("--serial", "com2", "pty"),
        ("--tactics", "cli,jmup", "unknown tactic"),
        ("--timeout", "0", "0"),
    ] {
        refused(&["run", "--kernel", "k", option, value], USAGE, &[word]);
    }
    refused(&["run", "--kernel", "k", "--verify", "--interpret-all"], USAGE, &["--interpret-all"]);
}

#[test]
fn help_tells_the_exit_statuses() {
    let output = rvmm().args(["run", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    for word in ["triple fault", "--timeout passed", "escape key", "HLT with interrupts off"] {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[test]
fn a_device_that_is_none() {
    let kernel = scratch("ok-for-device.elf", &guest(&exit_code(0)));
    let kernel = kernel.to_str().unwrap();
    refused(&["run", "--kernel", kernel, "--engine", "/dev/null"], HOST, &["no KVM-compatible device"]);
    refused(&["run", "--kernel", kernel, "--engine", "/nonexistent/kvm"], HOST, &["/nonexistent/kvm"]);
    refused(&["check", "--engine", "/dev/null"], HOST, &[]);
}

#[test]
fn the_module_is_not_loaded() {
    if Path::new("/dev/rvmm").exists() {
        eprintln!("skipped: the module is loaded here");
        return;
    }
    let kernel = scratch("ok-for-module.elf", &guest(&exit_code(0)));
    refused(&["run", "--kernel", kernel.to_str().unwrap()], HOST, &["/dev/rvmm", "insmod rvmm.ko"]);
    refused(&["stats"], HOST, &["insmod rvmm.ko"]);
    let output = rvmm().arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(HOST));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("insmod rvmm.ko"), "{text}");
}

#[test]
fn more_serial_ports_than_there_can_be() {
    let five =
        ["run", "--serial", "none", "--serial", "none", "--serial", "none", "--serial", "none", "--serial", "none"];
    refused(&five, USAGE, &["four", "four times at most"]);
    refused(&["run", "--serial", "stdio", "--serial", "stdio"], USAGE, &["standard input", "stdio once"]);
    refused(&["run", "--debug-exit", "f4"], USAGE, &["I/O port"]);
}
