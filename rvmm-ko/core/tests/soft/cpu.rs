//! The deprivileged CPU of [`super::SoftHost`].

use rvmm_arch::fault::{Exception, PageFaultCode, Vector};
use rvmm_arch::host::{GuestContext, WorldExit};
use rvmm_arch::machine::{Access, AccessKind, Change, Machine, MachineStop, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::{Gpa, Gva, Pfn, VcpuState};
use rvmm_interp::Step;

use super::SoftHost;

/// Where the shadow tables lie for the CPU's own (implicit) accesses: out of reach of guest code by being physical.
const GDT_BASE: u64 = 0xf000_0000;
const LDT_BASE: u64 = 0xf100_0000;
const TABLE_GPA: u64 = 1 << 50;

struct Real<'a> {
    host: &'a mut SoftHost,
    cr3: u64,
    cr4: Cr4,
    pkru: u32,
}

/// Walks the host-format tables as the CPU does; checks permissions and protection keys.
fn walk(host: &mut SoftHost, real: (u64, Cr4, u32), la: Gva, access: Access, ac: bool) -> Result<Gpa, PageFaultCode> {
    let (cr3, cr4, pkru) = real;
    let user = access.privilege == Privilege::User;
    let mut code = PageFaultCode::empty();
    code.set(PageFaultCode::U, user);
    code.set(PageFaultCode::W, access.kind == AccessKind::Write);
    code.set(PageFaultCode::I, access.kind == AccessKind::Fetch);
    let mut table = Pfn(cr3 >> 12);
    let (mut u, mut w, mut nx) = (true, true, false);
    for level in (0..4).rev() {
        let index = (la.0 >> (12 + 9 * level)) as usize & 511;
        let entry = u64::from_le_bytes(host.frame(table)[index * 8..index * 8 + 8].try_into().unwrap());
        if entry & 1 == 0 {
            return Err(code);
        }
        assert!(entry & (1 << 8) == 0 || level != 0, "global spte");
        assert!(entry & (1 << 7) == 0 || level == 0, "large sptes are not expected");
        w &= entry & 2 != 0;
        u &= entry & 4 != 0;
        nx |= entry >> 63 != 0;
        let pfn = Pfn((entry >> 12) & 0xff_ffff_ffff);
        if level != 0 {
            table = pfn;
            continue;
        }
        code |= PageFaultCode::P;
        let denied = match access.kind {
            AccessKind::Fetch => nx || (user && !u) || (!user && u && cr4.contains(Cr4::SMEP)),
            AccessKind::Read => (user && !u) || (!user && u && cr4.contains(Cr4::SMAP) && !ac),
            AccessKind::Write => !w || (user && !u) || (!user && u && cr4.contains(Cr4::SMAP) && !ac),
        };
        if denied {
            return Err(code);
        }
        if u && cr4.contains(Cr4::PKE) && access.kind != AccessKind::Fetch {
            let key = (entry >> 59) & 15;
            if (pkru >> (2 * key)) & 1 != 0 {
                return Err(code | PageFaultCode::PK);
            }
        }
        return Ok(pfn.base().0.checked_add(la.offset() as u64).map(Gpa).unwrap());
    }
    Err(code)
}

impl Machine for Real<'_> {
    fn translate(&mut self, cpu: &VcpuState, la: Gva, access: Access) -> Result<Gpa, MachineStop> {
        if access.privilege == Privilege::Implicit {
            return Ok(Gpa(TABLE_GPA + la.0));
        }
        walk(self.host, (self.cr3, self.cr4, self.pkru), la, access, cpu.rflags.contains(Rflags::AC))
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

    fn cpuid(&mut self, cpu: &VcpuState, leaf: u32, _subleaf: u32) -> [u32; 4] {
        // User code reads the host's CPUID; here it is the guest's. The interpreter itself asks for features, too.
        super::guest::profile().into_iter().find(|e| e.function == leaf).map_or([0; 4], |e| {
            let mut regs = e.regs;
            if cpu.cpl == 1 {
                // Nothing that guest-kernel code may see; features only.
                regs[0] = 0xdead_0000;
            }
            regs
        })
    }

    fn rdtsc(&mut self, _cpu: &VcpuState) -> u64 {
        self.host.tsc.get()
    }

    fn changed(&mut self, _cpu: &VcpuState, change: Change) {
        panic!("privileged state changed without a trap: {change:?}")
    }
}

fn load_segment(host: &SoftHost, selector: u16) -> Segment {
    let selector = Selector(selector);
    if selector.is_null() {
        return Segment::null(selector);
    }
    let table = if selector.is_ldt() { &host.ldt } else { &host.gdt };
    let desc = Descriptor(table[usize::from(selector.index())]);
    assert!(desc.present(), "entry with selector {selector:x?} that is not present in the shadow table");
    Segment::from_descriptor(selector, desc)
}

/// Runs until something ends the stay.
pub fn run(host: &mut SoftHost, ctx: &mut GuestContext) -> WorldExit {
    let mut cpu = VcpuState::reset();
    cpu.gpr = ctx.gpr;
    cpu.rip = ctx.rip;
    cpu.rflags = Rflags::from_bits_retain(ctx.rflags);
    assert!(cpu.rflags.contains(Rflags::IF | Rflags::ONE) && cpu.rflags.iopl() == 0);
    for (reg, sel) in SegReg::ALL.into_iter().zip(ctx.sel) {
        *cpu.segment_mut(reg) = load_segment(host, sel);
    }
    for (reg, bit) in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs].into_iter().zip(0..) {
        if ctx.disarm >> bit & 1 != 0 {
            let selector = Selector(ctx.sel[reg as usize]);
            let table = if selector.is_ldt() { &mut host.ldt } else { &mut host.gdt };
            table[usize::from(selector.index())] &= !Descriptor::PRESENT;
        }
    }
    // These come last.
    for reg in [SegReg::Cs, SegReg::Ss] {
        load_segment(host, ctx.sel[reg as usize]);
    }
    cpu.cpl = (ctx.sel[1] & 3) as u8;
    assert!(cpu.cpl == 1 || cpu.cpl == 3, "entry at CPL {}", cpu.cpl);
    assert_eq!(ctx.sel[2] & 3, ctx.sel[1] & 3, "SS.RPL");
    cpu.cr0 = Cr0::from_bits_retain(ctx.cr0) | Cr0::PE | Cr0::PG | Cr0::WP | Cr0::NE | Cr0::ET;
    cpu.cr4 = Cr4::from_bits_retain(ctx.cr4);
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

    let mut exit = WorldExit::HostInterrupt(0xec);
    for _ in 0..host.timer {
        host.tsc.set(host.tsc.get() + 1);
        let (cr3, cr4, pkru) = (ctx.cr3, cpu.cr4, ctx.pkru);
        // INT3 has a gate that guest code may use; INT n and INTO find none and raise #GP.
        let at = Gva(cpu.linear_rip());
        let privilege = if cpu.cpl == 3 { Privilege::User } else { Privilege::Supervisor };
        let fetch = Access { kind: AccessKind::Fetch, privilege };
        let byte =
            walk(host, (cr3, cr4, pkru), at, fetch, false).ok().map(|hpa| host.frame(Pfn(hpa.0 >> 12))[hpa.offset()]);
        if byte == Some(0xcc) {
            cpu.rip = (cpu.rip + 1) & 0xffff_ffff;
            exit = WorldExit::Exception(3);
            break;
        }
        let mut real = Real { host, cr3, cr4, pkru };
        let step = rvmm_interp::step(&mut cpu, &mut real);
        host.direct += 1;
        host.kernel_steps += u64::from(cpu.cpl == 1);
        let fault = match step {
            Step::Retired => continue,
            Step::Exception(fault) => fault,
            Step::Unsupported(what) if what.runs_natively() => {
                host.lacking = true;
                exit = WorldExit::Refused(0);
                break;
            }
            other => panic!("the soft CPU met {other:?} at {at:?}"),
        };
        if fault.vector == Vector::DB {
            ctx.dr6 = 0xffff_0ff0 | fault.payload;
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
    ctx.gpr = cpu.gpr;
    ctx.rip = cpu.rip;
    ctx.rflags = cpu.rflags.bits();
    for (reg, slot) in SegReg::ALL.into_iter().zip(ctx.sel.iter_mut()) {
        *slot = cpu.segment(reg).selector.0;
    }
    exit
}
