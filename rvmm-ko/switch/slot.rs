// SPDX-License-Identifier: GPL-2.0
//! The module's slot: entry 260 of the top-level page table, in the hole that the kernel leaves for hypervisors
//! (Documentation/arch/x86/x86_64/mm.rst, "guard hole").
//!
//! The entry is the same in every address space that has a VM, so it is written into the process' own table once, by the first VM,
//! and taken out by the last: no copy of the table, and two CR3 loads per round trip instead of four. Below it each vCPU has a region
//! of 1 GiB (one third-level entry), so vCPUs and VMs never share a linear address. The guest world sees only the vCPU's own region.
//!
//! Lock: `state` is a leaf; nothing is locked under it.

use super::image;
use super::layout::{IMAGE_PAGES, PAGE};
use crate::sys::page::OwnedPage;
use crate::sys::task::{flush_all_cpus, AddressSpace};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, Mutex};
use kernel::{new_mutex, sync};

/// Index of the slot in the top-level table.
pub(crate) const SLOT_INDEX: u16 = 260;
/// Present, writable, and accessed already, so that the CPU changes no entry behind our back.
pub(crate) const TABLE_FLAGS: u64 = 0x23;

struct State {
    /// Regions in use, one bit each.
    regions: [u64; 8],
    /// Address spaces that have the entry, with the number of VMs in each.
    spaces: KVec<(AddressSpace, u32)>,
}

/// The slot.
#[pin_data]
pub(crate) struct Slot {
    /// Levels of the host's page tables.
    levels: u8,
    /// With five levels, the trivial level between the top and the regions' table.
    level4: Option<OwnedPage>,
    /// One entry per region.
    level3: OwnedPage,
    image: KVec<OwnedPage>,
    #[pin]
    state: Mutex<State>,
}

sync::global_lock! {
    // SAFETY: initialised in the module's init before anything can open the device.
    unsafe(uninit) static SLOT: Mutex<Option<Arc<Slot>>> = None;
}

/// Prepares the slot. Called once, from module init.
pub(crate) fn init(levels: u8) -> Result {
    // SAFETY: called exactly once, before any other use of the lock.
    unsafe { SLOT.init() };
    let slot = Slot::new(levels)?;
    *SLOT.lock() = Some(slot);
    Ok(())
}

/// Gives the slot up: from module exit, when no VM exists any more.
pub(crate) fn exit() {
    let slot = SLOT.lock().take();
    drop(slot);
}

/// The slot.
pub(crate) fn get() -> Result<Arc<Slot>> {
    SLOT.lock().clone().ok_or(ENODEV)
}

impl Slot {
    fn new(levels: u8) -> Result<Arc<Self>> {
        let level3 = OwnedPage::new()?;
        let level4 = if levels == 5 {
            let page = OwnedPage::new()?;
            page.write_entry(0, level3.phys() | TABLE_FLAGS);
            Some(page)
        } else {
            None
        };
        let bytes = image::bytes();
        let mut image = KVec::with_capacity(IMAGE_PAGES, GFP_KERNEL)?;
        for chunk in bytes.chunks(PAGE) {
            let mut page = OwnedPage::new()?;
            for (to, from) in page.bytes().iter_mut().zip(chunk) {
                *to = *from;
            }
            image.push(page, GFP_KERNEL)?;
        }
        if image.len() > IMAGE_PAGES {
            pr_err!("the switcher's image has outgrown its pages\n");
            return Err(ENOSPC);
        }
        Arc::pin_init(
            try_pin_init!(Self {
                levels,
                level4,
                level3,
                image,
                state <- new_mutex!(State { regions: [0; 8], spaces: KVec::new() }),
            }),
            GFP_KERNEL,
        )
    }

    /// Levels of the host's page tables.
    pub(crate) fn levels(&self) -> u8 {
        self.levels
    }

    /// The top-level entry of the host's world.
    fn entry(&self) -> u64 {
        self.level4.as_ref().unwrap_or(&self.level3).phys() | TABLE_FLAGS
    }

    /// Linear address of a region.
    pub(crate) fn region_base(&self, region: u16) -> u64 {
        let (shift, sign) = if self.levels == 5 { (48, 57) } else { (39, 48) };
        let top = u64::from(SLOT_INDEX) << shift;
        (top | (u64::MAX << sign)).wrapping_add(u64::from(region) << 30)
    }

    /// Physical addresses of the image's pages.
    pub(crate) fn image_pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.image.iter().map(OwnedPage::phys)
    }

    /// Puts the entry into an address space (counted). EBUSY if something else is there.
    pub(crate) fn attach(&self, space: &AddressSpace) -> Result {
        let mut state = self.state.lock();
        if let Some((_, n)) = state.spaces.iter_mut().find(|(s, _)| s.id() == space.id()) {
            *n = n.wrapping_add(1);
            return Ok(());
        }
        state.spaces.push((space.share(), 1), GFP_KERNEL)?;
        let was = top_entry(space).compare_exchange(0, self.entry(), Ordering::AcqRel, Ordering::Acquire);
        if was.is_err() {
            let last = state.spaces.pop();
            drop(state);
            drop(last);
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Takes it out again with the last VM of the address space.
    pub(crate) fn detach(&self, space: &AddressSpace) {
        let mut state = self.state.lock();
        let Some(at) = state.spaces.iter().position(|(s, _)| s.id() == space.id()) else { return };
        if let Some((_, n)) = state.spaces.get_mut(at) {
            *n = n.saturating_sub(1);
            if *n > 0 {
                return;
            }
        }
        top_entry(space).store(0, Ordering::Release);
        let gone = state.spaces.remove(at).ok();
        drop(state);
        drop(gone);
        // The tables below are freed no earlier than at module exit, but the CPUs may cache the path to them.
        flush_all_cpus();
    }

    /// Is the entry in the table whose physical address CR3 holds?
    pub(crate) fn is_in(&self, cr3: u64) -> bool {
        let top = crate::sys::page::phys_to_direct_map(cr3 & 0x000f_ffff_ffff_f000) as *const AtomicU64;
        // SAFETY: CR3 holds the physical address of the live top-level table, which is in the direct map and has 512 entries.
        unsafe { (*top.add(usize::from(SLOT_INDEX))).load(Ordering::Relaxed) == self.entry() }
    }

    /// Takes a free region and maps `table` (a second-level table) there. ENOSPC when none is free.
    pub(crate) fn map_region(&self, table: u64) -> Result<u16> {
        let mut state = self.state.lock();
        for (i, word) in state.regions.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < 64 {
                *word |= 1 << bit;
                let region = i.wrapping_mul(64).wrapping_add(bit as usize);
                self.level3.write_entry(region, table | TABLE_FLAGS);
                return Ok(region as u16);
            }
        }
        Err(ENOSPC)
    }

    /// Unmaps a region and gives it back. No CPU has a translation of it afterwards.
    pub(crate) fn unmap_region(&self, region: u16) {
        self.level3.write_entry(usize::from(region), 0);
        flush_all_cpus();
        let mut state = self.state.lock();
        if let Some(word) = state.regions.get_mut(usize::from(region) / 64) {
            *word &= !(1 << (region % 64));
        }
    }
}

fn top_entry(space: &AddressSpace) -> &AtomicU64 {
    // SAFETY: the table has 512 entries and lives as long as the address space; the kernel never writes this entry (it belongs to
    // the guard hole), and all writers of the module hold the slot's lock.
    unsafe { &*space.top_table().cast::<AtomicU64>().add(usize::from(SLOT_INDEX)) }
}
