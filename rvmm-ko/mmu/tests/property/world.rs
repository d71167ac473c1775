//! The state of a run: the machine under test, the guest's random choices, and what is known of it from outside the MMU.

use std::collections::HashMap;

use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::{Gfn, Gpa, Gva, Model, Pfn};
use rvmm_mmu::{GuestMode, Paging, Reason, Reasons};

use crate::common::{FakeHost, Machine, Rng, VMM_SLOT};
use crate::guest::{self, FRAMES, MODES};
use crate::history::History;
use crate::seen::Seen;

/// Views are frames of rvmm's own, one for each guest frame, linear page and environment, so that a stale one is noticed.
const VIEW_BASE: u64 = 0x30_0000;
/// Pages of a window that something is put into; the second is taken out again.
pub const OVERLAY_PAGES: [u64; 5] = [0, 1, 511, 512, 1023];

/// A run's circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub seed: u64,
    pub levels: u8,
    pub model: Model,
    pub physical_bits: u8,
    /// The only paging mode, or all of them one after the other.
    pub mode: Option<GuestMode>,
    pub max_shadow_pages: u32,
    pub quota: usize,
    pub prefill: bool,
    /// Page tables go out of sync: translations may be old until a flush.
    pub unsync: bool,
    pub absent: u64,
}

pub struct World {
    pub machine: Machine,
    pub rng: Rng,
    pub set: Setting,
    pub mode: GuestMode,
    pub pages: Vec<Gva>,
    /// The pages that it uses most for a while.
    pub busy: Vec<Gva>,
    pub tracked: Vec<(Gfn, Reason)>,
    pub overlays: [Option<Gva>; 3],
    pub views: HashMap<(u8, u64, u64), Pfn>,
    pub history: History,
    /// The entry that the guest's kernel means to write.
    pub aim: Option<Gpa>,
    pub seen: Seen,
}

impl World {
    pub fn new(set: Setting) -> Self {
        let mut rng = Rng::new(set.seed);
        let mut host = FakeHost::new(FRAMES as usize, set.quota);
        host.readonly = vec![FRAMES - 1, FRAMES - 2];
        guest::build(&mut rng, &mut host);
        let machine = Machine::new(set.levels, host, |config| {
            config.max_shadow_pages = set.max_shadow_pages;
            config.max_tracked = 64;
            config.model = set.model;
            config.guest_physical_bits = set.physical_bits;
            config.prefill = set.prefill;
            config.unsync = set.unsync;
            config.absent = set.absent;
        });
        let mut world = Self {
            machine,
            rng,
            set,
            mode: GuestMode::Off,
            pages: Vec::new(),
            busy: Vec::new(),
            tracked: Vec::new(),
            overlays: [None; 3],
            views: HashMap::new(),
            history: History::default(),
            aim: None,
            seen: Seen::new(),
        };
        world.enter_mode();
        world
    }

    /// Paging on, in a mode that this run allows.
    pub fn enter_mode(&mut self) {
        let mode = self.set.mode.unwrap_or_else(|| self.rng.pick(&MODES));
        self.machine.cpu.cr0.insert(Cr0::PG);
        self.machine.cpu.cr4.set(Cr4::PAE, mode != GuestMode::TwoLevel);
        self.machine.cpu.cr4.set(Cr4::PSE, self.rng.chance(80));
        self.machine.cpu.efer.set(Efer::LMA, mode == GuestMode::FourLevel);
        self.machine.cpu.efer.set(Efer::NXE, self.rng.chance(80));
        self.machine.cpu.cr3 = guest::cr3(&mut self.rng, mode);
        self.mode = mode;
        self.pages = guest::pages(mode);
        self.busy.clear();
        self.flush();
    }

    pub fn paging_off(&mut self) {
        self.machine.cpu.cr0.remove(Cr0::PG);
        self.machine.cpu.efer.remove(Efer::LMA);
        self.mode = GuestMode::Off;
        self.pages = guest::pages(self.mode);
        self.busy.clear();
        self.flush();
    }

    /// MOV to a control register.
    pub fn flush(&mut self) {
        self.machine.flush();
        self.history.forget_all();
    }

    /// A write to guest memory, told or not.
    pub fn put(&mut self, at: Gpa, data: &[u8]) {
        let old = self.machine.host.replace(at, data);
        self.history.wrote(at, old);
    }

    pub fn random_gva(&mut self) -> Gva {
        let rng = &mut self.rng;
        if self.busy.is_empty() || rng.chance(2) {
            self.busy = (0..16).map(|_| rng.pick(&self.pages)).collect();
        }
        let wide = self.mode == GuestMode::FourLevel;
        let window = self.overlays.iter().flatten().find(|o| wide || o.0 >> 32 == 0);
        if let Some(window) = window.filter(|_| rng.chance(5)) {
            return window.add(rng.pick(&OVERLAY_PAGES) << 12 | 8);
        }
        let pages = if rng.chance(80) { &self.busy } else { &self.pages };
        guest::address(rng, pages)
    }

    pub fn paging(&self) -> Paging {
        Paging::of(&self.machine.cpu, self.set.physical_bits)
    }

    /// No shadow can be at `gva`: the VMM area is there.
    pub fn in_slot(&self, gva: Gva) -> bool {
        self.machine.levels == 4 && self.mode == GuestMode::FourLevel && (gva.0 >> 39) & 511 == VMM_SLOT.0.into()
    }

    /// The view of a frame at a linear page.
    pub fn view_of(&mut self, gfn: Gfn, page: Gva) -> Pfn {
        let next = Pfn(VIEW_BASE + self.views.len() as u64);
        *self.views.entry((self.machine.env.0, gfn.0, page.page().0)).or_insert(next)
    }

    /// Why the engine has a frame tracked.
    pub fn reasons(&self, gfn: Gfn) -> Reasons {
        let mut reasons = Reasons::empty();
        for (reason, flag) in
            [(Reason::View, Reasons::VIEW), (Reason::Descriptor, Reasons::DESCRIPTOR), (Reason::Other, Reasons::OTHER)]
        {
            reasons.set(flag, self.tracked.contains(&(gfn, reason)));
        }
        reasons
    }

    pub fn note(&mut self, what: &'static str) {
        *self.seen.entry((format!("{:?}", self.mode), what)).or_default() += 1;
    }
}
