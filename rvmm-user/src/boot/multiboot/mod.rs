//! Multiboot 1 (Multiboot Specification 0.6.96), as QEMU's `-kernel` has it: 32-bit ELF kernels, and any file whose header says where it is
//! loaded.

mod header;
mod information;
#[cfg(test)]
mod tests;

use super::elf::Executable;
use super::ground::Ground;
use super::{sections, too_small, Entry, Failure, FlatSegments, Mode, Payload};
use crate::error::ImageError;
use crate::memory::{GuestMemory, HIGH_START};
pub use header::Header;
use information::Information;
pub use information::Module;

/// What EAX tells the kernel.
const BOOTLOADER_MAGIC: u32 = 0x2BAD_B002;
const PAGE: u64 = 4096;

pub(super) fn load(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    header: &Header,
    elf: Option<&Executable<'_>>,
) -> Result<Entry, Failure> {
    let picture = match (header.video, payload.screen) {
        (None, _) => None,
        (Some(wish), Some(screen)) => Some(screen.grant(&wish)),
        (Some(_), None) => return Err(ImageError::NoDisplay.into()),
    };
    let mut ground = Ground::new(payload.map);
    let (loaded, entry) = match (&header.addresses, elf) {
        (Some((addresses, entry)), _) => {
            let plan = addresses.plan(payload.kernel.len() as u64)?;
            (plan.load(memory, payload, &mut ground, 0)?, *entry)
        }
        (None, Some(elf)) => {
            let loaded = elf.load(memory, payload, &mut ground, 0)?;
            let entry = loaded.entry.and_then(|entry| u32::try_from(entry).ok());
            (loaded, entry.ok_or_else(|| ImageError::Elf("its entry point is in none of its segments".into()))?)
        }
        (None, None) => return Err(ImageError::NoAddresses.into()),
    };
    let modules = place_modules(memory, payload, &mut ground, loaded.end)?;
    let sections = match elf.filter(|_| header.addresses.is_none()) {
        Some(elf) => sections::load(memory, payload.kernel, elf, &mut ground, payload.map.upper_end())?,
        None => None,
    };
    let information = Information {
        map: payload.map,
        // A kernel's first word is its own name, as with QEMU and GRUB 0.97.
        command_line: &format!("{} {}", payload.kernel_path.display(), payload.command_line),
        modules: &modules,
        sections: sections.as_ref(),
        picture: picture.or(payload.screen.map(|_| super::Picture::Text)),
    };
    let address = information.write(memory, payload, &mut ground)?;
    Ok(Entry {
        rip: entry.into(),
        eax: BOOTLOADER_MAGIC,
        ebx: address,
        esi: 0,
        segments: FlatSegments::PLAIN,
        mode: Mode::Protected,
        needs_long_mode: false,
        picture,
    })
}

/// Puts the modules behind the kernel, each on a page of its own.
pub(super) fn place_modules<'a>(
    memory: &GuestMemory,
    payload: &Payload<'a>,
    ground: &mut Ground,
    kernel_end: u64,
) -> Result<Vec<Module<'a>>, Failure> {
    let mut end = kernel_end.max(HIGH_START);
    let mut modules = Vec::new();
    for module in payload.modules {
        let len = module.data.len() as u64;
        let Some(start) = ground.lowest(end, payload.map.upper_end(), len, PAGE) else {
            return Err(too_small(payload, end.next_multiple_of(PAGE) + len, "the kernel and its modules"));
        };
        super::place::put(memory, payload, start, &module.data, len)?;
        end = start + len;
        modules.push(Module { start: start as u32, end: end as u32, module });
    }
    Ok(modules)
}
