//! Tour 12/22, next: `patcher/src/scan/mod.rs`.
//! Execution arrives where no view is, or on an int3 of one.

use rvmm_arch::host::{Backing, Host};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::Rflags;
use rvmm_arch::serve::{Behind, StayHost};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gpa, Gva, VcpuState};
use rvmm_mmu::{Env, Mmu, Space, ViewInstall};
use rvmm_patcher::{Place, SiteReason, INT3};

use super::crossing::Shown;
use super::patch::heat::Heat;
use super::view::Patched;
use super::{
    blocks_fit, crossing, has_blocks, plain, CodePages, BLOCKS, BLOCKS64, PLAIN64, PROTECTION, READS_TO_UNMAP,
};
use crate::client::ClientExit;
use crate::direct::{Cause, Mode};
use crate::vcpu::{Flow, Vcpu};

/// Sites interpreted in a row before the guest world is entered again.
const SITES_IN_A_ROW: u32 = 16;
/// Instructions interpreted at a stretch on a thrashing page.
const THRASH_STRETCH: u32 = 64;

/// A fetch by the guest's kernel.
const FETCH: Access = Access { kind: AccessKind::Fetch, privilege: Privilege::Supervisor };

/// The counter for an instruction that is interpreted at a site.
fn cause(reason: SiteReason) -> Cause {
    match reason {
        SiteReason::Critical | SiteReason::Invalid | SiteReason::GuestBreakpoint => Counter::InterpretedSite,
        SiteReason::PageCrossing => Counter::InterpretedPageCrossing,
        SiteReason::InteriorCritical | SiteReason::InteriorOverlap => Counter::InterpretedInterior,
    }
}

impl CodePages {
    /// In the middle of a stay: where execution goes on that has met an int3 of a view at `at`, if that is known, and is the place in a
    /// block for what the guest has there.
    pub(crate) fn behind_int3(
        &mut self,
        mmu: &Mmu,
        host: &mut dyn StayHost,
        cpu: &VcpuState,
        env: Env,
        at: Gva,
    ) -> Option<Behind> {
        let gpa = mmu.peek(host, cpu, at, FETCH).ok()?.ok()?;
        let view = self.store.get_mut(self.store.find(Self::key(gpa.frame(), at, env))?)?;
        // What is at work may be a stale translation, and not this view.
        if host.bytes(view.shown).get(at.offset()) != Some(&INT3) {
            return None;
        }
        let (block, lasting) = match view.place(at.offset()) {
            Place::Site { .. } => (view.trap_at(at.offset())?, true),
            // A jump that is not worth it is taken back behind the stay; each arrival counts.
            Place::Moved { .. } if !self.patch.heat.window_hit(at) => (view.block_over(at.offset())?, false),
            _ => return None,
        };
        Some(Behind { rip: self.patch.enter_at(block, at)?, lasting })
    }

    /// In the middle of a stay: the guest's instruction at `at`, if a view shows it as it is.
    pub(crate) fn shown_at(
        &self,
        mmu: &Mmu,
        host: &mut dyn StayHost,
        cpu: &VcpuState,
        env: Env,
        at: Gva,
    ) -> Option<&[u8]> {
        let gpa = mmu.peek(host, cpu, at, FETCH).ok()?.ok()?;
        let view = self.store.view(self.store.find(Self::key(gpa.frame(), at, env))?)?;
        view.verbatim(at.offset())
    }
}

impl Vcpu {
    /// The execution environment of guest-kernel code since it was last entered.
    pub(crate) fn env(&self) -> Env {
        self.env
    }

    /// Chooses the execution environment for the next entry.
    fn choose_env<H: Host>(&mut self, host: &mut H, mode: Mode) -> Flow {
        self.env = plain(&self.state);
        let long = self.env == PLAIN64;
        if mode == Mode::User || self.parts.code.patch.tactics.is_empty() {
            return Ok(());
        }
        // 64-bit code has no segments that could stand between a block and what it reaches.
        if !long && !blocks_fit(&self.state) {
            self.parts.stats.count(Counter::RefusedNotFlat);
            return Ok(());
        }
        // A block's PUSHF knows nothing of VIF and VIP.
        if self.state.rflags.intersects(Rflags::VIF | Rflags::VIP) {
            return Ok(());
        }
        let parts = &mut self.parts;
        if parts.code.patch_ready(&self.state, &mut parts.mmu, host, &mut parts.stats)? {
            self.env = if long { BLOCKS64 } else { BLOCKS };
        }
        Ok(())
    }

    /// The shadow space a mode runs in.
    pub(crate) fn space(&self, mode: Mode) -> Space {
        match mode {
            Mode::Kernel => Space::Kernel,
            Mode::User => Space::User,
        }
    }

    /// The shadow root to load.
    pub(crate) fn root<H: Host>(&mut self, host: &mut H, mode: Mode) -> Result<rvmm_arch::Hpa, ClientExit> {
        self.choose_env(host, mode)?;
        let space = self.space(mode);
        let parts = &mut self.parts;
        let root = parts.mmu.root(host, &mut parts.stats, &self.state, space, self.env)?;
        if !has_blocks(self.env) || !root.conflict {
            return Ok(root.hpa);
        }
        // This address space maps something where patch memory is: move it, or do without in here.
        if self.parts.code.patch.may_move(&self.state) {
            self.parts.code.claimed = true;
            self.choose_env(host, mode)?;
            let parts = &mut self.parts;
            let root = parts.mmu.root(host, &mut parts.stats, &self.state, space, self.env)?;
            if !has_blocks(self.env) || !root.conflict {
                return Ok(root.hpa);
            }
        }
        self.env = plain(&self.state);
        let parts = &mut self.parts;
        Ok(parts.mmu.root(host, &mut parts.stats, &self.state, space, self.env)?.hpa)
    }

    /// Before guest code runs again: views of clients that do not tell what they wrote.
    pub(crate) fn revalidate_views<H: Host>(&mut self, host: &mut H) -> Flow {
        let parts = &mut self.parts;
        if parts.code.revalidate {
            parts.code.revalidate(&mut parts.mmu, host, &mut parts.stats)?;
        }
        Ok(())
    }

    /// The kernel fetches from a page without a view.
    #[inline(never)]
    pub(crate) fn fetch_fault<H: Host>(&mut self, host: &mut H, gpa: Gpa, at: Gva) -> Flow {
        let gfn = gpa.frame();
        if host.backing(gfn)? == Backing::Mmio {
            return self.interpret(host, Counter::InterpretedMmio);
        }
        if self.parts.code.is_thrashing(gfn) {
            return self.interpret_page(host, at);
        }
        let env = self.env();
        let key = CodePages::key(gfn, at, env);
        let parts = &mut self.parts;
        crossing::hide_into(&mut parts.code.store, host, &key, Some(&key));
        let Some(index) = parts.code.obtain(&mut parts.mmu, host, &mut parts.stats, key)? else {
            return self.interpret(host, Counter::InterpretedThrashing);
        };
        let Some(view) = parts.code.store.get_mut(index) else { return Ok(()) };
        let pfn = host.pfn(view.shown);
        view.reads = 0;
        let installed =
            parts.mmu.install_view(host, &mut parts.stats, &self.state, env, key.page, gfn, (pfn, PROTECTION))?;
        match installed {
            // A fetch of the second half of an instruction is no arrival.
            ViewInstall::Installed if at.0 != self.state.linear_rip() => Ok(()),
            ViewInstall::Installed => self.scan_at(host, index, at).map(|_| ()),
            ViewInstall::Guest(fault) => self.deliver(host, fault.into()),
            ViewInstall::Moved(_) => Ok(()),
        }
    }

    /// Interprets while execution stays on one page that is not worth a view.
    fn interpret_page<H: Host>(&mut self, host: &mut H, at: Gva) -> Flow {
        for _ in 0..THRASH_STRETCH {
            self.interpret(host, Counter::InterpretedThrashing)?;
            let stays = self.state.linear_rip() & !0xfff == at.page().0 && !self.must_offer_events();
            let kernel = self.runnable() == Ok(Mode::Kernel);
            if !stays || !kernel {
                break;
            }
        }
        Ok(())
    }

    /// What stands at a linear address of a view, scanned if it was not.
    #[inline(never)]
    fn scan_at<H: Host>(&mut self, host: &mut H, index: u32, at: Gva) -> Result<Option<Place>, ClientExit> {
        let parts = &mut self.parts;
        let code = &mut *parts.code;
        let Some(view) = code.store.get_mut(index) else { return Ok(None) };
        let Some(counts) = code.counts.first_mut() else { return Ok(None) };
        view.writes = 0;
        let place = view.place(at.offset());
        if place != Place::Unscanned {
            return Ok(Some(place));
        }
        let scanned = view.scan(host, &mut parts.stats, counts, at.offset());
        // The scan may have found a branch to where a jump stands, to a byte of it that would run.
        while let Some(offset) = view.pierced() {
            view.unpatch(host, &mut code.patch, offset, "pierced");
            parts.stats.count(Counter::RefusedWindow);
        }
        crossing::settle(&mut code.store, host, index);
        Ok(scanned.ok())
    }

    /// An int3 of a view, with RIP on it.
    pub(crate) fn view_trap<H: Host>(&mut self, host: &mut H) -> Flow {
        for round in 0..SITES_IN_A_ROW {
            let at = Gva(self.state.linear_rip());
            let Ok(gpa) = self.parts.mmu.peek(host, &self.state, at, FETCH)? else {
                // The translation went away under the view; the fetch faults, as it would without it.
                return if round == 0 { self.interpret(host, Counter::InterpretedSite) } else { Ok(()) };
            };
            let Some(index) = self.parts.code.store.find(CodePages::key(gpa.frame(), at, self.env())) else {
                return if round == 0 { self.interpret(host, Counter::InterpretedSite) } else { Ok(()) };
            };
            let shown = self.parts.code.store.get_mut(index).and_then(|view| view.shown_at(host, at.offset()));
            if round == 0 && shown != Some(INT3) {
                // Not an int3 of the view: the guest's INT 3 in its long form, or a stale translation.
                return if self.back_to_long_int3(host)? {
                    self.interpret(host, Counter::InterpretedPrivileged)
                } else {
                    Ok(())
                };
            }
            let place = if round == 0 {
                self.scan_at(host, index, at)?
            } else {
                self.parts.code.store.get_mut(index).map(|view| view.place(at.offset()))
            };
            match place {
                Some(Place::Site { reason, .. }) => {
                    if reason == SiteReason::PageCrossing && self.show_crossing(host, index, at)? {
                        return Ok(());
                    }
                    if self.resume_behind_trap(index, at) || self.patch_site(host, index, at) {
                        return Ok(());
                    }
                    let parts = &mut self.parts;
                    let code = &mut *parts.code;
                    let view = code.store.get_mut(index).zip(code.counts.first_mut());
                    if view.is_some_and(|(view, counts)| view.hit(host, &mut parts.stats, counts, at.offset())) {
                        return Ok(());
                    }
                    self.interpret(host, cause(reason))?;
                }
                Some(Place::Moved { .. }) if round == 0 => {
                    if !self.resume_in_block(host, index, at) {
                        self.interpret(host, Counter::InterpretedSite)?;
                    }
                    return Ok(());
                }
                Some(Place::Covered | Place::JumpHead) if round == 0 => {
                    self.interpret(host, Counter::InterpretedSite)?;
                }
                // The guest's own int3, in the middle of an instruction.
                Some(Place::Verbatim { .. } | Place::Interior { .. }) if round == 0 => {
                    return self.interpret(host, Counter::InterpretedSite);
                }
                None if round == 0 => return self.interpret(host, Counter::InterpretedSite),
                _ => return Ok(()),
            }
            // Sites come in runs: go on while the next instruction is one, too, unless something else is due.
            let kernel = self.runnable() == Ok(Mode::Kernel);
            if !kernel || self.must_offer_events() || self.verifier.is_on() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries to show an instruction that crosses into the next page. True: resume, it is shown.
    #[inline(never)]
    fn show_crossing<H: Host>(&mut self, host: &mut H, index: u32, at: Gva) -> Result<bool, ClientExit> {
        let next = Gva(self.state.wrap(at.page().0.wrapping_add(rvmm_arch::PAGE_SIZE)));
        let Ok(gpa) = self.parts.mmu.peek(host, &self.state, next, FETCH)? else { return Ok(false) };
        if host.backing(gpa.frame())? == Backing::Mmio || self.parts.code.is_thrashing(gpa.frame()) {
            return Ok(false);
        }
        let parts = &mut self.parts;
        let (here, key) = (parts.code.store.key_of(index), CodePages::key(gpa.frame(), next, self.env));
        let Some(second) = parts.code.obtain(&mut parts.mmu, host, &mut parts.stats, key)? else { return Ok(false) };
        // Making room for the second view may have cost the first.
        if parts.code.store.key_of(index) != here {
            return Ok(false);
        }
        let installed = parts.mmu.view_at(host, &self.state, self.env, next);
        let other =
            installed.is_some_and(|pfn| parts.code.store.get_mut(second).map(|v| host.pfn(v.shown)) != Some(pfn));
        if other {
            return Ok(false);
        }
        let shown = crossing::show(&mut parts.code.store, host, index, second, at.offset());
        if let Some(counts) = parts.code.counts.first_mut().filter(|_| shown == Shown::Unguarded) {
            counts.unguarded = counts.unguarded.wrapping_add(1);
            parts.stats.set(Counter::Unguarded, counts.unguarded);
        }
        if shown != Shown::No {
            parts.code.uninstall_others(&mut parts.mmu, host, &key);
        }
        Ok(shown != Shown::No)
    }

    /// Tries to give the site a block once it is hot, with a jump or behind its int3. True: resume, it has one.
    // Patching is deep and rare: it stays off the frames of its callers.
    #[inline(never)]
    fn patch_site<H: Host>(&mut self, host: &mut H, index: u32, at: Gva) -> bool {
        let parts = &mut self.parts;
        if !has_blocks(self.env) {
            return false;
        }
        let heat = parts.code.patch.heat.met(at);
        if matches!(heat, Heat::Cold | Heat::Refused) {
            return false;
        }
        let code = &mut *parts.code;
        let Some((view, counts)) = code.store.get_mut(index).zip(code.counts.first_mut()) else { return false };
        let (stats, area) = (&mut parts.stats, (&mut code.patch, &mut *parts.mmu));
        let patched = if heat == Heat::NoJump {
            view.trap(host, stats, area, at.offset(), "no-jump")
        } else {
            view.patch(host, stats, counts, area, at.offset())
        };
        match patched {
            Patched::Done { asks } => {
                if let Some(la) = asks {
                    parts.verw.asked(la);
                }
                crossing::settle(&mut code.store, host, index);
                true
            }
            Patched::Trapped { asks } => {
                if let Some(la) = asks {
                    parts.verw.asked(la);
                }
                // A jump is not asked for again; the block is, should the view go and come again.
                parts.code.patch.heat.no_jump(at);
                self.resume_behind_trap(index, at)
            }
            Patched::Refused => {
                parts.code.patch.heat.refused(at);
                false
            }
        }
    }

    /// A privileged instruction trapped by itself: if it is hot, a block does its work from the next time on.
    pub(crate) fn patch_privileged<H: Host>(&mut self, host: &mut H) -> Flow {
        if !has_blocks(self.env) {
            return Ok(());
        }
        let at = Gva(self.state.linear_rip());
        let Ok(gpa) = self.parts.mmu.peek(host, &self.state, at, FETCH)? else { return Ok(()) };
        if let Some(index) = self.parts.code.store.find(CodePages::key(gpa.frame(), at, self.env)) {
            self.patch_site(host, index, at);
        }
        Ok(())
    }

    /// If the site at `at` has a block behind its int3, the next entry goes there.
    fn resume_behind_trap(&mut self, index: u32, at: Gva) -> bool {
        let code = &mut *self.parts.code;
        let Some(block) = code.store.get_mut(index).and_then(|view| view.trap_at(at.offset())) else { return false };
        code.resume = code.patch.enter_at(block, at).map(|address| (at, address));
        code.resume.is_some()
    }

    /// The guest instruction at `at` was moved into a block: the next entry goes there. Where the guest keeps branching into
    /// a jump window, the jump goes instead.
    fn resume_in_block<H: Host>(&mut self, host: &mut H, index: u32, at: Gva) -> bool {
        let code = &mut *self.parts.code;
        let Some(view) = code.store.get_mut(index) else { return false };
        let Some(block) = view.block_over(at.offset()) else { return false };
        let stopped = code.stopped.take() == Some(at);
        if !stopped && !self.verifier.is_on() && code.patch.heat.window_hit(at) {
            view.unpatch(host, &mut code.patch, at.offset(), "window-hit");
            self.parts.stats.count(Counter::RefusedWindow);
            return false;
        }
        code.resume = code.patch.enter_at(block, at).map(|address| (at, address));
        let resumed = code.resume.is_some();
        if resumed {
            self.parts.stats.count(Counter::WindowEntries);
            self.parts.hot.note(at.0, Counter::WindowEntries);
        }
        resumed
    }

    /// Does a jump of the view cover the instruction at RIP?
    pub(crate) fn covered<H: Host>(&mut self, host: &mut H) -> Result<bool, ClientExit> {
        let at = Gva(self.state.linear_rip());
        let Ok(gpa) = self.parts.mmu.peek(host, &self.state, at, FETCH)? else { return Ok(false) };
        let store = &mut self.parts.code.store;
        let view = store.find(CodePages::key(gpa.frame(), at, self.env)).and_then(|index| store.get_mut(index));
        Ok(view.is_some_and(|view| view.block_over(at.offset()).is_some()))
    }

    /// If the instruction at RIP was moved into a block, the next entry goes there.
    pub(crate) fn resume_at<H: Host>(&mut self, host: &mut H) -> Flow {
        let at = Gva(self.state.linear_rip());
        self.parts.code.resume = None;
        let Ok(gpa) = self.parts.mmu.peek(host, &self.state, at, FETCH)? else { return Ok(()) };
        if let Some(index) = self.parts.code.store.find(CodePages::key(gpa.frame(), at, self.env)) {
            self.resume_in_block(host, index, at);
        }
        Ok(())
    }

    /// A data access to a page that is mapped for execution.
    pub(crate) fn view_access<H: Host>(&mut self, host: &mut H, gpa: Gpa, at: Gva, write: bool) -> Flow {
        if !write {
            self.parts.stats.count(Counter::CodeReads);
            let key = CodePages::key(gpa.frame(), at, self.env());
            let parts = &mut self.parts;
            if let Some(view) = parts.code.store.find(key).and_then(|i| parts.code.store.get_mut(i)) {
                view.reads = view.reads.saturating_add(1);
                if view.reads >= READS_TO_UNMAP {
                    // The view itself stays; the next fetch puts it back.
                    parts.mmu.drop_view(host, key.gfn, key.page);
                }
            }
        }
        self.interpret(host, Counter::InterpretedCodeAccess)
    }
}
