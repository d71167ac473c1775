// SPDX-License-Identifier: GPL-2.0
//! Does the CPU say so when a page-table entry has an address bit that it does not have? CPUID promises it for the bits from MAXPHYADDR on
//! (SDM vol. 3 §4.5.4), but under a hypervisor CPUID may tell of fewer than the hardware has. So it is tried once, when the module is
//! loaded: an entry with the highest address bit, read by guest code of nobody's, must end the stay with RSVD in the error code.

use super::cpu;
use super::enter::World;
use super::slot::{self, SLOT_INDEX, TABLE_FLAGS};
use crate::sys::page::OwnedPage;
use crate::sys::task::AddressSpace;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::prelude::*;
use rvmm_arch::host::{DescriptorTable, GuestContext, WorldExit};

/// The highest address bit that an entry has room for.
const HIGHEST: u64 = 1 << 51;
/// Pages of guest code and of what it reads, in the one page table.
const CODE: u64 = 0x1000;
const READ: u64 = 0x5000;
/// `mov eax, [READ]`
const LOAD: [u8; 5] = [0xa1, 0x00, 0x50, 0x00, 0x00];
/// Flat code and data of ring 3, and their selectors.
const SEGMENTS: [(u16, u64); 2] = [(1, 0x00cf_fb00_0000_ffff), (2, 0x00cf_f300_0000_ffff)];
const CS: u16 = 0xb;
const SS: u16 = 0x13;
/// RSVD in the error code of a page fault.
const RSVD: u32 = 8;
/// Host interrupts that may come in between.
const PATIENCE: u32 = 1000;

static BIT: AtomicU64 = AtomicU64::new(0);

/// The bit, or 0.
pub(crate) fn bit() -> u64 {
    BIT.load(Ordering::Relaxed)
}

/// Finds out. In process context, with the slot ready.
pub(crate) fn probe() -> Result {
    if cpu::cpuid(0x8000_0008, 0)[0] as u8 >= 52 {
        return Ok(());
    }
    let slot = slot::get()?;
    let space = AddressSpace::current()?;
    slot.attach(&space)?;
    let result = World::new(slot.clone()).and_then(try_it);
    slot.detach(&space);
    BIT.store(if result? { HIGHEST } else { 0 }, Ordering::Relaxed);
    Ok(())
}

fn try_it(mut world: World) -> Result<bool> {
    let mut tables = KVec::new();
    for _ in 0..world.area.slot().levels() {
        tables.push(OwnedPage::new()?, GFP_KERNEL)?;
    }
    let mut code = OwnedPage::new()?;
    for (to, byte) in code.bytes().iter_mut().zip(LOAD) {
        *to = byte;
    }
    for pair in tables.windows(2) {
        if let [upper, lower] = pair {
            upper.write_entry(0, lower.phys() | TABLE_FLAGS | 4);
        }
    }
    let (Some(top), Some(last)) = (tables.first(), tables.last()) else { return Err(EINVAL) };
    top.write_entry(usize::from(SLOT_INDEX), world.area.guest_entry());
    // Present, user, accessed; and present and the bit, as in shadow tables.
    last.write_entry((CODE >> 12) as usize, code.phys() | 0x25);
    last.write_entry((READ >> 12) as usize, HIGHEST | 1);
    let mut ctx = GuestContext { cr3: top.phys(), rip: CODE, ..GuestContext::default() };
    ctx.sel = [SS, CS, SS, SS, 0, 0];
    for (index, raw) in SEGMENTS {
        if !world.area.set_descriptor(DescriptorTable::Gdt, index, raw) {
            return Err(EINVAL);
        }
    }
    for _ in 0..PATIENCE {
        match world.enter(&mut ctx, None, None) {
            WorldExit::HostInterrupt(_) | WorldExit::Nmi | WorldExit::MachineCheck => {}
            exit => return Ok(exit == WorldExit::Exception(14) && ctx.error & RSVD != 0 && ctx.cr2 == READ),
        }
    }
    Ok(false)
}
