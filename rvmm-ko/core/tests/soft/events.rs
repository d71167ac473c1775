//! Events of programs on the CPU of [`super::SoftHost`]: what the switcher's image makes of an exception for which a handler is lent. Written
//! after docs/safety.md, not after the image.

use rvmm_arch::fault::Exception;
use rvmm_arch::host::{EventFrame, EventLoan, EventSlot, GuestContext, BLOCK_EVENT};
use rvmm_arch::regs::{gpr, Cr4, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{Pfn, VcpuState, Vector};

use super::{walk, SoftHost};

/// As in rvmm-ko/switch/refused.rs.
const REFUSED_TURN: u32 = 10;
/// Flags of the program that its kernel finds.
const KEPT: Rflags = Rflags::STATUS.union(Rflags::DF).union(Rflags::ID);
/// With one of these an event is the engine's.
const UNUSUAL: Rflags = Rflags::TF.union(Rflags::AC).union(Rflags::NT);
/// Error code bits: write, user, reserved, fetch.
const W: u32 = 2;
const U: u32 = 4;
const RSVD: u32 = 8;
const I: u32 = 16;

/// Is what is lent possible?
pub fn enter(host: &SoftHost, ctx: &GuestContext) -> Result<(), u32> {
    let loan = &host.events;
    let lent = || loan.slots.iter().filter(|slot| slot.block != 0);
    if lent().count() == 0 {
        return Ok(());
    }
    assert!(ctx.syscall.on != 0 && ctx.syscall.back != 0, "events are lent without the way back");
    let ring = (ctx.syscall.sel[0] & 3) as u8;
    let width = if ctx.long != 0 { Descriptor::LONG } else { Descriptor::DB };
    let right = |slot: &EventSlot| {
        let code = Descriptor(slot.code);
        code.present()
            && code.dpl() == ring
            && code.is_code()
            && code.0 & (Descriptor::LONG | Descriptor::DB) == width
            && code.0 & Descriptor::ACCESSED != 0
            && walk::canonical(slot.block, 4)
            && (ctx.long != 0 || slot.block >> 32 == 0)
    };
    let by_gates = &loan.slots[..EventLoan::SYSENTER];
    if !lent().all(right) || by_gates.iter().any(|slot| slot.block != 0 && slot.stack > 4096 - 8) {
        return Err(REFUSED_TURN);
    }
    if by_gates.iter().all(|slot| slot.block == 0) {
        return Ok(());
    }
    if loan.tss_page & 0xfff0_0000_0000_0fff != 0 || loan.tss_page == 0 {
        return Err(REFUSED_TURN);
    }
    assert!(lent().all(|slot| walk::canonical(slot.handler, 4)));
    assert!(host.is_live(Pfn(loan.tss_page >> 12)), "a stack pointer is read from a page that was given back");
    Ok(())
}

/// An exception of guest code. True: it is an event of the program's, and its kernel runs.
pub fn taken(host: &mut SoftHost, ctx: &mut GuestContext, cpu: &mut VcpuState, fault: Exception) -> bool {
    let error = fault.error.unwrap_or(0);
    let loan = host.events;
    let program = |selector: Selector| selector.0 == ctx.syscall.program_sel[0];
    let cs = cpu.segment(SegReg::Cs).selector;
    if ctx.syscall.kernel != 0 || ctx.syscall.on == 0 {
        return false;
    }
    let marked_null = has_marked_null(cpu);
    let flat = program(cs) || (loan.flat_code != 0 && cs.0 == loan.flat_code);
    if error == 0 && matches!(fault.vector, Vector::GP | Vector::UD) {
        let top = if program(cs) && ctx.long != 0 { 47 } else { 32 };
        let usual = !cpu.rflags.intersects(UNUSUAL) && !marked_null && flat;
        let low = cpu.rip >> top == 0 && (cpu.rip + 1) >> top == 0;
        let lent = loan.slots[EventLoan::SYSENTER].block != 0;
        if !(lent && usual && low && [0, 1].map(|i| byte(host, cpu, i)) == [Some(0x0f), Some(0x34)]) {
            return false;
        }
        let slot = &mut host.events.slots[EventLoan::SYSENTER];
        slot.taken += 1;
        let slot = *slot;
        ctx.syscall.kernel = EventLoan::BY_EVENT + EventLoan::SYSENTER as u16;
        let page = host.frame(Pfn(ctx.syscall.vcpu_page >> 12));
        for (to, word) in page.chunks_mut(8).zip(slot.words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        enter_kernel(host, ctx, cpu, &slot, slot.stack);
        return true;
    }
    let (n, len, pushed) = match fault.vector {
        Vector::PF if error & !(W | I | 1) == U | RSVD => (EventLoan::PAGE_FAULT, 0, error & loan.error_bits),
        Vector::GP if error == u32::from(loan.vector) << 3 | 2 => {
            if !flat || byte(host, cpu, 0) != Some(0xcd) {
                return false;
            }
            (EventLoan::INTERRUPT, 2, 0)
        }
        _ => return false,
    };
    by_gate(host, ctx, cpu, fault, (n, len, pushed))
}

/// A page fault that the engine has told to be the program's own, with `code` for its handler. True: its kernel runs.
pub fn reflected(
    host: &mut SoftHost,
    ctx: &mut GuestContext,
    cpu: &mut VcpuState,
    fault: Exception,
    code: u32,
) -> bool {
    let lent = ctx.syscall.kernel == 0 && ctx.syscall.on != 0;
    lent && by_gate(host, ctx, cpu, fault, (EventLoan::PAGE_FAULT, 0, code))
}

/// An event by the gate of slot `n`, with RIP `len` behind the instruction and this error code.
fn by_gate(
    host: &mut SoftHost,
    ctx: &mut GuestContext,
    cpu: &mut VcpuState,
    fault: Exception,
    (n, len, pushed): (usize, u64, u32),
) -> bool {
    let loan = host.events;
    let program = |selector: Selector| selector.0 == ctx.syscall.program_sel[0];
    let cs = cpu.segment(SegReg::Cs).selector;
    let error = fault.error.unwrap_or(0);
    let slot = loan.slots[n];
    let rip = cpu.rip.wrapping_add(len);
    let marked_null = has_marked_null(cpu);
    let wide = !program(cs) && rip >> 32 != 0;
    if slot.block == 0 || cpu.rflags.intersects(UNUSUAL) || marked_null || wide {
        return false;
    }
    let at = slot.stack as usize;
    let stack = &host.frame(Pfn(loan.tss_page >> 12))[at..at + 8];
    let mut stack = u64::from_le_bytes(stack.try_into().unwrap());
    if ctx.long != 0 {
        stack &= !15;
    } else if stack >> 32 & 0xffff != slot.stack_segment {
        return false;
    } else {
        stack &= 0xffff_ffff;
    }
    let mut rflags = cpu.rflags;
    rflags.set(Rflags::RF, fault.vector == Vector::PF);
    let (ss, rsp) = (cpu.segment(SegReg::Ss).selector.0.into(), cpu.gpr[gpr::RSP]);
    host.events.slots[n].taken += 1;
    host.events.cr2_before = host.events.cr2;
    if fault.vector == Vector::PF {
        host.events.cr2 = fault.payload;
    }
    ctx.syscall.kernel = EventLoan::BY_EVENT + n as u16;
    host.events.frame = EventFrame {
        vector: u64::from(fault.vector.0).wrapping_sub(128),
        error: error.into(),
        rip: cpu.rip,
        cs: cs.0.into(),
        rflags: (cpu.rflags | Rflags::RF).bits(),
        rsp,
        ss,
    };
    let page = host.frame(Pfn(ctx.syscall.vcpu_page >> 12));
    let mut put = |at: usize, word: u64| page[at..at + 8].copy_from_slice(&word.to_le_bytes());
    for (i, word) in slot.words.into_iter().enumerate() {
        put(8 * i, word);
    }
    if fault.vector == Vector::PF {
        put(40, fault.payload);
    }
    let words = [ss, rsp, rflags.bits(), cs.0.into(), rip, pushed.into(), slot.handler];
    for (i, word) in words.into_iter().enumerate() {
        put(BLOCK_EVENT + 8 * i, word);
    }
    enter_kernel(host, ctx, cpu, &slot, stack);
    true
}

/// A null selector with an RPL.
pub fn has_marked_null(cpu: &VcpuState) -> bool {
    let data = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs].map(|reg| cpu.segment(reg).selector);
    data.into_iter().any(|selector| selector.is_null() && selector.0 != 0)
}

/// The byte of code that is `at` bytes behind RIP, in the root that runs.
fn byte(host: &mut SoftHost, cpu: &VcpuState, at: u64) -> Option<u8> {
    let la = cpu.rip + at;
    let pfn = walk::leaf(host, host.running_root, rvmm_arch::Gva(la)).map(|leaf| leaf.pfn)?;
    Some(host.frame(pfn)[(la & 0xfff) as usize])
}

/// The kernel at the entry of a slot.
fn enter_kernel(host: &mut SoftHost, ctx: &mut GuestContext, cpu: &mut VcpuState, slot: &EventSlot, stack: u64) {
    cpu.rflags = cpu.rflags & KEPT | Rflags::ONE | Rflags::IF;
    cpu.rip = slot.block;
    cpu.gpr[gpr::RSP] = stack;
    cpu.cr4 = Cr4::from_bits_retain(ctx.syscall.cr4) | Cr4::PAE | Cr4::MCE;
    let raws = [slot.code, ctx.syscall.descriptors[1]];
    for ((place, reg), raw) in [SegReg::Cs, SegReg::Ss].into_iter().enumerate().zip(raws) {
        let selector = Selector(ctx.syscall.sel[place]);
        cpu.cpl = selector.rpl();
        host.gdt[usize::from(selector.index())] = raw;
        *cpu.segment_mut(reg) = Segment::from_descriptor(selector, Descriptor(raw));
        ctx.sel[1 + place] = selector.0;
    }
}
