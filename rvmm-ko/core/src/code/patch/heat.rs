//! How often sites and jump windows are met, which decides what becomes of them.

use alloc::vec::Vec;

use rvmm_arch::host::HostError;
use rvmm_arch::Gva;

use super::filled;

/// Slots of the table that tells how often a site was hit; a collision starts anew.
const HEAT_SLOTS: usize = 1 << 14;
/// Hits after which a site gets a block.
const HOT: u8 = 4;
/// Arrivals at a moved instruction, each of which traps on the jump that covers it, after which the jump is taken back.
const WINDOW_HITS: u8 = 32;
/// Never try again: every tactic refused.
const REFUSED: u8 = u8::MAX;
/// … of a site whose jump was taken back.
const NO_JUMP: u8 = REFUSED - 1;

/// What to do about a site that was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heat {
    /// Nothing yet.
    Cold,
    /// It is to have a block, if it can.
    Hot,
    /// Likewise, but no jump.
    NoJump,
    /// Nothing any more.
    Refused,
}

/// A slot of the tables of heat.
const fn hash(at: u64) -> usize {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % HEAT_SLOTS
}

/// The two tables. Of no size where nothing is patched: then everything is cold.
pub struct HeatTables {
    /// Of sites, by linear address.
    sites: Vec<(u64, u8)>,
    /// The same for arrivals in the middle of a jump window.
    windows: Vec<(u64, u8)>,
}

impl HeatTables {
    /// Tables in which all is cold.
    ///
    /// # Errors
    /// No memory.
    pub fn new(on: bool) -> Result<Self, HostError> {
        let slots = usize::from(on) * HEAT_SLOTS;
        Ok(Self { sites: filled(slots, (0, 0))?, windows: filled(slots, (0, 0))? })
    }

    /// What was refused a place may find one: sites are cold again.
    pub fn forget_sites(&mut self) {
        self.sites.fill((0, 0));
    }

    fn site(&mut self, at: u64) -> Option<&mut (u64, u8)> {
        self.sites.get_mut(hash(at))
    }

    /// The site at a linear address was hit: is it time for a block?
    pub fn met(&mut self, at: Gva) -> Heat {
        let at = at.0;
        let Some(slot) = self.site(at) else { return Heat::Cold };
        if slot.0 != at {
            *slot = (at, 0);
        }
        match slot.1 {
            REFUSED => Heat::Refused,
            NO_JUMP => Heat::NoJump,
            n => {
                slot.1 = n.wrapping_add(1).min(NO_JUMP - 1);
                if slot.1 >= HOT {
                    Heat::Hot
                } else {
                    Heat::Cold
                }
            }
        }
    }

    /// Execution arrived at `at`, which a jump covers: has that happened so often that the jump costs more than it saves?
    pub fn window_hit(&mut self, at: Gva) -> bool {
        let at = at.0;
        let Some(slot) = self.windows.get_mut(hash(at)) else { return false };
        if slot.0 != at {
            *slot = (at, 0);
        }
        slot.1 = slot.1.saturating_add(1);
        slot.1 > WINDOW_HITS
    }

    /// A jump at this address was taken back.
    pub fn no_jump(&mut self, at: Gva) {
        let at = at.0;
        if let Some(slot) = self.site(at) {
            *slot = (at, NO_JUMP);
        }
    }

    /// No tactic but int3 applies at this address.
    pub fn refused(&mut self, at: Gva) {
        let at = at.0;
        if let Some(slot) = self.site(at) {
            *slot = (at, REFUSED);
        }
    }
}
