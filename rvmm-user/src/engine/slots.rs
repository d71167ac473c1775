//! The memory slots of a VM: which of this process' memory its guest sees, changed piece by piece.

use kvm_bindings::{kvm_userspace_memory_region, KVM_MEM_READONLY};
use kvm_ioctls::VmFd;

use super::ioctl;
use crate::error::Error;
use crate::memory::layout::Region;
use crate::memory::ram::Backing;

/// What is shown now, by number.
#[derive(Debug, Default)]
pub struct Slots {
    shown: Vec<(u32, Region)>,
}

impl Slots {
    /// Shows `wanted` of `backing`, which lives at least as long as `vm`. What stays is not touched.
    pub fn show(&mut self, vm: &VmFd, backing: &Backing, wanted: &[Region]) -> Result<(), Error> {
        for (number, region) in self.take_unwanted(wanted) {
            set(vm, number, &Region { len: 0, ..region }, 0)?;
        }
        for region in wanted {
            if self.shown.iter().any(|(_, old)| old == region) {
                continue;
            }
            let number = self.free_number();
            let address = backing.host_address(region.source, region.len).ok_or(Error::Host {
                what: "showing the guest its memory",
                source: std::io::Error::other(format!("a bug in rvmm: nothing is behind {region:x?}")),
            })?;
            set(vm, number, region, address)?;
            self.shown.push((number, *region));
        }
        Ok(())
    }

    fn take_unwanted(&mut self, wanted: &[Region]) -> Vec<(u32, Region)> {
        let (kept, gone) = self.shown.drain(..).partition(|(_, region)| wanted.contains(region));
        self.shown = kept;
        gone
    }

    fn free_number(&self) -> u32 {
        (0..).find(|number| self.shown.iter().all(|(taken, _)| taken != number)).unwrap_or(u32::MAX)
    }
}

fn set(vm: &VmFd, slot: u32, region: &Region, userspace_addr: u64) -> Result<(), Error> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: if region.read_only { KVM_MEM_READONLY } else { 0 },
        guest_phys_addr: region.start,
        memory_size: region.len,
        userspace_addr,
    };
    // SAFETY: the range is mapped for as long as the backing lives, which `Vm` keeps until its descriptor is closed.
    unsafe { vm.set_user_memory_region(region) }.map_err(|error| ioctl("KVM_SET_USER_MEMORY_REGION", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::layout::Source;

    #[test]
    fn numbers_of_slots_that_went_are_used_again() {
        let region = |start| Region { start, len: 4096, source: Source::Ram(start), read_only: false };
        let mut slots = Slots { shown: vec![(0, region(0)), (1, region(4096)), (2, region(8192))] };
        assert_eq!(slots.take_unwanted(&[region(0), region(8192)]), [(1, region(4096))]);
        assert_eq!(slots.free_number(), 1);
    }
}
