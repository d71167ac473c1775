//! The entries that lead to windows, in the pages of kernel trees.

use rvmm_arch::host::HostError;
use rvmm_arch::stats::Stats;
use rvmm_arch::Gva;

use super::claim::{addressable, has_memory};
use super::WINDOWS;
use crate::gpte::{Entry, Permissions, PRESENT};
use crate::links::EntryId;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::GuestMode;
use crate::pool::PageIndex;
use crate::role::{Context, Key, Role, Source, Space};
use crate::walk::{probe, read_entry};

impl Mmu {
    /// Does a page with this key translate a window, so that its guest table decides on it?
    pub(crate) fn under_window(&self, key: &Key) -> bool {
        self.overlays.iter().flatten().any(|o| self.translates(key, o.start))
    }

    /// Is the page with this key, made from a guest table above the page tables, the one of a kernel tree that translates `gva`?
    fn translates(&self, key: &Key, gva: Gva) -> bool {
        let Key { role, .. } = key;
        if role.mode == GuestMode::Off {
            // Above, with paging off, is nothing that the guest could have a say in.
            let around = self.context_of(key).place(2, gva) == role.place && addressable(role.mode, gva);
            return role.level == 2 && role.space == Space::Kernel && role.source == Source::Direct && around;
        }
        (2..=4).contains(&role.level)
            && role.source == Source::Table
            && role.space == Space::Kernel
            && addressable(role.mode, gva)
            && (role.mode, role.level) != (GuestMode::Pae, 4)
            && (is_top(role) || self.context_of(key).place(role.level, gva) == role.place)
    }

    /// Does entry `index` of a page with this key lead to a window?
    pub(crate) fn overlay_at(&self, key: &Key, index: usize) -> bool {
        let mut windows = self.overlays.iter().flatten().filter(|o| self.translates(key, o.start));
        // Of two entries the lower one is even.
        windows.any(|o| o.links(key.role.level).any(|(i, _)| i & !1 == index & !1))
    }

    /// Links the windows into a page of a kernel tree that translates them where the guest has nothing, and unlinks them where
    /// it has something.
    pub(crate) fn link_overlay<H: MmuHost + ?Sized>(&mut self, host: &mut H, page: PageIndex) -> Result<(), MmuError> {
        let Some(key) = self.pool.get(page).map(|page| page.key) else { return Ok(()) };
        for slot in 0..WINDOWS {
            let Some(overlay) = self.overlays.get(slot).copied().flatten() else { continue };
            if !self.translates(&key, overlay.start) || self.out_of_reach(key.role.mode, overlay.start) {
                continue;
            }
            let free = !entries_present(host, &key, overlay.start)?;
            for (index, child) in overlay.links(key.role.level) {
                let id = EntryId::new(page.0, index);
                if free {
                    self.set_table(host, id, child, Permissions::ALL);
                } else if self.links.target(id) == Some(child.0) {
                    self.clear(host, id);
                }
            }
        }
        Ok(())
    }

    /// Builds the path to `gva` in a window as far down as the guest has tables.
    pub(super) fn lead_to<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
        gva: Gva,
    ) -> Result<(), MmuError> {
        self.reserve(host, stats, usize::from(self.top()))?;
        let (walk, _) = probe(host, &self.paging_in(context), context.mode, gva)?;
        // An address that leads nowhere may be translated speculatively, and so these bits be set, at any time (SDM vol. 3
        // §4.10.2.3). Linking a table whose accessed bit is clear would hide that bit's next use.
        let mut level = context.mode.levels();
        for step in walk.steps().iter().filter(|s| s.level > 2) {
            let accessed = context.mode.accessed(step.level);
            let table =
                matches!(context.mode.decode(step.raw, step.level, &self.paging_in(context)), Entry::Table { .. });
            if !table {
                break;
            }
            if step.raw & accessed != accessed {
                // Where it cannot be stored, it is left alone, as the walk does.
                let wanted = step.raw | accessed;
                host.compare_exchange_ram(step.at, context.mode.entry_bytes(), step.raw, wanted)?;
            }
            level = step.level.wrapping_sub(1);
        }
        let page = self.path(host, stats, context, root, gva, (level.max(2).min(self.top()), &walk))?;
        self.link_overlay(host, page)
    }
}

/// Has the guest anything in the entries of the table of `key` that translate the window at `start`?
fn entries_present<H: MmuHost + ?Sized>(host: &mut H, key: &Key, start: Gva) -> Result<bool, HostError> {
    let Role { mode, level, place, .. } = key.role;
    if mode == GuestMode::Off {
        return Ok(has_memory(host, start));
    }
    let bytes = mode.entry_bytes();
    let part = if (mode, level) == (GuestMode::Pae, 3) { u64::from(place) << 5 } else { 0 };
    let at = key.gfn.base().add(part).add(mode.index(start, level).wrapping_mul(u64::from(bytes)));
    let mut present = read_entry(host, at, bytes)? & PRESENT != 0;
    if level == 2 && mode != GuestMode::TwoLevel {
        present |= read_entry(host, at.add(u64::from(bytes)), bytes)? & PRESENT != 0;
    }
    Ok(present)
}

/// Is the place of such a page no part of linear space?
fn is_top(role: &Role) -> bool {
    (role.mode, role.level) == (GuestMode::Pae, 3)
}
