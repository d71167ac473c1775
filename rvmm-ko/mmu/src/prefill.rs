//! Shadow entries made before the fault that would make them, where it would find nothing else to do: the guest's entry is present
//! and accessed, and dirty where the shadow's permits writes. No bit of the guest's is set for it, so whatever a later access has to
//! record, it still faults for.
//!
//! - Around a fault: kernels map what is near together (Linux 16 pages around a fault in a file), and the other tree or another
//!   environment has perhaps used it already.
//! - Where the guest took a fault of its own: when it comes back, its kernel has resolved it, perhaps by a write to a table out of sync,
//!   which nobody has seen.
//! - A frame that is no table any more becomes writable again where memory is mapped by large pages.

use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::stats::Stats;
use rvmm_arch::{Gfn, Gva};

use crate::gpte::{DIRTY, PRESENT};
use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::pool::PageIndex;
use crate::role::{host_index, Context, Source, Space};
use crate::spte;
use crate::sync::shadow_entries;
use crate::walk::{walk, Step, Traces, Walked};

/// Entries looked at around a fault, less one: an aligned group.
const AROUND_MASK: u64 = 15;

/// So often a root is asked for before a fault of the guest's own counts as not resolved.
const PATIENCE: u8 = 64;

/// A fault of the guest's own, which its kernel is to resolve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    context: Context,
    gva: Gva,
    patience: u8,
}

impl Mmu {
    /// The guest has taken a fault of its own at `gva`.
    pub(crate) fn await_entry(&mut self, context: &Context, gva: Gva) {
        if self.config.prefill {
            self.awaited = Some(Awaited { context: *context, gva, patience: PATIENCE });
        }
    }

    /// Before an entry: has the guest resolved its last fault?
    pub(crate) fn fill_awaited<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
    ) {
        let Some(awaited) = self.awaited.as_mut().filter(|a| a.context == *context) else { return };
        awaited.patience = awaited.patience.wrapping_sub(1);
        let (gva, given_up) = (awaited.gva, awaited.patience == 0);
        let known = self.lookup(root, gva);
        // If there is no way to it, the access itself will tell.
        let leaf = known.or_else(|| self.lead_to_awaited(host, stats, context, root, gva).ok().flatten());
        let resolved = leaf.is_some_and(|id| {
            self.fill_around(host, id, gva);
            known.is_none() || self.links.target(id).is_some()
        });
        if resolved || given_up {
            self.awaited = None;
        }
    }

    /// Shadows the tables on the way to `gva`, if the guest permits a read there and all are accessed already: a new mapping comes with a
    /// new page table as a rule.
    fn lead_to_awaited<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
        gva: Gva,
    ) -> Result<Option<EntryId>, MmuError> {
        if self.in_vmm_slot(gva) {
            return Ok(None);
        }
        let privilege = match context.space {
            Space::Kernel => Privilege::Supervisor,
            Space::User => Privilege::User,
        };
        let access = Access { kind: AccessKind::Read, privilege };
        let Some(Walked::Mapped(walk)) = walk(host, &self.paging_in(context), gva, access, Traces::None)? else {
            return Ok(None);
        };
        let recorded = |step: &Step| {
            let accessed = context.mode.accessed(step.level);
            step.raw & accessed == accessed
        };
        if !walk.steps().iter().all(recorded) {
            return Ok(None);
        }
        self.reserve(host, stats, usize::from(self.top()))?;
        let table = self.path(host, stats, context, root, gva, (1, &walk))?;
        Ok(Some(EntryId::new(table.0, host_index(gva, 1))))
    }

    /// Makes the entries of a page table around `leaf`, which translates `gva`.
    pub(crate) fn fill_around<H: MmuHost + ?Sized>(&mut self, host: &mut H, leaf: EntryId, gva: Gva) {
        if !self.config.prefill {
            return;
        }
        let index = PageIndex(leaf.page());
        let Some(&page) = self.pool.get(index).filter(|p| p.key.role.level == 1) else { return };
        let (role, gfn) = (page.key.role, page.key.gfn);
        if role.source != Source::Table {
            return;
        }
        let bytes = role.mode.entry_bytes();
        let first = role.mode.index(gva, 1) & !AROUND_MASK;
        let mut buf = [0; 8 * (AROUND_MASK as usize + 1)];
        let Some(part) = buf.get_mut(..usize::from(bytes).wrapping_mul(AROUND_MASK as usize + 1)) else { return };
        let at = gfn.base().add(first.wrapping_mul(u64::from(bytes)));
        // If the host cannot reach the table, the access itself will tell.
        if host.read_ram(at, part) != Ok(true) {
            return;
        }
        let used = PRESENT | role.mode.accessed(1);
        let paging = self.paging_of(&role);
        for (gpte, entry) in (first..).zip(part.chunks_exact(usize::from(bytes))) {
            let raw = entry.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
            let Some((low, _)) = shadow_entries(&role, gpte).filter(|_| raw & used == used) else { continue };
            let id = EntryId::new(index.0, low);
            let before = self.read(host, id);
            let wanted = if raw & DIRTY == 0 { spte::PRESENT } else { spte::PRESENT | spte::WRITE };
            if before & wanted == wanted && !self.is_absent(before) {
                // Never less than there was: where D cannot be stored (a table in read-only memory) a leaf may be writable without it.
                continue;
            }
            self.sync_leaf(host, id, &page, (raw, role.mode.decode(raw, 1, &paging)));
            let now = self.read(host, id);
            if now & !before & (spte::PRESENT | spte::WRITE) != 0 {
                self.tally.prefilled = self.tally.prefilled.wrapping_add(1);
            }
        }
    }

    /// A frame is no table any more, because the guest writes it or has taken it from its tables: it is about to be written. Where the
    /// guest maps it by a large page its rights are in the link, and the leaf may be writable.
    pub(crate) fn writable_again<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) {
        if !self.config.prefill || !self.writable(host, gfn) {
            return;
        }
        let mut at = self.first_leaf(gfn);
        while let Some(id) = at {
            at = self.next_leaf(id, gfn);
            let direct = self.pool.get(PageIndex(id.page())).is_some_and(|p| p.key.role.source == Source::Direct);
            let value = self.read(host, id);
            if direct && value & (spte::VIEW | spte::WRITE) == 0 {
                self.rewrite(host, id, value | spte::WRITE);
                self.tally.prefilled = self.tally.prefilled.wrapping_add(1);
            }
        }
    }
}
