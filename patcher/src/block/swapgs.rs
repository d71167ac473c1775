//! The block for SWAPGS: the active GS base is the real one, which code of any ring exchanges with RDGSBASE and WRGSBASE while
//! CR4.FSGSBASE is on; the other is in the vCPU page. Where it is off, RDGSBASE raises #UD before anything has happened, and the VMM
//! interprets the SWAPGS.

use super::emit::Emitter;
use super::layout::Field;
use super::map::Undo;

/// Commits with WRGSBASE; what comes behind it only puts the old base where the new one came from.
pub(super) fn swapgs(e: &mut Emitter<'_>, guest: i32, next: i32) {
    e.stand(guest, Undo::HEAD);
    e.store_eax(Field::SavedRax);
    e.stand(guest, Undo::empty());
    e.op(&[0xF3, 0x48, 0x0F, 0xAE, 0xC8], &[], &[]); // rdgsbase rax
    e.stand(guest, Undo::RAX);
    e.store_eax(Field::OldGs);
    e.load_eax(Field::KernelGs);
    e.op(&[0xF3, 0x48, 0x0F, 0xAE, 0xD8], &[], &[]); // wrgsbase rax: the commit
    e.stand(next, Undo::RAX | Undo::GS);
    e.load_eax(Field::OldGs);
    e.store_eax(Field::KernelGs);
    e.stand(next, Undo::RAX);
    e.load_eax(Field::SavedRax);
}
