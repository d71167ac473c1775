//! The values of options.

use std::path::PathBuf;

use rvmm_patcher::TacticSet;

use super::{BootOrder, SerialArg};
use crate::cpuid;
use crate::memory::MAX_MIB;

/// Size in MiB.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes() {
        [.., b'M' | b'm'] => (&text[..text.len() - 1], 1),
        [.., b'G' | b'g'] => (&text[..text.len() - 1], 1024),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| "not a size: give MiB, or a number with M or G".to_string())?;
    match number.checked_mul(factor) {
        Some(mib) if mib <= MAX_MIB => Ok(mib),
        _ => Err(format!("more than {MAX_MIB} MiB: the guest's physical addresses reach no further")),
    }
}

pub fn parse_engine(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("give rvmm, kvm or a path".into()),
        "rvmm" => Ok("/dev/rvmm".into()),
        "kvm" => Ok("/dev/kvm".into()),
        path if path.contains('/') => Ok(path.into()),
        other => Err(format!("unknown engine {other}: give rvmm, kvm or a path")),
    }
}

pub fn parse_cpu(text: &str) -> Result<cpuid::Wanted, String> {
    let (model, vendor) = match text.split_once(",vendor=") {
        None => (text, "GenuineIntel"),
        Some(parts) => parts,
    };
    let model = match model {
        "32" => cpuid::Model::Bits32,
        "pae" => cpuid::Model::Pae,
        "64" => cpuid::Model::Bits64,
        other => return Err(format!("unknown CPU {other}: give 32, pae or 64")),
    };
    match vendor {
        "GenuineIntel" => Ok(cpuid::Wanted { model, vendor: cpuid::Vendor::Intel }),
        "AuthenticAMD" if model == cpuid::Model::Bits64 => Ok(cpuid::Wanted { model, vendor: cpuid::Vendor::Amd }),
        "AuthenticAMD" => Err("the 32-bit CPUs are Intel's".into()),
        other => Err(format!("unknown vendor {other}: give GenuineIntel or AuthenticAMD")),
    }
}

pub fn parse_boot_order(text: &str) -> Result<BootOrder, String> {
    let mut order = BootOrder::default();
    let letters: Vec<char> = text.chars().collect();
    if letters.is_empty() || letters.len() > order.0.len() {
        return Err("give one to three of the letters a, c, d, n".into());
    }
    for (index, letter) in letters.iter().enumerate() {
        if letters.iter().take(index).any(|before| before == letter) {
            return Err(format!("{letter} is there twice"));
        }
        let code = match letter {
            'a' => 1,
            'c' => 2,
            'd' => 3,
            'n' => 4,
            other => {
                return Err(format!("unknown drive {other}: give a (floppy), c (disk), d (CD-ROM) or n (network)"))
            }
        };
        if let Some(slot) = order.0.get_mut(index) {
            *slot = code;
        }
    }
    Ok(order)
}

/// As a serial port, but for what has input.
pub fn parse_debug_console(text: &str) -> Result<SerialArg, String> {
    match parse_serial(text) {
        Ok(console @ (SerialArg::Stdio | SerialArg::File(_))) => Ok(console),
        _ => Err("give stdio or file=PATH".into()),
    }
}

/// QEMU's spellings are taken too: `file:PATH` and `null`.
pub fn parse_serial(text: &str) -> Result<SerialArg, String> {
    match text {
        "stdio" => return Ok(SerialArg::Stdio),
        "pty" => return Ok(SerialArg::Pty),
        "none" | "null" => return Ok(SerialArg::None),
        _ => {}
    }
    match text.strip_prefix("file=").or_else(|| text.strip_prefix("file:")) {
        Some(path) if !path.is_empty() => Ok(SerialArg::File(path.into())),
        _ => Err("give stdio, pty, file=PATH or none".into()),
    }
}

/// An I/O port: decimal, or hexadecimal behind 0x.
pub fn parse_port(text: &str) -> Result<u16, String> {
    let port = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    port.map_err(|_| "not an I/O port: give a number up to 65535, or to 0xFFFF".into())
}

pub fn tactics_help() -> String {
    let one = |set: TacticSet| !set.is_empty() && set != TacticSet::JUMP && TacticSet::JUMP.contains(set);
    let groups =
        [TacticSet::JUMP, TacticSet::SYSCALL, TacticSet::PAGING, TacticSet::REFLECT, TacticSet::SERVE, TacticSet::TRAP];
    let is_default = |set: TacticSet| groups.contains(&set) && TacticSet::DEFAULT.contains(set);
    let defaults: Vec<&str> =
        TacticSet::WORDS.iter().filter(|(_, set)| is_default(*set)).map(|(word, _)| *word).collect();
    let blocks: Vec<&str> = TacticSet::WORDS.iter().filter(|(_, set)| one(*set)).map(|(word, _)| *word).collect();
    format!(
        "What may be replaced by patch blocks, separated by commas: {}; jump is all of them, int3 none. And syscall: SYSCALL and SYSENTER of \
         programs reach their kernel, and it its programs, without an exit; prefill: shadow page-table entries are made before they are missed; \
         unsync: page tables that the guest writes are followed when it flushes, not at every write; paging is these two; \
         reflect: page faults and INT n of programs reach their kernel without an exit, with syscall; \
         serve: hidden page faults end no stay in the guest world; \
         trap: sites that no jump has room for keep int3 with a block behind it, which with serve ends no stay. default is {}",
        blocks.join(", "),
        defaults.join(","),
    )
}

pub fn parse_tactics(text: &str) -> Result<TacticSet, String> {
    let set = TacticSet::parse(text).map_err(|error| {
        let words: Vec<&str> = TacticSet::WORDS.iter().map(|(word, _)| *word).collect();
        format!("{error}; known are {}", words.join(", "))
    })?;
    if set.contains(TacticSet::REFLECT) && !set.contains(TacticSet::SYSCALL) {
        return Err("reflect does nothing without syscall: give both".into());
    }
    Ok(set)
}
