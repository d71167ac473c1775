//! SYSCALL on the CPU of [`super::SoftHost`]: what the switcher's image does with it. Written after docs/safety.md, not after the image.

use rvmm_arch::fault::Exception;
use rvmm_arch::host::{BlockCall, GuestContext, SyscallFrom, BLOCK_CALL, CALL_ERROR, VCPU_FLAGS, VCPU_IF};
use rvmm_arch::regs::{Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{Gva, Pfn, VcpuState, Vector};

use super::{audit, walk, SoftHost};

/// As in rvmm-ko/switch/refused.rs.
const REFUSED_TURN: u32 = 10;
/// Where the switcher's image lies: the host's LSTAR and CSTAR in the guest world.
const LSTAR: u64 = 0xffff_8200_0000_1000;
const CSTAR: u64 = LSTAR - 8;
/// What the host's kernel masks.
const SFMASK: Rflags = Rflags::STATUS
    .union(Rflags::TF)
    .union(Rflags::IF)
    .union(Rflags::DF)
    .union(Rflags::IOPL)
    .union(Rflags::NT)
    .union(Rflags::RF)
    .union(Rflags::AC);
/// Flags of the program that its kernel may find.
const KEPT: Rflags = Rflags::STATUS.union(Rflags::DF).union(Rflags::NT).union(Rflags::ID);

/// What became of a SYSCALL.
pub enum Called {
    /// The guest's kernel runs.
    Turned,
    /// Its program runs again.
    Returned,
    /// The stay is over.
    Left(SyscallFrom),
}

/// SYSCALL is on for this stay, or off.
pub fn enter(host: &mut SoftHost, ctx: &GuestContext, cpu: &mut VcpuState) -> Result<(), u32> {
    let loan = &ctx.syscall;
    if loan.on == 0 {
        return Ok(());
    }
    assert_eq!(audit::is_kernel(ctx), loan.kernel != 0, "for whom the loan is");
    assert!(loan.kernel == 0 || loan.back != 0, "a turn is lent to the guest's kernel without the way back");
    let [code, stack] = loan.descriptors.map(Descriptor);
    let ring = (loan.sel[0] & 3) as u8;
    let right = |d: Descriptor, ring: u8| d.present() && d.dpl() == ring && d.0 & Descriptor::ACCESSED != 0;
    let possible = (ring == 3 || ring == 1 && ctx.long == 0)
        && loan.sel.iter().all(|s| s & 7 == ring.into())
        && right(code, ring)
        && code.is_code()
        && code.0 & (Descriptor::LONG | Descriptor::DB) == width(ctx)
        && right(stack, ring)
        && stack.is_writable_data()
        && (walk::canonical(loan.rip, 4) && ctx.long != 0 || loan.rip == 0)
        && (loan.compat == 0 || walk::canonical(loan.compat_rip, 4))
        && loan.cr3 & 0xfff0_0000_0000_0fff == 0;
    if !possible {
        return Err(REFUSED_TURN);
    }
    let cr4 = Cr4::from_bits_retain(loan.cr4);
    let key = cr4.contains(Cr4::PKE) && ctx.pkru & 0b1111 == 0b1100;
    let hidden = if host.features.pku { key } else { ring == 1 && cr4.contains(Cr4::SMAP) };
    assert!(hidden && host.features.hides_views(ring), "views can be read behind a turn");
    if ctx.long != 0 {
        cpu.efer |= Efer::SCE;
    }
    cpu.msrs.star = 0x0023_0010 << 32;
    (cpu.msrs.lstar, cpu.msrs.cstar, cpu.msrs.sfmask) = (LSTAR, CSTAR, SFMASK.bits());
    if host.audits_this_entry() {
        audit::tables(host, &kernel_context(ctx));
    }
    if loan.back == 0 {
        return Ok(());
    }
    let entry = |s: u16| Descriptor(host.gdt[usize::from(Selector(s).index())]);
    let [code, stack] = loan.program_sel.map(entry);
    let flat32 = |d: Descriptor| {
        right(d, 3)
            && d.is_code()
            && d.limit() == u32::MAX
            && d.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::DB
    };
    let compat = loan.compat_cs;
    let possible = (compat == 0
        || ctx.long != 0 && compat & 7 == 3 && !loan.sel.contains(&compat) && flat32(entry(compat)))
        && loan.program_sel.iter().all(|s| s & 7 == 3 && !loan.sel.contains(s))
        && right(code, 3)
        && code.is_code()
        && code.0 & (Descriptor::LONG | Descriptor::DB) == width(ctx)
        && right(stack, 3)
        && stack.is_writable_data()
        && loan.program_cr3 & 0xfff0_0000_0000_0fff == 0;
    if !possible {
        return Err(REFUSED_TURN);
    }
    assert!(ctx.long == 0 || ctx.disarm == 0, "a turn back is lent, and entries of data segments are");
    assert!(!Cr4::from_bits_retain(loan.program_cr4).intersects(Cr4::PKE | Cr4::SMAP));
    assert!(host.is_live(Pfn(loan.vcpu_page >> 12)), "a call is read from a page that was given back");
    assert!(host.is_live(Pfn(loan.program_cr3 >> 12)), "the program's root was given back");
    if host.audits_this_entry() {
        let mut program = *ctx;
        (program.cr3, program.cr4) = (loan.program_cr3, loan.program_cr4);
        (program.sel[1], program.sel[2]) = (loan.program_sel[0], loan.program_sel[1]);
        audit::tables(host, &program);
    }
    Ok(())
}

/// How wide code is.
fn width(ctx: &GuestContext) -> u64 {
    if ctx.long != 0 {
        Descriptor::LONG
    } else {
        Descriptor::DB
    }
}

/// #GP of the guest's 32-bit kernel: the call of a block? True: its program runs.
pub fn called_by_int(host: &mut SoftHost, ctx: &mut GuestContext, cpu: &mut VcpuState, fault: Exception) -> bool {
    let loan = ctx.syscall;
    let from_block = (cpu.rip & 0xffff_ffff).wrapping_sub(loan.blocks[0]) < loan.blocks[1];
    let call = (fault.vector, fault.error) == (Vector::GP, Some(CALL_ERROR));
    if ctx.long != 0 || loan.back == 0 || loan.kernel == 0 || !call || !from_block {
        return false;
    }
    let [rip, rsp, _, _, _, flags, kind] = std::array::from_fn(|i| word(host, ctx, BLOCK_CALL + 8 * i) & 0xffff_ffff);
    let data = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs];
    for reg in data {
        let now = cpu.segment(reg).selector.0 | 3;
        let lent =
            data.iter().zip(0..).any(|(reg, bit)| ctx.disarm >> bit & 1 != 0 && ctx.sel[*reg as usize] | 3 == now);
        if lent || loan.sel.iter().any(|own| own | 3 == now) {
            return false;
        }
    }
    let mut flags = Rflags::from_bits_retain(flags);
    match kind as u32 {
        BlockCall::BY_IRETQ => {}
        BlockCall::BY_SYSEXIT => {
            // Not what an IRETQ would make null.
            let stays = |s: u16| s == 0 || s > 3 && s & 3 == 3;
            let Some(now) = sysexit_flags(host, ctx, cpu.rflags) else { return false };
            if !data.iter().all(|reg| stays(cpu.segment(*reg).selector.0)) {
                return false;
            }
            flags = now;
        }
        _ => return false,
    }
    let usual = KEPT.difference(Rflags::NT) | Rflags::IF | Rflags::ONE | Rflags::RF;
    if !flags.difference(usual).is_empty() || !flags.contains(Rflags::IF) {
        return false;
    }
    (cpu.rip, cpu.gpr[4]) = (rip, rsp);
    go_back(host, ctx, cpu, (loan.program_sel[0], flags));
    // An IRETQ to an outer ring (SDM vol. 2 "IRET").
    for reg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
        let segment = cpu.segment_mut(reg);
        let conforming = segment.is_code() && segment.attrs & 4 != 0;
        if segment.selector.is_null() || segment.dpl() < 3 && !conforming {
            *segment = Segment::null(Selector(0));
        }
    }
    true
}

/// The flags with which a SYSEXIT arrives, from those that are real now, if it is lent and the virtual ones are those of a program.
fn sysexit_flags(host: &mut SoftHost, ctx: &GuestContext, real: Rflags) -> Option<Rflags> {
    let [virtual_if, others] = [VCPU_IF, VCPU_FLAGS].map(|at| word(host, ctx, at) as u32);
    let right = ctx.syscall.sysexit != 0 && virtual_if == Rflags::IF.bits() as u32 && others == 0;
    right.then_some(real - Rflags::RF)
}

/// A word of the vCPU page.
fn word(host: &mut SoftHost, ctx: &GuestContext, at: usize) -> u64 {
    let page = host.frame(Pfn(ctx.syscall.vcpu_page >> 12));
    u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
}

/// SYSCALL of the guest's kernel.
fn called_by_kernel(host: &mut SoftHost, ctx: &mut GuestContext, cpu: &mut VcpuState, from: SyscallFrom) -> Called {
    let loan = ctx.syscall;
    let data = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs].map(|reg| cpu.segment(reg).selector.0);
    let [rip, rsp, _, rcx, r11, flags, kind] = std::array::from_fn(|i| word(host, ctx, BLOCK_CALL + 8 * i));
    let mut flags = Rflags::from_bits_retain(flags);
    let mut usual = KEPT.difference(Rflags::NT) | Rflags::IF | Rflags::ONE;
    let (kind, mut cs, mut rip, mut rsp, mut top) = (kind as u32, loan.program_sel[0], rip, rsp, 47);
    let mut lent = true;
    if kind == BlockCall::BY_IRETQ || kind == BlockCall::BY_IRETQ_COMPAT {
        usual |= Rflags::RF;
    }
    if kind == BlockCall::BY_SYSRETL {
        rip &= 0xffff_ffff;
    }
    if kind == BlockCall::BY_SYSEXIT {
        (rip, rsp) = (rip & 0xffff_ffff, rsp & 0xffff_ffff);
        let now = sysexit_flags(host, ctx, Rflags::from_bits_retain(cpu.gpr[11]));
        (lent, flags) = (now.is_some(), now.unwrap_or(flags));
    }
    if [BlockCall::BY_SYSRETL, BlockCall::BY_IRETQ_COMPAT, BlockCall::BY_SYSEXIT].contains(&kind) {
        (cs, top) = (loan.compat_cs, 32);
    }
    let left_alone = |s: &u16| *s == 0 || *s > 3 && !loan.sel.contains(&(*s | 3));
    let call = loan.back != 0
        && from == SyscallFrom::Long
        && cpu.gpr[1].wrapping_sub(loan.blocks[0]) < loan.blocks[1]
        && data.iter().all(left_alone)
        && cs != 0
        && lent
        && rip >> top == 0
        && flags.difference(usual).is_empty()
        && flags.contains(Rflags::IF);
    if !call {
        cpu.rip = cpu.gpr[1];
        cpu.rflags = Rflags::from_bits_retain(cpu.gpr[11]);
        cpu.cpl = 3;
        return Called::Left(from);
    }
    (cpu.rip, cpu.gpr[4], cpu.gpr[1], cpu.gpr[11]) = (rip, rsp, rcx, r11);
    go_back(host, ctx, cpu, (cs, flags));
    Called::Returned
}

/// The turn back.
fn go_back(host: &mut SoftHost, ctx: &mut GuestContext, cpu: &mut VcpuState, (cs, flags): (u16, Rflags)) {
    let loan = ctx.syscall;
    ctx.syscall.returns += 1;
    ctx.syscall.kernel = 0;
    cpu.rflags = flags | Rflags::ONE;
    cpu.cr4 = Cr4::from_bits_retain(loan.program_cr4) | Cr4::PAE | Cr4::MCE;
    cpu.cpl = 3;
    for (place, reg) in [SegReg::Cs, SegReg::Ss].into_iter().enumerate() {
        host.gdt[usize::from(Selector(loan.sel[place]).index())] = 0;
        let selector = Selector([cs, loan.program_sel[1]][place]);
        let raw = host.gdt[usize::from(selector.index())];
        *cpu.segment_mut(reg) = Segment::from_descriptor(selector, Descriptor(raw));
        ctx.sel[place + 1] = selector.0;
    }
}

/// The context with which the kernel would be entered where a turn leads.
fn kernel_context(ctx: &GuestContext) -> GuestContext {
    let mut kernel = *ctx;
    (kernel.cr3, kernel.cr4, kernel.rip) = (ctx.syscall.cr3, ctx.syscall.cr4, ctx.syscall.rip);
    (kernel.sel[1], kernel.sel[2]) = (ctx.syscall.sel[0], ctx.syscall.sel[1]);
    kernel
}

/// SYSCALL has just been executed, by a program or behind a turn.
pub fn called(host: &mut SoftHost, ctx: &mut GuestContext, cpu: &mut VcpuState) -> Called {
    let from = match cpu.rip {
        LSTAR => SyscallFrom::Long,
        CSTAR => SyscallFrom::Compatibility,
        other => panic!("at CPL 0 at {other:#x}"),
    };
    if ctx.syscall.kernel != 0 {
        return called_by_kernel(host, ctx, cpu, from);
    }
    let flags = Rflags::from_bits_retain(cpu.gpr[11]);
    let sfmask = Rflags::from_bits_retain(ctx.syscall.sfmask);
    let marked_null = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs]
        .map(|reg| cpu.segment(reg).selector)
        .into_iter()
        .any(|selector| selector.is_null() && selector.0 != 0);
    let unusual = flags.contains(Rflags::TF) || (flags - sfmask).intersects(Rflags::AC | Rflags::NT) || marked_null;
    let compat = from == SyscallFrom::Compatibility;
    if compat && ctx.syscall.compat == 0 || unusual {
        cpu.rip = cpu.gpr[1];
        cpu.rflags = flags;
        cpu.cpl = 3;
        return Called::Left(from);
    }
    ctx.syscall.turns += 1;
    ctx.syscall.kernel = 1;
    if ctx.syscall.back != 0 {
        let words = ctx.syscall.words;
        let page = host.frame(Pfn(ctx.syscall.vcpu_page >> 12));
        for (to, word) in page.chunks_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    cpu.rflags = (flags & KEPT - sfmask) | Rflags::ONE | Rflags::IF;
    cpu.rip = if compat { ctx.syscall.compat_rip } else { ctx.syscall.rip };
    cpu.cr4 = Cr4::from_bits_retain(ctx.syscall.cr4) | Cr4::PAE | Cr4::MCE;
    cpu.cpl = 3;
    for (place, reg) in [SegReg::Cs, SegReg::Ss].into_iter().enumerate() {
        let (selector, raw) = (Selector(ctx.syscall.sel[place]), ctx.syscall.descriptors[place]);
        host.gdt[usize::from(selector.index())] = raw;
        *cpu.segment_mut(reg) = Segment::from_descriptor(selector, Descriptor(raw));
    }
    assert!(host.is_live(Pfn(ctx.syscall.cr3 >> 12)), "the kernel's root was given back");
    let _ = walk::leaf(host, ctx.syscall.cr3, Gva(ctx.syscall.rip));
    ctx.sel[1] = ctx.syscall.sel[0];
    ctx.sel[2] = ctx.syscall.sel[1];
    Called::Turned
}
