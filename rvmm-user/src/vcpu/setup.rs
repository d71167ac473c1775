//! The state in which the vCPU starts: 32-bit protected mode, flat segments, paging and interrupts off.

use kvm_bindings::{kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, CpuId, Msrs};
use kvm_ioctls::VcpuFd;

use crate::boot::{Entry, GDT_ADDRESS, GDT_BYTES};
use crate::engine::ioctl;
use crate::error::Error;

/// CR0: protection enabled, and ET, which is always one.
const CR0_START: u64 = 0x11;
/// The bit of EFLAGS that is always one.
const EFLAGS_START: u64 = 0x2;

/// IA32_APIC_BASE: the local APIC is switched on.
const APIC_ENABLED: u64 = 1 << 11;
/// MSR_PLATFORM_INFO, where KVM announces CPUID faulting unless told otherwise.
const MSR_PLATFORM_INFO: u32 = 0xCE;

/// Segment types (Intel SDM volume 3, sections 3.4.5.1 and 3.5).
const CODE_READABLE_ACCESSED: u8 = 11;
const DATA_WRITABLE_ACCESSED: u8 = 3;
const TSS_32_BUSY: u8 = 11;
const LDT: u8 = 2;

/// Gives `vcpu` its CPUID and registers.
pub fn prepare(vcpu: &VcpuFd, cpuid: &CpuId, entry: &Entry) -> Result<(), Error> {
    vcpu.set_cpuid2(cpuid).map_err(|error| ioctl("KVM_SET_CPUID2", error))?;

    let mut sregs = vcpu.get_sregs().map_err(|error| ioctl("KVM_GET_SREGS", error))?;
    sregs.cs = flat(entry.segments.code, CODE_READABLE_ACCESSED);
    let data = flat(entry.segments.data, DATA_WRITABLE_ACCESSED);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = system(TSS_32_BUSY, true);
    sregs.ldt = system(LDT, false);
    sregs.gdt = kvm_dtable { base: GDT_ADDRESS, limit: GDT_BYTES - 1, ..Default::default() };
    // Empty: an exception before the kernel has a table of its own is a triple fault.
    sregs.idt = kvm_dtable::default();
    sregs.cr0 = CR0_START;
    // There is none. KVM's CPUID would show one as long as this bit is set, whatever the profile says.
    sregs.apic_base &= !APIC_ENABLED;
    (sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer) = (0, 0, 0, 0);
    vcpu.set_sregs(&sregs).map_err(|error| ioctl("KVM_SET_SREGS", error))?;
    announce_nothing_more(vcpu);

    let regs = kvm_regs {
        rip: entry.eip.into(),
        rax: entry.eax.into(),
        rbx: entry.ebx.into(),
        rsi: entry.esi.into(),
        rflags: EFLAGS_START,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(|error| ioctl("KVM_SET_REGS", error))
}

/// Takes back what KVM would announce by itself. An engine without that MSR announces nothing with it, so its refusal is fine.
fn announce_nothing_more(vcpu: &VcpuFd) {
    let entry = kvm_msr_entry { index: MSR_PLATFORM_INFO, data: 0, ..Default::default() };
    match Msrs::from_entries(&[entry]) {
        Ok(msrs) => match vcpu.set_msrs(&msrs) {
            Ok(1) => {}
            other => tracing::debug!("MSR_PLATFORM_INFO is not the engine's: {other:?}"),
        },
        Err(error) => tracing::debug!("no list of MSRs: {error:?}"),
    }
}

fn flat(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

fn system(type_: u8, present: bool) -> kvm_segment {
    kvm_segment { limit: 0xFFFF, type_, present: u8::from(present), unusable: u8::from(!present), ..Default::default() }
}
