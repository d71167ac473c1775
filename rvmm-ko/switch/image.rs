// SPDX-License-Identifier: GPL-2.0
//! Tour 9/22, next: `rvmm-ko/core/src/exits.rs`.
//! The switcher: the only code that runs in the guest world at ring 0.
//!
//! Its code is in `image/*.S`, which are one piece of assembly in this order (labels are shared); here are the names of what it refers to.
//! The image lies in `.rodata`, is copied to pages of its own and runs only at the VMM area's linear address, where it finds its
//! data at fixed distances. It refers to nothing outside the area except through values in the control page.
//!
//! Prototype: `extern "C" fn()`, called with interrupts off, on the current task's page tables with the VMM slot in them. All
//! registers of the C ABI are preserved; CR0, CR3, CR4, GDTR, IDTR, TR, LDTR, DS, ES, FS, GS and the FS and GS bases are those of
//! [`super::layout::Control`] afterwards. Not saved here: FPU, PKRU, debug registers, EFER, SYSENTER_CS (the caller's).
//!
//! In:  1. callee-saved registers and flags on the host stack, its RSP to the control page
//!      2. IDT A: its gates go through selector 0x10, which the host's GDT has        (host TSS: same IST numbers)
//!      3. transition GDT: has 0x10 and the VMM's own descriptors                     (either IDT works now)
//!      4. IDT B, whose gates go through the VMM's code segment; TR; shadow GDT; VMM stack
//!      5. LDTR, data segments (and, if asked, their descriptors not present any more), bases of FS and GS, CR0, CR4, guest CR3
//!      6. NMI or #MC pending? then out again; else general-purpose registers and IRETQ
//! Out: 1. CPU and stub push the frame in place, registers below it; CR2, selectors, bases to the control page; flags cleared
//!      2. host CR3, CR4, CR0; transition GDT; IDT A; far return to 0x10
//!      3. host GDT by its writable alias, busy bit, TR; host GDT; LDTR, data segments, FS and GS bases
//!      4. host stack; host IDT, last; flags, registers, return
//!
//! At no instruction is an IDT live whose gates' code segment is missing in the live GDT, nor the host's IDT together with anything
//! of ours. NMI, #MC and #DB at ring 0 set a flag and resume without IRETQ (which would unblock NMIs), except between step 6 and
//! IRETQ, where an NMI or #MC leaves at once. Any other exception at ring 0 is a fault of the entry (bad selector, bad descriptor):
//! it is recorded and the exit path runs; everything that path loads is absolute, so it works from any step. The exception to that is code
//! of the host's which a page fault is shown to before it ends the stay (serve.S): such an exception of its own it meets again in the
//! host's world, where it ends.
//!
//! Nothing here reads or writes through FS or GS, so the stubs need no SWAPGS, whatever base the guest has given GS; bases are loaded
//! and stored by their MSRs, as RDGSBASE and the like depend on a CR4 that is the guest's in the middle of it. The stack is always a
//! stack of the area's, by the TSS, so the guest's RSP may be anything, canonical or not.
//! SDM vol. 3 §6.14 (64-bit interrupts, IST), §5.8 (returns), §8.7 (TSS); APM vol. 2 §8.9.

use super::layout::{
    Control, Frame, Reply, CONTROL_PAGE, GDT_PAGE, HOST_CS, HOST_SS, LDT_PAGE, PAGE, REPLIES, REPLIES_OFFSET, TSS_PAGE,
    VCPU_PAGE, VMM_TSS,
};
use core::arch::global_asm;
use core::mem::{offset_of, size_of};
use rvmm_arch::host::{
    BlockCall, BlockEvent, EventLoan, EventSlot, BLOCK_CALL, BLOCK_EVENT, CALL_ERROR, VCPU_CR2, VCPU_FLAGS, VCPU_IF,
    VCPU_WORDS,
};

global_asm!(
    include_str!("image/enter.S"),
    include_str!("image/leave.S"),
    include_str!("image/call.S"),
    include_str!("image/back.S"),
    include_str!("image/call32.S"),
    include_str!("image/event.S"),
    include_str!("image/sysenter.S"),
    include_str!("image/serve.S"),
    include_str!("image/ring0.S"),
    include_str!("image/stubs.S"),
    control = const CONTROL_PAGE * PAGE,
    vcpu_page = const VCPU_PAGE * PAGE,
    vcpu_words = const VCPU_WORDS,
    call_rip = const BLOCK_CALL + offset_of!(BlockCall, rip),
    call_rsp = const BLOCK_CALL + offset_of!(BlockCall, rsp),
    call_rcx = const BLOCK_CALL + offset_of!(BlockCall, rcx),
    call_r11 = const BLOCK_CALL + offset_of!(BlockCall, r11),
    call_flags = const BLOCK_CALL + offset_of!(BlockCall, flags),
    call_kind = const BLOCK_CALL + offset_of!(BlockCall, kind),
    by_sysretl = const BlockCall::BY_SYSRETL,
    by_sysexit = const BlockCall::BY_SYSEXIT,
    vcpu_if = const VCPU_IF,
    vcpu_flags = const VCPU_FLAGS,
    tss_page = const TSS_PAGE * PAGE,
    vcpu_cr2 = const VCPU_CR2,
    event_ss = const BLOCK_EVENT + offset_of!(BlockEvent, ss),
    event_rsp = const BLOCK_EVENT + offset_of!(BlockEvent, rsp),
    event_flags = const BLOCK_EVENT + offset_of!(BlockEvent, flags),
    event_cs = const BLOCK_EVENT + offset_of!(BlockEvent, cs),
    event_rip = const BLOCK_EVENT + offset_of!(BlockEvent, rip),
    event_error = const BLOCK_EVENT + offset_of!(BlockEvent, error),
    event_handler = const BLOCK_EVENT + offset_of!(BlockEvent, handler),
    slot = const size_of::<EventSlot>(),
    block = const offset_of!(EventSlot, block),
    handler = const offset_of!(EventSlot, handler),
    stack = const offset_of!(EventSlot, stack),
    stack_segment = const offset_of!(EventSlot, stack_segment),
    call_error = const CALL_ERROR,
    by_iret = const BlockCall::BY_IRETQ,
    lent = const offset_of!(Control, lent),
    code = const offset_of!(EventSlot, code),
    slot_words = const offset_of!(EventSlot, words),
    taken = const offset_of!(EventSlot, taken),
    page_fault = const EventLoan::PAGE_FAULT,
    interrupt = const EventLoan::INTERRUPT,
    sysenter = const EventLoan::SYSENTER,
    by_page_fault = const EventLoan::BY_EVENT + EventLoan::PAGE_FAULT as u16,
    by_interrupt = const EventLoan::BY_EVENT + EventLoan::INTERRUPT as u16,
    by_sysenter = const EventLoan::BY_EVENT + EventLoan::SYSENTER as u16,
    events = const offset_of!(Control, events),
    error_bits = const offset_of!(Control, error_bits),
    int_error = const offset_of!(Control, int_error),
    flat_code = const offset_of!(Control, flat_code),
    event_cr2 = const offset_of!(Control, event_cr2),
    event_cr2_before = const offset_of!(Control, event_cr2_before),
    event_frame = const offset_of!(Control, event_frame),
    may_reflect = const offset_of!(Control, may_reflect),
    serve = const offset_of!(Control, serve),
    server = const offset_of!(Control, server),
    served = const offset_of!(Control, served),
    serving = const offset_of!(Control, serving),
    resume = const super::serve::RESUME,
    replied_with = const super::serve::REPLIED,
    replied = const offset_of!(Control, replied),
    replies = const REPLIES_OFFSET,
    last_reply = const REPLIES - 1,
    reply_key = const offset_of!(Reply, key),
    reply_rip = const offset_of!(Reply, rip),
    reply_cr3 = const offset_of!(Reply, cr3),
    reply_cr2 = const offset_of!(Reply, cr2),
    reply_next = const offset_of!(Reply, next),
    reply_register = const offset_of!(Reply, register),
    reply_value = const offset_of!(Reply, value),
    vmm_tss = const VMM_TSS,
    host_cs = const HOST_CS,
    host_ss = const HOST_SS,
    frame = const offset_of!(Control, frame),
    frame_rcx = const offset_of!(Control, frame) + offset_of!(Frame, gpr) + 8,
    frame_r11 = const offset_of!(Control, frame) + offset_of!(Frame, gpr) + 11 * 8,
    frame_rip = const offset_of!(Control, frame) + offset_of!(Frame, rip),
    frame_cs = const offset_of!(Control, frame) + offset_of!(Frame, cs),
    frame_rflags = const offset_of!(Control, frame) + offset_of!(Frame, rflags),
    frame_rsp = const offset_of!(Control, frame) + offset_of!(Frame, rsp),
    frame_ss = const offset_of!(Control, frame) + offset_of!(Frame, ss),
    frame_vector = const offset_of!(Control, frame) + offset_of!(Frame, vector),
    host_rsp = const offset_of!(Control, host_rsp),
    host_cr0 = const offset_of!(Control, host_cr0),
    host_cr3 = const offset_of!(Control, host_cr3),
    host_cr4 = const offset_of!(Control, host_cr4),
    guest_cr0 = const offset_of!(Control, guest_cr0),
    guest_cr3 = const offset_of!(Control, guest_cr3),
    guest_cr4 = const offset_of!(Control, guest_cr4),
    cr2 = const offset_of!(Control, cr2),
    idtr_a = const offset_of!(Control, idtr_a),
    idtr_b = const offset_of!(Control, idtr_b),
    gdtr_shadow = const offset_of!(Control, gdtr_shadow),
    gdtr_transition = const offset_of!(Control, gdtr_transition),
    host_gdtr_writable = const offset_of!(Control, host_gdtr_writable),
    host_gdtr = const offset_of!(Control, host_gdtr),
    host_idtr = const offset_of!(Control, host_idtr),
    host_tss_descriptor = const offset_of!(Control, host_tss_descriptor),
    host_fs_base = const offset_of!(Control, host_fs_base),
    host_gs_base = const offset_of!(Control, host_gs_base),
    guest_es = const offset_of!(Control, guest_es),
    guest_ds = const offset_of!(Control, guest_ds),
    guest_fs = const offset_of!(Control, guest_fs),
    guest_gs = const offset_of!(Control, guest_gs),
    guest_ldt = const offset_of!(Control, guest_ldt),
    disarm = const offset_of!(Control, disarm),
    long_mode = const offset_of!(Control, long_mode),
    guest_fs_base = const offset_of!(Control, guest_fs_base),
    guest_gs_base = const offset_of!(Control, guest_gs_base),
    gdt = const GDT_PAGE * PAGE,
    ldt = const LDT_PAGE * PAGE,
    host_es = const offset_of!(Control, host_es),
    host_ds = const offset_of!(Control, host_ds),
    host_fs = const offset_of!(Control, host_fs),
    host_gs = const offset_of!(Control, host_gs),
    host_ldt = const offset_of!(Control, host_ldt),
    host_tr = const offset_of!(Control, host_tr),
    pending = const offset_of!(Control, pending_nmi),
    pending_nmi = const offset_of!(Control, pending_nmi),
    pending_mc = const offset_of!(Control, pending_mc),
    pending_db = const offset_of!(Control, pending_db),
    aborted = const offset_of!(Control, aborted),
    exiting = const offset_of!(Control, exiting),
    syscall_cr3 = const offset_of!(Control, syscall_cr3),
    syscall_cr4 = const offset_of!(Control, syscall_cr4),
    syscall_rip = const offset_of!(Control, syscall_rip),
    compat_rip = const offset_of!(Control, compat_rip),
    syscall_keep = const offset_of!(Control, syscall_keep),
    syscall_unusual = const offset_of!(Control, syscall_unusual),
    syscall_cs = const offset_of!(Control, syscall_cs),
    syscall_ss = const offset_of!(Control, syscall_ss),
    syscall_descriptors = const offset_of!(Control, syscall_descriptors),
    rolled = const offset_of!(Control, rolled),
    turns = const offset_of!(Control, turns),
    returns = const offset_of!(Control, returns),
    program_cr3 = const offset_of!(Control, program_cr3),
    program_cr4 = const offset_of!(Control, program_cr4),
    program_cs = const offset_of!(Control, program_cs),
    program_ss = const offset_of!(Control, program_ss),
    compat_cs = const offset_of!(Control, compat_cs),
    blocks = const offset_of!(Control, blocks),
    words = const offset_of!(Control, words),
    may_return = const offset_of!(Control, may_return),
    may_sysexit = const offset_of!(Control, may_sysexit),
    in_kernel = const offset_of!(Control, in_kernel),
    may_turn = const offset_of!(Control, may_turn),
    may_turn_compat = const offset_of!(Control, may_turn_compat),
    syscall_compat = const offset_of!(Control, syscall_compat),
    syscall_exit = const offset_of!(Control, syscall_exit),
    fault_vector = const offset_of!(Control, fault_vector),
    fault_error = const offset_of!(Control, fault_error),
    fault_rip = const offset_of!(Control, fault_rip),
    options(att_syntax)
);

extern "C" {
    static rvmm_image_start: u8;
    static rvmm_image_end: u8;
    static rvmm_image_offsets: Offsets;
}

/// The places in the image that Rust must know, as offsets from its start.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Offsets {
    pub(crate) stubs: u32,
    pub(crate) load_ldt: u32,
    pub(crate) load_es: u32,
    pub(crate) load_ds: u32,
    pub(crate) load_fs: u32,
    pub(crate) load_gs: u32,
    pub(crate) loads_end: u32,
    pub(crate) iret: u32,
    pub(crate) syscall: u32,
    pub(crate) syscall_compat: u32,
}

/// Bytes from one exit stub to the next.
pub(crate) const STUB_SIZE: u64 = 16;

/// The image's bytes.
pub(crate) fn bytes() -> &'static [u8] {
    let start = &raw const rvmm_image_start;
    let end = &raw const rvmm_image_end;
    // SAFETY: the two symbols bound one object in read-only data, emitted above, that lives as long as the module.
    unsafe { core::slice::from_raw_parts(start, end.addr().wrapping_sub(start.addr())) }
}

/// The image's table of offsets.
pub(crate) fn offsets() -> Offsets {
    // SAFETY: the symbol is emitted above with this layout and never written.
    unsafe { rvmm_image_offsets }
}
