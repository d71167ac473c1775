// SPDX-License-Identifier: GPL-2.0
//! The part of the KVM ABI that /dev/rvmm speaks: numbers and structures, bit for bit (Documentation/virt/kvm/api.rst,
//! include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h). Sizes and offsets are asserted here and tested from userspace by
//! tests/abi.

#![allow(missing_docs)]

use core::mem::{offset_of, size_of};
use kernel::ioctl::{_IO, _IOR, _IOW, _IOWR};
use kernel::transmute::{AsBytes, FromBytes};
use rvmm_arch::xstate::Image;

const KVMIO: u32 = 0xae;

pub(crate) const API_VERSION: isize = 12;

// Device.
pub(crate) const GET_API_VERSION: u32 = _IO(KVMIO, 0x00);
pub(crate) const CREATE_VM: u32 = _IO(KVMIO, 0x01);
pub(crate) const GET_MSR_INDEX_LIST: u32 = _IOWR::<u32>(KVMIO, 0x02);
pub(crate) const CHECK_EXTENSION: u32 = _IO(KVMIO, 0x03);
pub(crate) const GET_VCPU_MMAP_SIZE: u32 = _IO(KVMIO, 0x04);
pub(crate) const GET_SUPPORTED_CPUID: u32 = _IOWR::<CpuidHead>(KVMIO, 0x05);
// VM.
pub(crate) const CREATE_VCPU: u32 = _IO(KVMIO, 0x41);
pub(crate) const SET_USER_MEMORY_REGION: u32 = _IOW::<MemoryRegion>(KVMIO, 0x46);
pub(crate) const SET_TSS_ADDR: u32 = _IO(KVMIO, 0x47);
pub(crate) const SET_IDENTITY_MAP_ADDR: u32 = _IOW::<u64>(KVMIO, 0x48);
// vCPU.
pub(crate) const RUN: u32 = _IO(KVMIO, 0x80);
pub(crate) const GET_REGS: u32 = _IOR::<Regs>(KVMIO, 0x81);
pub(crate) const SET_REGS: u32 = _IOW::<Regs>(KVMIO, 0x82);
pub(crate) const GET_SREGS: u32 = _IOR::<Sregs>(KVMIO, 0x83);
pub(crate) const SET_SREGS: u32 = _IOW::<Sregs>(KVMIO, 0x84);
pub(crate) const INTERRUPT: u32 = _IOW::<u32>(KVMIO, 0x86);
pub(crate) const GET_MSRS: u32 = _IOWR::<MsrsHead>(KVMIO, 0x88);
pub(crate) const SET_MSRS: u32 = _IOW::<MsrsHead>(KVMIO, 0x89);
pub(crate) const SET_SIGNAL_MASK: u32 = _IOW::<u32>(KVMIO, 0x8b);
pub(crate) const GET_FPU: u32 = _IOR::<Fpu>(KVMIO, 0x8c);
pub(crate) const SET_FPU: u32 = _IOW::<Fpu>(KVMIO, 0x8d);
pub(crate) const SET_CPUID2: u32 = _IOW::<CpuidHead>(KVMIO, 0x90);
pub(crate) const GET_CPUID2: u32 = _IOWR::<CpuidHead>(KVMIO, 0x91);
pub(crate) const GET_MP_STATE: u32 = _IOR::<u32>(KVMIO, 0x98);
pub(crate) const SET_MP_STATE: u32 = _IOW::<u32>(KVMIO, 0x99);
pub(crate) const NMI: u32 = _IO(KVMIO, 0x9a);
pub(crate) const GET_VCPU_EVENTS: u32 = _IOR::<VcpuEvents>(KVMIO, 0x9f);
pub(crate) const SET_VCPU_EVENTS: u32 = _IOW::<VcpuEvents>(KVMIO, 0xa0);
pub(crate) const GET_DEBUGREGS: u32 = _IOR::<DebugRegs>(KVMIO, 0xa1);
pub(crate) const SET_DEBUGREGS: u32 = _IOW::<DebugRegs>(KVMIO, 0xa2);
pub(crate) const GET_TSC_KHZ: u32 = _IO(KVMIO, 0xa3);
/// The argument is `kvm_xsave`, an image of 4096 bytes.
pub(crate) const GET_XSAVE: u32 = _IOR::<Image>(KVMIO, 0xa4);
pub(crate) const SET_XSAVE: u32 = _IOW::<Image>(KVMIO, 0xa5);
pub(crate) const GET_XCRS: u32 = _IOR::<Xcrs>(KVMIO, 0xa6);
pub(crate) const SET_XCRS: u32 = _IOW::<Xcrs>(KVMIO, 0xa7);

/// Capabilities, by the numbers of KVM_CHECK_EXTENSION.
pub(crate) mod cap {
    pub(crate) const USER_MEMORY: usize = 3;
    pub(crate) const SET_TSS_ADDR: usize = 4;
    pub(crate) const EXT_CPUID: usize = 7;
    pub(crate) const NR_VCPUS: usize = 9;
    pub(crate) const NR_MEMSLOTS: usize = 10;
    pub(crate) const MP_STATE: usize = 14;
    pub(crate) const DESTROY_MEMORY_REGION_WORKS: usize = 21;
    pub(crate) const USER_NMI: usize = 22;
    pub(crate) const JOIN_MEMORY_REGIONS_WORKS: usize = 30;
    pub(crate) const SET_IDENTITY_MAP_ADDR: usize = 37;
    pub(crate) const INTERNAL_ERROR_DATA: usize = 40;
    pub(crate) const VCPU_EVENTS: usize = 41;
    pub(crate) const DEBUGREGS: usize = 50;
    pub(crate) const XSAVE: usize = 55;
    pub(crate) const XCRS: usize = 56;
    pub(crate) const GET_TSC_KHZ: usize = 61;
    pub(crate) const MAX_VCPUS: usize = 66;
    pub(crate) const READONLY_MEM: usize = 81;
    pub(crate) const CHECK_EXTENSION_VM: usize = 105;
    pub(crate) const MAX_VCPU_ID: usize = 128;
    pub(crate) const IMMEDIATE_EXIT: usize = 136;
}

/// KVM_EXIT_*.
pub(crate) mod exit {
    pub(crate) const IO: u32 = 2;
    pub(crate) const HLT: u32 = 5;
    pub(crate) const MMIO: u32 = 6;
    pub(crate) const IRQ_WINDOW_OPEN: u32 = 7;
    pub(crate) const SHUTDOWN: u32 = 8;
    pub(crate) const INTR: u32 = 10;
    pub(crate) const SET_TPR: u32 = 11;
    pub(crate) const INTERNAL_ERROR: u32 = 17;
}

/// KVM_INTERNAL_ERROR_EMULATION.
pub(crate) const INTERNAL_ERROR_EMULATION: u32 = 1;

/// KVM_MEM_READONLY.
pub(crate) const MEM_READONLY: u32 = 2;

macro_rules! plain {
    ($($(#[$doc:meta])* struct $name:ident($size:literal) { $($field:ident: $ty:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $ty),+ }
        // No implicit padding: the fields fill the size that the ABI fixes.
        const _: () = assert!(size_of::<$name>() == $size && $size == 0 $(+ size_of::<$ty>())+);
        // SAFETY: repr(C), integers and such structures only, and no padding (asserted above): all bytes are initialised.
        unsafe impl AsBytes for $name {}
        // SAFETY: integers and such structures only: every bit pattern is valid.
        unsafe impl FromBytes for $name {}
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: <$ty>::default()),+ }
            }
        }
    )+};
}

plain! {
    /// `kvm_userspace_memory_region`.
    struct MemoryRegion(32) { slot: u32, flags: u32, guest_phys_addr: u64, memory_size: u64, userspace_addr: u64 }

    /// `kvm_regs`.
    struct Regs(144) {
        rax: u64, rbx: u64, rcx: u64, rdx: u64, rsi: u64, rdi: u64, rsp: u64, rbp: u64,
        r8: u64, r9: u64, r10: u64, r11: u64, r12: u64, r13: u64, r14: u64, r15: u64,
        rip: u64, rflags: u64,
    }

    /// `kvm_segment`.
    struct Segment(24) {
        base: u64, limit: u32, selector: u16, kind: u8, present: u8, dpl: u8, db: u8, s: u8, l: u8, g: u8, avl: u8,
        unusable: u8, padding: u8,
    }

    /// `kvm_dtable`.
    struct Table(16) { base: u64, limit: u16, padding0: u16, padding1: u32 }

    /// `kvm_sregs`.
    struct Sregs(312) {
        cs: Segment, ds: Segment, es: Segment, fs: Segment, gs: Segment, ss: Segment, tr: Segment, ldt: Segment,
        gdt: Table, idt: Table,
        cr0: u64, cr2: u64, cr3: u64, cr4: u64, cr8: u64, efer: u64, apic_base: u64,
        interrupt_bitmap: [u64; 4],
    }

    /// `kvm_fpu`.
    struct Fpu(416) {
        fpr: [u64; 16], fcw: u16, fsw: u16, ftwx: u8, pad1: u8, last_opcode: u16, last_ip: u64, last_dp: u64,
        xmm: [u64; 32], mxcsr: u32, pad2: u32,
    }

    /// The head of `kvm_msrs`, before its entries.
    struct MsrsHead(8) { nmsrs: u32, pad: u32 }
    /// `kvm_msr_entry`.
    struct MsrEntry(16) { index: u32, reserved: u32, data: u64 }

    /// The head of `kvm_cpuid2`, before its entries.
    struct CpuidHead(8) { nent: u32, padding: u32 }
    /// `kvm_cpuid_entry2`.
    struct CpuidEntry(40) {
        function: u32, index: u32, flags: u32, eax: u32, ebx: u32, ecx: u32, edx: u32, padding: [u32; 3],
    }

    /// `kvm_vcpu_events`.
    struct VcpuEvents(64) {
        exception_injected: u8, exception_nr: u8, exception_has_error_code: u8, exception_pending: u8, exception_error_code: u32,
        interrupt_injected: u8, interrupt_nr: u8, interrupt_soft: u8, interrupt_shadow: u8,
        nmi_injected: u8, nmi_pending: u8, nmi_masked: u8, nmi_pad: u8,
        sipi_vector: u32, flags: u32,
        smi: u32, triple_fault_pending: u8, reserved: [u8; 26], exception_has_payload: u8, exception_payload: u64,
    }

    /// `kvm_debugregs`.
    struct DebugRegs(128) { db: [u64; 4], dr6: u64, dr7: u64, flags: u64, reserved: [u64; 9] }

    /// `kvm_xcr`.
    struct Xcr(16) { xcr: u32, reserved: u32, value: u64 }
    /// `kvm_xcrs`.
    struct Xcrs(392) { nr_xcrs: u32, flags: u32, xcrs: [Xcr; 16], padding: [u64; 16] }
}

const _: () = {
    assert!(offset_of!(Segment, selector) == 12 && offset_of!(Segment, unusable) == 22);
    assert!(
        offset_of!(Sregs, gdt) == 192 && offset_of!(Sregs, cr0) == 224 && offset_of!(Sregs, interrupt_bitmap) == 280
    );
    assert!(
        offset_of!(Fpu, fcw) == 128
            && offset_of!(Fpu, last_ip) == 136
            && offset_of!(Fpu, xmm) == 152
            && offset_of!(Fpu, mxcsr) == 408
    );
    assert!(offset_of!(VcpuEvents, interrupt_injected) == 8 && offset_of!(VcpuEvents, nmi_injected) == 12);
    assert!(offset_of!(VcpuEvents, flags) == 20 && offset_of!(VcpuEvents, exception_has_payload) == 55);
    assert!(offset_of!(DebugRegs, flags) == 48);
};

/// KVM_CPUID_FLAG_SIGNIFCANT_INDEX.
pub(crate) const CPUID_INDEXED: u32 = 1;

/// Flags of `kvm_vcpu_events`.
pub(crate) mod events {
    pub(crate) const NMI_PENDING: u32 = 1;
    pub(crate) const SIPI_VECTOR: u32 = 2;
    pub(crate) const SHADOW: u32 = 4;
    /// Shadow kinds: KVM_X86_SHADOW_INT_MOV_SS, KVM_X86_SHADOW_INT_STI.
    pub(crate) const SHADOW_MOV_SS: u8 = 1;
    pub(crate) const SHADOW_STI: u8 = 2;
}

/// Offsets in `kvm_run`, which lives in a page shared with the client and is therefore never a Rust structure.
pub(crate) mod run {
    pub(crate) const REQUEST_INTERRUPT_WINDOW: usize = 0;
    pub(crate) const IMMEDIATE_EXIT: usize = 1;
    pub(crate) const EXIT_REASON: usize = 8;
    pub(crate) const READY_FOR_INTERRUPT_INJECTION: usize = 12;
    pub(crate) const IF_FLAG: usize = 13;
    pub(crate) const FLAGS: usize = 14;
    pub(crate) const CR8: usize = 16;
    pub(crate) const APIC_BASE: usize = 24;
    pub(crate) const IO_DIRECTION: usize = 32;
    pub(crate) const IO_SIZE: usize = 33;
    pub(crate) const IO_PORT: usize = 34;
    pub(crate) const IO_COUNT: usize = 36;
    pub(crate) const IO_DATA_OFFSET: usize = 40;
    pub(crate) const MMIO_PHYS_ADDR: usize = 32;
    pub(crate) const MMIO_DATA: usize = 40;
    pub(crate) const MMIO_LEN: usize = 48;
    pub(crate) const MMIO_IS_WRITE: usize = 52;
    pub(crate) const INTERNAL_SUBERROR: usize = 32;
    pub(crate) const INTERNAL_NDATA: usize = 36;
    pub(crate) const INTERNAL_DATA: usize = 40;
    /// Where the data of port accesses lies: behind `kvm_run` (2352 bytes), in the same page.
    pub(crate) const IO_DATA: usize = 3072;
}

/// MSRs, by number.
pub(crate) mod msr {
    pub(crate) const TSC: u32 = 0x10;
    pub(crate) const APIC_BASE: u32 = 0x1b;
    pub(crate) const ARCH_CAPABILITIES: u32 = 0x10a;
    pub(crate) const SYSENTER_CS: u32 = 0x174;
    pub(crate) const SYSENTER_ESP: u32 = 0x175;
    pub(crate) const SYSENTER_EIP: u32 = 0x176;
    pub(crate) const MISC_ENABLE: u32 = 0x1a0;
    pub(crate) const DEBUGCTL: u32 = 0x1d9;
    pub(crate) const PAT: u32 = 0x277;
    pub(crate) const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub(crate) const EFER: u32 = 0xc000_0080;
    pub(crate) const STAR: u32 = 0xc000_0081;
    pub(crate) const LSTAR: u32 = 0xc000_0082;
    pub(crate) const CSTAR: u32 = 0xc000_0083;
    pub(crate) const SFMASK: u32 = 0xc000_0084;
    pub(crate) const FS_BASE: u32 = 0xc000_0100;
    pub(crate) const GS_BASE: u32 = 0xc000_0101;
    pub(crate) const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub(crate) const TSC_AUX: u32 = 0xc000_0103;
}
