//! The section headers of an ELF kernel, for kernels that look up their own symbols: both versions of multiboot hand them over, and with
//! them what they describe and no segment has, symbols and debug information.

use elf::abi::{SHT_NOBITS, SHT_NULL};
use vm_memory::{Bytes, GuestAddress};

use super::elf::Executable;
use super::ground::Ground;
use super::{unexpected, Failure};
use crate::memory::{GuestMemory, HIGH_START};

/// The table of section headers, with the addresses where their sections are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    pub count: u32,
    pub entry_bytes: u32,
    /// Index of the section with the names.
    pub names: u32,
    pub headers: Vec<u8>,
}

/// Puts those sections into memory up to `until` that no segment has. One that does not fit keeps the address 0. `None` if there are no headers.
pub fn load(
    memory: &GuestMemory,
    kernel: &[u8],
    executable: &Executable<'_>,
    ground: &mut Ground,
    until: u64,
) -> Result<Option<Sections>, Failure> {
    let header = &executable.elf.ehdr;
    let (count, entry_bytes) = (usize::from(header.e_shnum), usize::from(header.e_shentsize));
    let table = usize::try_from(header.e_shoff).ok().and_then(|at| kernel.get(at..)?.get(..count * entry_bytes));
    let (Some(table), Some(sections)) = (table, executable.elf.section_headers()) else { return Ok(None) };
    if count == 0 {
        return Ok(None);
    }
    let mut headers = table.to_vec();
    for (section, raw) in sections.iter().zip(headers.chunks_exact_mut(entry_bytes)) {
        let has_data = !matches!(section.sh_type, SHT_NULL | SHT_NOBITS) && section.sh_size > 0;
        if section.sh_addr != 0 || !has_data {
            continue;
        }
        let from = usize::try_from(section.sh_offset).ok();
        let data = from.zip(usize::try_from(section.sh_size).ok()).and_then(|(at, len)| kernel.get(at..)?.get(..len));
        let Some(data) = data else {
            tracing::warn!("a section of the kernel lies outside its file; it is told without an address");
            continue;
        };
        let Some(address) = ground.lowest(HIGH_START, until, section.sh_size, section.sh_addralign.clamp(1, 4096))
        else {
            tracing::warn!("there is no room for a section of {} bytes; it is told without an address", data.len());
            continue;
        };
        memory.write_slice(data, GuestAddress(address)).map_err(unexpected)?;
        // sh_addr: behind name, type and flags.
        if executable.sixty_four_bit {
            if let Some(field) = raw.get_mut(16..24) {
                field.copy_from_slice(&address.to_le_bytes());
            }
        } else if let Some(field) = raw.get_mut(12..16) {
            field.copy_from_slice(&(address as u32).to_le_bytes());
        }
    }
    Ok(Some(Sections {
        count: count as u32,
        entry_bytes: entry_bytes as u32,
        names: header.e_shstrndx.into(),
        headers,
    }))
}
