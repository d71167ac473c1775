// SPDX-License-Identifier: GPL-2.0
//! The global allocator that `alloc` and iced-x86 need, over the kernel's kmalloc/vmalloc, and the three symbols that rustc 1.85
//! makes itself only when it links a final program.
use core::alloc::{GlobalAlloc, Layout};
use kernel::bindings;

struct KernelAllocator;

#[global_allocator]
static ALLOCATOR: KernelAllocator = KernelAllocator;

// SAFETY: kvrealloc_node_align gives memory of the asked size and alignment or null, and kvfree takes back what it gave.
unsafe impl GlobalAlloc for KernelAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.pad_to_align().size();
        // SAFETY: a null pointer asks for a new block; GlobalAlloc's callers never ask for size 0.
        unsafe {
            bindings::kvrealloc_node_align(
                core::ptr::null(),
                size,
                layout.align(),
                bindings::GFP_KERNEL,
                bindings::NUMA_NO_NODE,
            )
        }
        .cast()
    }

    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        // SAFETY: by the contract of dealloc the block came from alloc or realloc above.
        unsafe { bindings::kvfree(ptr.cast()) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let size = new_size.next_multiple_of(layout.align());
        // SAFETY: the block came from alloc or realloc above, and on failure it is left as it was.
        unsafe {
            bindings::kvrealloc_node_align(
                ptr.cast(),
                size,
                layout.align(),
                bindings::GFP_KERNEL,
                bindings::NUMA_NO_NODE,
            )
        }
        .cast()
    }
}

/// Read by `alloc` so that an allocator is linked in.
#[no_mangle]
static __rust_no_alloc_shim_is_unstable: u8 = 0;

/// Says that an allocation failure does not panic but comes to `__rust_alloc_error_handler`.
#[no_mangle]
static __rust_alloc_error_handler_should_panic: u8 = 0;

/// Where infallible allocations end when memory is short.
#[no_mangle]
fn __rust_alloc_error_handler(_size: usize, _align: usize) -> ! {
    panic!("rvmm: out of memory in an infallible allocation")
}
