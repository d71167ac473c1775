// SPDX-License-Identifier: GPL-2.0
//! The guest world of the 64-bit cases: its addresses and segments, the pages that are there with their contents, and the page tables of
//! program and kernel.

use super::case::{context, Case, Place};
use super::served::ASKED;
use super::{access, back, compat, events, turn};
use crate::switch::cpu;
use crate::switch::enter::World;
use crate::switch::layout::PAGE;
use crate::switch::reserved;
use crate::switch::selftest::fill;
use crate::switch::slot::{SLOT_INDEX, TABLE_FLAGS};
use crate::sys::page::OwnedPage;
use kernel::prelude::*;
use rvmm_arch::host::{DescriptorTable, GuestContext};

/// Where the host's kernel may be, too.
pub(super) const HIGH: u64 = 0xffff_ffff_8100_0000;
/// The same page with protection key 1.
pub(super) const KEYED: u64 = HIGH + PAGE as u64;
/// The same page again, for 32-bit code.
pub(super) const LOW: u64 = 0x40_0000;
/// A page to write to, at the end of the lower half.
pub(super) const DATA: u64 = 0x7fff_ffff_e000;
/// Nothing is there.
pub(super) const NOWHERE: u64 = 0xffff_8880_0000_5234;
/// A page whose entry stands for one that the guest has not, where the CPU tells of reserved bits.
pub(super) const MARKED: u64 = 0x41_1000;
/// In no page tables is this an address.
pub(super) const BAD: u64 = 0x8000_0000_0000_0000;
/// A page that only the kernel's tables have.
pub(super) const KERNEL_DATA: u64 = 0xffff_ffff_8200_0000;
/// The vCPU page, in the kernel's tables only.
pub(super) const VCPU: u64 = 0xffff_ffff_8200_1000;

/// 64-bit code, 32-bit code, flat data, data with a base, data that is not present, an index beyond those.
pub(super) const CS64: u16 = 0xb;
pub(super) const CS32: u16 = 0x13;
pub(super) const SS: u16 = 0x1b;
pub(super) const BASED: u16 = 0x23;
pub(super) const ABSENT: u16 = 0x28;
pub(super) const BEYOND: u16 = 0x33;
/// Base of `BASED`.
pub(super) const BASE: u64 = 0x1234_5000;
/// The guest kernel's own entries, which its programs do not see.
pub(super) const KERNEL_CS: u16 = 0x43;
pub(super) const KERNEL_SS: u16 = 0x4b;
pub(super) const KERNEL: [u64; 2] = [0x00af_fb00_0000_ffff, 0x00cf_f300_0000_ffff];

/// Each case's code starts at a multiple of this.
const CASE: usize = 16;
/// In the data page: far pointers to the VMM's code segment and to `LANDING`.
pub(super) const FAR_TO_VMM: u64 = 0x80;
pub(super) const FAR_TO_CODE: u64 = 0x88;
/// In the code page: `inc eax; int3` for 32-bit code. 64-bit code would read a prefix there.
pub(super) const LANDING: u64 = 0xf00;

/// Page tables of a guest world.
struct Tables {
    levels: u8,
    /// The top first.
    pages: KVec<OwnedPage>,
}

impl Tables {
    fn new(world: &World) -> Result<Self> {
        let mut pages = KVec::new();
        let top = OwnedPage::new()?;
        top.write_entry(usize::from(SLOT_INDEX), world.area.guest_entry());
        pages.push(top, GFP_KERNEL)?;
        Ok(Self { levels: world.area.slot().levels(), pages })
    }

    fn root(&self) -> u64 {
        self.pages.first().map_or(0, OwnedPage::phys)
    }

    /// Sets the entry of a page to which all tables are there; false: they are not.
    fn set_known(&self, address: u64, entry: u64) -> bool {
        let mut table = self.pages.first();
        for level in (2..=u32::from(self.levels)).rev() {
            let below = table.map_or(0, |t| t.read_entry((address >> (3 + 9 * level)) as usize & 511) & !0xfff);
            table = self.pages.iter().find(|p| p.phys() == below);
        }
        table.map(|t| t.write_entry((address >> 12) as usize & 511, entry)).is_some()
    }

    /// Maps one page, with what it needs of tables.
    fn map(&mut self, address: u64, entry: u64) -> Result {
        let mut at = 0;
        for level in (1..=u32::from(self.levels)).rev() {
            let index = (address >> (3 + 9 * level)) as usize & 511;
            let table = self.pages.get(at).ok_or(EINVAL)?;
            if level == 1 {
                table.write_entry(index, entry);
                break;
            }
            let below = table.read_entry(index) & !0xfff;
            at = match self.pages.iter().position(|p| p.phys() == below) {
                Some(known) => known,
                None => {
                    let page = OwnedPage::new()?;
                    table.write_entry(index, page.phys() | TABLE_FLAGS | 4);
                    self.pages.push(page, GFP_KERNEL)?;
                    self.pages.len().wrapping_sub(1)
                }
            };
        }
        Ok(())
    }
}

/// The pages of the world, and its tables for the guest's program and kernel.
pub(super) struct Pages {
    program: Tables,
    kernel: Tables,
    host: [u64; 2],
    vcpu_page: u64,
    tss_page: u64,
    data_page: u64,
    /// Theirs as long as the tables are.
    _mapped: [OwnedPage; 5],
}

impl Pages {
    /// The pages, with the code of so many cases and a loop behind them.
    pub(super) fn new(world: &World, cases: impl Iterator<Item = &'static Case>) -> Result<Self> {
        const NX: u64 = 1 << 63;
        let (code, data) = (code_page(cases)?, data_page()?);
        let mut kernel_data = OwnedPage::new()?;
        fill(Some(kernel_data.bytes()), &KERNEL_DATA.to_le_bytes());
        let (mut program, mut kernel) = (Tables::new(world)?, Tables::new(world)?);
        // Present, user, accessed, read-only; the data page also writable, dirty.
        for tables in [&mut program, &mut kernel] {
            tables.map(HIGH, code.phys() | 0x25)?;
            tables.map(KEYED, code.phys() | 0x25 | 1 << 59)?;
            tables.map(LOW, code.phys() | 0x25)?;
            tables.map(DATA, data.phys() | 0x67 | NX)?;
        }
        kernel.map(KERNEL_DATA, kernel_data.phys() | 0x25 | NX)?;
        let vcpu = OwnedPage::new()?;
        kernel.map(VCPU, vcpu.phys() | 0x67 | NX)?;
        if reserved::bit() != 0 {
            program.map(MARKED, reserved::bit() | 1)?;
        }
        let mut tss = OwnedPage::new()?;
        let (at, pointer) = events::stack_pointer();
        fill(tss.bytes().get_mut(at..), &pointer);
        let host = [cpu::sidt().base, access::CASES.as_ptr().addr() as u64];
        let (vcpu_page, tss_page, data_page) = (vcpu.phys(), tss.phys(), data.phys());
        Ok(Self {
            program,
            kernel,
            host,
            vcpu_page,
            tss_page,
            data_page,
            _mapped: [code, data, kernel_data, vcpu, tss],
        })
    }

    /// What all cases start from, except that each begins at code of its own.
    pub(super) fn context(&self, rip: u64) -> GuestContext {
        context(self.program.root(), rip)
    }

    /// Nothing is at the page that is asked for.
    pub(super) fn forget_asked(&self) {
        for tables in [&self.program, &self.kernel] {
            tables.set_known(ASKED, 0);
        }
    }

    /// The data page is there, in the tables with this root.
    pub(super) fn map_asked(&self, root: u64) -> bool {
        let tables = [&self.program, &self.kernel].into_iter().find(|tables| tables.root() == root);
        tables.is_some_and(|tables| tables.set_known(ASKED, self.data_page | 0x67 | 1 << 63))
    }

    pub(super) fn place(&self, world: &World) -> Place {
        Place {
            area: world.area.entry_point(),
            host: self.host,
            kernel: self.kernel.root(),
            vcpu_page: self.vcpu_page,
            tss_page: self.tss_page,
        }
    }
}

/// Where the code of a case is, by its number; that of the loop is behind the last one's.
pub(super) fn start(number: usize) -> u64 {
    HIGH.wrapping_add(number.wrapping_mul(CASE) as u64)
}

fn code_page(cases: impl Iterator<Item = &'static Case>) -> Result<OwnedPage> {
    let mut page = OwnedPage::new()?;
    let code = page.bytes();
    // Behind the cases are the kernel's entries, of which that of events is the first.
    let mut places = code.get_mut(..events::ENTRY_EVENT as usize).ok_or(EINVAL)?.chunks_mut(CASE);
    // inc rax; jmp back.
    let looping: &[u8] = &[0x48, 0xff, 0xc0, 0xeb, 0xfb];
    for bytes in Iterator::chain(cases.map(|c| c.code), [looping]) {
        let Some(place) = places.next() else {
            pr_err!("selftest: too many 64-bit cases for the code page\n");
            return Err(ENOSPC);
        };
        fill(Some(place), bytes);
    }
    turn::entries(code);
    back::entries(code);
    compat::entries(code);
    events::entry(code);
    fill(code.get_mut(LANDING as usize..), &[0x40, 0xcc]);
    Ok(page)
}

/// Full of its own addresses, except where the far pointers are.
fn data_page() -> Result<OwnedPage> {
    let mut page = OwnedPage::new()?;
    for at in 0..512_usize {
        page.write_entry(at, DATA + 8 * at as u64);
    }
    let data = page.bytes();
    fill(data.get_mut(FAR_TO_VMM as usize..), &[0, 0, 0, 0, 0x88, 0xff]);
    let landing = ((LOW + LANDING) as u32).to_le_bytes();
    fill(data.get_mut(FAR_TO_CODE as usize..), &landing);
    fill(data.get_mut(FAR_TO_CODE as usize + 4..), &CS32.to_le_bytes());
    Ok(page)
}

/// `mov` of 64 bits with the opcode [`LOAD`] or [`STORE`], its address a sign-extended 32-bit one.
pub(super) fn mov(opcode: u8, register: usize, address: u64) -> [u8; 8] {
    let [modrm, rex] = [0x04 | (register & 7) << 3, 0x48 | register >> 3 << 2].map(|byte| byte as u8);
    let [a, b, c, d] = (address as u32).to_le_bytes();
    [rex, opcode, modrm, 0x25, a, b, c, d]
}

/// From memory to the register.
pub(super) const LOAD: u8 = 0x8b;
/// From the register to memory.
pub(super) const STORE: u8 = 0x89;
/// The descriptors of the cases, and that others are not let through.
pub(super) fn descriptors(world: &mut World) -> Result {
    const CODE64: u64 = 0x00af_fb00_0000_ffff;
    set(world, CS64 >> 3, CODE64, false)?;
    set(world, CS32 >> 3, 0x00cf_bb00_0000_ffff, true)?;
    world.area.set_long_mode(true);
    if world.area.descriptor(DescriptorTable::Gdt, CS32 >> 3) != 0 {
        pr_err!("selftest: a ring-1 descriptor has come into long mode\n");
        return Err(EINVAL);
    }
    // Rings 0 and 1, a call gate, a TSS.
    for raw in [0x00af_9b00_0000_ffff, 0x00af_bb00_0000_ffff, 0x0000_ec00_0008_0000, 0x0000_e900_0000_0067_u64] {
        set(world, BEYOND >> 3, raw, false)?;
    }
    for (selector, raw) in [
        (CS64, CODE64),
        (CS32, 0x00cf_fb00_0000_ffff),
        (SS, 0x00cf_f300_0000_ffff),
        (BASED, 0x12cf_f334_5000_ffff),
        (ABSENT, 0x00cf_7b00_0000_ffff),
    ] {
        set(world, selector >> 3, raw, true)?;
    }
    Ok(())
}

fn set(world: &mut World, index: u16, raw: u64, want: bool) -> Result {
    if world.area.set_descriptor(DescriptorTable::Gdt, index, raw) == want {
        return Ok(());
    }
    pr_err!("selftest: descriptor {:#x} was {}\n", raw, if want { "refused" } else { "let through" });
    Err(EINVAL)
}
