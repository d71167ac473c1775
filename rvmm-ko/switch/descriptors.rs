// SPDX-License-Identifier: GPL-2.0
//! Which descriptors may reach the shadow GDT and LDT. Pure.

use super::layout::VMM_INDEX;
use rvmm_arch::host::DescriptorTable;
use rvmm_arch::segment::Descriptor;

/// May this entry be set? Present descriptors must be code or data, and outside long mode of DPL 1 to 3 and not 64-bit code, in it
/// of DPL 3; the VMM's own indices never change. Entries that are not present never reach a segment register, so their other bits do
/// not matter.
pub(crate) fn allowed(table: DescriptorTable, index: u16, raw: u64, long_mode: bool) -> bool {
    let d = Descriptor(raw);
    let room = match table {
        DescriptorTable::Gdt => index < VMM_INDEX,
        DescriptorTable::Ldt => index < 8192,
    };
    let privilege = if long_mode { d.dpl() == 3 } else { d.dpl() != 0 };
    let width = long_mode || raw & Descriptor::LONG == 0 || !d.is_code();
    room && (!d.present() || (d.is_code_or_data() && privilege && width))
}
