//! Reads `kvm_run` after KVM_RUN returned: the one place where its union and the bytes behind it are looked at.
//!
//! kvm-ioctls decodes exits too, but leaves out the width of one access in a string I/O exit.

use kvm_bindings::{
    kvm_run, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_IN,
    KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MMIO, KVM_EXIT_SET_TPR, KVM_EXIT_SHUTDOWN,
};
use kvm_ioctls::VcpuFd;

/// Why the vCPU came back.
#[derive(Debug)]
pub enum Exit<'a> {
    /// `data` holds so many accesses of `width` bytes, all to `port`.
    PortRead {
        port: u16,
        width: usize,
        data: &'a mut [u8],
    },
    PortWrite {
        port: u16,
        width: usize,
        data: &'a [u8],
    },
    /// A read of guest-physical memory that no slot backs.
    MemoryRead {
        gpa: u64,
        data: &'a mut [u8],
    },
    /// A write to it, or to memory that may only be read.
    MemoryWrite {
        gpa: u64,
        data: &'a [u8],
    },
    Halt,
    Shutdown,
    IrqWindow,
    /// The guest has lowered CR8.
    TaskPriority,
    /// A signal, or `immediate_exit`.
    Interrupted,
    InternalError {
        suberror: u32,
        data: Vec<u64>,
    },
    FailEntry {
        reason: u64,
    },
    Unknown {
        reason: u32,
    },
}

/// Decodes the exit of `vcpu`, whose last KVM_RUN returned success.
pub fn decode(vcpu: &mut VcpuFd) -> Exit<'_> {
    let run: &mut kvm_run = vcpu.get_kvm_run();
    let reason = run.exit_reason;
    match reason {
        KVM_EXIT_IO => {
            // SAFETY: the exit reason says that `io` is the member in use.
            let io = unsafe { run.__bindgen_anon_1.io };
            let width = usize::from(io.size);
            let bytes = width * io.count as usize;
            let start = std::ptr::from_mut(run).cast::<u8>();
            // SAFETY: the kernel puts the data at `data_offset`, inside the mapping of `kvm_run` that kvm-ioctls made and that lives as
            // long as the borrowed vCPU; nobody else touches it until the next KVM_RUN.
            let data = unsafe { std::slice::from_raw_parts_mut(start.add(io.data_offset as usize), bytes) };
            if u32::from(io.direction) == KVM_EXIT_IO_IN {
                Exit::PortRead { port: io.port, width, data }
            } else {
                Exit::PortWrite { port: io.port, width, data }
            }
        }
        KVM_EXIT_MMIO => {
            // SAFETY: the exit reason says that `mmio` is the member in use.
            let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
            let (gpa, length) = (mmio.phys_addr, (mmio.len as usize).min(mmio.data.len()));
            let data = mmio.data.get_mut(..length).unwrap_or_default();
            if mmio.is_write == 0 {
                Exit::MemoryRead { gpa, data }
            } else {
                Exit::MemoryWrite { gpa, data }
            }
        }
        KVM_EXIT_HLT => Exit::Halt,
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_IRQ_WINDOW_OPEN => Exit::IrqWindow,
        KVM_EXIT_SET_TPR => Exit::TaskPriority,
        KVM_EXIT_INTR => Exit::Interrupted,
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: the exit reason says that `internal` is the member in use.
            let internal = unsafe { run.__bindgen_anon_1.internal };
            let data = internal.data.iter().take(internal.ndata as usize).copied().collect();
            Exit::InternalError { suberror: internal.suberror, data }
        }
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: the exit reason says that `fail_entry` is the member in use.
            let reason = unsafe { run.__bindgen_anon_1.fail_entry.hardware_entry_failure_reason };
            Exit::FailEntry { reason }
        }
        reason => Exit::Unknown { reason },
    }
}
