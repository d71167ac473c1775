// SPDX-License-Identifier: GPL-2.0
//! Tour 8/22, next: `rvmm-ko/switch/image.rs`.
//! One round trip into the guest world, with everything that the image leaves to its caller: checks, FPU, XCR0, PKRU, debug registers,
//! MSRs, and the host's events afterwards.

use super::area::Area;
use super::async_pf;
use super::check::check_xcr0;
use super::cpu;
use super::fpu::{self, FpuState};
use super::host_state::{note_host, HostState};
use super::outcome::{classify, refuse_fault, store, store_events};
use super::prepare::prepare;
use super::redispatch;
use super::refused;
use super::serve::Server;
use super::slot::Slot;
use super::syscall;
use crate::sys::task;
use kernel::prelude::*;
use kernel::sync::Arc;
use rvmm_arch::cpuid::Leaf7;
use rvmm_arch::host::{EventLoan, GuestContext, SyscallFrom, SyscallSupport, WorldExit};
use rvmm_arch::regs::Cr4;

/// CR4 bits that the engine may decide; others that it asks for stay off. SMAP, with SMEP off, protects views in ring 1.
pub(crate) const GUEST_CR4: Cr4 = Cr4::TSD
    .union(Cr4::DE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT)
    .union(Cr4::UMIP)
    .union(Cr4::FSGSBASE)
    .union(Cr4::SMAP)
    .union(Cr4::OSXSAVE)
    .union(Cr4::PKE);
/// CR4 bits that stay as the host has them: PAE, PGE, MCE, LA57, PCIDE, and VMXE and SMXE, which may be locked on.
const HOST_CR4: u64 =
    Cr4::PAE.bits() | Cr4::PGE.bits() | Cr4::MCE.bits() | Cr4::LA57.bits() | Cr4::PCIDE.bits() | 0x6000;
/// CR4 bits that are 0 in the world of a guest in long mode, whoever wants them. PGE: its shadow tables cover addresses where the host has
/// global translations, which would act there; changing the bit drops them all. SMAP: no guest code runs below ring 3, so it protects
/// nothing.
const NOT_IN_LONG_MODE: u64 = Cr4::PGE.bits() | Cr4::SMAP.bits();
/// What one vCPU needs on entry besides its context.
pub(crate) struct World {
    /// The VMM area.
    pub(crate) area: Area,
    /// The guest's FPU state.
    pub(crate) fpu: FpuState,
    /// CR3 loads made so far.
    pub(crate) cr3_loads: u64,
    /// int3 and loads of guest code that the switcher dealt with by itself, as it had been told before in the stay.
    pub(crate) replied: [u64; 2],
    /// NMIs, machine checks and debug exceptions that interrupted the switcher itself.
    pub(crate) switcher_events: u64,
    /// CR4 bits of [`GUEST_CR4`] that this CPU has.
    cr4_mask: u64,
    /// A hypervisor under the host may raise page faults of its own.
    async_pf: bool,
    /// SYSCALL may be lent.
    syscall: bool,
    /// There is IA32_TSC_AUX.
    tsc_aux: bool,
}

/// Which CR4 bits of [`GUEST_CR4`] the CPU has (SDM vol. 3 §2.5, CPUID leaf 7).
fn cr4_mask() -> u64 {
    let has = Leaf7::read(|leaf| cpu::cpuid(leaf, 0));
    let optional = |has: bool, bit: Cr4| if has { Cr4::empty() } else { bit };
    let missing = optional(has.fsgsbase, Cr4::FSGSBASE)
        | optional(has.smap, Cr4::SMAP)
        | optional(has.umip, Cr4::UMIP)
        | optional(fpu::offered() != 0, Cr4::OSXSAVE)
        | optional(has.pku, Cr4::PKE);
    (GUEST_CR4 - missing).bits()
}

/// Has the CPU RDTSCP (CPUID leaf 80000001H, EDX bit 27), and so IA32_TSC_AUX?
pub(crate) fn has_rdtscp() -> bool {
    cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0001 && cpu::cpuid(0x8000_0001, 0)[3] >> 27 & 1 != 0
}

impl World {
    /// An area of its own and a fresh FPU.
    pub(crate) fn new(slot: Arc<Slot>) -> Result<Self> {
        Ok(Self {
            area: Area::new(slot)?,
            fpu: FpuState::new()?,
            cr3_loads: 0,
            replied: [0; 2],
            switcher_events: 0,
            cr4_mask: cr4_mask(),
            async_pf: async_pf::possible(),
            syscall: syscall::support() != SyscallSupport::None,
            tsc_aux: has_rdtscp(),
        })
    }

    /// Enters the guest world, comes back at its next exit and lets the host handle its own events. Process context, interrupts on
    /// before and after; may have been scheduled away meanwhile. `server`: who is asked about page faults in the middle of the stay.
    pub(crate) fn enter(
        &mut self,
        ctx: &mut GuestContext,
        events: Option<&mut EventLoan>,
        mut server: Option<&mut Server<'_>>,
    ) -> WorldExit {
        if let Err(code) = prepare(&mut self.area, ctx, events.as_deref()) {
            return WorldExit::Refused(code);
        }
        if ctx.syscall.on != 0 && !self.syscall {
            return WorldExit::Refused(refused::TURN);
        }
        if let Err(code) = check_xcr0(ctx, self.fpu.components()) {
            return WorldExit::Refused(code);
        }
        if ctx.use_tsc_aux != 0 && !self.tsc_aux {
            return WorldExit::Refused(refused::CONTROL);
        }
        self.area.free_task();
        let entry_point = self.area.entry_point();

        task::irq_disable();
        if !self.area.slot().is_in(cpu::read_cr3()) {
            task::irq_enable();
            return WorldExit::Refused(refused::SLOT);
        }
        let cr4 = cpu::read_cr4();
        let control = self.area.control();
        note_host(control, cr4);
        let absent = if ctx.long != 0 { NOT_IN_LONG_MODE } else { 0 };
        let world_cr4 = |wanted: u64| ((cr4 & HOST_CR4) | (wanted & self.cr4_mask)) & !absent;
        control.guest_cr4 = world_cr4(ctx.cr4);
        control.syscall_cr4 = world_cr4(ctx.syscall.cr4);
        control.program_cr4 = world_cr4(ctx.syscall.program_cr4);
        if let Some(server) = &mut server {
            server.lend(&mut self.area, self.async_pf);
        }
        // SAFETY: interrupts are off until `leave`.
        unsafe { self.fpu.enter() };
        let host = HostState::swap_in(ctx, cr4, entry_point);
        // SAFETY: the slot is in the live page tables (checked above), so the image lies at the entry point; the control page is
        // filled in and no reference to it is alive, nor is one to the server; interrupts are off. The image keeps the C ABI.
        unsafe {
            let switcher: extern "C" fn() = core::mem::transmute(entry_point as *const ());
            switcher();
        }
        let control = self.area.control();
        let (nmi, mc, db) = (control.pending_nmi != 0, control.pending_mc != 0, control.pending_db != 0);
        let aborted = control.aborted;
        let vector = control.frame.vector.wrapping_add(128) as u8;
        host.swap_out(ctx, db || (aborted == 0 && vector == 1));
        // SAFETY: follows `enter` above, interrupts still off.
        unsafe { self.fpu.leave() };
        let asked = server.map_or(0, |server| server.asked());
        self.cr3_loads = self.cr3_loads.wrapping_add(2).wrapping_add(asked.wrapping_mul(2));
        for (sum, n) in self.replied.iter_mut().zip(self.area.control().replied) {
            *sum = sum.wrapping_add(n);
        }
        self.switcher_events = self.switcher_events.wrapping_add(u64::from(nmi || mc || db));
        let mut exit = match aborted {
            0 => {
                let control = self.area.control();
                store(control, ctx);
                if let Some(events) = events {
                    store_events(control, events);
                }
                ctx.syscall.debug = u16::from(db && control.syscall_exit != 0);
                match (control.syscall_exit, control.syscall_compat) {
                    (0, _) => classify(vector),
                    (_, 0) => WorldExit::Syscall(SyscallFrom::Long),
                    _ => WorldExit::Syscall(SyscallFrom::Compatibility),
                }
            }
            1 => refuse_fault(self.area.control(), ctx, entry_point),
            _ if mc => WorldExit::MachineCheck,
            _ => WorldExit::Nmi,
        };
        // SAFETY: `possible` has said so.
        if exit == WorldExit::Exception(14) && self.async_pf && unsafe { async_pf::take() } {
            exit = WorldExit::HostInterrupt(14);
        }
        if mc || exit == WorldExit::MachineCheck {
            redispatch::machine_check();
        }
        if nmi || exit == WorldExit::Nmi {
            redispatch::nmi();
        }
        match exit {
            WorldExit::HostInterrupt(v @ 32..) => redispatch::interrupt(v),
            _ => task::irq_enable(),
        }
        exit
    }
}
