//! From firmware to the kernel that was given on the command line: what a boot loader does, at the moment when firmware would start one.

use std::path::PathBuf;

use kvm_bindings::kvm_vcpu_events;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::{reset, setup};
use crate::boot::modules::Module;
use crate::boot::{self, kernel_rom, Entry, Payload, Picture, Protocol, Screen};
use crate::engine::{ioctl, Vm};
use crate::error::Error;
use crate::memory::map::Map;
use crate::memory::{self, GuestMemory};
use crate::shared::Shared;

/// A kernel and what it is given, kept for every start of the machine.
pub struct Handover {
    pub memory: GuestMemory,
    pub memory_bytes: u64,
    pub kernel_path: PathBuf,
    pub kernel: Vec<u8>,
    pub modules: Vec<Module>,
    pub command_line: String,
    pub protocol: Option<Protocol>,
}

impl Handover {
    /// Loads the kernel somewhere else, so that what is wrong with it is told before anything runs.
    pub fn try_out(&self, has_display: bool) -> Result<Entry, Error> {
        let scratch = memory::create(self.memory_bytes >> 20)?;
        let screen = has_display.then_some(Screen { frame_buffer: None, bytes: 0 });
        self.load(&scratch, &Map::without_firmware(self.memory_bytes), screen)
    }

    /// Starts the kernel, after an exit that said that firmware is done.
    pub fn start(&self, vcpu: &mut VcpuFd, vm: &Vm, shared: &Shared, map_entries: u16) -> Result<(), Error> {
        reset::finish_access(vcpu)?;
        let screen = shared.lock().machine.screen_memory();
        let screen = screen.map(|(frame_buffer, bytes)| Screen { frame_buffer, bytes });
        let entry = self.load(&self.memory, &self.read_map(map_entries)?, screen)?;
        let pixels = match entry.picture {
            Some(Picture::Pixels { width, height, depth, .. }) => Some((width, height, depth)),
            Some(Picture::Text) | None => None,
        };
        shared.lock().machine.hand_over(pixels);
        vm.memory_written(&[(0, memory::end(self.memory_bytes))])?;
        tracing::info!("firmware is done; the kernel starts at {:#x} in {:?} mode", entry.rip, entry.mode);
        vcpu.set_vcpu_events(&kvm_vcpu_events::default()).map_err(|error| ioctl("KVM_SET_VCPU_EVENTS", error))?;
        setup::enter(vcpu, &entry, None)
    }

    fn load(&self, memory: &GuestMemory, map: &Map, screen: Option<Screen>) -> Result<Entry, Error> {
        let payload = Payload {
            kernel_path: &self.kernel_path,
            kernel: &self.kernel,
            modules: &self.modules,
            command_line: &self.command_line,
            memory_bytes: self.memory_bytes,
            map,
            screen,
            firmware: true,
            protocol: self.protocol,
        };
        boot::load(memory, &payload)
    }

    /// The map that the BIOS has told the option ROM.
    fn read_map(&self, entries: u16) -> Result<Map, Error> {
        let entries = entries.min(kernel_rom::MAP_MOST);
        let mut table = vec![0; usize::from(entries) * kernel_rom::MAP_ENTRY as usize];
        self.memory.read_slice(&mut table, GuestAddress(kernel_rom::MAP.into())).map_err(|error| Error::Host {
            what: "reading the memory map",
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Map::from_e820(&table))
    }
}
