//! The deprivileged CPU of [`super::SoftHost`].

use rvmm_arch::fault::{Exception, PageFaultCode, Vector};
use rvmm_arch::host::{GuestContext, WorldExit};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{CpuMode, Descriptor, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::serve::{Serve, Served};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{xstate, Gpa, Gva, Pfn, VcpuState};
use rvmm_interp::Step;

use super::syscall::{self, Called};
use super::walk::{self, Rights};
use super::{audit, critical, events, serve, sse, SoftHost};

/// Where the shadow tables lie for the CPU's own (implicit) accesses: out of reach of guest code by being physical.
const GDT_BASE: u64 = 0xf000_0000;
const LDT_BASE: u64 = 0xf100_0000;
const TABLE_GPA: u64 = 1 << 50;

/// CR0 bits that the guest decides; the others are the switcher's.
const GUEST_CR0: Cr0 = Cr0::MP.union(Cr0::EM).union(Cr0::TS).union(Cr0::AM);
/// CR4 bits that the engine decides; others that it asks for stay off.
const GUEST_CR4: Cr4 = Cr4::TSD
    .union(Cr4::DE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT)
    .union(Cr4::UMIP)
    .union(Cr4::FSGSBASE)
    .union(Cr4::OSXSAVE)
    .union(Cr4::SMAP)
    .union(Cr4::PKE);
/// Flags of a context that reach the CPU.
const GUEST_FLAGS: Rflags = Rflags::STATUS
    .union(Rflags::TF)
    .union(Rflags::DF)
    .union(Rflags::NT)
    .union(Rflags::RF)
    .union(Rflags::AC)
    .union(Rflags::ID);
/// What the switcher refuses with; as in rvmm-ko/switch/refused.rs.
const REFUSED_PRIVILEGE: u32 = 1;
const REFUSED_RIP: u32 = 2;
const REFUSED_SELECTOR: u32 = 3;
const REFUSED_CONTROL: u32 = 4;
const REFUSED_ALIGNMENT: u32 = 5;
/// A fault of the entry itself: from 0x300 by data segment register, at IRETQ.
const FAULT_DATA: u32 = 0x300;
const FAULT_IRETQ: u32 = 0x700;
/// Descriptors from here on are the VMM's.
const VMM_INDEX: u16 = 8176;
/// What the host keeps in IA32_TSC_AUX.
const HOST_TSC_AUX: u64 = 0x1005;

struct Real<'a> {
    host: &'a mut SoftHost,
    cr3: u64,
    cr4: Cr4,
    pkru: u32,
    kernel: bool,
}

impl Real<'_> {
    /// An access with the tables and keys in force; the frame.
    fn walk(&mut self, la: Gva, access: Access, ac: bool) -> Result<Gpa, PageFaultCode> {
        let rights = Rights { cr3: self.cr3, cr4: self.cr4, pkru: self.pkru, ac };
        walk::access(self.host, rights, la, access).map(|pfn| pfn.base().0 | la.offset() as u64).map(Gpa)
    }

    /// The instruction bytes at RIP that can be fetched, up to 15.
    fn bytes(&mut self, cpu: &VcpuState) -> Vec<u8> {
        let privilege = if cpu.cpl == 3 { Privilege::User } else { Privilege::Supervisor };
        let mut bytes = Vec::with_capacity(15);
        let mut page = None;
        for i in 0..15 {
            let at = Gva(cpu.wrap(cpu.linear_rip().wrapping_add(i)));
            if page.is_none() || at.offset() == 0 {
                if !walk::canonical(at.0, self.host.features.paging_levels) {
                    break;
                }
                page = self.walk(at.page(), Access { kind: AccessKind::Fetch, privilege }, false).ok();
            }
            let Some(hpa) = page else { break };
            bytes.push(self.host.frame(Pfn(hpa.0 >> 12))[at.offset()]);
        }
        bytes
    }
}

/// INT3, in either form and behind prefixes: its length. It has a gate that guest code may use.
fn int3(bytes: &[u8], long: bool) -> Option<u64> {
    let prefix = |b: &u8| {
        matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3) || (long && matches!(b, 0x40..=0x4f))
    };
    let at = bytes.iter().take_while(|b| prefix(b)).count();
    match bytes.get(at..)? {
        [0xcc, ..] => Some(at as u64 + 1),
        [0xcd, 3, ..] => Some(at as u64 + 2),
        _ => None,
    }
}

impl Machine for Real<'_> {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        if access.privilege == Privilege::Implicit {
            return Ok(Gpa(TABLE_GPA + la.0));
        }
        self.walk(la, access, cpu.rflags.contains(Rflags::AC))
            .map_err(|code| MachineStop::Fault(Exception::page_fault(code, la.0)))
    }

    fn read(&mut self, hpa: Gpa, buf: &mut [u8]) -> Result<(), MachineStop> {
        if hpa.0 >= TABLE_GPA {
            let at = hpa.0 - TABLE_GPA;
            let (table, base) = if at >= LDT_BASE { (&self.host.ldt, LDT_BASE) } else { (&self.host.gdt, GDT_BASE) };
            for (i, byte) in buf.iter_mut().enumerate() {
                let offset = (at - base) as usize + i;
                *byte = table[offset / 8].to_le_bytes()[offset % 8];
            }
            return Ok(());
        }
        let frame = self.host.frame(Pfn(hpa.0 >> 12));
        buf.copy_from_slice(&frame[hpa.offset()..hpa.offset() + buf.len()]);
        Ok(())
    }

    fn write(&mut self, hpa: Gpa, data: &[u8]) -> Result<(), MachineStop> {
        assert!(hpa.0 < TABLE_GPA, "the CPU wrote a shadow descriptor table");
        let frame = self.host.frame(Pfn(hpa.0 >> 12));
        frame[hpa.offset()..hpa.offset() + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn port_in(&mut self, port: u16, _size: u8) -> Result<u32, MachineStop> {
        panic!("port {port:#x} read without a trap")
    }

    fn port_out(&mut self, port: u16, _size: u8, _value: u32) -> Result<(), MachineStop> {
        panic!("port {port:#x} written without a trap")
    }

    fn cpuid(&mut self, _cpu: &VcpuState, leaf: u32, _subleaf: u32) -> [u32; 4] {
        // User code reads the host's CPUID; here it is the guest's. The interpreter itself asks for features, too.
        self.host.cpuid.iter().find(|e| e.function == leaf).map_or([0; 4], |e| {
            let [eax, ebx, ecx, edx] = e.regs;
            // Nothing that guest-kernel code may see; features only. The highest leaves are needed to find them.
            let eax = if self.kernel && leaf & 0x7fff_ffff != 0 { 0xdead_0000 | eax & 0xff } else { eax };
            [eax, ebx, ecx, edx]
        })
    }

    fn rdtsc(&mut self, _cpu: &VcpuState) -> u64 {
        self.host.tsc.get()
    }

    fn changed(&mut self, _cpu: &VcpuState, change: Change) {
        panic!("privileged state changed without a trap: {change:?}")
    }
}

/// The descriptor behind a selector that is not null.
fn descriptor(host: &SoftHost, ctx: &GuestContext, selector: Selector) -> Option<Descriptor> {
    match (selector.is_ldt(), ctx.use_ldt) {
        (true, 0) => None,
        (true, _) => host.ldt.get(usize::from(selector.index())).copied().map(Descriptor),
        (false, _) => host.gdt.get(usize::from(selector.index())).copied().map(Descriptor),
    }
}

/// ES, DS, FS or GS as the switcher loads it at ring 0 and as its IRETQ to `ring` leaves it (SDM vol. 2 "MOV" and "IRET").
/// `None`: the load faults.
fn data_segment(host: &SoftHost, ctx: &GuestContext, selector: Selector, ring: u8) -> Option<Segment> {
    if selector.is_null() {
        return Some(Segment::null(selector));
    }
    let d = descriptor(host, ctx, selector)?;
    let conforming = d.is_code() && d.is_conforming();
    if !d.is_readable() || !d.present() || (!conforming && d.dpl() < selector.rpl()) {
        return None;
    }
    let lost = !conforming && d.dpl() < ring;
    Some(if lost { Segment::null(Selector(0)) } else { Segment::from_descriptor(selector, d) })
}

/// CS and SS as IRETQ loads them. `None`: it faults.
fn iretq(host: &SoftHost, ctx: &GuestContext) -> Option<(Segment, Segment)> {
    let [_, cs, ss, ..] = ctx.sel.map(Selector);
    let ring = cs.rpl();
    let (code, stack) = (descriptor(host, ctx, cs)?, descriptor(host, ctx, ss)?);
    let privilege = if code.is_conforming() { code.dpl() <= ring } else { code.dpl() == ring };
    let long = code.0 & Descriptor::LONG != 0;
    if !code.present() || !code.is_code() || !privilege || (long && code.0 & Descriptor::DB != 0) {
        return None;
    }
    if !stack.present() || !stack.is_writable_data() || ss.rpl() != ring || stack.dpl() != ring {
        return None;
    }
    let code = Segment::from_descriptor(cs, code);
    if long && !walk::canonical(ctx.rip, host.features.paging_levels) || !long && ctx.rip > u64::from(code.limit) {
        return None;
    }
    Some((code, Segment::from_descriptor(ss, stack)))
}

/// The CPU as the switcher enters the guest world, or the code that it refuses with.
fn enter(host: &mut SoftHost, ctx: &GuestContext) -> Result<VcpuState, u32> {
    let [_, cs, ss, ..] = ctx.sel.map(Selector);
    let (ring, long) = (cs.rpl(), ctx.long != 0);
    if !matches!(ring, 1 | 3) || ss.rpl() != ring || (long && ring != 3) {
        return Err(REFUSED_PRIVILEGE);
    }
    if ctx.sel.iter().any(|s| !Selector(*s).is_ldt() && Selector(*s).index() >= VMM_INDEX) {
        return Err(REFUSED_SELECTOR);
    }
    if if long { !walk::canonical(ctx.rip, 4) } else { ctx.rip >> 32 != 0 } {
        return Err(REFUSED_RIP);
    }
    if ctx.cr0 & !GUEST_CR0.bits() != 0 || ctx.cr3 & 0xfff0_0000_0000_0fff != 0 {
        return Err(REFUSED_CONTROL);
    }
    let rflags = Rflags::from_bits_retain(ctx.rflags);
    assert!(rflags.contains(Rflags::IF | Rflags::ONE) && rflags.iopl() == 0);
    if rflags.contains(Rflags::AC) {
        assert!(!audit::is_kernel(ctx), "AC in the guest's kernel");
        if ring != 3 {
            return Err(REFUSED_ALIGNMENT);
        }
    }
    let cr4 = Cr4::from_bits_retain(ctx.cr4) & GUEST_CR4;
    if audit::is_kernel(ctx) {
        let key_denied = cr4.contains(Cr4::PKE) && ctx.pkru & 0b1111 == 0b1100;
        let smap = ring == 1 && cr4.contains(Cr4::SMAP);
        assert_eq!(
            smap,
            ring == 1 && host.features.smap,
            "views can be read where keys are not for supervisors: {cr4:?}"
        );
        let hidden = key_denied || smap && !host.features.pku;
        assert_eq!(hidden, host.features.hides_views(ring), "views can be read: {cr4:?}, PKRU {:#x}", ctx.pkru);
    } else {
        assert!(!cr4.intersects(Cr4::PKE | Cr4::SMAP), "{cr4:?} in a guest program");
    }
    if cr4.contains(Cr4::OSXSAVE) {
        assert!(xstate::is_valid(ctx.xcr0), "XCR0 {:#x}", ctx.xcr0);
        assert_eq!(ctx.xcr0 & !host.features.xcr0, 0, "XCR0 {:#x} has what is not switched", ctx.xcr0);
    }
    let mut cpu = VcpuState::reset();
    cpu.xcr0 = ctx.xcr0;
    cpu.msrs.tsc_aux = if ctx.use_tsc_aux != 0 { ctx.tsc_aux.into() } else { HOST_TSC_AUX };
    cpu.gpr = ctx.gpr;
    cpu.rip = ctx.rip;
    cpu.rflags = (rflags & GUEST_FLAGS) | Rflags::ONE | Rflags::IF;
    cpu.cpl = ring;
    cpu.cr0 = Cr0::from_bits_retain(ctx.cr0) | Cr0::PE | Cr0::PG | Cr0::WP | Cr0::NE | Cr0::ET;
    cpu.cr4 = cr4 | Cr4::PAE | Cr4::MCE;
    if long {
        cpu.efer = Efer::LME | Efer::LMA | Efer::NXE;
    }
    syscall::enter(host, ctx, &mut cpu)?;
    events::enter(host, ctx)?;
    for (reg, place) in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs].into_iter().zip(0..) {
        let selector = Selector(ctx.sel[reg as usize]);
        let fault = FAULT_DATA + (place << 8) | u32::from(Vector::GP.0);
        *cpu.segment_mut(reg) = data_segment(host, ctx, selector, ring).ok_or(fault)?;
    }
    for (reg, bit) in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs].into_iter().zip(0..) {
        if ctx.disarm >> bit & 1 != 0 {
            let selector = Selector(ctx.sel[reg as usize]);
            let table = if selector.is_ldt() { &mut host.ldt } else { &mut host.gdt };
            table[usize::from(selector.index())] &= !Descriptor::PRESENT;
        }
    }
    if long {
        for (reg, base) in [(SegReg::Fs, ctx.fs_base), (SegReg::Gs, ctx.gs_base)] {
            assert!(walk::canonical(base, 4), "{reg:?} base {base:#x}");
            cpu.segment_mut(reg).base = base;
        }
    }
    // These come last: entries that were lent to data segments are not present any more.
    let (code, stack) = iretq(host, ctx).ok_or(FAULT_IRETQ | u32::from(Vector::GP.0))?;
    assert!(long || !code.long(), "64-bit code outside long mode");
    (*cpu.segment_mut(SegReg::Cs), *cpu.segment_mut(SegReg::Ss)) = (code, stack);
    cpu.gdtr = TableRegister { base: GDT_BASE, limit: 0xffff };
    cpu.idtr = TableRegister { base: 0, limit: 0 };
    cpu.ldtr = if ctx.use_ldt != 0 {
        Segment { selector: Selector(0xffe8), base: LDT_BASE, limit: 0xffff, attrs: 0x82 }
    } else {
        Segment::default()
    };
    if ctx.use_debug != 0 {
        cpu.dr = ctx.dr;
        cpu.dr7 = ctx.dr7;
    }
    cpu.dr6 = 0xffff_0ff0;
    // A TSS without an I/O bitmap.
    cpu.tr.limit = 0;
    Ok(cpu)
}

/// Faults push RF=1, so that the instruction does not meet its breakpoint again; traps and instruction breakpoints do not
/// (SDM vol. 3 §18.3.1.1).
fn pushes_rf(fault: Exception) -> bool {
    !matches!(fault.vector, Vector::DB | Vector::BP | Vector::OF)
}

/// Runs until something ends the stay.
pub fn run(host: &mut SoftHost, ctx: &mut GuestContext, mut serve: Option<&mut dyn Serve>) -> WorldExit {
    let mut cpu = match enter(host, ctx) {
        Ok(cpu) => cpu,
        Err(code) => {
            let entries = ctx.sel.map(|s| descriptor(host, ctx, Selector(s)).map_or(0, |d| d.0));
            host.log.push(format!("the soft CPU refused an entry with {code:#x}: descriptors {entries:#x?}"));
            return WorldExit::Refused(code);
        }
    };
    let mut kernel = audit::is_kernel(ctx);
    let (mut cr3, pkru) = (ctx.cr3, ctx.pkru);
    let mut retired = 0;
    let mut exit = WorldExit::HostInterrupt(0xec);
    // No interrupt comes behind a load of SS.
    while retired < host.timer || cpu.shadow == InterruptShadow::MovSs {
        host.tsc.set(host.tsc.get() + 1);
        let mut real = Real { host, cr3, cr4: cpu.cr4, pkru, kernel };
        let (at, before) = (cpu.linear_rip(), cpu.rip);
        let bytes = real.bytes(&cpu);
        let long = cpu.mode() == CpuMode::Long;
        // INT n and INTO find no gate and raise #GP; INT3 does, unless a breakpoint on it is met first.
        let breakpoint = |i: usize| cpu.dr7 >> (2 * i) & 3 != 0 && cpu.dr7 >> (16 + 4 * i) & 3 == 0 && cpu.dr[i] == at;
        if let Some(len) = int3(&bytes, long).filter(|_| cpu.rflags.contains(Rflags::RF) || !(0..4).any(breakpoint)) {
            cpu.rip = cpu.wrap(cpu.rip.wrapping_add(len));
            let asked = serve.as_deref_mut().and_then(|s| serve::ask_behind_int3(host, s, &cpu, cr3));
            if let Some(block) = asked {
                cpu.rip = block;
                continue;
            }
            exit = WorldExit::Exception(3);
            break;
        }
        let critical = if kernel && real.host.strict { critical::name(&bytes, long) } else { None };
        let step = rvmm_interp::step(&mut cpu, &mut real);
        host.direct += 1;
        host.kernel_steps += u64::from(kernel);
        retired += 1;
        if let Some(name) = critical.filter(|_| step == Step::Retired || cpu.rip != before) {
            host.critical.push((at, name));
        }
        if step == Step::Retired && cpu.cpl == 0 {
            match syscall::called(host, ctx, &mut cpu) {
                Called::Turned => (kernel, cr3) = (true, ctx.syscall.cr3),
                Called::Returned => (kernel, cr3) = (false, ctx.syscall.program_cr3),
                Called::Left(from) => {
                    exit = WorldExit::Syscall(from);
                    break;
                }
            }
        }
        let fault = match step {
            Step::Retired => continue,
            Step::Exception(fault) => fault,
            Step::Unsupported(what) if what.runs_natively() => {
                let mut xmm = host.xmm;
                let mut real = Real { host, cr3, cr4: cpu.cr4, pkru, kernel };
                let done = sse::execute(&mut cpu, &mut real, &mut xmm, &bytes);
                host.xmm = xmm;
                match done {
                    Some(Ok(())) => continue,
                    Some(Err(fault)) => fault,
                    None => {
                        host.lacking = true;
                        exit = WorldExit::Refused(0);
                        break;
                    }
                }
            }
            other => panic!("the soft CPU met {other:?} at {at:#x}: {bytes:02x?}"),
        };
        host.running_root = cr3;
        let lent = [ctx.cr3, ctx.syscall.cr3, ctx.syscall.program_cr3];
        let served = serve.as_deref_mut().map_or(Served::Exit, |s| serve::ask(host, s, (&cpu, fault), cr3, lent));
        match served {
            Served::Resume => {
                cpu.rflags |= Rflags::RF;
                continue;
            }
            Served::Loaded(load) => {
                cpu.gpr[usize::from(load.register)] = load.value.into();
                cpu.rip = load.next;
                cpu.shadow = InterruptShadow::None;
                continue;
            }
            Served::Reflect(code) if events::reflected(host, ctx, &mut cpu, fault, code) => {
                (kernel, cr3) = (true, ctx.syscall.cr3);
                continue;
            }
            Served::Reflect(_) | Served::Exit => {}
        }
        if kernel && syscall::called_by_int(host, ctx, &mut cpu, fault) {
            (kernel, cr3) = (false, ctx.syscall.program_cr3);
            continue;
        }
        if events::taken(host, ctx, &mut cpu, fault) {
            (kernel, cr3) = (true, ctx.syscall.cr3);
            continue;
        }
        if fault.vector == Vector::DB {
            ctx.dr6 = 0xffff_0ff0 | fault.payload;
        }
        if pushes_rf(fault) {
            cpu.rflags |= Rflags::RF;
        }
        ctx.error = fault.error.unwrap_or(0);
        if fault.vector == Vector::PF {
            ctx.cr2 = fault.payload;
        }
        exit = WorldExit::Exception(fault.vector.0);
        break;
    }
    if let WorldExit::Exception(vector) = exit {
        ctx.vector = u32::from(vector);
    }
    assert!(cpu.rflags.contains(Rflags::IF | Rflags::ONE) && cpu.rflags.iopl() == 0, "{:?}", cpu.rflags);
    assert_eq!(cpu.cpl as u16, ctx.sel[1] & 3, "the ring changed without an exit");
    if ctx.long == 0 && cpu.gpr != ctx.gpr {
        // What the upper halves hold after compatibility mode is undefined.
        for reg in &mut cpu.gpr {
            *reg = *reg & 0xffff_ffff | 0x5eed_5eed << 32;
        }
    }
    ctx.gpr = cpu.gpr;
    ctx.rip = cpu.rip;
    ctx.rflags = cpu.rflags.bits();
    // What SYSCALL has put into CS and SS is the switcher's.
    let kept = [ctx.sel[1], ctx.sel[2]];
    for (reg, slot) in SegReg::ALL.into_iter().zip(ctx.sel.iter_mut()) {
        *slot = cpu.segment(reg).selector.0;
    }
    if matches!(exit, WorldExit::Syscall(_)) {
        [ctx.sel[1], ctx.sel[2]] = kept;
    }
    if ctx.long != 0 {
        ctx.fs_base = cpu.segment(SegReg::Fs).base;
        ctx.gs_base = cpu.segment(SegReg::Gs).base;
    }
    exit
}
