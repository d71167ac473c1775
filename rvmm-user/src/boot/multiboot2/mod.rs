//! Multiboot 2 (Multiboot Specification 2.0), as GRUB's `multiboot2` has it: ELF kernels of either size, and any file whose header says where it
//! is loaded. All are entered in 32-bit mode.

mod header;
mod information;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::elf::{Executable, Loaded};
use super::ground::Ground;
use super::picture::{Picture, Wish};
use super::{multiboot, rsdp, sections, too_small, Entry, Failure, FlatSegments, Mode, Payload};
use crate::error::ImageError;
use crate::memory::GuestMemory;
pub use header::Header;
use header::{Preference, Relocatable};
use information::{tag, Information};

/// What EAX tells the kernel.
const BOOTLOADER_MAGIC: u32 = 0x36D7_6289;

pub(super) fn load(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    header: &Header,
    elf: Option<&Executable<'_>>,
) -> Result<Entry, Failure> {
    let picture = picture(header, payload)?;
    // Sections are told of ELF files that are loaded as such.
    let with_sections = elf.filter(|_| header.addresses.is_none());
    check_required(header, payload, with_sections.is_some())?;

    let mut ground = Ground::new(payload.map);
    let (loaded, base) = load_image(memory, payload, header, elf, &mut ground)?;
    let entry = loaded.entry.and_then(|entry| u32::try_from(entry).ok()).ok_or_else(|| match header.addresses {
        Some(_) => ImageError::MultibootHeader("it has an address tag and no entry address tag"),
        None => ImageError::Elf("its entry point is in none of its segments".into()),
    })?;
    let modules = multiboot::place_modules(memory, payload, &mut ground, loaded.end)?;
    let sections = match with_sections {
        Some(elf) => sections::load(memory, payload.kernel, elf, &mut ground, payload.map.upper_end())?,
        None => None,
    };
    let rsdp = if payload.firmware { rsdp::find(memory) } else { None };
    let information = Information {
        map: payload.map,
        command_line: payload.command_line,
        modules: &modules,
        sections: sections.as_ref(),
        picture: picture.or(payload.screen.map(|_| Picture::Text)),
        rsdp: rsdp.as_ref(),
        base: header.relocatable.and(u32::try_from(base).ok()),
    };
    let address = information.write(memory, payload, &mut ground)?;
    Ok(Entry {
        rip: entry.into(),
        eax: BOOTLOADER_MAGIC,
        ebx: address,
        esi: 0,
        segments: FlatSegments::PLAIN,
        mode: Mode::Protected,
        needs_long_mode: elf.is_some_and(|elf| elf.sixty_four_bit),
        picture,
    })
}

/// What the display is to show: a frame buffer for kernels that would like one, or cannot do with text.
fn picture(header: &Header, payload: &Payload<'_>) -> Result<Option<Picture>, ImageError> {
    let console = header.console.unwrap_or_default();
    let wish = match header.frame_buffer {
        Some((wish, _)) => Some(wish),
        None => (console.required && !console.text).then(Wish::default),
    };
    let required = console.required || header.frame_buffer.is_some_and(|(_, optional)| !optional);
    match payload.screen {
        None if required => Err(ImageError::NoDisplay),
        None => Ok(None),
        Some(screen) => Ok(wish.map(|wish| screen.grant(&wish))),
    }
}

/// Everything that the kernel cannot do without is there.
fn check_required(header: &Header, payload: &Payload<'_>, elf: bool) -> Result<(), ImageError> {
    let is_there = |kind: u32| match kind {
        tag::COMMAND_LINE | tag::LOADER_NAME | tag::MEMORY | tag::MEMORY_MAP | tag::MODULE => true,
        tag::FRAME_BUFFER => payload.screen.is_some(),
        tag::SECTIONS => elf,
        // SeaBIOS makes tables of the first version.
        tag::OLD_RSDP => payload.firmware,
        tag::BASE => header.relocatable.is_some(),
        _ => false,
    };
    match header.required.iter().find(|kind| !is_there(**kind)) {
        Some(kind) if *kind == tag::FRAME_BUFFER => Err(ImageError::NoDisplay),
        Some(kind) => Err(ImageError::MultibootInformation(*kind)),
        None => Ok(()),
    }
}

/// Loads the image where it was made for, or where it may and can go; its entry point, and where it then begins.
fn load_image(
    memory: &GuestMemory,
    payload: &Payload<'_>,
    header: &Header,
    elf: Option<&Executable<'_>>,
    ground: &mut Ground,
) -> Result<(Loaded, u64), Failure> {
    let plan = match &header.addresses {
        Some(addresses) => Some(addresses.plan(payload.kernel.len() as u64)?),
        None => None,
    };
    let extent = match (&plan, elf) {
        (Some(plan), _) => plan.extent(),
        (None, Some(elf)) => elf.extent()?,
        (None, None) => return Err(ImageError::NoAddresses.into()),
    };
    let base = match header.relocatable {
        Some(relocatable) if !extent.is_empty() => find_base(payload, &relocatable, &extent, ground)?,
        _ => extent.start,
    };
    let shift = base.wrapping_sub(extent.start);
    let mut loaded = match (&plan, elf) {
        (Some(plan), _) => plan.load(memory, payload, ground, shift)?,
        (None, Some(elf)) => elf.load(memory, payload, ground, shift)?,
        (None, None) => return Err(ImageError::NoAddresses.into()),
    };
    if let Some(entry) = header.entry {
        loaded.entry = Some(u64::from(entry).wrapping_add(shift));
    }
    Ok((loaded, base))
}

fn find_base(
    payload: &Payload<'_>,
    wish: &Relocatable,
    extent: &Range<u64>,
    ground: &mut Ground,
) -> Result<u64, Failure> {
    let len = extent.end - extent.start;
    let (min, until, align) =
        (u64::from(wish.min), u64::from(wish.max).saturating_add(1), u64::from(wish.align.max(1)));
    let fits = extent.start >= min && extent.end <= until && extent.start % align == 0;
    let found = match wish.preference {
        Preference::Highest => ground.highest(min, until, len, align),
        // Where it was made for, if that may be.
        Preference::None if fits => ground.lowest(extent.start, extent.end, len, 1),
        Preference::None | Preference::Lowest => None,
    };
    found.or_else(|| ground.lowest(min, until, len, align)).ok_or_else(|| {
        too_small(payload, min.max(payload.map.upper_end()).saturating_add(len), "the kernel where it may be")
    })
}
