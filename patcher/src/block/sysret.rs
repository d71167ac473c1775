//! Returns of 64-bit code to a program as calls of ring 0: the block for SYSRET of both widths, and the end of that for IRETQ.
//!
//! Ring 3 gets to ring 0 cheapest by SYSCALL. Ring 0 knows a block by the address behind its SYSCALL, finds what it needs in the vCPU page,
//! believes none of it, and either goes to the program or leaves the guest world; then RIP is behind the SYSCALL, RCX and R11 are
//! in their words, and the VMM interprets the return. While nobody is there to be called SYSCALL is #UD, before anything has happened.

use super::emit::Emitter;
use super::layout::{Field, BY_SYSRETL, BY_SYSRETQ};
use super::map::Undo;

const RCX: u8 = 1;
const RSP: u8 = 4;
const R11: u8 = 11;

/// Which code a SYSRET goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    /// 64-bit code: SYSRETQ.
    Long,
    /// Compatibility code.
    Compatibility,
}

/// SYSRET: RIP from RCX (ECX, where it is that of compatibility code; ring 0 cuts it), the flags from R11, and RSP as it is.
pub(super) fn sysret(e: &mut Emitter<'_>, guest: i32, to: To) {
    e.stand(guest, Undo::HEAD);
    e.store_register(RCX, Field::Target);
    e.store_register(R11, Field::CallFlags);
    e.store_register(RSP, Field::NewRsp);
    let kind = match to {
        To::Long => BY_SYSRETQ,
        To::Compatibility => BY_SYSRETL,
    };
    e.set_field(Field::CallKind, kind);
    call(e, guest, Undo::empty());
}

/// Calls ring 0, with RIP, RSP, flags and the kind of return in their words and `undo` what stands between the registers and the guest's.
pub(super) fn call(e: &mut Emitter<'_>, guest: i32, undo: Undo) {
    e.store_register(RCX, Field::CallRcx);
    e.store_register(R11, Field::CallR11);
    e.op(&[0x0F, 0x05], &[], &[]); // syscall: the commit, if ring 0 does it
    e.stand(guest, undo | Undo::CALL);
    e.exit();
}
