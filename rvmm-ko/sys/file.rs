// SPDX-License-Identifier: GPL-2.0
//! File descriptors with ioctls: the device node, and anonymous ones for VMs and vCPUs.
//!
//! The kernel crate's `MiscDevice` leaves the file operations' owner empty, so the module could be unloaded under an open file. Here
//! every `file_operations` names the module as owner: open files, and so all VMs and vCPUs, keep it loaded.

use core::marker::PhantomData;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::types::Opaque;

extern "C" {
    fn anon_inode_getfd(
        name: *const c_char,
        fops: *const bindings::file_operations,
        private: *mut c_void,
        flags: c_int,
    ) -> c_int;
}

fn answer(result: Result<isize>) -> c_long {
    match result {
        Ok(value) => value as c_long,
        Err(e) => e.to_errno() as c_long,
    }
}

/// What stands behind an anonymous file descriptor.
pub(crate) trait Fd: Send + Sync + Sized + 'static {
    /// Its name in /proc/PID/fd.
    const NAME: &'static CStr;

    /// An ioctl.
    fn ioctl(this: ArcBorrow<'_, Self>, cmd: u32, arg: usize) -> Result<isize>;

    /// A mapping.
    fn mmap(&self, _vma: &VmaNew) -> Result {
        Err(ENODEV)
    }
}

struct Operations<T>(PhantomData<T>);

impl<T: Fd> Operations<T> {
    /// # Safety
    /// Called by the kernel for a file made by [`install`] with the same `T`.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: `install` has put an `Arc<T>` there, which lives until `release`.
        let this = unsafe { ArcBorrow::from_raw((*file).private_data.cast::<T>().cast_const()) };
        answer(T::ioctl(this, cmd, arg))
    }

    /// # Safety
    /// As for `ioctl`; `vma` is being set up.
    unsafe extern "C" fn mmap(file: *mut bindings::file, vma: *mut bindings::vm_area_struct) -> c_int {
        // SAFETY: as above.
        let this = unsafe { ArcBorrow::from_raw((*file).private_data.cast::<T>().cast_const()) };
        // SAFETY: by the contract.
        let vma = unsafe { VmaNew::from_raw(vma) };
        match T::mmap(&this, vma) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    /// As for `ioctl`; the last call for this file.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: the reference that `install` gave to the file comes back, once.
        drop(unsafe { Arc::from_raw((*file).private_data.cast::<T>().cast_const()) });
        0
    }

    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: crate::THIS_MODULE.as_ptr(),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: bindings::compat_ptr_ioctl,
        mmap: Some(Self::mmap),
        release: Some(Self::release),
        ..pin_init::zeroed()
    };
}

/// A new file descriptor of the current process for `object`.
pub(crate) fn install<T: Fd>(object: Arc<T>) -> Result<isize> {
    let raw = Arc::into_raw(object);
    let flags = (bindings::O_RDWR | bindings::O_CLOEXEC) as c_int;
    // SAFETY: name and table are static; the private data is what the table's functions expect.
    let fd =
        unsafe { anon_inode_getfd(T::NAME.as_ptr().cast(), &Operations::<T>::TABLE, raw.cast_mut().cast(), flags) };
    if fd < 0 {
        // SAFETY: no file was made, so the reference is still ours.
        drop(unsafe { Arc::from_raw(raw) });
        return Err(Error::from_errno(fd));
    }
    Ok(fd as isize)
}

/// A registered misc device. Gone from /dev when dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct DeviceNode {
    #[pin]
    inner: Opaque<bindings::miscdevice>,
}

// SAFETY: registration and deregistration may happen on different threads.
unsafe impl Send for DeviceNode {}
// SAFETY: nothing can be done through a shared reference.
unsafe impl Sync for DeviceNode {}

/// # Safety
/// Called by the kernel for a file of the device node.
unsafe extern "C" fn device_ioctl(_file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
    answer(crate::device::ioctl(cmd, arg))
}

const DEVICE_TABLE: bindings::file_operations = bindings::file_operations {
    owner: crate::THIS_MODULE.as_ptr(),
    unlocked_ioctl: Some(device_ioctl),
    compat_ioctl: bindings::compat_ptr_ioctl,
    ..pin_init::zeroed()
};

impl DeviceNode {
    /// Makes /dev/`name`.
    pub(crate) fn new(name: &'static CStr) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let mut device: bindings::miscdevice = pin_init::zeroed();
                device.minor = bindings::MISC_DYNAMIC_MINOR as c_int;
                device.name = name.as_ptr().cast();
                device.fops = &DEVICE_TABLE;
                // SAFETY: the slot may be written.
                unsafe { slot.write(device) };
                // SAFETY: the structure is complete and pinned until the registration is dropped.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for DeviceNode {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: registered by `new`, deregistered once.
        unsafe { bindings::misc_deregister(self.inner.get()) };
    }
}
