//! The task switch: the old task into its TSS, the new one out of its (SDM vol. 3 §7.3, steps 4 to 14).
//!
//! What can fail in the old task is checked and translated first; then memory and registers change; then the segments of the new task
//! are loaded, where a fault is the new task's. Either TSS may be a 16-bit one; the new task may be one of virtual 8086 mode.

use super::descriptor::{self, kind, Entry};
use super::far::check_entry_point;
use super::virtual8086;
use crate::exec::Res;
use crate::mem::Span;
use crate::step::Stop;
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, Privilege};
use rvmm_arch::regs::{gpr, Cr0, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::{Exception, Gva, VcpuState, Vector};

/// How the old and the new task are linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// JMP: the old task is left.
    Jump,
    /// CALL and events: the new task returns to the old one.
    Nested,
    /// IRET: the old task is done.
    Return,
}

/// The new task runs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Switched {
    /// A fault of the new task's, met while its segments were loaded.
    pub fault: Option<Exception>,
    /// The trap that the T bit of its TSS asks for, before its first instruction.
    pub trap: Option<Exception>,
    /// Bytes of an error code on its stack.
    pub item: u32,
}

/// DR7 bits that belong to a task: L0 to L3, LE.
const DR7_LOCAL: u64 = 0x155;
/// DR6.BT: a task switch to a TSS with T set.
const DR6_BT: u64 = 1 << 15;
/// CR3 and the T bit, which only a 32-bit TSS has.
const CR3: usize = 0x1c;
const T: usize = 0x64;
/// Bytes of the longest TSS, without its bitmaps.
const LONGEST: usize = 0x68;

/// Where things are in a TSS. What is saved lies in one piece: EIP, EFLAGS, the general registers in the order of their encoding, the
/// selectors in that of [`SegReg`], in fields of one size each; the selector of the LDT follows.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Bytes of a field: 2 or 4.
    item: usize,
    /// Offset of EIP.
    from: usize,
    /// Selectors of segment registers: a 16-bit TSS has neither FS nor GS.
    selectors: usize,
    /// The last byte that a TSS must have to be switched to (SDM vol. 3 §7.2.2 and §7.6).
    last: u32,
}

/// Fields in front of the selectors.
const REGISTERS: usize = 2;
const SELECTORS: usize = REGISTERS + gpr::RDI + 1;
/// Bytes of all that is saved to a 32-bit TSS.
const SAVED: usize = 0x40;

impl Layout {
    /// That of a TSS by the type of its descriptor.
    const fn of(kind: u8) -> Self {
        if matches!(kind, kind::TSS16 | kind::TSS16_BUSY) {
            Self { item: 2, from: 0x0e, selectors: 4, last: 0x2b }
        } else {
            Self { item: 4, from: 0x20, selectors: 6, last: 0x67 }
        }
    }

    /// Bytes saved.
    const fn saved(self) -> usize {
        (SELECTORS + self.selectors) * self.item
    }

    const fn wide(self) -> bool {
        self.item == 4
    }
}

/// A TSS as it stands in memory.
struct Image {
    bytes: [u8; LONGEST],
    layout: Layout,
}

impl Image {
    fn read<M: Machine>(cpu: &VcpuState, m: &mut M, base: Gva, layout: Layout) -> Res<Self> {
        let mut image = Self { bytes: [0; LONGEST], layout };
        let (there, _) = image.bytes.split_at_mut(LONGEST.min(layout.last as usize + 1));
        crate::mem::read_linear(cpu, m, base, there, Privilege::Implicit)?;
        Ok(image)
    }

    fn uint(&self, offset: usize, len: usize) -> u32 {
        let bytes = self.bytes.iter().skip(offset).take(len);
        bytes.rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    /// Field `i`.
    fn field(&self, i: usize) -> u32 {
        let Layout { item, from, .. } = self.layout;
        self.uint(from.wrapping_add(i.wrapping_mul(item)), item)
    }

    fn flags(&self) -> Rflags {
        Rflags::from_bits_retain(u64::from(self.field(1) & 0x3f_7fd5)) | Rflags::ONE
    }

    /// A general register. Of what a 16-bit TSS does not have, CPUs set all bits.
    fn register(&self, i: usize) -> u32 {
        let upper = if self.layout.wide() { 0 } else { 0xffff_0000 };
        self.field(REGISTERS.wrapping_add(i)) | upper
    }

    fn selector(&self, i: usize) -> Selector {
        if i < self.layout.selectors {
            Selector(self.field(SELECTORS.wrapping_add(i)) as u16)
        } else {
            Selector(0)
        }
    }

    fn ldt(&self) -> Selector {
        Selector(self.field(SELECTORS.wrapping_add(self.layout.selectors)) as u16)
    }

    fn trap(&self) -> bool {
        self.layout.wide() && self.uint(T, 1) & 1 != 0
    }
}

/// Switches to the task of `entry`. `flags` are the flags to save.
pub(super) fn switch<M: Machine>(
    cpu: &mut VcpuState,
    m: &mut M,
    mut entry: Entry,
    link: Link,
    flags: Rflags,
    ext: u32,
) -> Res<Switched> {
    let (old, new) = (Layout::of(cpu.tr.kind()), Layout::of(entry.desc.kind()));
    if entry.desc.limit() < new.last {
        return Err(entry.fault(Vector::TS, ext).into());
    }
    let end = old.from.wrapping_add(old.saved()) as u32;
    if !cpu.tr.usable() || cpu.tr.limit < end.wrapping_sub(1) {
        return Err(descriptor::fault(Vector::TS, cpu.tr.selector, ext).into());
    }
    let new_base = Gva(entry.desc.base().into());
    // What cannot be read faults in the old task.
    Image::read(cpu, m, new_base, new)?;
    let old_tss = translate(cpu, m, Gva(cpu.tr.base).add(old.from as u64), old.saved())?;
    let back_link = translate(cpu, m, new_base, 2)?;
    let mut old_entry = descriptor::fetch(cpu, m, cpu.tr.selector, Vector::TS, ext)?;

    // From here on only a descriptor table that cannot be written faults in the old task; what has been written to the
    // TSSs by then is written again when the instruction is executed again.
    if link != Link::Nested {
        old_entry.clear_busy(cpu, m)?;
    }
    let flags = if link == Link::Return { flags.difference(Rflags::NT) } else { flags };
    save(cpu, m, &old_tss, old, flags)?;
    if link == Link::Nested {
        back_link.write_uint(m, cpu.tr.selector.0.into())?;
    }
    entry.set_busy(cpu, m)?;

    // Read once more: what was saved may have been saved there.
    let image = Image::read(cpu, m, new_base, new)?;
    let new_flags = if link == Link::Nested { image.flags() | Rflags::NT } else { image.flags() };
    load_registers(cpu, m, &entry, &image, new_flags);
    let fault = match load_segments(cpu, m, &image, ext) {
        Ok(()) => None,
        Err(Stop::Fault(fault)) => Some(fault),
        // The old task is gone, so it cannot be tried again: what keeps descriptor tables in devices is not run.
        Err(_) => return Err(Stop::HostError),
    };
    let trap = image.trap().then_some(Exception::debug(DR6_BT));
    Ok(Switched { fault, trap, item: new.item as u32 })
}

fn translate<M: Machine>(cpu: &VcpuState, m: &mut M, at: Gva, len: usize) -> Res<Span> {
    let access = Access { kind: AccessKind::Write, privilege: Privilege::Implicit };
    Ok(Span::translate(cpu, m, crate::mem::wrap_system(cpu, at), len, access)?)
}

/// Saves the old task: EIP, EFLAGS, registers, selectors. The upper halves of the selectors' places stay.
fn save<M: Machine>(cpu: &VcpuState, m: &mut M, to: &Span, layout: Layout, flags: Rflags) -> Res {
    let mut buffer = [0; SAVED];
    let (bytes, _) = buffer.split_at_mut(SAVED.min(layout.saved()));
    to.read(m, bytes)?;
    let values = [cpu.rip, flags.bits()].into_iter().chain(cpu.gpr.iter().copied().take(8));
    let (registers, selectors) = bytes.split_at_mut(SELECTORS.wrapping_mul(layout.item).min(bytes.len()));
    for (place, value) in registers.chunks_exact_mut(layout.item).zip(values) {
        for (byte, value) in place.iter_mut().zip((value as u32).to_le_bytes()) {
            *byte = value;
        }
    }
    for (place, segment) in selectors.chunks_exact_mut(layout.item).zip(&cpu.seg) {
        for (byte, value) in place.iter_mut().zip(segment.selector.0.to_le_bytes()) {
            *byte = value;
        }
    }
    Ok(to.write(m, bytes)?)
}

/// Loads TR, CR3 and the general state of the new task; its segments are not usable yet, but for those of virtual 8086 mode.
fn load_registers<M: Machine>(cpu: &mut VcpuState, m: &mut M, entry: &Entry, image: &Image, flags: Rflags) {
    cpu.tr = entry.segment();
    m.changed(cpu, Change::Tr);
    let cr0 = cpu.cr0;
    cpu.cr0 |= Cr0::TS;
    m.changed(cpu, Change::Cr0(cr0.bits()));
    if cpu.dr7 & DR7_LOCAL != 0 {
        cpu.dr7 &= !DR7_LOCAL;
        m.changed(cpu, Change::DebugRegisters);
    }
    if cpu.paging() && image.layout.wide() {
        cpu.cr3 = image.uint(CR3, 4).into();
        m.changed(cpu, Change::Cr3);
    }
    cpu.rip = image.field(0).into();
    cpu.rflags = flags;
    for (i, register) in cpu.gpr.iter_mut().take(gpr::RDI + 1).enumerate() {
        *register = image.register(i).into();
    }
    let virtual_8086 = flags.contains(Rflags::VM);
    for (i, segment) in cpu.seg.iter_mut().enumerate() {
        let selector = image.selector(i);
        *segment = if virtual_8086 { virtual8086::segment(selector) } else { Segment::null(selector) };
    }
    cpu.cpl = if virtual_8086 { 3 } else { cpu.segment(SegReg::Cs).selector.rpl() };
    cpu.ldtr = Segment::null(image.ldt());
}

/// Loads LDTR and the segment registers of the new task from its selectors (SDM vol. 3 table 7-1).
fn load_segments<M: Machine>(cpu: &mut VcpuState, m: &mut M, image: &Image, ext: u32) -> Res {
    let ldt = load_ldtr(cpu, m, image.ldt(), ext);
    m.changed(cpu, Change::Ldtr);
    ldt?;
    if cpu.rflags.contains(Rflags::VM) {
        let within = cpu.rip <= u64::from(cpu.segment(SegReg::Cs).limit);
        return if within { Ok(()) } else { Err(Exception::gp(ext).into()) };
    }
    let cpl = cpu.cpl;

    let selector = cpu.segment(SegReg::Cs).selector;
    let mut code = fetch(cpu, m, selector, ext)?;
    let dpl = code.desc.dpl();
    let level_fits = if code.desc.is_conforming() { dpl <= cpl } else { dpl == cpl };
    if !code.desc.is_code() || !level_fits {
        return Err(code.fault(Vector::TS, ext).into());
    }
    if !code.desc.present() {
        return Err(code.fault(Vector::NP, ext).into());
    }
    code.touch(cpu, m)?;
    *cpu.segment_mut(SegReg::Cs) = code.segment();

    let selector = cpu.segment(SegReg::Ss).selector;
    let mut stack = fetch(cpu, m, selector, ext)?;
    if selector.rpl() != cpl || stack.desc.dpl() != cpl || !stack.desc.is_writable_data() {
        return Err(stack.fault(Vector::TS, ext).into());
    }
    if !stack.desc.present() {
        return Err(stack.fault(Vector::SS, ext).into());
    }
    stack.touch(cpu, m)?;
    *cpu.segment_mut(SegReg::Ss) = stack.segment();

    for reg in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
        let selector = cpu.segment(reg).selector;
        if selector.is_null() {
            continue;
        }
        let mut data = fetch(cpu, m, selector, ext)?;
        let needed = selector.rpl().max(cpl);
        if !data.desc.is_readable() || (!data.desc.is_conforming() && needed > data.desc.dpl()) {
            return Err(data.fault(Vector::TS, ext).into());
        }
        if !data.desc.present() {
            return Err(data.fault(Vector::NP, ext).into());
        }
        data.touch(cpu, m)?;
        *cpu.segment_mut(reg) = data.segment();
    }
    check_entry_point(cpu, code.desc, cpu.rip, ext)
}

/// A descriptor of the new task: #TS for a null selector or one outside its table.
fn fetch<M: Machine>(cpu: &VcpuState, m: &mut M, selector: Selector, ext: u32) -> Res<Entry> {
    if selector.is_null() {
        return Err(descriptor::fault(Vector::TS, selector, ext).into());
    }
    descriptor::fetch(cpu, m, selector, Vector::TS, ext)
}

fn load_ldtr<M: Machine>(cpu: &mut VcpuState, m: &mut M, selector: Selector, ext: u32) -> Res {
    if selector.is_null() {
        return Ok(());
    }
    if selector.is_ldt() {
        return Err(descriptor::fault(Vector::TS, selector, ext).into());
    }
    let entry = descriptor::fetch(cpu, m, selector, Vector::TS, ext)?;
    if entry.desc.is_code_or_data() || entry.desc.kind() != kind::LDT || !entry.desc.present() {
        return Err(entry.fault(Vector::TS, ext).into());
    }
    cpu.ldtr = entry.segment();
    Ok(())
}
