//! rvmm's own ioctls (docs/abi.md).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rvmm_abi::{
    ConstantRegister, ConstantRegisters, MemoryRange, Options, ReportRequest, StatsKind, StatsRequest, StatsScope,
    ABI_VERSION, GET_ABI_VERSION, GET_REPORT, GET_STATS, MAX_REPORT, MEMORY_WRITTEN, SET_CONSTANT_REGISTERS,
    SET_OPTIONS, STATS_VERSION,
};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref, ioctl_with_ref};

use crate::error::Error;

/// rvmm's own side of a device or VM. It borrows nothing: it must not be used after the descriptor was closed, which only gives EBADF.
#[derive(Clone, Copy, Debug)]
pub struct Rvmm {
    fd: RawFd,
}

/// Counters as the module gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsReply {
    /// In the order of the kind's list of names; may be longer or shorter than it when module and helper differ in age.
    pub values: Vec<u64>,
    pub live_vms: u32,
    pub made_vms: u32,
}

impl AsRawFd for Rvmm {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Rvmm {
    /// The device `kvm` as rvmm's, or `None` if it is another engine's or speaks another version.
    pub fn probe(kvm: &Kvm) -> Option<Rvmm> {
        let rvmm = Rvmm { fd: kvm.as_raw_fd() };
        // SAFETY: the request carries no argument.
        let version = unsafe { ioctl(&rvmm, GET_ABI_VERSION.into()) };
        (u32::try_from(version) == Ok(ABI_VERSION)).then_some(rvmm)
    }

    /// The VM `vm` of an rvmm device.
    pub fn for_vm(vm: &VmFd) -> Rvmm {
        Rvmm { fd: vm.as_raw_fd() }
    }

    /// The vCPU `vcpu` of an rvmm device.
    pub fn for_vcpu(vcpu: &VcpuFd) -> Rvmm {
        Rvmm { fd: vcpu.as_raw_fd() }
    }

    /// Has the engine read these registers by itself from now on, and no others. There must be no more than it takes.
    pub fn set_constants(&self, constants: &[(u64, u32)]) -> Result<(), Error> {
        let mut table = ConstantRegisters { count: constants.len() as u32, ..Default::default() };
        for (register, (gpa, value)) in table.registers.iter_mut().zip(constants) {
            *register = ConstantRegister { gpa: *gpa, value: *value, reserved: 0 };
        }
        // SAFETY: the request reads one `ConstantRegisters` from the reference.
        let result = unsafe { ioctl_with_ref(self, SET_CONSTANT_REGISTERS.into(), &table) };
        check("RVMM_SET_CONSTANT_REGISTERS", result)
    }

    /// Says how the VM is to run its guest.
    pub fn set_options(&self, options: &Options) -> Result<(), Error> {
        // SAFETY: the request reads one `Options` from the reference.
        let result = unsafe { ioctl_with_ref(self, SET_OPTIONS.into(), options) };
        check("RVMM_SET_OPTIONS", result)
    }

    /// Announces a write to guest memory.
    pub fn memory_written(&self, gpa: u64, len: u64) -> Result<(), Error> {
        let range = MemoryRange { gpa, len };
        // SAFETY: the request reads one `MemoryRange` from the reference.
        let result = unsafe { ioctl_with_ref(self, MEMORY_WRITTEN.into(), &range) };
        check("RVMM_MEMORY_WRITTEN", result)
    }

    /// Reads counters.
    pub fn stats(&self, scope: StatsScope, kind: StatsKind) -> Result<StatsReply, Error> {
        let mut values = Vec::new();
        // The first answer tells how many there are.
        loop {
            let mut request = StatsRequest {
                count: values.len() as u32,
                scope: scope as u32,
                kind: kind as u32,
                values: values.as_mut_ptr() as u64,
                ..Default::default()
            };
            // SAFETY: the request reads and writes one `StatsRequest` and writes at most `count` values to the vector, which has them.
            let result = unsafe { ioctl_with_mut_ref(self, GET_STATS.into(), &mut request) };
            check("RVMM_GET_STATS", result)?;
            if request.version != STATS_VERSION {
                return Err(Error::Host {
                    what: "reading the counters",
                    source: io::Error::other(
                        "the module numbers them differently: module and rvmm must be of one version",
                    ),
                });
            }
            let count = request.count as usize;
            if count <= values.len() {
                values.truncate(count);
                return Ok(StatsReply { values, live_vms: request.live_vms, made_vms: request.made_vms });
            }
            values.resize(count, 0);
        }
    }

    /// The text that explains the VM's last internal error, if there is one.
    pub fn report(&self) -> Option<String> {
        let mut text = vec![0u8; MAX_REPORT];
        let mut request = ReportRequest { len: MAX_REPORT as u32, reserved: 0, text: text.as_mut_ptr() as u64 };
        // SAFETY: the request reads and writes one `ReportRequest` and writes at most `len` bytes to the vector, which has them.
        let result = unsafe { ioctl_with_mut_ref(self, GET_REPORT.into(), &mut request) };
        if result != 0 || request.len == 0 {
            return None;
        }
        text.truncate(request.len as usize);
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn check(call: &'static str, result: i32) -> Result<(), Error> {
    if result == 0 {
        Ok(())
    } else {
        Err(Error::Ioctl { call, source: io::Error::last_os_error() })
    }
}
