//! The processor's state after power-up and reset (Intel SDM volume 3, table 10-1).

use kvm_bindings::{kvm_debugregs, kvm_dtable, kvm_fpu, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;

use super::setup::{apic_base, set_msr, CODE_READABLE_ACCESSED, DATA_WRITABLE_ACCESSED, EFLAGS_START, LDT, TSS_BUSY};
use crate::engine::ioctl;
use crate::error::Error;

/// The first instruction: 16 bytes below 4 GiB, through a base that no real-mode selector has.
const RESET_SELECTOR: u16 = 0xF000;
const RESET_BASE: u64 = 0xFFFF_0000;
const RESET_IP: u64 = 0xFFF0;

/// CR0: caches off, ET.
const CR0_RESET: u64 = 0x6000_0010;
const DR6_RESET: u64 = 0xFFFF_0FF0;
const DR7_RESET: u64 = 0x400;
const FCW_RESET: u16 = 0x0040;
const MXCSR_RESET: u32 = 0x1F80;

/// Model-specific registers of the profiles that a reset clears: system calls, debug control, FS and GS.
const CLEARED_MSRS: [u32; 11] = [
    0x174,
    0x175,
    0x176,
    0x1D9,
    0xC000_0081,
    0xC000_0082,
    0xC000_0083,
    0xC000_0084,
    0xC000_0100,
    0xC000_0101,
    0xC000_0102,
];

/// What a reset sets, of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetState {
    /// CPUID leaf 1 EAX, which EDX shows after a reset.
    pub signature: u32,
    /// The CPU has a local APIC.
    pub apic: bool,
}

impl ResetState {
    /// Resets `vcpu`, which is not under way with an instruction.
    pub fn apply(&self, vcpu: &VcpuFd) -> Result<(), Error> {
        let mut sregs = vcpu.get_sregs().map_err(|error| ioctl("KVM_GET_SREGS", error))?;
        at_reset(&mut sregs, self.apic);
        vcpu.set_vcpu_events(&kvm_vcpu_events::default()).map_err(|error| ioctl("KVM_SET_VCPU_EVENTS", error))?;
        vcpu.set_sregs(&sregs).map_err(|error| ioctl("KVM_SET_SREGS", error))?;
        let regs = kvm_regs { rip: RESET_IP, rdx: self.signature.into(), rflags: EFLAGS_START, ..Default::default() };
        vcpu.set_regs(&regs).map_err(|error| ioctl("KVM_SET_REGS", error))?;
        let debug = kvm_debugregs { dr6: DR6_RESET, dr7: DR7_RESET, ..Default::default() };
        vcpu.set_debug_regs(&debug).map_err(|error| ioctl("KVM_SET_DEBUGREGS", error))?;
        let fpu = kvm_fpu { fcw: FCW_RESET, mxcsr: MXCSR_RESET, ..Default::default() };
        vcpu.set_fpu(&fpu).map_err(|error| ioctl("KVM_SET_FPU", error))?;
        for index in CLEARED_MSRS {
            if !set_msr(vcpu, index, 0)? {
                tracing::debug!("the engine has no MSR {index:#x} to reset");
            }
        }
        Ok(())
    }
}

fn at_reset(sregs: &mut kvm_sregs, apic: bool) {
    let data = real(0, 0, DATA_WRITABLE_ACCESSED);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cs = real(RESET_SELECTOR, RESET_BASE, CODE_READABLE_ACCESSED);
    sregs.tr = kvm_segment { s: 0, ..real(0, 0, TSS_BUSY) };
    sregs.ldt = kvm_segment { s: 0, ..real(0, 0, LDT) };
    sregs.gdt = kvm_dtable { base: 0, limit: 0xFFFF, ..Default::default() };
    sregs.idt = sregs.gdt;
    (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8, sregs.efer) = (CR0_RESET, 0, 0, 0, 0, 0);
    sregs.apic_base = apic_base(apic);
    sregs.interrupt_bitmap = [0; 4];
}

fn real(selector: u16, base: u64, type_: u8) -> kvm_segment {
    kvm_segment { base, limit: 0xFFFF, selector, type_, present: 1, s: 1, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_instruction_is_16_bytes_below_4_gib() {
        let mut sregs = kvm_sregs { cr4: 1, efer: 0x500, apic_base: 0xFEE0_0900, ..Default::default() };
        at_reset(&mut sregs, false);
        assert_eq!(sregs.cs.base + RESET_IP, 0xFFFF_FFF0);
        assert_eq!((sregs.cs.selector, sregs.cs.limit, sregs.cs.db), (0xF000, 0xFFFF, 0));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer, sregs.idt.limit), (0x6000_0010, 0, 0, 0xFFFF));
        assert_eq!((sregs.ss.base, sregs.ss.type_, sregs.tr.type_, sregs.apic_base), (0, 3, 11, 0xFEE0_0100));
    }
}
