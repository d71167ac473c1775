//! Guest memory as the devices use it: RAM and ROMs, and what has been written, which the engine must be told.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, MmapRegion};

use super::layout::{shadow_at, Source};
use super::{GuestMemory, HIGH_START, HOLE_END, ROM_START};
use crate::devices::dma::{Dma, NoMemory};
use crate::devices::pci::host_bridge::{Shadow, SEGMENTS};
use crate::error::Error;

/// So many written ranges are told one by one; more as the range around them.
const MAX_WRITTEN: usize = 64;

/// Smallest and largest firmware: what is seen below 1 MiB, and what has room above the pages that KVM wants.
pub const FIRMWARE_SIZES: std::ops::RangeInclusive<usize> = (64 << 10)..=(16 << 20);

/// The ROMs of a machine with firmware.
#[derive(Debug)]
pub struct Roms {
    /// C0000–FFFFF and the firmware below 4 GiB, at their guest-physical addresses.
    fixed: GuestMemory,
    firmware_bytes: u64,
    vga: Option<MmapRegion>,
}

impl Roms {
    /// `firmware` must have one of [`FIRMWARE_SIZES`], in whole pages.
    pub fn new(firmware: &[u8], vga: Option<&[u8]>) -> Result<Roms, Error> {
        let failed = |reason: String| Error::HostMemory { mib: 1, reason };
        let len = firmware.len();
        let start = HOLE_END.saturating_sub(len as u64);
        let ranges = [(GuestAddress(ROM_START), (HIGH_START - ROM_START) as usize), (GuestAddress(start), len)];
        let fixed = GuestMemory::from_ranges(&ranges).map_err(|error| failed(error.to_string()))?;
        // Sockets without ROMs; at their end as much of the firmware as the chip set decodes there.
        let ones = vec![super::OPEN_BUS; (HIGH_START - ROM_START) as usize];
        let tail = firmware.get(len.saturating_sub(128 << 10)..).unwrap_or(firmware);
        for (at, data) in [(ROM_START, ones.as_slice()), (HIGH_START - tail.len() as u64, tail), (start, firmware)] {
            fixed.write_slice(data, GuestAddress(at)).map_err(|error| failed(error.to_string()))?;
        }
        let vga = vga.map(|image| adapter_rom(image).map_err(failed)).transpose()?;
        Ok(Roms { fixed, firmware_bytes: len as u64, vga })
    }

    /// Size of the firmware.
    pub fn firmware_bytes(&self) -> u64 {
        self.firmware_bytes
    }

    /// Size of the display adapter's ROM in whole pages, if there is one.
    pub fn vga_bytes(&self) -> Option<u64> {
        self.vga.as_ref().map(|region| region.size() as u64)
    }
}

fn adapter_rom(image: &[u8]) -> Result<MmapRegion, String> {
    let region = MmapRegion::new(image.len().next_multiple_of(4096)).map_err(|error| error.to_string())?;
    let slice = vm_memory::VolatileMemory::as_volatile_slice(&region);
    slice.copy_from(image);
    Ok(region)
}

/// The memory of this process that stands behind the guest's.
#[derive(Clone, Debug)]
pub struct Backing {
    pub memory: GuestMemory,
    /// The ROMs of a machine with firmware.
    pub roms: Option<Arc<Roms>>,
    /// The display adapter's memory.
    pub video: Option<Arc<MmapRegion>>,
}

impl Backing {
    /// Where `len` bytes of `source` are in this process. They stay there as long as any clone of this lives.
    pub fn host_address(&self, source: Source, len: u64) -> Option<u64> {
        let in_memory = |memory: &GuestMemory, at| {
            let slice = memory.get_slice(GuestAddress(at), usize::try_from(len).ok()?).ok()?;
            Some(slice.ptr_guard_mut().as_ptr() as u64)
        };
        match source {
            Source::Ram(at) => in_memory(&self.memory, at),
            Source::Rom(at) => in_memory(&self.roms.as_ref()?.fixed, at),
            Source::VgaRom(at) => in_region(self.roms.as_ref()?.vga.as_ref()?, at, len),
            Source::Video(at) => in_region(self.video.as_ref()?, at, len),
        }
    }
}

fn in_region(region: &MmapRegion, at: u64, len: u64) -> Option<u64> {
    let fits = at.checked_add(len)? <= region.size() as u64;
    fits.then(|| region.as_ptr() as u64 + at)
}

/// Memory as the devices see it, and the record of what they wrote.
#[derive(Debug)]
pub struct Ram {
    backing: Backing,
    /// Where C0000–FFFFF is RAM. Without ROMs it always is.
    pub shadow: [Shadow; SEGMENTS],
    /// Address and length.
    written: Vec<(u64, u64)>,
}

impl Ram {
    /// The memory of a machine.
    pub fn new(backing: Backing) -> Ram {
        let read_ram = backing.roms.is_none();
        let shadow = [Shadow { read_ram, write_ram: read_ram }; SEGMENTS];
        Ram { backing, shadow, written: Vec::new() }
    }

    /// The ROMs.
    pub fn roms(&self) -> Option<&Roms> {
        self.backing.roms.as_deref()
    }

    /// Address and length of what devices have written since the last call.
    pub fn take_written(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.written)
    }

    fn note(&mut self, gpa: u64, len: u64) {
        let full = self.written.len() >= MAX_WRITTEN;
        match self.written.last_mut() {
            Some((start, old)) if *start + *old == gpa => *old += len,
            // Told as one range with the last: more than was written is no harm.
            Some((start, old)) if full => {
                let end = (*start + *old).max(gpa + len);
                *start = (*start).min(gpa);
                *old = end - *start;
            }
            _ => self.written.push((gpa, len)),
        }
    }
}

impl Dma for Ram {
    fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), NoMemory> {
        let mut at = gpa;
        let mut rest = data;
        while !rest.is_empty() {
            let len = piece(at, rest.len());
            let (now, later) = rest.split_at_mut_checked(len).ok_or(NoMemory { gpa: at })?;
            let from_rom = shadow_at(&self.shadow, at).is_some_and(|shadow| !shadow.read_ram);
            let memory = match &self.backing.roms {
                Some(roms) if from_rom || at >= HOLE_END - roms.firmware_bytes && at < HOLE_END => &roms.fixed,
                _ => &self.backing.memory,
            };
            memory.read_slice(now, GuestAddress(at)).map_err(|_| NoMemory { gpa: at })?;
            at = at.checked_add(len as u64).ok_or(NoMemory { gpa: at })?;
            rest = later;
        }
        Ok(())
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), NoMemory> {
        let mut at = gpa;
        let mut rest = data;
        while !rest.is_empty() {
            let len = piece(at, rest.len());
            let (now, later) = rest.split_at_checked(len).ok_or(NoMemory { gpa: at })?;
            // A write to a ROM is lost.
            if shadow_at(&self.shadow, at).is_none_or(|shadow| shadow.write_ram) {
                self.backing.memory.write_slice(now, GuestAddress(at)).map_err(|_| NoMemory { gpa: at })?;
                self.note(at, len as u64);
            }
            at = at.checked_add(len as u64).ok_or(NoMemory { gpa: at })?;
            rest = later;
        }
        Ok(())
    }
}

/// How many of `len` bytes at `gpa` are of one kind of memory: below 1 MiB 16 KiB at a time.
fn piece(gpa: u64, len: usize) -> usize {
    let room = if gpa < HIGH_START { 0x4000 - (gpa & 0x3FFF) } else { u64::MAX };
    (len as u64).min(room) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram() -> Ram {
        let mut firmware = vec![0u8; 256 << 10];
        firmware[(256 << 10) - 16] = 0xEA;
        let roms = Roms::new(&firmware, Some(&[0x55, 0xAA])).unwrap();
        Ram::new(Backing { memory: super::super::create(4).unwrap(), roms: Some(Arc::new(roms)), video: None })
    }

    fn byte(ram: &Ram, gpa: u64) -> u8 {
        let mut data = [0];
        ram.read(gpa, &mut data).unwrap();
        data[0]
    }

    #[test]
    fn roms_are_seen_until_ram_is_switched_in() {
        let mut ram = ram();
        assert_eq!((byte(&ram, 0xF_FFF0), byte(&ram, 0xFFFF_FFF0), byte(&ram, 0xC_0000)), (0xEA, 0xEA, 0xFF));
        ram.write(0xF_FFF0, &[1]).unwrap();
        assert_eq!(byte(&ram, 0xF_FFF0), 0xEA);
        ram.shadow[12] = Shadow { read_ram: false, write_ram: true };
        ram.write(0xF_FFF0, &[1]).unwrap();
        assert_eq!(byte(&ram, 0xF_FFF0), 0xEA);
        ram.shadow[12].read_ram = true;
        assert_eq!(byte(&ram, 0xF_FFF0), 1);
        assert_eq!(ram.take_written(), [(0xF_FFF0, 1)]);
    }

    #[test]
    fn an_access_may_cross_pieces_but_not_the_end() {
        let mut ram = ram();
        ram.shadow[12] = Shadow { read_ram: true, write_ram: true };
        ram.write(0xE_FFFE, &[1, 2, 3, 4]).unwrap();
        let mut data = [0; 4];
        ram.read(0xE_FFFE, &mut data).unwrap();
        assert_eq!(data, [0, 0, 3, 4], "two bytes of the firmware, which are not written");
        assert_eq!(ram.write(0x9_FFFF, &[1, 2]), Err(NoMemory { gpa: 0xA_0000 }));
        assert_eq!(ram.read(u64::MAX, &mut [0, 0]), Err(NoMemory { gpa: u64::MAX }));
    }

    #[test]
    fn many_writes_are_told_as_few() {
        let mut ram = ram();
        for index in 0..1000u64 {
            ram.write(index * 32, &[1]).unwrap();
        }
        let written = ram.take_written();
        assert!(written.len() <= MAX_WRITTEN);
        assert!(written.iter().any(|(start, len)| *start <= 999 * 32 && start + len > 999 * 32));
        assert!(ram.take_written().is_empty());
    }

    #[test]
    fn every_source_has_an_address() {
        let ram = ram();
        assert!(ram.backing.host_address(Source::Ram(0), 0xA_0000).is_some());
        assert!(ram.backing.host_address(Source::Rom(0xFFFC_0000), 256 << 10).is_some());
        assert!(ram.backing.host_address(Source::VgaRom(0), 4096).is_some());
        assert_eq!(ram.backing.host_address(Source::VgaRom(0), 8192), None);
        assert_eq!(ram.backing.host_address(Source::Ram(0), 0xA_0001), None);
    }
}
