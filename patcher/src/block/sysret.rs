//! Returns to a program as calls of ring 0: the blocks for SYSRET of both widths and for SYSEXIT, and the end of that for IRET.
//!
//! 64-bit code in ring 3 gets to ring 0 cheapest by SYSCALL. Ring 0 knows a block by the address behind its SYSCALL, finds what it needs in
//! the vCPU page, believes none of it, and either goes to the program or leaves the guest world; then RIP is behind the SYSCALL, RCX and
//! R11 are in their words, and the VMM interprets the return. While nobody is there to be called SYSCALL is #UD, before anything has happened.
//!
//! 32-bit code has no SYSCALL on most CPUs. It calls by an INT n whose gate it may not use: #GP, with the vector in the error code and EIP
//! at the INT, whether it is answered or not. No INT of the guest's with that vector is ever in a block.

use super::emit::Emitter;
use super::layout::{Field, BY_SYSEXIT, BY_SYSRETL, BY_SYSRETQ, CALL_VECTOR};
use super::map::Undo;

const RCX: u8 = 1;
const RDX: u8 = 2;
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

/// SYSEXIT to 32-bit code: EIP from EDX, and ESP from ECX. It changes no flag, so those are for ring 0 to look at: the real ones, and IF, IOPL and AC in
/// the vCPU page. A STI right before it holds back no more than what would come before the program's first instruction, and no event waits while ring
/// 0 answers.
pub(super) fn sysexit(e: &mut Emitter<'_>, guest: i32) {
    e.stand(guest, Undo::HEAD);
    e.store_register(RDX, Field::Target);
    e.store_register(RCX, Field::NewRsp);
    e.set_field(Field::CallKind, BY_SYSEXIT);
    call(e, guest, Undo::empty());
}

/// Calls ring 0, with RIP, RSP, flags and the kind of return in their words and `undo` what stands between the registers and the guest's.
pub(super) fn call(e: &mut Emitter<'_>, guest: i32, undo: Undo) {
    if !e.is_64() {
        e.op(&[0xCD, CALL_VECTOR], &[], &[]); // int: the commit, if ring 0 does it
        return;
    }
    e.store_register(RCX, Field::CallRcx);
    e.store_register(R11, Field::CallR11);
    e.op(&[0x0F, 0x05], &[], &[]); // syscall: the commit, if ring 0 does it
    e.stand(guest, undo | Undo::CALL);
    e.exit();
}
