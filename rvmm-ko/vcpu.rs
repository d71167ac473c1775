// SPDX-License-Identifier: GPL-2.0
//! Tour 4/22, next: `rvmm-ko/core/src/run.rs`.
//! A vCPU's file descriptor: KVM_RUN and the state ioctls.

use crate::convert;
use crate::kvm_abi::{
    self as kvm, events, exit, run, CpuidEntry, CpuidHead, DebugRegs, Fpu, MsrEntry, MsrsHead, Regs, Sregs, VcpuEvents,
    Xcrs, CPUID_INDEXED,
};
use crate::switch::cpu::rdtsc;
use crate::sys::file::Fd;
use crate::sys::page::OwnedPage;
use crate::sys::run_page::RunPage;
use crate::sys::{signal, task};
use crate::vm::{Locked, Split, Vm};
use core::sync::atomic::Ordering;
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice};
use rvmm_arch::host::HostError;
use rvmm_arch::regs::Rflags;
use rvmm_arch::stats::Counter;
use rvmm_arch::trace;
use rvmm_arch::trace::Direction;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::xstate::IMAGE_SIZE;
use rvmm_arch::{Gpa, VcpuState};
use rvmm_core::constants::Constants;
use rvmm_core::cpuid::MAX_ENTRIES;
use rvmm_core::io::IoAccess;
use rvmm_core::vcpu::Pending;
use rvmm_core::{ClientExit, InternalError, RunRequest};
use rvmm_mmu::MmuError;

/// KVM_GET_MSRS and KVM_SET_MSRS take fewer than this many entries.
const MAX_MSRS: u32 = 256;

/// A vCPU as its file descriptor sees it; the state is in the VM.
pub(crate) struct Vcpu {
    pub(crate) vm: Arc<Vm>,
    pub(crate) run: Arc<RunPage>,
}

/// A failure of the engine as an errno.
pub(crate) fn errno(e: MmuError) -> Error {
    match e {
        MmuError::Host(HostError::BadClientMemory) => EFAULT,
        MmuError::Host(HostError::NoMemory) | MmuError::TrackingFull => ENOMEM,
        _ => EINVAL,
    }
}

fn read<T: FromBytes>(arg: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(arg), core::mem::size_of::<T>()).reader().read::<T>()
}

fn write<T: AsBytes>(arg: usize, value: &T) -> Result<isize> {
    UserSlice::new(UserPtr::from_addr(arg), core::mem::size_of::<T>()).writer().write(value)?;
    Ok(0)
}

impl Vcpu {
    /// Runs `f` on the vCPU and its host.
    fn with<R>(&self, f: impl FnOnce(&mut Split<'_>) -> Result<R>) -> Result<R> {
        let mut machine = self.vm.lock();
        f(&mut machine.split(&self.vm.waiting)?)
    }

    /// Changes a copy of the state and, if that went well, makes it the state.
    fn change<R>(&self, f: impl FnOnce(&mut VcpuState, &mut Split<'_>) -> Result<R>) -> Result<R> {
        self.with(|s| {
            let mut state = KBox::new(s.cpu.state().clone(), GFP_KERNEL)?;
            let result = f(&mut state, s)?;
            s.cpu.set_state(&mut s.host, (*state).clone()).map_err(errno)?;
            Ok(result)
        })
    }

    fn get_msrs(&self, arg: usize) -> Result<isize> {
        let entries = UserPtr::from_addr(arg).wrapping_byte_add(8);
        let count = read::<MsrsHead>(arg)?.nmsrs;
        if count >= MAX_MSRS {
            return Err(E2BIG);
        }
        let bytes = (count as usize).wrapping_mul(16);
        self.with(|s| {
            let mut state = KBox::new(s.cpu.state().clone(), GFP_KERNEL)?;
            let mut reader = UserSlice::new(entries, bytes).reader();
            let mut writer = UserSlice::new(entries, bytes).writer();
            for done in 0..count {
                let mut entry = reader.read::<MsrEntry>()?;
                let Some(data) = convert::get_msr(&mut state, entry.index, rdtsc()) else { return Ok(done as isize) };
                entry.data = data;
                writer.write(&entry)?;
            }
            Ok(count as isize)
        })
    }

    fn set_msrs(&self, arg: usize) -> Result<isize> {
        let count = read::<MsrsHead>(arg)?.nmsrs;
        if count >= MAX_MSRS {
            return Err(E2BIG);
        }
        self.change(|state, _| {
            let entries = UserPtr::from_addr(arg).wrapping_byte_add(8);
            let mut reader = UserSlice::new(entries, (count as usize).wrapping_mul(16)).reader();
            for done in 0..count {
                let entry = reader.read::<MsrEntry>()?;
                if convert::set_msr(state, entry.index, entry.data, rdtsc()).is_none() {
                    return Ok(done as isize);
                }
            }
            Ok(count as isize)
        })
    }

    fn set_cpuid2(&self, arg: usize) -> Result<isize> {
        let count = read::<CpuidHead>(arg)?.nent as usize;
        if count > MAX_ENTRIES {
            return Err(E2BIG);
        }
        let mut reader = UserSlice::new(UserPtr::from_addr(arg).wrapping_byte_add(8), count.wrapping_mul(40)).reader();
        let mut table: KVec<rvmm_core::cpuid::CpuidEntry> = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let e = reader.read::<CpuidEntry>()?;
            let entry = rvmm_core::cpuid::CpuidEntry {
                function: e.function,
                index: e.index,
                indexed: e.flags & CPUID_INDEXED != 0,
                regs: [e.eax, e.ebx, e.ecx, e.edx],
            };
            table.push(entry, GFP_KERNEL)?;
        }
        self.with(|s| s.cpu.set_cpuid(&mut s.host, table.iter().copied()).map_err(|_| ENOMEM))?;
        Ok(0)
    }

    fn set_constant_registers(&self, arg: usize) -> Result<isize> {
        let mut reader =
            UserSlice::new(UserPtr::from_addr(arg), core::mem::size_of::<rvmm_abi::ConstantRegisters>()).reader();
        let mut table = rvmm_abi::ConstantRegisters {
            count: reader.read()?,
            reserved: reader.read()?,
            ..rvmm_abi::ConstantRegisters::default()
        };
        for register in &mut table.registers {
            register.gpa = reader.read()?;
            register.value = reader.read()?;
            register.reserved = reader.read()?;
        }
        let registers = table.checked().ok_or(EINVAL)?;
        let constants = Constants::new(registers.iter().map(|register| (Gpa(register.gpa), register.value)));
        self.with(|s| {
            s.cpu.set_constants(constants);
            Ok(0)
        })
    }

    fn get_cpuid2(&self, arg: usize) -> Result<isize> {
        let mut head = read::<CpuidHead>(arg)?;
        self.with(|s| {
            let table = s.cpu.cpuid();
            if (head.nent as usize) < table.len() {
                return Err(E2BIG);
            }
            let mut out =
                UserSlice::new(UserPtr::from_addr(arg).wrapping_byte_add(8), table.len().wrapping_mul(40)).writer();
            for e in table {
                let [eax, ebx, ecx, edx] = e.regs;
                let flags = if e.indexed { CPUID_INDEXED } else { 0 };
                out.write(&CpuidEntry {
                    function: e.function,
                    index: e.index,
                    flags,
                    eax,
                    ebx,
                    ecx,
                    edx,
                    padding: [0; 3],
                })?;
            }
            head.nent = table.len() as u32;
            write(arg, &head)
        })
    }

    fn set_sregs(&self, arg: usize) -> Result<isize> {
        let sregs = read::<Sregs>(arg)?;
        self.change(|state, s| {
            let announced = convert::Announced::new(s.cpu.cpuid());
            let interrupt = convert::set_sregs(state, &sregs, &announced)?;
            let pending = s.cpu.pending();
            s.cpu.set_pending(Pending { interrupt, ..pending });
            Ok(0)
        })
    }

    fn set_fpu(&self, arg: usize) -> Result<isize> {
        let fpu = read::<Fpu>(arg)?;
        self.with(|s| s.host.world.fpu.set(&convert::set_fpu(&fpu)))?;
        Ok(0)
    }

    fn get_xsave(&self, arg: usize) -> Result<isize> {
        self.with(|s| write(arg, s.host.world.fpu.image()))
    }

    fn set_xsave(&self, arg: usize) -> Result<isize> {
        // Too big for the stack.
        let mut page = OwnedPage::new()?;
        UserSlice::new(UserPtr::from_addr(arg), IMAGE_SIZE).reader().read_slice(page.bytes())?;
        self.with(|s| s.host.world.fpu.set_image(page.bytes()))?;
        Ok(0)
    }

    fn get_xcrs(&self, arg: usize) -> Result<isize> {
        let out = self.with(|s| s.cpu.xcr0_supported().map(|_| convert::xcrs(s.cpu.state())).ok_or(EINVAL))?;
        write(arg, &out)
    }

    fn set_xcrs(&self, arg: usize) -> Result<isize> {
        let xcrs = read::<Xcrs>(arg)?;
        self.change(|state, s| {
            let supported = s.cpu.xcr0_supported().ok_or(EINVAL)?;
            convert::set_xcrs(state, &xcrs, supported).map(|()| 0)
        })
    }

    fn interrupt(&self, arg: usize) -> Result<isize> {
        let vector = u8::try_from(read::<u32>(arg)?).map_err(|_| EINVAL)?;
        self.with(|s| if s.cpu.interrupt(vector) { Ok(0) } else { Err(EEXIST) })
    }

    fn get_events(&self, arg: usize) -> Result<isize> {
        let out = self.with(|s| {
            let (pending, state) = (s.cpu.pending(), s.cpu.state());
            Ok(VcpuEvents {
                interrupt_injected: u8::from(pending.interrupt.is_some()),
                interrupt_nr: pending.interrupt.unwrap_or(0),
                interrupt_shadow: match state.shadow {
                    InterruptShadow::None => 0,
                    InterruptShadow::Sti => events::SHADOW_STI,
                    InterruptShadow::MovSs => events::SHADOW_MOV_SS,
                },
                nmi_pending: u8::from(pending.nmi),
                nmi_masked: u8::from(state.nmi_blocked),
                flags: events::NMI_PENDING | events::SHADOW,
                ..VcpuEvents::default()
            })
        })?;
        write(arg, &out)
    }

    fn set_events(&self, arg: usize) -> Result<isize> {
        let e = read::<VcpuEvents>(arg)?;
        let known = events::NMI_PENDING | events::SIPI_VECTOR | events::SHADOW;
        // An exception is never left half delivered here, so there is none to take back.
        if e.flags & !known != 0 || e.exception_injected != 0 || e.exception_pending != 0 || e.interrupt_soft != 0 {
            return Err(EINVAL);
        }
        self.change(|state, s| {
            let mut pending = s.cpu.pending();
            pending.interrupt = (e.interrupt_injected != 0).then_some(e.interrupt_nr);
            if e.flags & events::NMI_PENDING != 0 {
                pending.nmi = e.nmi_pending != 0;
            }
            pending.nmi |= e.nmi_injected != 0;
            if e.flags & events::SHADOW != 0 {
                state.shadow = match e.interrupt_shadow {
                    0 => InterruptShadow::None,
                    shadow if shadow & events::SHADOW_MOV_SS != 0 => InterruptShadow::MovSs,
                    _ => InterruptShadow::Sti,
                };
            }
            state.nmi_blocked = e.nmi_masked != 0;
            s.cpu.set_pending(pending);
            Ok(0)
        })
    }

    fn set_signal_mask(&self, arg: usize) -> Result<isize> {
        let mask = if arg == 0 {
            None
        } else {
            if read::<u32>(arg)? != 8 {
                return Err(EINVAL);
            }
            // Unaligned behind the length.
            let mut bytes = [0; 8];
            UserSlice::new(UserPtr::from_addr(arg).wrapping_byte_add(4), 8).reader().read_slice(&mut bytes)?;
            Some(u64::from_ne_bytes(bytes))
        };
        self.with(|s| {
            *s.signal_mask = mask;
            Ok(0)
        })
    }

    /// KVM_RUN.
    fn run(&self) -> Result<isize> {
        let turn = self.vm.begin_run()?;
        let mut machine = self.vm.lock_to_run();
        let mask = machine.split(&self.vm.waiting).ok().and_then(|s| signal::apply(*s.signal_mask));
        let (mut machine, result) = self.run_until_return(machine);
        let reason = self.run.read_u32(run::EXIT_REASON);
        machine.returns(result.is_ok() && matches!(reason, exit::IO | exit::MMIO));
        drop(machine);
        drop(turn);
        drop(mask);
        result
    }

    fn run_until_return<'a>(&'a self, mut machine: Locked<'a>) -> (Locked<'a>, Result<isize>) {
        let page = &*self.run;
        if let Err(e) = machine.split(&self.vm.waiting).and_then(|mut s| take_answers(&mut s, page)) {
            return (machine, Err(e));
        }
        loop {
            let mut s = match machine.split(&self.vm.waiting) {
                Ok(s) => s,
                Err(e) => break (machine, Err(e)),
            };
            let request = RunRequest {
                interrupt_window: page.read_u8(run::REQUEST_INTERRUPT_WINDOW) != 0,
                immediate_exit: page.read_u8(run::IMMEDIATE_EXIT) != 0,
            };
            let why = s.cpu.run(&mut s.host, request);
            if why == ClientExit::Interrupted && !task::must_return() && page.read_u8(run::IMMEDIATE_EXIT) == 0 {
                // Another thread wants the machine: step aside, then go on.
                drop(machine);
                while self.vm.waiting.load(Ordering::SeqCst) != 0 && !task::must_return() {
                    task::cond_resched();
                }
                machine = self.vm.lock_to_run();
                continue;
            }
            describe(&mut s, why);
            trace_return(&mut s, why);
            if let ClientExit::Io(access) = why {
                *s.io = Some(access);
            }
            break (machine, if why == ClientExit::Interrupted { Err(EINTR) } else { Ok(0) });
        }
    }
}

/// What the client has put into `kvm_run` before KVM_RUN.
fn take_answers(s: &mut Split<'_>, page: &RunPage) -> Result {
    if let Some(access) = s.io.take() {
        if let IoAccess::PortInString { .. } = access {
            s.cpu.complete_string(|at| page.read_u8(run::IO_DATA.wrapping_add(at)));
            return take_cr8(s, page.read_u64(run::CR8));
        }
        let value = answer(page, access);
        trace_read(s, access, value);
        s.cpu.complete_io(value);
    }
    take_cr8(s, page.read_u64(run::CR8))
}

/// `kvm_run.cr8` counts on entry, as without an in-kernel APIC.
fn take_cr8(s: &mut Split<'_>, cr8: u64) -> Result {
    if cr8 != s.cpu.state().cr8 {
        if cr8 > 15 {
            return Err(EINVAL);
        }
        s.cpu.set_cr8(cr8);
    }
    Ok(())
}

/// What the client has answered to an access.
fn answer(page: &RunPage, access: IoAccess) -> u64 {
    let bytes = |offset: usize, len: u8| {
        (0..usize::from(len.min(8))).rev().fold(0_u64, |v, i| v << 8 | u64::from(page.read_u8(offset.wrapping_add(i))))
    };
    match access {
        IoAccess::PortIn { size, .. } => bytes(run::IO_DATA, size),
        IoAccess::MmioRead { len, .. } => bytes(run::MMIO_DATA, len),
        IoAccess::PortInString { .. }
        | IoAccess::PortOut { .. }
        | IoAccess::PortOutString { .. }
        | IoAccess::MmioWrite { .. } => 0,
    }
}

/// A read that the client has answered.
fn trace_read(s: &mut Split<'_>, access: IoAccess, answer: u64) {
    let direction = Direction::Read;
    match access {
        IoAccess::PortIn { port, size } => {
            let value = answer as u32;
            trace!(&mut s.host, Pio { direction, port, size, value });
        }
        IoAccess::MmioRead { gpa, len } => {
            trace!(&mut s.host, Mmio { direction, gpa, len, value: answer });
        }
        IoAccess::PortInString { .. }
        | IoAccess::PortOut { .. }
        | IoAccess::PortOutString { .. }
        | IoAccess::MmioWrite { .. } => {}
    }
}

/// A write that goes to the client, and the return itself.
fn trace_return(s: &mut Split<'_>, why: ClientExit) {
    let direction = Direction::Write;
    match why {
        ClientExit::Io(IoAccess::PortOut { port, size, value }) => {
            trace!(&mut s.host, Pio { direction, port, size, value });
        }
        ClientExit::Io(IoAccess::MmioWrite { gpa, len, data }) => {
            trace!(&mut s.host, Mmio { direction, gpa, len, value: data });
        }
        _ => {}
    }
    trace!(&mut s.host, ClientExit { reason: exit_reason(why) });
}

/// KVM_EXIT_*.
fn exit_reason(why: ClientExit) -> u32 {
    match why {
        ClientExit::Io(access) if access.is_port() => exit::IO,
        ClientExit::Io(_) => exit::MMIO,
        ClientExit::Hlt => exit::HLT,
        ClientExit::IrqWindowOpen => exit::IRQ_WINDOW_OPEN,
        ClientExit::TaskPriority => exit::SET_TPR,
        ClientExit::Interrupted => exit::INTR,
        ClientExit::Shutdown => exit::SHUTDOWN,
        ClientExit::InternalError(_) => exit::INTERNAL_ERROR,
    }
}

/// Fills `kvm_run` in, and counts the return.
fn describe(s: &mut Split<'_>, why: ClientExit) {
    let page = s.host.run;
    let port = |direction: u8, size: u8, port: u16, count: u16| {
        page.write_u8(run::IO_DIRECTION, direction);
        page.write_u8(run::IO_SIZE, size);
        page.write_u16(run::IO_PORT, port);
        page.write_u32(run::IO_COUNT, count.into());
        page.write_u64(run::IO_DATA_OFFSET, run::IO_DATA as u64);
    };
    let mmio = |gpa: u64, len: u8, write: u8, data: u64| {
        page.write_u64(run::MMIO_PHYS_ADDR, gpa);
        page.write_u64(run::MMIO_DATA, data);
        page.write_u32(run::MMIO_LEN, u32::from(len));
        page.write_u8(run::MMIO_IS_WRITE, write);
    };
    let counter = match why {
        ClientExit::Io(IoAccess::PortIn { port: number, size }) => {
            port(0, size, number, 1);
            Some(Counter::UserPio)
        }
        ClientExit::Io(IoAccess::PortInString { port: number, size, count }) => {
            port(0, size, number, count);
            Some(Counter::UserPio)
        }
        ClientExit::Io(IoAccess::PortOutString { port: number, size, count }) => {
            port(1, size, number, count);
            let bytes = s.cpu.io_string(usize::from(count).saturating_mul(size.into()));
            for (at, byte) in bytes.iter().enumerate() {
                page.write_u8(run::IO_DATA.wrapping_add(at), *byte);
            }
            Some(Counter::UserPio)
        }
        ClientExit::Io(IoAccess::PortOut { port: number, size, value }) => {
            port(1, size, number, 1);
            page.write_u32(run::IO_DATA, value);
            Some(Counter::UserPio)
        }
        ClientExit::Io(IoAccess::MmioRead { gpa, len }) => {
            mmio(gpa.0, len, 0, 0);
            Some(Counter::UserMmio)
        }
        ClientExit::Io(IoAccess::MmioWrite { gpa, len, data }) => {
            mmio(gpa.0, len, 1, data);
            Some(Counter::UserMmio)
        }
        ClientExit::Hlt => Some(Counter::UserHlt),
        ClientExit::IrqWindowOpen => Some(Counter::UserIrqWindow),
        ClientExit::Interrupted => Some(Counter::UserSignal),
        ClientExit::Shutdown | ClientExit::TaskPriority => None,
        ClientExit::InternalError(e) => {
            internal_error(s, e);
            None
        }
    };
    if let Some(counter) = counter {
        s.cpu.count(counter);
    }
    let state = s.cpu.state();
    page.write_u32(run::EXIT_REASON, exit_reason(why));
    page.write_u8(run::READY_FOR_INTERRUPT_INJECTION, u8::from(s.cpu.ready_for_interrupt()));
    page.write_u8(run::IF_FLAG, u8::from(state.rflags.contains(Rflags::IF)));
    page.write_u16(run::FLAGS, 0);
    page.write_u64(run::CR8, state.cr8);
    page.write_u64(run::APIC_BASE, state.msrs.apic_base);
}

fn internal_error(s: &mut Split<'_>, e: InternalError) {
    let suberror = match e {
        InternalError::Emulation => kvm::INTERNAL_ERROR_EMULATION,
        InternalError::VerifyDifference => rvmm_abi::INTERNAL_ERROR_VERIFY,
        _ => rvmm_abi::INTERNAL_ERROR_BUG,
    };
    let (rip, cs) = (s.cpu.state().rip, s.cpu.state().segment(rvmm_arch::segment::SegReg::Cs).selector.0);
    s.host.report.line(format_args!("guest stopped at {cs:#x}:{rip:#x}: {e:?}"));
    let page = s.host.run;
    page.write_u32(run::INTERNAL_SUBERROR, suberror);
    page.write_u32(run::INTERNAL_NDATA, 1);
    page.write_u64(run::INTERNAL_DATA, rip);
}

impl Fd for Vcpu {
    const NAME: &'static CStr = c"rvmm-vcpu:0";

    fn ioctl(this: ArcBorrow<'_, Self>, cmd: u32, arg: usize) -> Result<isize> {
        this.vm.check_owner()?;
        match cmd {
            kvm::RUN if arg != 0 => Err(EINVAL),
            kvm::RUN => this.run(),
            kvm::GET_REGS => write(arg, &this.with(|s| Ok(convert::regs(s.cpu.state())))?),
            kvm::SET_REGS => {
                let regs = read::<Regs>(arg)?;
                this.change(|state, _| {
                    convert::set_regs(state, &regs);
                    Ok(0)
                })
            }
            kvm::GET_SREGS => write(arg, &this.with(|s| Ok(convert::sregs(s.cpu.state(), s.cpu.pending().interrupt)))?),
            kvm::SET_SREGS => this.set_sregs(arg),
            kvm::GET_FPU => write(arg, &this.with(|s| Ok(convert::fpu(&s.host.world.fpu.get())))?),
            kvm::SET_FPU => this.set_fpu(arg),
            kvm::GET_XSAVE => this.get_xsave(arg),
            kvm::SET_XSAVE => this.set_xsave(arg),
            kvm::GET_XCRS => this.get_xcrs(arg),
            kvm::SET_XCRS => this.set_xcrs(arg),
            kvm::GET_MSRS => this.get_msrs(arg),
            kvm::SET_MSRS => this.set_msrs(arg),
            kvm::SET_CPUID2 => this.set_cpuid2(arg),
            kvm::GET_CPUID2 => this.get_cpuid2(arg),
            kvm::GET_VCPU_EVENTS => this.get_events(arg),
            kvm::SET_VCPU_EVENTS => this.set_events(arg),
            kvm::GET_DEBUGREGS => write(arg, &this.with(|s| Ok(convert::debug_regs(s.cpu.state())))?),
            kvm::SET_DEBUGREGS => {
                let regs = read::<DebugRegs>(arg)?;
                this.change(|state, _| convert::set_debug_regs(state, &regs).map(|()| 0))
            }
            // Halts are the client's matter, so a vCPU is always runnable (KVM_MP_STATE_RUNNABLE).
            kvm::GET_MP_STATE => write(arg, &0_u32),
            kvm::SET_MP_STATE => match read::<u32>(arg)? {
                0 => Ok(0),
                _ => Err(EINVAL),
            },
            kvm::INTERRUPT => this.interrupt(arg),
            kvm::NMI => this.with(|s| {
                s.cpu.nmi();
                Ok(0)
            }),
            kvm::SET_SIGNAL_MASK => this.set_signal_mask(arg),
            rvmm_abi::SET_CONSTANT_REGISTERS => this.set_constant_registers(arg),
            kvm::GET_TSC_KHZ => Ok(task::tsc_khz() as isize),
            _ => Err(ENOTTY),
        }
    }

    fn mmap(&self, vma: &VmaNew) -> Result {
        self.run.map(vma)
    }
}
