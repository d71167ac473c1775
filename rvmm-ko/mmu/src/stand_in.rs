//! Pages that stand in for a page of the guest's while a single instruction is executed on the CPU: data that it cannot be shown in
//! place, because it is a device's or because writes to it, or a view on it, must be seen.

use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::stats::Stats;
use rvmm_arch::{Gfn, Gva, Pfn, VcpuState};

use crate::links::{frame, EntryId, NONE};
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{canonical, GuestMode, Paging};
use crate::role::{host_index, Env, Space};
use crate::spte;
use crate::walk::{walk, Traces, Walked};

/// What the instruction may do with a stand-in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandInRights {
    /// It writes there.
    pub write: bool,
    /// It lies there itself.
    pub execute: bool,
}

impl Mmu {
    /// Maps the host's frame `shown` at the linear page `page` of `cpu`'s address space, where the guest's tables lead to `gfn`: RAM, or
    /// nothing. What was there is forgotten. To be taken back by [`Mmu::drop_stand_in`] before the guest's code runs on. False: the
    /// guest does not permit the access (any more), maps another frame there, or no shadow can be there.
    ///
    /// # Errors
    /// As for [`Mmu::fault`].
    #[allow(clippy::too_many_arguments)]
    pub fn stand_in<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        (space, env): (Space, Env),
        page: Gva,
        gfn: Gfn,
        (shown, rights): (Pfn, StandInRights),
    ) -> Result<bool, MmuError> {
        let page = page.page();
        let context = self.context(cpu, space, env).ok_or(MmuError::UnsupportedPaging)?;
        let reachable = match context.mode {
            GuestMode::FourLevel => canonical(page) && !self.in_vmm_slot(page),
            _ => page.0 >> 32 == 0,
        };
        // The reverse map, by which it is found again, ends there.
        if !reachable || frame(gfn) == NONE || self.overlay_reaches(host, &context, page)? {
            return Ok(false);
        }
        let root = self.root_page(host, stats, &context)?;
        self.reserve(host, stats, usize::from(self.top()))?;
        let kind = if rights.write { AccessKind::Write } else { AccessKind::Read };
        let privilege = if space == Space::User { Privilege::User } else { Privilege::Supervisor };
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        let walked = walk(host, &paging, page, Access { kind, privilege }, Traces::Set)?;
        let Walked::Mapped(walk) = walked.ok_or(MmuError::UnsupportedPaging)? else { return Ok(false) };
        if walk.gpa.frame() != gfn {
            return Ok(false);
        }
        let table = self.path(host, stats, &context, root, page, (1, &walk))?;
        let leaf = match space {
            Space::Kernel => spte::own_page(shown, rights.write, rights.execute, context.kernel_user, 0),
            Space::User => spte::user_page(shown, rights.write, rights.execute),
        };
        self.set_leaf(host, EntryId::new(table.0, host_index(page, 1)), leaf, gfn);
        Ok(true)
    }

    /// Unmaps the stand-in `shown` for `gfn`, wherever it is.
    pub fn drop_stand_in<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn, shown: Pfn) {
        let mut at = self.first_leaf(gfn);
        while let Some(id) = at {
            at = self.next_leaf(id, gfn);
            let entry = self.read(host, id);
            if entry & spte::PRESENT != 0 && spte::pfn(entry) == shown {
                self.clear(host, id);
            }
        }
    }
}
