//! Kernels are entered as their protocols say, on an engine whose CPU has long mode.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use common::{bzimage_64, ended, engine, exit_code, guest, rvmm, scratch};

/// Exit status and standard error of a run of `image`.
fn run(engine: &str, name: &str, image: &[u8], args: &[&str]) -> (i32, String) {
    let kernel = scratch(name, image);
    let output = rvmm()
        .args(["run", "--memory", "32", "--timeout", "60", "--engine", engine, "--kernel"])
        .arg(kernel)
        .args(args)
        .output()
        .unwrap();
    ended(&output)
}

/// The engine, if its CPU has long mode.
fn engine_64() -> Option<String> {
    let engine = engine()?;
    let (status, text) = run(&engine, "probe-64", &guest(&exit_code(0)), &["--cpu", "64"]);
    if status == 0 {
        return Some(engine);
    }
    eprintln!("skipped: {text}");
    None
}

/// Ends the run with the low bits of AL as they are: mov edx,501; out dx,al; hlt. The same bytes in both modes.
const EXIT_WITH_AL: [u8; 7] = [0xBA, 0x01, 0x05, 0, 0, 0xEE, 0xF4];

fn code(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn a_64_bit_kernel_is_entered_in_the_mode_asked_for() {
    let Some(engine) = engine_64() else { return };
    let image = bzimage_64(&exit_code(32), &exit_code(0));
    // xor eax,eax; inc rax. In 32-bit mode the prefix is `dec eax`, and EAX stays 0.
    let in_64 = code(&[&[0x31, 0xC0, 0x48, 0xFF, 0xC0], &EXIT_WITH_AL]);
    let image_64 = bzimage_64(&exit_code(32), &in_64);
    assert_eq!(run(&engine, "bz64", &image, &[]).0, 0, "the 64-bit entry is the kernel's own");
    assert_eq!(run(&engine, "bz64-mode", &image_64, &["--boot", "linux64"]).0, 1, "and it is 64-bit code");
    assert_eq!(run(&engine, "bz64-32", &image, &["--boot", "linux32"]).0, 32);
    let (status, text) = run(&engine, "bz64-cpu32", &image, &["--cpu", "32"]);
    assert_eq!(status, 66, "{text}");
    assert!(text.contains("64-bit") && text.contains("leave out --cpu"), "{text}");
}

#[test]
fn the_64_bit_entry_has_what_the_protocol_promises() {
    let Some(engine) = engine_64() else { return };
    let promises: [(&str, &[u8]); 7] = [
        // mov ax,cs; cmp ax,10
        ("cs", &[0x66, 0x8C, 0xC8, 0x66, 0x83, 0xF8, 0x10]),
        // mov ax,ds; cmp ax,18
        ("ds", &[0x66, 0x8C, 0xD8, 0x66, 0x83, 0xF8, 0x18]),
        // mov ax,ss; cmp ax,18
        ("ss", &[0x66, 0x8C, 0xD0, 0x66, 0x83, 0xF8, 0x18]),
        // cmp dword [rsi+202],"HdrS"
        ("zero-page", &[0x81, 0xBE, 0x02, 0x02, 0, 0, b'H', b'd', b'r', b'S']),
        // The last byte of the first 4 GiB is mapped, and nothing is there: mov eax,FFFFFFFF; mov al,[rax]; cmp al,FF
        ("4-gib", &[0xB8, 0xFF, 0xFF, 0xFF, 0xFF, 0x8A, 0x00, 0x3C, 0xFF]),
        // mov ecx,C0000080; rdmsr; cmp eax,500: LME and LMA, nothing else
        ("efer", &[0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32, 0x3D, 0, 5, 0, 0]),
        // The selectors can be loaded again from the table: mov ax,18; mov es,ax; cmp ax,18
        ("gdt", &[0x66, 0xB8, 0x18, 0, 0x8E, 0xC0, 0x66, 0x83, 0xF8, 0x18]),
    ];
    for (name, check) in promises {
        // setz al
        let image = bzimage_64(&exit_code(32), &code(&[check, &[0x0F, 0x94, 0xC0], &EXIT_WITH_AL]));
        let (status, text) = run(&engine, &format!("promise-{name}"), &image, &[]);
        assert_eq!(status, 1, "{name}: {text}");
    }
}

#[test]
fn memory_above_4_gib_is_there() {
    let Some(engine) = engine_64() else { return };
    // A fifth GiB in the tables at CR3: mov rax,cr3; add rax,1000 (the second level); mov dword [rax+20],10003; mov ebx,10000;
    // mov dword [rbx],83; mov dword [rbx+4],1; mov rbx,100000000; mov byte [rbx],1; mov al,[rbx]
    let check: &[u8] = &[
        0x0F, 0x20, 0xD8, 0x48, 0x05, 0, 0x10, 0, 0, 0xC7, 0x40, 0x20, 0x03, 0, 1, 0, 0xBB, 0, 0, 1, 0, 0xC7, 0x03,
        0x83, 0, 0, 0, 0xC7, 0x43, 0x04, 1, 0, 0, 0, 0x48, 0xBB, 0, 0, 0, 0, 1, 0, 0, 0, 0xC6, 0x03, 1, 0x8A, 0x03,
    ];
    let image = bzimage_64(&exit_code(32), &code(&[check, &EXIT_WITH_AL]));
    assert_eq!(run(&engine, "above", &image, &["--memory", "3100"]).0, 1);
    assert_eq!(run(&engine, "not-above", &image, &["--memory", "3072"]).0, 64, "nothing there: it reads FF");
}

#[test]
fn the_profile_decides_what_cpuid_says() {
    let Some(engine) = engine_64() else { return };
    // mov eax,80000001; cpuid; mov eax,edx; shr eax,29; and al,1
    let check = [0xB8, 1, 0, 0, 0x80, 0x0F, 0xA2, 0x89, 0xD0, 0xC1, 0xE8, 29, 0x24, 1];
    let image = guest(&code(&[&check, &EXIT_WITH_AL]));
    assert_eq!(run(&engine, "lm-64", &image, &["--cpu", "64"]).0, 1);
    assert_eq!(run(&engine, "lm-default", &image, &[]).0, 1);
    assert_eq!(run(&engine, "lm-32", &image, &["--cpu", "32"]).0, 0);
    assert_eq!(run(&engine, "lm-pae", &image, &["--cpu", "pae"]).0, 0);
    assert_eq!(run(&engine, "lm-amd", &image, &["--cpu", "64,vendor=AuthenticAMD"]).0, 1);
}
