//! Shadow roots: one per guest address space, tree and role, kept until memory is short.

use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gva, Hpa, VcpuState};

use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::pool::PageIndex;
use crate::role::{Context, Env, Space};
use crate::walk::Walk;

/// A root to be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The top table.
    pub hpa: Hpa,
    /// The guest maps something in the window of patch memory, which is therefore absent from this root.
    pub conflict: bool,
}

impl Mmu {
    /// The shadow root for `cpu`'s address space, built if there is none. To be asked before every entry: the root
    /// returned last is the only one that reclaim leaves alone.
    ///
    /// # Errors
    /// The paging mode is not supported, or the host has no memory.
    pub fn root<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        space: Space,
        env: Env,
    ) -> Result<Root, MmuError> {
        let context = self.context(cpu, space, env).ok_or(MmuError::UnsupportedPaging)?;
        let index = self.root_page(host, stats, &context)?;
        let page = self.pool.get(index).ok_or(MmuError::BadConfig("root"))?;
        Ok(Root { hpa: host.pfn(page.host).base(), conflict: page.conflict })
    }

    /// The shadow root for `cpu`'s address space, if there is one and the guest's tables have not changed since in a way that would
    /// have to be looked at first. Unlike [`Mmu::root`]'s it may be reclaimed at the next call.
    pub fn known_root<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        cpu: &VcpuState,
        space: Space,
        env: Env,
    ) -> Option<Root> {
        let context = self.context(cpu, space, env)?;
        let index = self.pool.find(&context.key(self.top(), Gva(0), &Walk::EMPTY))?;
        self.pool.touch(index);
        let page = self.pool.get(index).filter(|page| page.checked == self.epoch)?;
        Some(Root { hpa: host.pfn(page.host).base(), conflict: page.conflict })
    }

    pub(crate) fn root_page<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
    ) -> Result<PageIndex, MmuError> {
        if let Some((last, index)) = self.last {
            if last == *context {
                self.watch_windows(host, stats, context, index)?;
                return Ok(index);
            }
        }
        let key = context.key(self.top(), Gva(0), &Walk::EMPTY);
        let index = match self.pool.find(&key) {
            Some(index) => index,
            None => {
                self.reserve(host, stats, 1)?;
                let index = self.new_page(host, stats, key)?;
                let (slot, entry) = self.config.vmm_slot;
                if let Some(page) = self.pool.get(index) {
                    host.write_entry(page.host, usize::from(slot), entry);
                }
                stats.count(Counter::RootBuilds);
                index
            }
        };
        self.pool.touch(index);
        self.last = Some((*context, index));
        stats.count(Counter::RootSwitches);
        self.watch_windows(host, stats, context, index)?;
        Ok(index)
    }
}
