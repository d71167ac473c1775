//! Shadow roots: one per guest address space, tree and role, kept until memory is short.

use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gva, Hpa, VcpuState};

use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::GuestMode;
use crate::pool::PageIndex;
use crate::role::{Context, Env, Space};
use crate::walk::Walk;

/// A root to be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The top table.
    pub hpa: Hpa,
    /// The guest maps something in a window, which is therefore absent from this root, or forbids writes or fetches there by an
    /// entry above: blocks cannot be used in this address space until the windows have moved.
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
        self.one_mode(host, context.mode);
        self.forget_noted(host);
        let index = self.known_or_new_root(host, stats, context)?;
        self.watch_windows(host, stats, context, index)?;
        self.fill_awaited(host, context, index);
        self.count_tally(stats);
        Ok(index)
    }

    fn known_or_new_root<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
    ) -> Result<PageIndex, MmuError> {
        if let Some((_, index)) = self.last.filter(|(last, _)| last == context) {
            return Ok(index);
        }
        let key = context.key(self.top(), Gva(0), &Walk::EMPTY);
        let index = match self.pool.find(&key) {
            Some(index) => index,
            None => {
                self.reserve(host, stats, 1)?;
                let index = self.new_page(host, stats, key)?;
                self.populate(host, index)?;
                stats.count(Counter::RootBuilds);
                index
            }
        };
        self.pool.touch(index);
        self.last = Some((*context, index));
        stats.count(Counter::RootSwitches);
        Ok(index)
    }

    /// Forgets the shadows of other paging modes. The bits that a walk sets are accessed and dirty bits in its own mode; in
    /// another mode's reading of the same frame they may be anything (bits 37 and 38 of an entry of 8 bytes, say), and nobody
    /// writes the table. A guest changes between modes with tables a few times in its life.
    fn one_mode<H: MmuHost + ?Sized>(&mut self, host: &mut H, mode: GuestMode) {
        let modes = self.modes | mode.bit();
        if mode != GuestMode::Off && modes != mode.bit() {
            self.flush_all(host);
            self.modes = mode.bit();
        } else {
            self.modes = modes;
        }
    }
}
