//! The engine: /dev/rvmm, /dev/kvm or any other device with KVM's ABI, on one code path.

mod rvmm;

use std::io;
use std::path::{Path, PathBuf};

use kvm_bindings::{kvm_userspace_memory_region, CpuId, KVM_API_VERSION};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use crate::error::Error;
use crate::memory::GuestMemory;
pub use rvmm::Rvmm;

/// Where KVM on Intel keeps its real-mode helper pages: three pages for the TSS, one for the identity map, in the top MiB of the
/// 4 GiB, where this machine has nothing.
const TSS_ADDRESS: usize = 0xFFFB_D000;
const IDENTITY_MAP_ADDRESS: u64 = 0xFFFB_C000;

/// An opened engine.
pub struct Engine {
    kvm: Kvm,
    path: PathBuf,
}

/// A virtual machine with its memory.
pub struct Vm {
    /// Dropped before the memory that it maps.
    fd: VmFd,
    rvmm: Option<Rvmm>,
    _memory: GuestMemory,
}

impl Engine {
    /// Opens `path` and makes sure that it is a KVM-compatible device with what this machine needs.
    pub fn open(path: &Path) -> Result<Engine, Error> {
        let device = |source| Error::Device { path: path.to_path_buf(), source };
        let text = path.to_str().and_then(|text| std::ffi::CString::new(text).ok());
        let text = text.ok_or_else(|| device(io::ErrorKind::InvalidInput.into()))?;
        let kvm = Kvm::new_with_path(text).map_err(|error| device(errno(error)))?;
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(Error::ApiVersion { path: path.to_path_buf(), version });
        }
        let engine = Engine { kvm, path: path.to_path_buf() };
        for (cap, what) in [
            (Cap::UserMemory, "guest memory from userspace (KVM_CAP_USER_MEMORY)"),
            (Cap::ExtCpuid, "CPUID tables (KVM_CAP_EXT_CPUID)"),
            (Cap::ImmediateExit, "immediate exit (KVM_CAP_IMMEDIATE_EXIT)"),
        ] {
            if !engine.kvm.check_extension(cap) {
                return Err(Error::Capability { engine: engine.name(), what });
            }
        }
        Ok(engine)
    }

    /// For messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// rvmm's own side of the device, if it is rvmm's.
    pub fn rvmm(&self) -> Option<Rvmm> {
        Rvmm::probe(&self.kvm)
    }

    /// What the engine can offer a guest of CPUID.
    pub fn supported_cpuid(&self) -> Result<CpuId, Error> {
        self.kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(|error| ioctl("KVM_GET_SUPPORTED_CPUID", error))
    }

    /// The frequency of the TSC of `vcpu`, if the engine tells it.
    pub fn tsc_khz(&self, vcpu: &VcpuFd) -> Option<u32> {
        if !self.kvm.check_extension(Cap::GetTscKhz) {
            return None;
        }
        vcpu.get_tsc_khz().ok().filter(|khz| *khz != 0)
    }

    /// Makes a VM.
    pub fn create_vm(&self, memory: GuestMemory) -> Result<Vm, Error> {
        let fd = self.kvm.create_vm().map_err(|error| ioctl("KVM_CREATE_VM", error))?;
        let rvmm = self.rvmm().map(|_| Rvmm::for_vm(&fd));
        if self.kvm.check_extension(Cap::SetTssAddr) {
            fd.set_tss_address(TSS_ADDRESS).map_err(|error| ioctl("KVM_SET_TSS_ADDR", error))?;
        }
        if self.kvm.check_extension(Cap::SetIdentityMapAddr) {
            fd.set_identity_map_address(IDENTITY_MAP_ADDRESS)
                .map_err(|error| ioctl("KVM_SET_IDENTITY_MAP_ADDR", error))?;
        }
        for (slot, region) in (0..).zip(memory.iter()) {
            let userspace_addr = region.as_ptr() as u64;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr,
            };
            // SAFETY: the region is mapped for as long as `memory` lives, and `Vm` keeps it until the VM's descriptor is closed.
            unsafe { fd.set_user_memory_region(region) }.map_err(|error| ioctl("KVM_SET_USER_MEMORY_REGION", error))?;
        }
        Ok(Vm { fd, rvmm, _memory: memory })
    }
}

impl Vm {
    /// rvmm's own side of the VM, if the engine is rvmm.
    pub fn rvmm(&self) -> Option<&Rvmm> {
        self.rvmm.as_ref()
    }

    /// Makes the virtual CPU.
    pub fn create_vcpu(&self) -> Result<VcpuFd, Error> {
        self.fd.create_vcpu(0).map_err(|error| ioctl("KVM_CREATE_VCPU", error))
    }
}

/// An ioctl's error with its name.
pub fn ioctl(call: &'static str, error: kvm_ioctls::Error) -> Error {
    Error::Ioctl { call, source: errno(error) }
}

fn errno(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
