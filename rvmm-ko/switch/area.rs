// SPDX-License-Identifier: GPL-2.0
//! One vCPU's VMM area: its pages, where they are mapped, and the tables of the guest world.

use super::descriptors;
use super::image::{self, STUB_SIZE};
use super::layout::*;
use super::slot::{Slot, TABLE_FLAGS};
use crate::sys::page::OwnedPage;
use core::mem::{offset_of, size_of};
use kernel::prelude::*;
use kernel::sync::Arc;
use rvmm_arch::host::DescriptorTable;
use rvmm_arch::segment::{Descriptor, Selector};

/// No execution.
const NX: u64 = 1 << 63;
/// Present, writable, accessed, dirty.
const DATA: u64 = 0x63 | NX;
/// Present, accessed; neither writable nor executable.
const READ_ONLY: u64 = 0x21 | NX;
/// Present, accessed; executable, not writable.
const CODE: u64 = 0x21;

/// 64-bit code, DPL 0, accessed.
const CODE64: u64 = 0x00af_9b00_0000_ffff;

/// A vCPU's area.
///
/// # Invariants
/// All pages but the vCPU page and the guest's TSS are mapped in the region as [`super::layout`] says as long as the value lives, and nowhere else but in the
/// guest world's tables through `guest_entry`.
pub(crate) struct Area {
    slot: Arc<Slot>,
    region: u16,
    control: OwnedPage,
    // Held because hardware uses them.
    _idt: [OwnedPage; 2],
    gdt: KVec<OwnedPage>,
    ldt: KVec<OwnedPage>,
    _transition: OwnedPage,
    /// Levels 2 and 1 of the region. Held because hardware uses them, and for the vCPU page.
    tables: [OwnedPage; 2],
    guest_level3: OwnedPage,
    guest_level4: Option<OwnedPage>,
    /// The guest is in long mode: what may stand in the shadow tables.
    long_mode: bool,
}

impl Area {
    /// Allocates and maps an area.
    pub(crate) fn new(slot: Arc<Slot>) -> Result<Self> {
        let (level2, level1) = (OwnedPage::new()?, OwnedPage::new()?);
        level2.write_entry(0, level1.phys() | TABLE_FLAGS);
        let mut control = OwnedPage::new()?;
        let mut idt = [OwnedPage::new()?, OwnedPage::new()?];
        let transition = OwnedPage::new()?;
        let mut gdt = KVec::with_capacity(TABLE_PAGES, GFP_KERNEL)?;
        let mut ldt = KVec::with_capacity(TABLE_PAGES, GFP_KERNEL)?;
        for _ in 0..TABLE_PAGES {
            gdt.push(OwnedPage::new()?, GFP_KERNEL)?;
            ldt.push(OwnedPage::new()?, GFP_KERNEL)?;
        }
        let guest_level3 = OwnedPage::new()?;
        let guest_level4 = if slot.levels() == 5 { Some(OwnedPage::new()?) } else { None };

        for (i, pa) in slot.image_pages().enumerate() {
            level1.write_entry(i, pa | CODE);
        }
        let map = |page: usize, what: &OwnedPage| level1.write_entry(page, what.phys() | DATA);
        map(CONTROL_PAGE, &control);
        map(IDT_A_PAGE, &idt[0]);
        map(IDT_B_PAGE, &idt[1]);
        map(TRANSITION_PAGE, &transition);
        for (i, page) in gdt.iter().enumerate() {
            map(GDT_PAGE.wrapping_add(i), page);
        }
        for (i, page) in ldt.iter().enumerate() {
            map(LDT_PAGE.wrapping_add(i), page);
        }
        if let Some(last) = gdt.last() {
            map(TRANSITION_PAGE.wrapping_add(TABLE_PAGES - 1), last);
        }

        let region = slot.map_region(level2.phys())?;
        let base = slot.region_base(region);
        guest_level3.write_entry(usize::from(region), level2.phys() | TABLE_FLAGS);
        if let Some(level4) = &guest_level4 {
            level4.write_entry(0, guest_level3.phys() | TABLE_FLAGS);
        }
        fill_idt(&mut idt[0], base, HOST_CS);
        fill_idt(&mut idt[1], base, VMM_CS);
        fill_tss(&mut control, base);
        transition.write_entry(usize::from(HOST_CS >> 3), CODE64);
        let mut area = Self {
            slot,
            region,
            control,
            _idt: idt,
            gdt,
            ldt,
            _transition: transition,
            tables: [level2, level1],
            guest_level3,
            guest_level4,
            long_mode: false,
        };
        area.set_own_descriptors();
        area.fill_table_operands();
        Ok(area)
    }

    /// Maps the vCPU page, which belongs to the engine, for the image: supervisor pages like all of the area. To be called before an
    /// entry that lends turns back; the image looks at the page in no other one, so that an old page may stay mapped.
    pub(crate) fn map_vcpu_page(&mut self, hpa: u64) {
        let [_, level1] = &self.tables;
        if level1.read_entry(VCPU_PAGE) != hpa | DATA {
            level1.write_entry(VCPU_PAGE, hpa | DATA);
        }
    }

    /// Maps the page of the guest's TSS with its stack pointers, for the image to read. As for the vCPU page.
    pub(crate) fn map_guest_tss(&mut self, hpa: u64) {
        let [_, level1] = &self.tables;
        if level1.read_entry(TSS_PAGE) != hpa | READ_ONLY {
            level1.write_entry(TSS_PAGE, hpa | READ_ONLY);
        }
    }

    /// Linear address of a page of the area.
    fn page_address(&self, page: usize) -> u64 {
        self.slot.region_base(self.region).wrapping_add(page.wrapping_mul(PAGE) as u64)
    }

    /// Linear address of the image: where the switcher is called.
    pub(crate) fn entry_point(&self) -> u64 {
        self.page_address(0)
    }

    /// The slot the area lies in.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What the slot's entry must be in every top-level table of the guest world.
    pub(crate) fn guest_entry(&self) -> u64 {
        self.guest_level4.as_ref().unwrap_or(&self.guest_level3).phys() | TABLE_FLAGS
    }

    /// The control page.
    pub(crate) fn control(&mut self) -> &mut Control {
        // SAFETY: the page is larger than `Control` and aligned, any bit pattern is a valid `Control`, and `&mut self` makes the
        // reference unique; the image uses the page only inside `enter`, which holds `&mut self` and no such reference meanwhile.
        unsafe { &mut *self.control.as_ptr().cast::<Control>() }
    }

    /// The replies in it.
    pub(crate) fn replies(&mut self) -> &mut Replies {
        // SAFETY: they lie in the page behind `Control` and the TSS, aligned; any bit pattern is valid; else as above.
        unsafe { &mut *self.control.as_ptr().add(REPLIES_OFFSET).cast::<Replies>() }
    }

    fn set_own_descriptors(&mut self) {
        let tss = self.page_address(CONTROL_PAGE).wrapping_add(TSS_OFFSET as u64);
        let ldt = self.page_address(LDT_PAGE);
        self.put_gdt(VMM_CS >> 3, CODE64);
        self.put_system(VMM_TSS >> 3, tss, 0x67, 0x9);
        self.put_system(VMM_LDT >> 3, ldt, 0xffff, 0x2);
    }

    /// Clears the busy bit that the last LTR has set.
    pub(crate) fn free_task(&mut self) {
        if let Some(last) = self.gdt.last() {
            let at = usize::from(VMM_TSS >> 3 & 511);
            last.write_entry(at, last.read_entry(at) & !Descriptor::BUSY);
        }
    }

    fn put_gdt(&self, index: u16, raw: u64) {
        if let Some(page) = self.gdt.get(usize::from(index >> 9)) {
            page.write_entry(usize::from(index & 511), raw);
        }
    }

    fn put_system(&self, index: u16, base: u64, limit: u64, kind: u64) {
        let low = (limit & 0xffff) | (base & 0xff_ffff) << 16 | (0x80 | kind) << 40 | (base >> 24 & 0xff) << 56;
        self.put_gdt(index, low);
        self.put_gdt(index.wrapping_add(1), base >> 32);
    }

    fn fill_table_operands(&mut self) {
        let table = |base: u64, limit: u16| Table(TableOperand { limit, base });
        let idt_a = table(self.page_address(IDT_A_PAGE), 0xfff);
        let idt_b = table(self.page_address(IDT_B_PAGE), 0xfff);
        let shadow = table(self.page_address(GDT_PAGE), 0xffff);
        let transition = table(self.page_address(TRANSITION_PAGE), 0xffff);
        let control = self.control();
        control.idtr_a = idt_a;
        control.idtr_b = idt_b;
        control.gdtr_shadow = shadow;
        control.gdtr_transition = transition;
    }

    /// Sets an entry of the shadow GDT or LDT; `false` for what must never reach the hardware.
    pub(crate) fn set_descriptor(&mut self, table: DescriptorTable, index: u16, raw: u64) -> bool {
        if !descriptors::allowed(table, index, raw, self.long_mode) {
            return false;
        }
        let pages = match table {
            DescriptorTable::Gdt => &self.gdt,
            DescriptorTable::Ldt => &self.ldt,
        };
        match pages.get(usize::from(index >> 9)) {
            Some(page) => {
                page.write_entry(usize::from(index & 511), raw);
                true
            }
            None => false,
        }
    }

    /// The guest enters or leaves long mode: descriptors that are not for the other side of it are made not present.
    pub(crate) fn set_long_mode(&mut self, on: bool) {
        if self.long_mode == on {
            return;
        }
        self.long_mode = on;
        for (table, pages) in [(DescriptorTable::Gdt, &self.gdt), (DescriptorTable::Ldt, &self.ldt)] {
            for (i, page) in pages.iter().enumerate() {
                for at in 0..512_usize {
                    let (index, raw) = ((i << 9 | at) as u16, page.read_entry(at));
                    let ours = table == DescriptorTable::Gdt && index >= VMM_INDEX;
                    if !ours && !descriptors::allowed(table, index, raw, on) {
                        page.write_entry(at, 0);
                    }
                }
            }
        }
    }

    /// Is the guest in long mode?
    pub(crate) fn long_mode(&self) -> bool {
        self.long_mode
    }

    /// An entry of the shadow GDT or LDT; 0 beyond the end.
    pub(crate) fn descriptor(&self, table: DescriptorTable, index: u16) -> u64 {
        let pages = match table {
            DescriptorTable::Gdt => &self.gdt,
            DescriptorTable::Ldt => &self.ldt,
        };
        pages.get(usize::from(index >> 9)).map_or(0, |p| p.read_entry(usize::from(index & 511)))
    }

    /// Does a selector name a 64-bit code segment of the shadow tables?
    pub(crate) fn is_long_code(&self, selector: Selector) -> bool {
        let table = if selector.is_ldt() { DescriptorTable::Ldt } else { DescriptorTable::Gdt };
        let d = Descriptor(self.descriptor(table, selector.index()));
        d.present() && d.is_code() && d.0 & Descriptor::LONG != 0
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // Before the pages go: after this no CPU can reach them through the region.
        self.slot.unmap_region(self.region);
    }
}

/// 256 interrupt gates through `cs`, DPL 0 but for vector 3 (INT3 is the one software interrupt that arrives as itself).
fn fill_idt(page: &mut OwnedPage, base: u64, cs: u16) {
    let stubs = base.wrapping_add(u64::from(image::offsets().stubs));
    for vector in 0..256_u64 {
        let target = stubs.wrapping_add(vector.wrapping_mul(STUB_SIZE));
        let ist: u64 = match vector {
            8 => 1,
            2 => 2,
            1 => 3,
            18 => 4,
            _ => 0,
        };
        let dpl: u64 = if vector == 3 { 3 } else { 0 };
        let low = (target & 0xffff)
            | u64::from(cs) << 16
            | ist << 32
            | (0x8e | dpl << 5) << 40
            | (target >> 16 & 0xffff) << 48;
        let at = (vector as usize).wrapping_mul(2);
        page.write_entry(at, low);
        page.write_entry(at.wrapping_add(1), target >> 32);
    }
}

fn fill_tss(page: &mut OwnedPage, base: u64) {
    let control = base.wrapping_add((CONTROL_PAGE * PAGE) as u64);
    let frame_end = control.wrapping_add((offset_of!(Control, frame) + size_of::<Frame>()) as u64);
    let mut ist = [0; 7];
    for (slot, top) in ist.iter_mut().zip(IST_TOPS) {
        *slot = control.wrapping_add(top);
    }
    let tss =
        Tss { reserved0: 0, rsp: [frame_end, 0, 0], reserved1: 0, ist, reserved2: 0, reserved3: 0, io_bitmap: 0x68 };
    // SAFETY: the packed structure lies in the page behind `Control`, and no CPU uses it yet.
    unsafe { page.as_ptr().add(TSS_OFFSET).cast::<Tss>().write_unaligned(tss) };
}
