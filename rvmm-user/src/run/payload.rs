//! What is started: a kernel, firmware, or a kernel by firmware.

use std::path::Path;

use crate::boot;
use crate::cli::RunArgs;
use crate::display::DisplayArg;
use crate::error::Error;
use crate::memory::map::Map;
use crate::memory::GuestMemory;
use crate::vcpu::handover::Handover;

/// What is started.
pub enum Payload {
    /// A kernel, which is in memory.
    Kernel(boot::Entry),
    /// The firmware, and the kernel that it starts, if one was given.
    Firmware(Option<Handover>),
}

/// Reads what `args` names; a kernel that no firmware starts is loaded.
pub fn load(args: &RunArgs, memory: &GuestMemory, memory_bytes: u64) -> Result<Payload, Error> {
    let Some(path) = &args.kernel else {
        return if args.disks.any() || args.firmware.bios.is_some() {
            Ok(Payload::Firmware(None))
        } else {
            Err(Error::Nothing)
        };
    };
    let kernel = read_file("kernel", path)?;
    let protocol = args.boot.map(boot::Protocol::from);
    let modules = match &args.initrd {
        Some(given) => boot::modules::read(given, boot::takes_modules(path, &kernel, protocol)?)?,
        None => Vec::new(),
    };
    if wants_pc(args) {
        return Ok(Payload::Firmware(Some(Handover {
            memory: memory.clone(),
            memory_bytes,
            kernel_path: path.clone(),
            kernel,
            modules,
            command_line: args.append.clone(),
            protocol,
        })));
    }
    let payload = boot::Payload {
        kernel_path: path,
        kernel: &kernel,
        modules: &modules,
        command_line: &args.append,
        memory_bytes,
        map: &Map::without_firmware(memory_bytes),
        screen: None,
        firmware: false,
        protocol,
    };
    boot::load(memory, &payload).map(Payload::Kernel)
}

/// Whether a kernel is started by firmware: where it was given, or what only a PC with firmware has.
fn wants_pc(args: &RunArgs) -> bool {
    let firmware = &args.firmware;
    args.disks.any() || args.display != DisplayArg::None || firmware.bios.is_some() || firmware.vgabios.is_some()
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { what, path: path.to_path_buf(), source })
}
