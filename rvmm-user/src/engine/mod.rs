//! The engine: /dev/rvmm, /dev/kvm or any other device with KVM's ABI, on one code path.

mod rvmm;
mod slots;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kvm_bindings::{CpuId, KVM_API_VERSION};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::error::Error;
use crate::memory::layout::Region;
use crate::memory::ram::Backing;
pub use rvmm::Rvmm;
use slots::Slots;

/// Guest-physical pages in which KVM on Intel keeps its real-mode helpers: one for the identity map, three for the TSS. Below them and
/// the largest firmware this machine has nothing.
pub const HELPER_PAGES: std::ops::Range<u64> = 0xFEFF_C000..0xFF00_0000;

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
    slots: Mutex<Slots>,
    backing: Backing,
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

    /// Makes sure that memory can be shown read-only, as firmware's ROMs are.
    pub fn require_roms(&self) -> Result<(), Error> {
        if self.kvm.check_extension(Cap::ReadonlyMem) {
            return Ok(());
        }
        Err(Error::Capability { engine: self.name(), what: "read-only guest memory (KVM_CAP_READONLY_MEM)" })
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

    /// Makes a VM, which shows its guest nothing of `backing` yet.
    pub fn create_vm(&self, backing: Backing) -> Result<Vm, Error> {
        let fd = self.kvm.create_vm().map_err(|error| ioctl("KVM_CREATE_VM", error))?;
        let rvmm = self.rvmm().map(|_| Rvmm::for_vm(&fd));
        if self.kvm.check_extension(Cap::SetTssAddr) {
            fd.set_tss_address(HELPER_PAGES.start as usize + 0x1000)
                .map_err(|error| ioctl("KVM_SET_TSS_ADDR", error))?;
        }
        if self.kvm.check_extension(Cap::SetIdentityMapAddr) {
            fd.set_identity_map_address(HELPER_PAGES.start)
                .map_err(|error| ioctl("KVM_SET_IDENTITY_MAP_ADDR", error))?;
        }
        Ok(Vm { fd, rvmm, slots: Mutex::new(Slots::default()), backing })
    }
}

impl Vm {
    /// rvmm's own side of the VM, if the engine is rvmm.
    pub fn rvmm(&self) -> Option<&Rvmm> {
        self.rvmm.as_ref()
    }

    /// Shows the guest `regions` and nothing else. To be called while the vCPU does not run.
    pub fn show(&self, regions: &[Region]) -> Result<(), Error> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).show(&self.fd, &self.backing, regions)
    }

    /// Tells the engine what devices wrote to guest memory (address and length), if it wants to know.
    pub fn memory_written(&self, written: &[(u64, u64)]) -> Result<(), Error> {
        match &self.rvmm {
            Some(rvmm) => written.iter().try_for_each(|(gpa, len)| rvmm.memory_written(*gpa, *len)),
            None => Ok(()),
        }
    }

    /// Tells the engine what registers of devices read the same until the next call (address and value), if it can make use of that.
    pub fn set_constants(&self, vcpu: &VcpuFd, constants: &[(u64, u32)]) -> Result<(), Error> {
        match &self.rvmm {
            Some(_) => Rvmm::for_vcpu(vcpu).set_constants(constants),
            None => Ok(()),
        }
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
