//! The shadow MMU of a VM: its parts, its bounds, and the elementary operations on entries that keep the reverse map
//! and the parent lists true. Everything else is built from these.

use alloc::vec::Vec;

use rvmm_arch::host::{GuestMemory, HostError, HostFeatures, HostPage, HostPages};
use rvmm_arch::regs::Cr4;
use rvmm_arch::{Gfn, Gva, Model, VcpuState};

use crate::gpte::Permissions;
use crate::links::{bucket, entry, filled, frame, EntryId, Links, NONE};
use crate::overlay::{Overlay, WINDOWS};
use crate::paging::{GuestMode, Paging};
use crate::pool::{PageIndex, Pool};
use crate::prefill::Awaited;
use crate::role::{host_index, Context, Env, Key, Space};
use crate::spte;
use crate::track::Tracking;
use crate::translate::Forgotten;
use crate::unsync::{Tally, Unsynced};

/// What the MMU needs of the host.
pub trait MmuHost: GuestMemory + HostPages {}
impl<T: GuestMemory + HostPages + ?Sized> MmuHost for T {}

/// Bounds and host properties.
#[derive(Clone, Copy, Debug)]
pub struct MmuConfig {
    /// Levels of the host's page tables: 4 or 5.
    pub paging_levels: u8,
    /// Index and value of the VMM area's entry in every root.
    pub vmm_slot: (u16, u64),
    /// In which real ring the guest's kernel runs: whether its pages are supervisor pages of the kernel tree.
    pub model: Model,
    /// The guest's physical address width, bits: what its CPUID tells it (leaf 8000_0008H; without that leaf 36 where PAE or
    /// PSE-36 is offered, else 32).
    pub guest_physical_bits: u8,
    /// The most shadow pages at a time. Each takes a host page and 6 KiB of bookkeeping.
    pub max_shadow_pages: u32,
    /// The most frames that the engine can have tracked.
    pub max_tracked: u32,
    /// Writes to a guest page table between two uses after which it is no longer shadowed.
    pub leaf_flood: u8,
    /// The same for tables of higher levels.
    pub table_flood: u8,
    /// Shadow entries are made before the fault that would make them.
    pub prefill: bool,
    /// Page tables that the guest writes go out of sync until it flushes.
    pub unsync: bool,
    /// A reserved address bit by which entries of programs' trees stand for entries that the guest does not have present; 0: none does.
    pub absent: u64,
}

impl MmuConfig {
    /// The usual bounds for a host.
    #[must_use]
    pub const fn new(features: &HostFeatures) -> Self {
        Self {
            paging_levels: features.paging_levels,
            vmm_slot: features.vmm_slot,
            model: Model::Ring1,
            guest_physical_bits: 32,
            max_shadow_pages: MAX_SHADOW_PAGES,
            max_tracked: 16384,
            leaf_flood: 4,
            table_flood: 4,
            prefill: false,
            unsync: false,
            absent: 0,
        }
    }
}

/// Why the MMU cannot do what is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmuError {
    /// The host failed.
    Host(HostError),
    /// The guest's paging mode is not supported: 5-level paging, protection keys, and under paging SMEP and SMAP. Its CPUID
    /// offers none of them.
    UnsupportedPaging,
    /// The configuration makes no sense; which part.
    BadConfig(&'static str),
    /// `max_tracked` frames are tracked already.
    TrackingFull,
    /// Not a canonical 4 MiB boundary, or outside the window.
    BadOverlay,
    /// A fault at an address that guest code cannot reach.
    BadAddress,
}

impl From<HostError> for MmuError {
    fn from(e: HostError) -> Self {
        Self::Host(e)
    }
}

/// The most shadow pages unless asked otherwise. A 64-bit guest needs twice as many as a 32-bit one for the same memory, since
/// its entries are twice as long, and has its kernel in several environments.
const MAX_SHADOW_PAGES: u32 = 4096;

/// The fewest shadow pages with which every instruction gets through: four tables for each window and the three of the guest's
/// that lead to it, a root, four tables below it for each of the six pages that one instruction may touch (code, source and
/// destination, each across a boundary), and five pages set aside.
const MIN_SHADOW_PAGES: u32 = 64;

/// Host pages set aside at most. A path needs as many as there are levels; the rest is for faults in the middle of stays.
const SPARE: usize = 24;

/// Frames from here on are never mapped: the reverse map counts in 32 bits.
const END_OF_RAM: u64 = (NONE as u64) << 12;

/// The shadow tables of one virtual CPU. (With several, the pool, the reverse map and the tracking are the VM's and
/// `last` is the virtual CPU's.)
pub struct Mmu {
    pub(crate) config: MmuConfig,
    pub(crate) pool: Pool,
    pub(crate) links: Links,
    /// Heads of the reverse map's lists, by hash of the frame.
    pub(crate) rmap: Vec<u32>,
    pub(crate) tracking: Tracking,
    pub(crate) overlays: [Option<Overlay>; WINDOWS],
    /// The root last asked for: it may be loaded, so it stays.
    pub(crate) last: Option<(Context, PageIndex)>,
    /// Counts what may have changed the guest's mind about the windows: a root looked at before is looked at again.
    pub(crate) epoch: u64,
    /// The paging modes in which tables have been read since all shadows were of one mode, a bit for each.
    pub(crate) modes: u8,
    /// Page tables that may be written without being told of.
    pub(crate) unsynced: Unsynced,
    /// Where the guest has taken a fault that its kernel has yet to resolve.
    pub(crate) awaited: Option<Awaited>,
    /// Pages of faults that the interpreter has met: to be forgotten before guest code runs.
    pub(crate) forgotten: Forgotten,
    /// Counts not yet in the statistics.
    pub(crate) tally: Tally,
    /// Host pages set aside so that a path can be built without failing half-way.
    pub(crate) spare: [Option<HostPage>; SPARE],
    /// A fault is dealt with in the middle of a stay (serve.rs).
    pub(crate) in_stay: bool,
}

impl Mmu {
    /// An MMU without any shadow page.
    ///
    /// # Errors
    /// [`MmuError::BadConfig`], or no memory for the bookkeeping.
    pub fn new(config: MmuConfig) -> Result<Self, MmuError> {
        if !matches!(config.paging_levels, 4 | 5) {
            return Err(MmuError::BadConfig("paging_levels"));
        }
        if config.vmm_slot.0 == 0 || config.vmm_slot.0 > 511 {
            return Err(MmuError::BadConfig("vmm_slot"));
        }
        if !(32..=52).contains(&config.guest_physical_bits) {
            return Err(MmuError::BadConfig("guest_physical_bits"));
        }
        if !(MIN_SHADOW_PAGES..=1 << 20).contains(&config.max_shadow_pages) {
            return Err(MmuError::BadConfig("max_shadow_pages"));
        }
        if config.max_tracked == 0 || config.max_tracked > 1 << 24 {
            return Err(MmuError::BadConfig("max_tracked"));
        }
        let rmap = (config.max_shadow_pages as usize).saturating_mul(64).next_power_of_two();
        Ok(Self {
            config,
            pool: Pool::new(config.max_shadow_pages)?,
            links: Links::new(config.max_shadow_pages)?,
            rmap: filled(rmap, NONE)?,
            tracking: Tracking::new(config.max_tracked)?,
            overlays: [None; WINDOWS],
            last: None,
            epoch: 1,
            modes: 0,
            unsynced: Unsynced::new()?,
            awaited: None,
            forgotten: Forgotten::Nothing,
            tally: Tally::default(),
            spare: [None; SPARE],
            in_stay: false,
        })
    }

    /// Number of shadow pages in existence.
    #[must_use]
    pub const fn shadow_pages(&self) -> u32 {
        self.pool.live()
    }

    /// The guest's CPUID tells it another physical address width (32 to 52 bits; others are ignored). True: it was another, and
    /// the caller flushes, as shadow pages may rest on entries that are reserved now.
    pub fn set_guest_physical_bits(&mut self, bits: u8) -> bool {
        let changed = bits != self.config.guest_physical_bits && (32..=52).contains(&bits);
        if changed {
            self.config.guest_physical_bits = bits;
        }
        changed
    }

    /// The end of what the guest can address and this MMU can map (16 TiB): no memory may be given to it beyond.
    #[must_use]
    pub const fn guest_physical_end(&self) -> u64 {
        let end = 1 << (self.config.guest_physical_bits & 63);
        if end < END_OF_RAM {
            end
        } else {
            END_OF_RAM
        }
    }

    /// The context that `cpu` runs in; `None` if its paging mode is not supported.
    pub(crate) fn context(&self, cpu: &VcpuState, space: Space, env: Env) -> Option<Context> {
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        let mode = paging.mode()?;
        // The kernel tree does not tell user pages from supervisor pages.
        if mode != GuestMode::Off && paging.cr4.intersects(Cr4::SMEP.union(Cr4::SMAP)) {
            return None;
        }
        let off = mode == GuestMode::Off;
        Some(Context {
            mode,
            table: mode.root(&paging),
            space,
            env: if space == Space::Kernel { env } else { Env(0) },
            write_protect: off || space == Space::User || paging.write_protect(),
            large_pages: mode == GuestMode::TwoLevel && paging.cr4.contains(Cr4::PSE),
            no_execute: !off && paging.no_execute(),
            kernel_user: self.kernel_user(mode),
            halves: self.top() > 4,
        })
    }

    /// The context of a page's own tree, as far as its key still tells it: enough to compute the keys of its children.
    pub(crate) fn context_of(&self, key: &Key) -> Context {
        Context {
            mode: key.role.mode,
            table: key.gfn.base(),
            space: key.role.space,
            env: key.role.env,
            write_protect: key.role.write_protect,
            large_pages: key.role.large_pages,
            no_execute: key.role.no_execute,
            kernel_user: self.kernel_user(key.role.mode),
            halves: self.top() > 4,
        }
    }

    /// Does the guest's kernel run in ring 3 in this mode? In long mode it always does.
    fn kernel_user(&self, mode: GuestMode) -> bool {
        mode == GuestMode::FourLevel || self.config.model == Model::Ring3
    }

    /// Is `gva` under the entry of the top table that belongs to the VMM area?
    pub(crate) fn in_vmm_slot(&self, gva: Gva) -> bool {
        host_index(gva, self.top()) == usize::from(self.config.vmm_slot.0)
    }

    /// Level of the top table.
    pub(crate) const fn top(&self) -> u8 {
        self.config.paging_levels
    }

    /// The value of an entry.
    pub(crate) fn read<H: MmuHost + ?Sized>(&self, host: &H, id: EntryId) -> u64 {
        self.pool.get(PageIndex(id.page())).map_or(0, |p| host.read_entry(p.host, id.index()))
    }

    /// Changes the bits of an entry that keep what it refers to.
    pub(crate) fn rewrite<H: MmuHost + ?Sized>(&self, host: &mut H, id: EntryId, value: u64) {
        if let Some(page) = self.pool.get(PageIndex(id.page())) {
            if host.read_entry(page.host, id.index()) != value {
                host.write_entry(page.host, id.index(), value);
            }
        }
    }

    /// Makes an entry not present and takes it out of the list it is in.
    pub(crate) fn clear<H: MmuHost + ?Sized>(&mut self, host: &mut H, id: EntryId) {
        let Some(page) = self.pool.get_mut(PageIndex(id.page())) else {
            return;
        };
        let (table, level) = (page.host, page.key.role.level);
        if let Some(target) = self.links.target(id) {
            page.used = page.used.saturating_sub(1);
            if level > 1 {
                if let Some(child) = self.pool.get_mut(PageIndex(target)) {
                    child.parents = self.links.remove(child.parents, id);
                }
            } else {
                let at = bucket(u64::from(target), self.rmap.len());
                if let Some(head) = self.rmap.get_mut(at) {
                    *head = self.links.remove(*head, id);
                }
            }
        }
        host.write_entry(table, id.index(), 0);
    }

    /// Makes a leaf that refers to the guest frame `gfn`.
    pub(crate) fn set_leaf<H: MmuHost + ?Sized>(&mut self, host: &mut H, id: EntryId, value: u64, gfn: Gfn) {
        let target = frame(gfn);
        if self.links.target(id) != Some(target) {
            self.clear(host, id);
            if target == NONE {
                return;
            }
            let at = bucket(gfn.0, self.rmap.len());
            let (Some(page), Some(head)) = (self.pool.get_mut(PageIndex(id.page())), self.rmap.get_mut(at)) else {
                return;
            };
            *head = self.links.push(*head, id, target);
            page.used = page.used.saturating_add(1);
        }
        self.rewrite(host, id, value);
    }

    /// Makes an entry refer to the shadow table `child`.
    pub(crate) fn set_table<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        id: EntryId,
        child: PageIndex,
        permissions: Permissions,
    ) {
        let Some(table) = self.pool.get(child).map(|p| p.host) else {
            return;
        };
        if self.links.target(id) != Some(child.0) {
            self.clear(host, id);
            if let Some(page) = self.pool.get_mut(child) {
                page.parents = self.links.push(page.parents, id, child.0);
            }
            if let Some(page) = self.pool.get_mut(PageIndex(id.page())) {
                page.used = page.used.saturating_add(1);
            }
        }
        let value = spte::table(host.pfn(table), permissions);
        self.rewrite(host, id, value);
    }

    /// The first leaf that refers to `gfn`.
    pub(crate) fn first_leaf(&self, gfn: Gfn) -> Option<EntryId> {
        let head = self.rmap.get(bucket(gfn.0, self.rmap.len())).copied()?;
        self.leaf_of(entry(head), gfn)
    }

    /// The next leaf that refers to the same frame.
    pub(crate) fn next_leaf(&self, id: EntryId, gfn: Gfn) -> Option<EntryId> {
        self.leaf_of(self.links.next(id), gfn)
    }

    fn leaf_of(&self, mut at: Option<EntryId>, gfn: Gfn) -> Option<EntryId> {
        while let Some(id) = at {
            if self.links.target(id) == Some(frame(gfn)) {
                return Some(id);
            }
            at = self.links.next(id);
        }
        None
    }

    /// The leaf entry of `gva` as the tables stand, if there is a page table for it.
    pub(crate) fn lookup(&self, root: PageIndex, gva: Gva) -> Option<EntryId> {
        let mut page = root;
        for level in (2..=self.top()).rev() {
            let id = EntryId::new(page.0, host_index(gva, level));
            page = PageIndex(self.links.target(id)?);
        }
        Some(EntryId::new(page.0, host_index(gva, 1)))
    }
}
