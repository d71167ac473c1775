// SPDX-License-Identifier: GPL-2.0
//! The linear layout of one VMM area, shared by Rust and the assembly image through `offset_of!`.
//!
//! ```text
//! page  0..3   image (code, shared by all areas, read-only and executable)
//!       3      control page: exit frame, host and guest registers (`Control`); TSS; the four interrupt stacks
//!       4, 5   IDT A (gates through the host's 0x10) and IDT B (gates through the VMM's own code segment)
//!       6      the vCPU page, while turns back are lent: the guest's kernel writes it too
//!       7      the page of the guest's TSS that holds its stack pointers, while events are lent; read only
//!      16..32  shadow GDT; its last page carries the VMM's own descriptors
//!      32..48  transition GDT: a first page with the host's 0x10, and the shadow GDT's last page again
//!      64..80  shadow LDT
//! ```

use core::mem::{offset_of, size_of};
use rvmm_arch::host::{EventFrame, EventSlot, VCPU_WORDS};

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;

/// Pages reserved for the image.
pub(crate) const IMAGE_PAGES: usize = 3;
/// Page number of the control page.
pub(crate) const CONTROL_PAGE: usize = 3;
/// Page number of IDT A.
pub(crate) const IDT_A_PAGE: usize = 4;
/// Page number of IDT B.
pub(crate) const IDT_B_PAGE: usize = 5;
/// Page number of the vCPU page.
pub(crate) const VCPU_PAGE: usize = 6;
/// Page number of the guest's TSS.
pub(crate) const TSS_PAGE: usize = 7;
/// Offset of the TSS in the control page. Few pages, few TLB misses after each change of CR3.
pub(crate) const TSS_OFFSET: usize = 0x600;
/// Offset of the replies in the control page, between the TSS and the first interrupt stack.
pub(crate) const REPLIES_OFFSET: usize = 0x680;
/// How many there are; RIP's lowest bits choose one.
pub(crate) const REPLIES: usize = 8;
/// First page number of the shadow GDT.
pub(crate) const GDT_PAGE: usize = 16;
/// First page number of the transition GDT.
pub(crate) const TRANSITION_PAGE: usize = 32;
/// First page number of the shadow LDT.
pub(crate) const LDT_PAGE: usize = 64;
/// Pages of a full descriptor table (64 KiB).
pub(crate) const TABLE_PAGES: usize = 16;

/// First GDT index that is the VMM's own.
pub(crate) const VMM_INDEX: u16 = 8176;
/// The VMM's 64-bit code segment.
pub(crate) const VMM_CS: u16 = (VMM_INDEX + 1) << 3;
/// The TSS (two entries).
pub(crate) const VMM_TSS: u16 = (VMM_INDEX + 4) << 3;
/// The shadow LDT (two entries).
pub(crate) const VMM_LDT: u16 = (VMM_INDEX + 6) << 3;
/// The host's kernel code segment (`__KERNEL_CS`).
pub(crate) const HOST_CS: u16 = 0x10;
/// The host's kernel data segment (`__KERNEL_DS`).
pub(crate) const HOST_SS: u16 = 0x18;

/// Offsets of the interrupt stacks' tops in the control page, behind the TSS. The IST numbers are the host's (#DF 1, NMI 2, #DB 3, #MC 4), so that a
/// gate of ours works with either TSS.
pub(crate) const IST_TOPS: [u64; 4] = [0xa00, 0xc00, 0xe00, 0x1000];

/// What an exit stub and the CPU have pushed, lowest address first. RSP0 points behind it, so the CPU writes it in place.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Frame {
    /// By encoding, as in the guest's context; RSP's place is not used.
    pub(crate) gpr: [u64; 16],
    /// Vector minus 128, sign-extended (a two-byte push holds no more).
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

/// What becomes of an exception of guest code, without that anybody is asked (image/serve.S): if vector, error code, RIP, CS and CR3 are
/// those, and of a page fault CR2, then `value` goes to a register, and guest code goes on at `next`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Reply {
    /// [`Reply::key`]; 0: of none.
    pub(crate) key: u64,
    pub(crate) rip: u64,
    pub(crate) cr3: u64,
    pub(crate) cr2: u64,
    pub(crate) next: u64,
    /// The register's offset in [`Frame::gpr`]; that of RSP, which is not used there, for none.
    pub(crate) register: u32,
    pub(crate) value: u32,
}

/// All of them.
pub(crate) type Replies = [Reply; REPLIES];

impl Reply {
    /// No register.
    pub(crate) const NONE: u32 = 4 * 8;

    /// What a frame's exception is, in one word. CS is never null.
    pub(crate) const fn key(frame: &Frame) -> u64 {
        (frame.error & 0xffff_ffff) << 32 | (frame.vector & 0xff) << 16 | frame.cs & 0xffff
    }

    /// Which of the replies the exceptions at `rip` have.
    pub(crate) const fn place(rip: u64) -> usize {
        rip as usize % REPLIES
    }
}

/// Operand of LGDT and LIDT.
#[derive(Clone, Copy, Default)]
#[repr(C, packed)]
pub(crate) struct TableOperand {
    pub(crate) limit: u16,
    pub(crate) base: u64,
}

/// Padded so that each starts at a multiple of 16.
#[derive(Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Table(pub(crate) TableOperand);

/// The control page.
#[repr(C, align(16))]
pub(crate) struct Control {
    /// The ring-0 stack of the switcher; a faulting IRETQ pushes here too.
    pub(crate) stack: [u64; 61],
    pub(crate) frame: Frame,
    pub(crate) host_rsp: u64,
    pub(crate) host_cr0: u64,
    pub(crate) host_cr3: u64,
    pub(crate) host_cr4: u64,
    pub(crate) guest_cr0: u64,
    pub(crate) guest_cr3: u64,
    pub(crate) guest_cr4: u64,
    pub(crate) cr2: u64,
    pub(crate) idtr_a: Table,
    pub(crate) idtr_b: Table,
    pub(crate) gdtr_shadow: Table,
    pub(crate) gdtr_transition: Table,
    pub(crate) host_gdtr_writable: Table,
    pub(crate) host_gdtr: Table,
    pub(crate) host_idtr: Table,
    /// Linear address of the host's TSS descriptor in the writable GDT alias.
    pub(crate) host_tss_descriptor: u64,
    pub(crate) host_fs_base: u64,
    pub(crate) host_gs_base: u64,
    /// Loaded and stored where `long_mode` is set.
    pub(crate) guest_fs_base: u64,
    pub(crate) guest_gs_base: u64,
    pub(crate) guest_es: u16,
    pub(crate) guest_ds: u16,
    pub(crate) guest_fs: u16,
    pub(crate) guest_gs: u16,
    pub(crate) guest_ldt: u16,
    pub(crate) host_es: u16,
    pub(crate) host_ds: u16,
    pub(crate) host_fs: u16,
    pub(crate) host_gs: u16,
    pub(crate) host_ldt: u16,
    pub(crate) host_tr: u16,
    /// Of which data segments' descriptors (ES, DS, FS, GS: bits 0 to 3) the present bits are cleared once all are loaded.
    pub(crate) disarm: u16,
    /// Set by the ring-0 stubs: an NMI, a machine check came while the switcher ran.
    pub(crate) pending_nmi: u8,
    pub(crate) pending_mc: u8,
    pub(crate) reserved: [u8; 2],
    /// A debug exception came while the switcher ran.
    pub(crate) pending_db: u8,
    /// The guest was not entered: 1 a fault of the switcher, 2 an NMI or machine check just before IRETQ.
    pub(crate) aborted: u8,
    /// The exit path is running.
    pub(crate) exiting: u8,
    /// The guest is in long mode.
    pub(crate) long_mode: u8,
    /// The turn from the guest's program to its kernel, see [`rvmm_arch::host::SyscallLoan`]: where to, with what.
    pub(crate) syscall_cr3: u64,
    pub(crate) syscall_cr4: u64,
    pub(crate) syscall_rip: u64,
    /// Where to from compatibility code, where that is lent.
    pub(crate) compat_rip: u64,
    /// Which of the program's flags its kernel finds unchanged.
    pub(crate) syscall_keep: u64,
    /// With one of these flags there is no turn.
    pub(crate) syscall_unusual: u64,
    pub(crate) syscall_cs: u64,
    pub(crate) syscall_ss: u64,
    pub(crate) syscall_descriptors: [u64; 2],
    /// Turns made since the entry, to the kernel and back.
    pub(crate) turns: u64,
    pub(crate) returns: u64,
    /// The turn back: where to, and by whose call.
    pub(crate) program_cr3: u64,
    pub(crate) program_cr4: u64,
    pub(crate) program_cs: u64,
    pub(crate) program_ss: u64,
    /// Compatibility code, to which the kernel may go back too, or 0.
    pub(crate) compat_cs: u64,
    pub(crate) blocks: [u64; 2],
    /// What a turn to the kernel puts to the beginning of the vCPU page.
    pub(crate) words: [u64; VCPU_WORDS],
    /// Events right behind a SYSCALL, with the guest's stack, since the area was made.
    pub(crate) rolled: u64,
    /// A turn to the kernel may be made when a program runs: the above is filled in.
    pub(crate) may_turn: u8,
    /// A turn back may be made when the kernel runs, and the vCPU page is mapped.
    pub(crate) may_return: u8,
    /// The guest's kernel runs, not its program.
    pub(crate) in_kernel: u8,
    /// The SYSCALL met came from compatibility code.
    pub(crate) syscall_compat: u8,
    /// The guest world was left at a SYSCALL.
    pub(crate) syscall_exit: u8,
    /// Events of a program may be taken to its kernel when a program runs; the slots and what follows them are filled in, and both pages mapped.
    pub(crate) may_reflect: u8,
    /// The SYSCALL of compatibility code is a turn, too.
    pub(crate) may_turn_compat: u8,
    /// A turn back may be a SYSEXIT to 32-bit code, too.
    pub(crate) may_sysexit: u8,
    /// Selectors of data segments that were loaded by entries good for one load, all ones where there is none.
    pub(crate) lent: [u16; 4],
    /// Events, see [`rvmm_arch::host::EventLoan`].
    pub(crate) events: [EventSlot; 3],
    /// What the guest sees of a page fault's error code.
    pub(crate) error_bits: u64,
    /// The error code with which the INT n that is lent arrives.
    pub(crate) int_error: u64,
    pub(crate) flat_code: u64,
    pub(crate) event_cr2: u64,
    pub(crate) event_cr2_before: u64,
    pub(crate) event_frame: EventFrame,
    /// Whom to ask about page faults ([`super::serve`]), or 0; with what; and how often guest code went on.
    pub(crate) serve: u64,
    pub(crate) server: u64,
    pub(crate) served: u64,
    /// What of that nobody was asked about: int3, and loads.
    pub(crate) replied: [u64; 2],
    /// The function at `serve` runs: 1 in the guest world, 2 in the host's, which it has been brought to meanwhile.
    pub(crate) serving: u64,
    pub(crate) fault_vector: u64,
    pub(crate) fault_error: u64,
    pub(crate) fault_rip: u64,
}

const _: () = {
    assert!(size_of::<Control>() <= TSS_OFFSET);
    assert!(REPLIES_OFFSET >= TSS_OFFSET + size_of::<Tss>());
    assert!(REPLIES_OFFSET + size_of::<Replies>() <= 0x800);
    // The image multiplies by it.
    assert!(size_of::<Reply>() == 48 && REPLIES == 8);
    assert!(size_of::<Frame>() == 23 * 8);
    // Copied as a whole.
    assert!(size_of::<EventFrame>() == size_of::<Frame>() - offset_of!(Frame, vector));
    // The CPU aligns the stack pointer down to 16 before it pushes.
    assert!((offset_of!(Control, frame) + size_of::<Frame>()) % 16 == 0);
    assert!(offset_of!(Control, idtr_a) % 16 == 0);
    // The two flags are tested with one 32-bit compare.
    assert!(offset_of!(Control, pending_nmi) % 4 == 0);
    assert!(offset_of!(Control, pending_mc) == offset_of!(Control, pending_nmi) + 1);
};

/// A 64-bit TSS (SDM vol. 3 §8.7).
#[derive(Clone, Copy)]
#[repr(C, packed)]
pub(crate) struct Tss {
    pub(crate) reserved0: u32,
    pub(crate) rsp: [u64; 3],
    pub(crate) reserved1: u64,
    pub(crate) ist: [u64; 7],
    pub(crate) reserved2: u64,
    pub(crate) reserved3: u16,
    /// Beyond the limit: every port is refused at CPL > IOPL.
    pub(crate) io_bitmap: u16,
}
const _: () = assert!(size_of::<Tss>() == 0x68);
