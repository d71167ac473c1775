//! Entries that tell the CPU whose a page fault is: in the trees of programs, an entry that the guest does not have present says so by P and
//! a reserved address bit. An access there is a page fault whose error code shows RSVD (SDM vol. 3 §4.7), and nothing else in a shadow table
//! raises one. So it is the guest's own without a look at its tables, and need not end the stay (Xen tells guest faults apart so).
//!
//! Such an entry stands only where the guest's table has the entry not present, and while the table is write-tracked: the write that makes it
//! present takes it away. In a page table out of sync there is none. Nor is there one for an entry with reserved bits, for one of the four
//! directory pointers of PAE paging, which count as they were when CR3 was loaded, or for the VMM area. To everything but the CPU it is an
//! entry that is not present: it refers to nothing, and is in no list.

use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gva, VcpuState};

use crate::links::{EntryId, ENTRIES};
use crate::mmu::{Mmu, MmuHost};
use crate::paging::GuestMode;
use crate::pool::ShadowPage;
use crate::role::{Env, Role, Source, Space};
use crate::spte;
use crate::walk::Walk;

impl Mmu {
    /// Are there such entries at all?
    #[must_use]
    pub const fn marks_absent(&self) -> bool {
        self.config.absent != 0
    }

    /// Is it one?
    pub(crate) const fn is_absent(&self, value: u64) -> bool {
        self.config.absent != 0 && value & spte::PRESENT != 0 && value & self.config.absent != 0
    }

    /// May a page with this role have them?
    fn may_mark(&self, page: &ShadowPage) -> bool {
        let Role { space, source, mode, level, .. } = page.key.role;
        let pointer = mode == GuestMode::Pae && level > 2;
        let place = space == Space::User && source == Source::Table && !pointer;
        self.config.absent != 0 && place && !page.unsync
    }

    /// The guest has the entry not present that the entry `id` of `page`, which refers to nothing, stands for.
    pub(crate) fn mark_absent<H: MmuHost + ?Sized>(&mut self, host: &mut H, id: EntryId, page: &ShadowPage) {
        let vmm_slot = page.key.role.level == self.top() && id.index() == usize::from(self.config.vmm_slot.0);
        if self.may_mark(page) && !vmm_slot && self.links.target(id).is_none() {
            self.rewrite(host, id, spte::PRESENT | self.config.absent);
        }
    }

    /// The guest has an entry there, or may have: the access will tell.
    pub(crate) fn unmark_absent<H: MmuHost + ?Sized>(&mut self, host: &mut H, id: EntryId) {
        if self.is_absent(self.read(host, id)) {
            self.rewrite(host, id, 0);
        }
    }

    /// The table `gfn` goes out of sync.
    pub(crate) fn forget_absent<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) {
        if !self.marks_absent() {
            return;
        }
        let mut at = self.pool.first(gfn);
        while let Some(index) = at {
            at = self.pool.next(index);
            if self.pool.get(index).is_some_and(|p| p.key.derives_from_frame() && p.key.role.space == Space::User) {
                for id in (0..ENTRIES).map(|i| EntryId::new(index.0, i)) {
                    self.unmark_absent(host, id);
                }
            }
        }
    }

    /// The guest's programs have taken `faults` faults at such entries, the last one at `gva`: what [`Mmu::fault`] does about a fault of the
    /// guest's own, but for what only tables out of sync need.
    pub fn reflected(&mut self, stats: &mut Stats, cpu: &VcpuState, gva: Gva, faults: u64) {
        stats.add(Counter::PageFaultTrue, faults);
        let Some(context) = self.context(cpu, Space::User, Env(0)) else { return };
        if let Some(root) = self.pool.find(&context.key(self.top(), Gva(0), &Walk::EMPTY)) {
            self.table_used(root, gva);
        }
        self.await_entry(&context, gva);
    }
}
