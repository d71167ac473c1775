//! Execution views in the kernel tree: where one is, the CPU executes rvmm's page and every data access faults.

use rvmm_arch::fault::Exception;
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::stats::Stats;
use rvmm_arch::{Gfn, Gva, Pfn, VcpuState};

use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{canonical, GuestMode, Paging};
use crate::role::{host_index, Env, Space};
use crate::spte;
use crate::walk::{walk, Traces, Walk, Walked};

/// How data accesses are kept from a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewProtection {
    /// The leaf has U=1, so that protection keys or SMAP act on it.
    pub user: bool,
    /// Its protection key.
    pub pkey: u8,
}

/// What became of a view that was to be installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ViewInstall {
    /// It is in place.
    Installed,
    /// The guest does not permit the fetch (any more).
    Guest(Exception),
    /// The linear page maps this other frame.
    Moved(Gfn),
}

impl Mmu {
    /// Makes guest-kernel fetches from the linear page `page` of `cpu`'s address space see the frame `view` instead of
    /// the guest's frame `gfn`. The engine has `gfn` tracked, so that writes to it are seen.
    ///
    /// # Errors
    /// As for [`Mmu::fault`]; [`MmuError::BadAddress`] also where no shadow can be ([`crate::FaultOutcome::Slot`]).
    #[allow(clippy::too_many_arguments)]
    pub fn install_view<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        env: Env,
        page: Gva,
        gfn: Gfn,
        (view, protection): (Pfn, ViewProtection),
    ) -> Result<ViewInstall, MmuError> {
        let page = page.page();
        let context = self.context(cpu, Space::Kernel, env).ok_or(MmuError::UnsupportedPaging)?;
        let reachable = match context.mode {
            GuestMode::FourLevel => canonical(page) && !self.in_vmm_slot(page),
            _ => page.0 >> 32 == 0,
        };
        if !reachable {
            return Err(MmuError::BadAddress);
        }
        let root = self.root_page(host, stats, &context)?;
        self.reserve(host, stats, usize::from(self.top()))?;
        let access = Access { kind: AccessKind::Fetch, privilege: Privilege::Supervisor };
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        let walk = match walk(host, &paging, page, access, Traces::Set)?.ok_or(MmuError::UnsupportedPaging)? {
            Walked::Mapped(walk) => walk,
            Walked::Fault(code) => return Ok(ViewInstall::Guest(Exception::page_fault(code, page.0))),
        };
        if walk.gpa.frame() != gfn {
            return Ok(ViewInstall::Moved(walk.gpa.frame()));
        }
        if let Some(table) = walk.step(1).map(|s| s.at.frame()) {
            self.resync(host, table);
        }
        let table = self.path(host, stats, &context, root, page, (1, &walk))?;
        if let Some(table) = self.pool.get_mut(table) {
            table.viewed = true;
        }
        let id = EntryId::new(table.0, host_index(page, 1));
        self.set_leaf(host, id, spte::view(view, protection.user, protection.pkey), gfn);
        Ok(ViewInstall::Installed)
    }

    /// The view installed at `page` in `cpu`'s address space, if there is one.
    #[must_use]
    pub fn view_at<H: MmuHost + ?Sized>(&self, host: &H, cpu: &VcpuState, env: Env, page: Gva) -> Option<Pfn> {
        let context = self.context(cpu, Space::Kernel, env)?;
        let root = self.pool.find(&context.key(self.top(), Gva(0), &Walk::EMPTY))?;
        let entry = self.read(host, self.lookup(root, page)?);
        (entry & (spte::PRESENT | spte::VIEW) == spte::PRESENT | spte::VIEW).then(|| spte::pfn(entry))
    }

    /// Uninstalls every view of `gfn`, at all linear pages; returns how many there were.
    pub fn drop_views<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn) -> u32 {
        self.drop_matching(host, gfn, None)
    }

    /// Uninstalls the views of `gfn` at one linear page, in all address spaces and environments.
    pub fn drop_view<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn, page: Gva) -> u32 {
        self.drop_matching(host, gfn, Some(page.page()))
    }

    fn drop_matching<H: MmuHost + ?Sized>(&mut self, host: &mut H, gfn: Gfn, page: Option<Gva>) -> u32 {
        let mut dropped = 0;
        let mut at = self.first_leaf(gfn);
        while let Some(id) = at {
            at = self.next_leaf(id, gfn);
            let here = self.pool.get(crate::pool::PageIndex(id.page())).map(|p| p.key.linear(id.index()));
            if self.read(host, id) & spte::VIEW != 0 && (page.is_none() || page == here) {
                self.clear(host, id);
                dropped += 1;
            }
        }
        dropped
    }
}
