//! SYSCALL on the CPU of [`super::SoftHost`]: what the switcher's image does with it. Written after docs/safety.md, not after the image.

use rvmm_arch::host::{GuestContext, SyscallFrom};
use rvmm_arch::regs::{Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector};
use rvmm_arch::{Gva, Pfn, VcpuState};

use super::{audit, walk, SoftHost};

/// As `refused` in rvmm-ko/switch/enter.rs.
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
    /// The stay is over.
    Left(SyscallFrom),
}

/// SYSCALL is on for this stay, or off.
pub fn enter(host: &mut SoftHost, ctx: &GuestContext, cpu: &mut VcpuState) -> Result<(), u32> {
    let loan = &ctx.syscall;
    if loan.on == 0 {
        return Ok(());
    }
    assert!(!audit::is_kernel(ctx), "a turn is lent to the guest's kernel");
    let [code, stack] = loan.descriptors.map(Descriptor);
    let right = |d: Descriptor| d.present() && d.dpl() == 3 && d.0 & Descriptor::ACCESSED != 0;
    let possible = ctx.long != 0
        && loan.sel.iter().all(|s| s & 7 == 3)
        && right(code)
        && code.is_code()
        && code.0 & (Descriptor::LONG | Descriptor::DB) == Descriptor::LONG
        && right(stack)
        && stack.is_writable_data()
        && walk::canonical(loan.rip, 4)
        && loan.cr3 & 0xfff0_0000_0000_0fff == 0;
    if !possible {
        return Err(REFUSED_TURN);
    }
    let cr4 = Cr4::from_bits_retain(loan.cr4);
    let hidden = cr4.contains(Cr4::PKE) && ctx.pkru & 0b1111 == 0b1100;
    assert_eq!(hidden, host.features.hides_views(3), "views can be read behind a turn");
    cpu.efer |= Efer::SCE;
    cpu.msrs.star = 0x0023_0010 << 32;
    (cpu.msrs.lstar, cpu.msrs.cstar, cpu.msrs.sfmask) = (LSTAR, CSTAR, SFMASK.bits());
    if host.audits_this_entry() {
        audit::tables(host, &kernel_context(ctx));
    }
    Ok(())
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
    let flags = Rflags::from_bits_retain(cpu.gpr[11]);
    let sfmask = Rflags::from_bits_retain(ctx.syscall.sfmask);
    let marked_null = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs]
        .map(|reg| cpu.segment(reg).selector)
        .into_iter()
        .any(|selector| selector.is_null() && selector.0 != 0);
    let unusual = flags.contains(Rflags::TF) || (flags - sfmask).contains(Rflags::AC) || marked_null;
    if ctx.syscall.turns != 0 || from == SyscallFrom::Compatibility || unusual {
        cpu.rip = cpu.gpr[1];
        cpu.rflags = flags;
        cpu.cpl = 3;
        return Called::Left(from);
    }
    ctx.syscall.turns += 1;
    cpu.rflags = (flags & KEPT - sfmask) | Rflags::ONE | Rflags::IF;
    cpu.rip = ctx.syscall.rip;
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
