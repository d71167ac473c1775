//! The task switch: the old task into its TSS, the new one out of its (SDM vol. 3 §7.3, steps 4 to 14).
//!
//! What can fail in the old task is checked and translated first; then memory and registers change; then the segments of the new task are loaded, where a fault is the new task's. Refused visibly: 16-bit TSSs, a new
//! task in virtual 8086 mode, and the debug trap bit of a TSS.

use super::descriptor::{self, kind, Entry};
use super::far::check_entry_point;
use crate::exec::Res;
use crate::mem::Span;
use crate::step::{Stop, Unsupported};
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

/// The last byte of a 32-bit TSS.
const LAST: u32 = 0x67;
/// The part of a 32-bit TSS that holds the registers saved: EIP, EFLAGS, eight registers, six selectors.
const SAVED: (u32, usize) = (0x20, 0x40);
/// DR7 bits that belong to a task: L0 to L3, LE.
const DR7_LOCAL: u64 = 0x155;

/// A 32-bit TSS as it stands in memory.
struct Image([u8; LAST as usize + 1]);

impl Image {
    fn long(&self, offset: usize) -> u32 {
        let bytes = self.0.iter().skip(offset).take(4);
        bytes.rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    fn flags(&self) -> Rflags {
        Rflags::from_bits_retain(u64::from(self.long(0x24) & 0x3f_7fd5)) | Rflags::ONE
    }

    fn selector(&self, offset: usize) -> Selector {
        Selector(self.long(offset) as u16)
    }
}

/// Offsets of the selectors in a 32-bit TSS, in the order of [`SegReg`].
const SELECTORS: usize = 0x48;
/// … of EAX and the seven that follow, in the order of their encoding.
const REGISTERS: usize = 0x28;

/// Switches to the task of `entry`. `flags` are the flags to save. An exception in the value is the new task's.
pub(super) fn switch<M: Machine>(
    cpu: &mut VcpuState,
    m: &mut M,
    mut entry: Entry,
    link: Link,
    flags: Rflags,
    ext: u32,
) -> Res<Option<Exception>> {
    let wide = matches!(entry.desc.kind(), kind::TSS32 | kind::TSS32_BUSY) && cpu.tr.kind() == kind::TSS32_BUSY;
    if !wide || !cpu.tr.usable() {
        return Err(Stop::Unsupported(Unsupported::TaskSwitch));
    }
    let (old_offset, old_len) = SAVED;
    if entry.desc.limit() < LAST {
        return Err(entry.fault(Vector::TS, ext).into());
    }
    if cpu.tr.limit < old_offset + old_len as u32 - 1 {
        return Err(descriptor::fault(Vector::TS, cpu.tr.selector, ext).into());
    }
    let new_base = Gva(entry.desc.base().into());
    let image = read_image(cpu, m, new_base)?;
    if image.long(0x64) & 1 != 0 || image.flags().contains(Rflags::VM) {
        return Err(Stop::Unsupported(Unsupported::TaskSwitch));
    }
    let old_tss = translate(cpu, m, Gva(cpu.tr.base).add(old_offset.into()), old_len)?;
    let back_link = translate(cpu, m, new_base, 2)?;
    let mut old_entry = descriptor::fetch(cpu, m, cpu.tr.selector, Vector::TS, ext)?;

    // From here on only a descriptor table that cannot be written faults in the old task; what has been written to the
    // TSSs by then is written again when the instruction is executed again.
    if link != Link::Nested {
        old_entry.clear_busy(cpu, m)?;
    }
    let flags = if link == Link::Return { flags.difference(Rflags::NT) } else { flags };
    save(cpu, m, &old_tss, flags)?;
    if link == Link::Nested {
        back_link.write_uint(m, cpu.tr.selector.0.into())?;
    }
    entry.set_busy(cpu, m)?;

    // Read once more: what was saved may have been saved there. (VM was refused above; nothing saved can mean it.)
    let image = read_image(cpu, m, new_base)?;
    let new_flags = image.flags().difference(Rflags::VM);
    let new_flags = if link == Link::Nested { new_flags | Rflags::NT } else { new_flags };
    load_registers(cpu, m, &entry, &image, new_flags);
    match load_segments(cpu, m, &image, ext) {
        Ok(()) => Ok(None),
        Err(Stop::Fault(fault)) => Ok(Some(fault)),
        // The old task is gone, so it cannot be tried again: what keeps descriptor tables in devices is not run.
        Err(_) => Err(Stop::HostError),
    }
}

fn translate<M: Machine>(cpu: &VcpuState, m: &mut M, at: Gva, len: usize) -> Res<Span> {
    let access = Access { kind: AccessKind::Write, privilege: Privilege::Implicit };
    Ok(Span::translate(cpu, m, crate::mem::wrap_system(cpu, at), len, access)?)
}

fn read_image<M: Machine>(cpu: &VcpuState, m: &mut M, base: Gva) -> Res<Image> {
    let mut image = Image([0; LAST as usize + 1]);
    crate::mem::read_linear(cpu, m, base, &mut image.0, Privilege::Implicit)?;
    Ok(image)
}

/// Saves the old task: EIP, EFLAGS, registers, selectors. The upper halves of the selectors' places stay.
fn save<M: Machine>(cpu: &VcpuState, m: &mut M, to: &Span, flags: Rflags) -> Res {
    let mut bytes = [0; SAVED.1];
    to.read(m, &mut bytes)?;
    let longs = [cpu.rip, flags.bits()].into_iter().chain(cpu.gpr.iter().copied().take(8));
    let (registers, selectors) = bytes.split_at_mut(SELECTORS - SAVED.0 as usize);
    for (place, value) in registers.chunks_exact_mut(4).zip(longs) {
        for (byte, value) in place.iter_mut().zip((value as u32).to_le_bytes()) {
            *byte = value;
        }
    }
    for (place, segment) in selectors.chunks_exact_mut(4).zip(&cpu.seg) {
        for (byte, value) in place.iter_mut().zip(segment.selector.0.to_le_bytes()) {
            *byte = value;
        }
    }
    Ok(to.write(m, &bytes)?)
}

/// Loads TR, CR3 and the general state of the new task; its segments are not usable yet.
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
    if cpu.paging() {
        cpu.cr3 = image.long(0x1c).into();
        m.changed(cpu, Change::Cr3);
    }
    cpu.rip = image.long(0x20).into();
    cpu.rflags = flags;
    for (i, register) in cpu.gpr.iter_mut().take(gpr::RDI + 1).enumerate() {
        *register = image.long(REGISTERS + 4 * i).into();
    }
    for (i, segment) in cpu.seg.iter_mut().enumerate() {
        *segment = Segment::null(image.selector(SELECTORS + 4 * i));
    }
    cpu.cpl = cpu.segment(SegReg::Cs).selector.rpl();
    cpu.ldtr = Segment::null(image.selector(0x60));
}

/// Loads LDTR and the segment registers of the new task from its selectors (SDM vol. 3 table 7-1).
fn load_segments<M: Machine>(cpu: &mut VcpuState, m: &mut M, image: &Image, ext: u32) -> Res {
    let ldt = load_ldtr(cpu, m, image.selector(0x60), ext);
    m.changed(cpu, Change::Ldtr);
    ldt?;
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
