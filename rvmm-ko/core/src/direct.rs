//! Tour 6/22, next: `rvmm-ko/core/src/segments.rs`.
//! Between the guest's own view of its CPU and the real registers of the guest world: ring compression for registers.
//!
//! Guest ring 0 is ring 1 on the CPU, or ring 3 ([`Deprivileging`]). What the guest may never change natively (IF, IOPL, VM, and AC in kernel mode)
//! stays in [`VcpuState`]; everything else is copied. See docs/architecture.md, "The CPU in the guest world".

use rvmm_arch::host::{GuestContext, HostFeatures};
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Selector};
use rvmm_arch::stats::Counter;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Hpa, Model, VcpuState};

use crate::options::Options;
use crate::segments::{DescriptorShadow, DATA, PRIVATE_CS, PRIVATE_SS};

/// What the guest world looks like for the mode that the guest is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deprivileging {
    /// The ring guest-kernel code really runs in, 1 or 3.
    pub kernel_ring: u8,
    /// The guest is in long mode.
    pub long: bool,
}

impl Deprivileging {
    /// For the state that `cpu` is in.
    #[must_use]
    pub const fn of(cpu: &VcpuState, model: Model) -> Self {
        Self { kernel_ring: model.kernel_ring(cpu), long: cpu.long_mode() }
    }
}

/// Protection key of execution views: their data accesses are denied.
pub const VIEW_PKEY: u8 = 1;

/// PKRU while guest-kernel code runs: access and write disabled for [`VIEW_PKEY`], everything else allowed.
const KERNEL_PKRU: u32 = 0b11 << (2 * VIEW_PKEY as u32);

/// Flags that guest code changes natively at any privilege level.
pub(crate) const NATIVE: Rflags =
    Rflags::STATUS.union(Rflags::DF).union(Rflags::NT).union(Rflags::ID).union(Rflags::ONE);

/// Below 2^32: all a register of a guest outside long mode holds; the upper halves are undefined after such code ran.
const LOW: u64 = 0xffff_ffff;

/// CR0 bits that act in the guest world as the guest set them.
const NATIVE_CR0: Cr0 = Cr0::MP.union(Cr0::EM).union(Cr0::TS).union(Cr0::AM);

/// Why an instruction is interpreted rather than run directly, for the counters.
pub type Cause = Counter;

/// What runs directly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Guest kernel code, from execution views.
    Kernel,
    /// Guest user code, from the guest's own pages.
    User,
}

/// May the next instruction run directly, and as what? If not, why not.
///
/// `reloads`: null selectors with an RPL can be loaded behind the entry of a kernel (reload.rs).
///
/// # Errors
/// The counter that names the reason.
pub fn runnable(
    cpu: &VcpuState,
    segments: &DescriptorShadow,
    options: &Options,
    reloads: impl FnOnce() -> bool,
) -> Result<Mode, Cause> {
    if options.interpret_all {
        return Err(Counter::InterpretedAll);
    }
    let mode = steppable(cpu, segments)?;
    if holds_null_with_rpl(cpu) && !(mode == Mode::Kernel && reloads()) {
        return Err(Counter::InterpretedStaleSegment);
    }
    // A kernel that single-steps itself or sets breakpoints must never see a step into a patch.
    if mode == Mode::Kernel && (cpu.rflags.contains(Rflags::TF) || cpu.dr7 & 0xff != 0) {
        return Err(Counter::InterpretedSingleStep);
    }
    // PUSHF in user mode would show the real flags: IF=1, IOPL=0.
    if mode == Mode::User && (!cpu.rflags.contains(Rflags::IF) || cpu.rflags.iopl() != 0) {
        return Err(Counter::InterpretedMode);
    }
    Ok(mode)
}

/// A null selector keeps the RPL it was loaded with, but not through an IRET to an outer ring (SDM 2, IRET), and every entry into
/// the guest world is one: while a register holds such a selector, it must be loaded again behind the entry, or code that could read it
/// be interpreted.
fn holds_null_with_rpl(cpu: &VcpuState) -> bool {
    nulls_with_rpl(cpu).iter().any(Option::is_some)
}

/// Those selectors of [`DATA`].
pub(crate) fn nulls_with_rpl(cpu: &VcpuState) -> [Option<u16>; 4] {
    DATA.map(|reg| {
        let selector = cpu.segment(reg).selector;
        (selector.is_null() && selector.0 != 0).then_some(selector.0)
    })
}

/// May the next instruction, which has nothing to do with flags and breakpoints, be executed on the CPU by itself?
///
/// # Errors
/// As for [`runnable`].
pub fn steppable(cpu: &VcpuState, segments: &DescriptorShadow) -> Result<Mode, Cause> {
    match cpu.mode() {
        CpuMode::Long => {}
        // IRETQ to a 16-bit stack segment loads SP only: the upper half of ESP would be the VMM's.
        CpuMode::Protected if cpu.segment(SegReg::Cs).db() && cpu.segment(SegReg::Ss).db() => {}
        _ => return Err(Counter::InterpretedMode),
    }
    let mode = match cpu.cpl {
        0 => Mode::Kernel,
        3 => Mode::User,
        _ => return Err(Counter::InterpretedMode),
    };
    if !segments.loadable(cpu, mode) {
        return Err(Counter::InterpretedStaleSegment);
    }
    Ok(mode)
}

/// CR4 of the guest world.
pub fn cr4(cpu: &VcpuState, mode: Mode, features: &HostFeatures, deprivileging: Deprivileging) -> Cr4 {
    let mut cr4 = cpu.cr4 & (Cr4::OSFXSR | Cr4::OSXMMEXCPT | Cr4::DE | Cr4::TSD);
    if cpu.tsc_offset != 0 {
        cr4 |= Cr4::TSD;
    }
    if features.umip {
        cr4 |= Cr4::UMIP;
    }
    if deprivileging.long && features.fsgsbase {
        cr4 |= cpu.cr4 & Cr4::FSGSBASE;
    }
    // With it the guest's XCR0 acts. Without it XSAVE, XGETBV and VEX are #UD, as the guest expects.
    if features.xcr0 != 0 {
        cr4 |= cpu.cr4 & Cr4::OSXSAVE;
    }
    if mode == Mode::Kernel {
        // Views are user pages in the kernel root: executable there (SMEP is off), but not readable.
        if features.pku {
            cr4 |= Cr4::PKE;
        }
        // Besides keys, too: not every emulated CPU applies them to supervisors (Bochs 3.0).
        if features.smap && deprivileging.kernel_ring == 1 {
            cr4 |= Cr4::SMAP;
        }
    }
    cr4
}

/// Fills the registers of the guest world. `reads_tsc_aux`: the guest's CPUID announces RDTSCP or RDPID, and
/// the host has IA32_TSC_AUX.
pub fn load(
    cpu: &VcpuState,
    mode: Mode,
    root: Hpa,
    features: &HostFeatures,
    segments: &DescriptorShadow,
    reads_tsc_aux: bool,
) -> GuestContext {
    let Deprivileging { kernel_ring, long } = segments.deprivileging();
    let mut rflags = (cpu.rflags & (NATIVE | Rflags::RF)) | Rflags::ONE | Rflags::IF;
    if mode == Mode::User {
        rflags |= cpu.rflags & (Rflags::TF | Rflags::AC);
    }
    let mut sel = [0; 6];
    for (reg, slot) in SegReg::ALL.into_iter().zip(sel.iter_mut()) {
        *slot = match (mode, reg) {
            (Mode::Kernel, SegReg::Cs) => PRIVATE_CS << 3 | u16::from(kernel_ring),
            (Mode::Kernel, SegReg::Ss) => PRIVATE_SS << 3 | u16::from(kernel_ring),
            // What the entry makes of it in any case, so that it counts as unchanged behind one.
            _ if cpu.segment(reg).selector.is_null() => 0,
            _ => cpu.segment(reg).selector.0,
        };
    }
    GuestContext {
        gpr: cpu.gpr,
        rip: cpu.wrap(cpu.rip),
        rflags: rflags.bits(),
        sel,
        use_ldt: u16::from(uses_ldt(cpu)),
        cr3: root.0,
        cr0: (cpu.cr0 & NATIVE_CR0).bits(),
        cr4: cr4(cpu, mode, features, segments.deprivileging()).bits(),
        pkru: KERNEL_PKRU,
        // Components that the host lacks are announced to no guest, nor taken from a client.
        xcr0: cpu.xcr0,
        // Low in the register: bits 63 to 32 are reserved. The guest's kernel never executes RDTSCP and RDPID itself.
        tsc_aux: cpu.msrs.tsc_aux as u32,
        use_tsc_aux: u32::from(mode == Mode::User && reads_tsc_aux),
        use_debug: u32::from(mode == Mode::User && cpu.dr7 & 0xff != 0),
        dr: cpu.dr,
        dr6: cpu.dr6,
        dr7: cpu.dr7,
        fs_base: cpu.segment(SegReg::Fs).base,
        gs_base: cpu.segment(SegReg::Gs).base,
        long: u32::from(long),
        ..GuestContext::default()
    }
}

/// Does the entry need the shadow LDT? Also without an LDT of the guest's: what a register holds from one that the guest has left
/// is lent there for the load.
fn uses_ldt(cpu: &VcpuState) -> bool {
    cpu.ldtr.usable()
        || SegReg::ALL.into_iter().map(|reg| cpu.segment(reg).selector).any(|held| !held.is_null() && held.is_ldt())
}

/// Takes the registers of the guest world back into the guest's view. `before` is what [`load`] gave.
pub fn store(cpu: &mut VcpuState, ctx: &GuestContext, before: &GuestContext, mode: Mode, segments: &DescriptorShadow) {
    let width = if before.long != 0 { u64::MAX } else { LOW };
    for (to, from) in cpu.gpr.iter_mut().zip(ctx.gpr) {
        *to = from & width;
    }
    // In compatibility mode some emulated CPUs leave the upper half of RIP as it was.
    if cpu.wrap(ctx.rip) != before.rip || ctx.gpr != before.gpr {
        // At least one instruction was executed. The frame's RF is the exit's: the CPU sets it in that of every fault.
        cpu.shadow = InterruptShadow::None;
        cpu.rflags.remove(Rflags::RF);
    }
    let native = if mode == Mode::User { NATIVE | Rflags::TF | Rflags::AC } else { NATIVE };
    cpu.rflags = (Rflags::from_bits_retain(ctx.rflags) & native) | (cpu.rflags - native) | Rflags::ONE;
    for reg in SegReg::ALL {
        let slot = reg as usize;
        let (Some(now), Some(then)) = (ctx.sel.get(slot), before.sel.get(slot)) else { continue };
        // Kernel code cannot load CS and SS without a trap.
        if now != then {
            *cpu.segment_mut(reg) = segments.loaded(Selector(*now));
        }
    }
    if before.long != 0 {
        cpu.segment_mut(SegReg::Fs).base = ctx.fs_base;
        cpu.segment_mut(SegReg::Gs).base = ctx.gs_base;
    }
    // User code may have gone from 64-bit to compatibility mode or back: the width is that of the CS it is in now.
    cpu.rip = cpu.wrap(ctx.rip);
}
