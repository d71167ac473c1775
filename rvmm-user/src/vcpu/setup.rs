//! The state in which the vCPU starts: that after a reset, in real mode, or as kernels are entered: 32-bit protected mode without paging,
//! or 64-bit mode, with flat segments and interrupts off.

use std::io;

use kvm_bindings::{kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, Msrs};
use kvm_ioctls::VcpuFd;

use crate::boot::{Entry, Mode, GDT_ADDRESS, GDT_BYTES, PAGE_TABLES};
use crate::cpuid::Profile;
use crate::devices::lapic;
use crate::engine::ioctl;
use crate::error::Error;
use crate::vulnerabilities::ArchCapabilities;

pub use super::reset_state::ResetState;

/// CR0: protection enabled, and ET, which is always one.
const CR0_START: u64 = 0x11;
/// CR0.PG.
const CR0_PAGING: u64 = 1 << 31;
/// CR4.PAE, without which there is no long mode.
const CR4_PAE: u64 = 1 << 5;
/// EFER.LME and LMA: long mode, enabled and active.
const EFER_LONG: u64 = 1 << 8 | 1 << 10;
/// The bit of EFLAGS that is always one.
pub(super) const EFLAGS_START: u64 = 0x2;

/// IA32_APIC_BASE of the bootstrap processor without a local APIC: KVM's CPUID would show one as long as bit 11 is set, whatever the
/// profile says.
const NO_APIC: u64 = lapic::BASE | 1 << 8;
/// IA32_MISC_ENABLE: fast strings, no branch trace storage, no precise event-based sampling.
const MSR_MISC_ENABLE: u32 = 0x1A0;
const MISC_ENABLE_START: u64 = 1 | 1 << 11 | 1 << 12;
/// MSR_PLATFORM_INFO.
const MSR_PLATFORM_INFO: u32 = 0xCE;

/// Segment types (Intel SDM volume 3, sections 3.4.5.1 and 3.5).
pub(super) const CODE_READABLE_ACCESSED: u8 = 11;
pub(super) const DATA_WRITABLE_ACCESSED: u8 = 3;
/// A busy TSS, a 32-bit one or, in long mode, a 64-bit one.
pub(super) const TSS_BUSY: u8 = 11;
pub(super) const LDT: u8 = 2;

/// How the vCPU starts.
pub enum Start<'a> {
    /// In a kernel, as firmware would have left it.
    Kernel(&'a Entry),
    /// As after a reset.
    Reset(&'a ResetState),
}

/// Gives `vcpu` its CPUID and registers.
pub fn prepare(vcpu: &VcpuFd, mut profile: Profile, start: &Start<'_>) -> Result<(), Error> {
    set_cpuid(vcpu, &profile)?;
    if let Some(capabilities) = profile.capabilities {
        if !set_msr(vcpu, ArchCapabilities::MSR, capabilities.0)? {
            tracing::info!(
                "the engine does not take {capabilities:?}: the guest is told nothing of what it need not fear"
            );
            profile.withdraw_capabilities();
            set_cpuid(vcpu, &profile)?;
        }
    }
    // As firmware leaves it. KVM starts without fast strings, and Linux then makes no use of them.
    if !set_msr(vcpu, MSR_MISC_ENABLE, MISC_ENABLE_START)? {
        tracing::debug!("MSR_IA32_MISC_ENABLE is not the engine's");
    }
    // Where KVM announces CPUID faulting unless told otherwise. An engine without that MSR announces nothing with it.
    if !set_msr(vcpu, MSR_PLATFORM_INFO, 0)? {
        tracing::debug!("MSR_PLATFORM_INFO is not the engine's");
    }

    match start {
        Start::Kernel(entry) => enter(vcpu, entry, Some(apic_base(profile.apic))),
        Start::Reset(state) => state.apply(vcpu),
    }
}

/// Has `vcpu` enter a kernel, with this in IA32_APIC_BASE; without, that is what firmware has left there.
pub(super) fn enter(vcpu: &VcpuFd, entry: &Entry, apic_base: Option<u64>) -> Result<(), Error> {
    let mut sregs = vcpu.get_sregs().map_err(|error| ioctl("KVM_GET_SREGS", error))?;
    sregs.apic_base = apic_base.unwrap_or(sregs.apic_base);
    at_entry(&mut sregs, entry);
    vcpu.set_sregs(&sregs).map_err(|error| ioctl("KVM_SET_SREGS", error))?;
    let regs = kvm_regs {
        rip: entry.rip,
        rax: entry.eax.into(),
        rbx: entry.ebx.into(),
        rsi: entry.esi.into(),
        rflags: EFLAGS_START,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(|error| ioctl("KVM_SET_REGS", error))
}

/// Segments, tables and control registers of `entry`.
fn at_entry(sregs: &mut kvm_sregs, entry: &Entry) {
    let data = flat(entry.segments.data, DATA_WRITABLE_ACCESSED);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cs = flat(entry.segments.code, CODE_READABLE_ACCESSED);
    sregs.tr = system(TSS_BUSY, true);
    sregs.ldt = system(LDT, false);
    sregs.gdt = kvm_dtable { base: GDT_ADDRESS, limit: GDT_BYTES - 1, ..Default::default() };
    // Empty: an exception before the kernel has a table of its own is a triple fault.
    sregs.idt = kvm_dtable::default();
    sregs.cr2 = 0;
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = match entry.mode {
        Mode::Protected => (CR0_START, 0, 0, 0),
        // As after the switch that the manual describes (Intel SDM volume 3, section 10.8.5).
        Mode::Long => (CR0_START | CR0_PAGING, PAGE_TABLES, CR4_PAE, EFER_LONG),
    };
    if entry.mode == Mode::Long {
        (sregs.cs.l, sregs.cs.db) = (1, 0);
    }
}

/// IA32_APIC_BASE after a reset.
pub(super) fn apic_base(apic: bool) -> u64 {
    if apic {
        lapic::APIC_BASE_RESET
    } else {
        NO_APIC
    }
}

fn set_cpuid(vcpu: &VcpuFd, profile: &Profile) -> Result<(), Error> {
    vcpu.set_cpuid2(&profile.table).map_err(|error| ioctl("KVM_SET_CPUID2", error))
}

/// Whether the engine has the register and takes the value.
pub(super) fn set_msr(vcpu: &VcpuFd, index: u32, data: u64) -> Result<bool, Error> {
    let msrs = Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }])
        .map_err(|error| Error::Ioctl { call: "KVM_SET_MSRS", source: io::Error::other(format!("{error:?}")) })?;
    vcpu.set_msrs(&msrs).map(|set| set == 1).map_err(|error| ioctl("KVM_SET_MSRS", error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::FlatSegments;

    fn sregs(mode: Mode) -> kvm_sregs {
        let segments = FlatSegments::LINUX;
        let entry = Entry {
            rip: 0x10_0000,
            eax: 0,
            ebx: 0,
            esi: 0,
            segments,
            mode,
            needs_long_mode: mode == Mode::Long,
            picture: None,
        };
        let mut sregs = kvm_sregs { apic_base: 0xFEE0_0900, cr2: 1, efer: 1, ..Default::default() };
        at_entry(&mut sregs, &entry);
        sregs
    }

    #[test]
    fn protected_mode_has_neither_paging_nor_a_64_bit_segment() {
        let sregs = sregs(Mode::Protected);
        assert_eq!((sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer), (0x11, 0, 0, 0, 0));
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db, sregs.ss.selector, sregs.ss.db), (0x10, 0, 1, 0x18, 1));
    }

    #[test]
    fn long_mode_is_entered_with_everything_that_it_takes() {
        let sregs = sregs(Mode::Long);
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8000_0011, PAGE_TABLES, 0x20, 0x500));
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db, sregs.ss.selector), (0x10, 1, 0, 0x18));
        assert_eq!(sregs.tr.type_, 11, "a busy 64-bit TSS: KVM on Intel refuses any other");
    }
}
