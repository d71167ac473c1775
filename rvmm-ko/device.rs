// SPDX-License-Identifier: GPL-2.0
//! The ioctls of /dev/rvmm itself.

use crate::convert::MSRS;
use crate::cpuid;
use crate::kvm_abi::{self as kvm, cap, CpuidHead};
use crate::memory::MAX_SLOTS;
use crate::stats;
use crate::switch::fpu;
use crate::sys::file;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// An ioctl on the device node.
pub(crate) fn ioctl(cmd: u32, arg: usize) -> Result<isize> {
    match cmd {
        kvm::GET_API_VERSION => no_argument(arg).map(|()| kvm::API_VERSION),
        kvm::CREATE_VM => no_argument(arg).and_then(|()| file::install(Vm::new()?)),
        kvm::CHECK_EXTENSION => Ok(check_extension(arg)),
        kvm::GET_VCPU_MMAP_SIZE => no_argument(arg).map(|()| 4096),
        kvm::GET_MSR_INDEX_LIST => msr_index_list(arg),
        kvm::GET_SUPPORTED_CPUID => supported_cpuid(arg),
        rvmm_abi::GET_ABI_VERSION => Ok(rvmm_abi::ABI_VERSION as isize),
        rvmm_abi::GET_STATS => stats::get(None, arg),
        _ => Err(ENOTTY),
    }
}

fn no_argument(arg: usize) -> Result {
    if arg == 0 {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// KVM_CHECK_EXTENSION, on the device and on VMs: only what works.
pub(crate) fn check_extension(number: usize) -> isize {
    match number {
        cap::USER_MEMORY
        | cap::SET_TSS_ADDR
        | cap::EXT_CPUID
        | cap::NR_VCPUS
        | cap::MP_STATE
        | cap::DESTROY_MEMORY_REGION_WORKS
        | cap::USER_NMI
        | cap::JOIN_MEMORY_REGIONS_WORKS
        | cap::SET_IDENTITY_MAP_ADDR
        | cap::INTERNAL_ERROR_DATA
        | cap::VCPU_EVENTS
        | cap::DEBUGREGS
        | cap::XSAVE
        | cap::GET_TSC_KHZ
        | cap::MAX_VCPUS
        | cap::READONLY_MEM
        | cap::CHECK_EXTENSION_VM
        | cap::MAX_VCPU_ID
        | cap::IMMEDIATE_EXIT => 1,
        cap::XCRS => isize::from(fpu::offered() != 0),
        cap::NR_MEMSLOTS => MAX_SLOTS as isize,
        _ => 0,
    }
}

/// The number is updated even when the list does not fit (E2BIG).
fn msr_index_list(arg: usize) -> Result<isize> {
    let user = UserPtr::from_addr(arg);
    let room = UserSlice::new(user, 4).reader().read::<u32>()?;
    UserSlice::new(user, 4).writer().write(&(MSRS.len() as u32))?;
    if (room as usize) < MSRS.len() {
        return Err(E2BIG);
    }
    let mut out = UserSlice::new(user.wrapping_byte_add(4), MSRS.len().wrapping_mul(4)).writer();
    for index in MSRS {
        out.write(&index)?;
    }
    Ok(0)
}

/// KVM leaves the number alone when the entries do not fit (E2BIG), and sets it when they do.
fn supported_cpuid(arg: usize) -> Result<isize> {
    let user = UserPtr::from_addr(arg);
    let mut head = UserSlice::new(user, 8).reader().read::<CpuidHead>()?;
    let entries = cpuid::supported()?;
    if (head.nent as usize) < entries.len() {
        return Err(E2BIG);
    }
    let mut out = UserSlice::new(user.wrapping_byte_add(8), entries.len().wrapping_mul(40)).writer();
    for e in &entries {
        out.write(e)?;
    }
    head.nent = entries.len() as u32;
    UserSlice::new(user, 8).writer().write(&head)?;
    Ok(0)
}
