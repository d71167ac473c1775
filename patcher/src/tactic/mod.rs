//! The tactics: the ways in which a sensitive instruction is kept from running verbatim, cheapest at run time first.

mod jump;
mod region;
mod trap;

pub use jump::{install, remove, Installed, JumpRefusal, JumpRequest, BLOCK_BYTES};
pub use region::{traps, JumpConstraint, Region};
pub use trap::{install_trap, InstalledTrap};

use crate::table::BlockKind;
use core::fmt;

/// One tactic. The order is the order of preference: a site gets the first one that is switched on and applies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Tactic {
    /// No patch: the instruction is harmless or traps by itself.
    Verbatim = 0,
    /// A jump over the site and the neighbours it needs for five bytes, all of them moved into a patch block.
    Jump = 1,
    /// int3 at the instruction's first byte, emulation by the VMM.
    Int3 = 2,
}

impl Tactic {
    /// Every tactic, in order of preference.
    pub const ALL: [Tactic; 3] = [Tactic::Verbatim, Tactic::Jump, Tactic::Int3];

    /// Name on the command line and in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Tactic::Verbatim => "verbatim",
            Tactic::Jump => "jump",
            Tactic::Int3 => "int3",
        }
    }

    /// Position in arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

bitflags::bitflags! {
    /// What may be replaced by patch blocks. int3 and verbatim need no switch: they are always correct.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct TacticSet: u32 {
        /// Blocks for `cli`.
        const CLI = 1;
        /// Blocks for `sti`.
        const STI = 2;
        /// Blocks for `pushf`.
        const PUSHF = 4;
        /// Blocks for `popf`.
        const POPF = 8;
        /// Blocks for reads and pushes of CS and SS.
        const SELECTOR = 16;
        /// Blocks that only move a harmless instruction with a critical one in its middle out of line.
        const INTERIOR = 32;
        /// Blocks for `iret` to the same ring.
        const IRET = 64;
        /// Blocks for reads of control registers.
        const CONTROL = 128;
        /// Blocks for `swapgs`.
        const SWAPGS = 256;
        /// Blocks for `verw`.
        const VERW = 512;
        /// SYSCALL and SYSENTER of programs are carried out in the VMM area; blocks for SYSRET and SYSEXIT, and those for IRET, ask there
        /// for the way back.
        const SYSCALL = 1 << 16;
        /// No block: shadow entries are made before the fault that would make them.
        const PREFILL = 1 << 17;
        /// No block: page tables that the guest writes go out of sync until it flushes.
        const UNSYNC = 1 << 18;
        /// Events of programs are brought to their kernel in the VMM area. Only with SYSCALL.
        const REFLECT = 1 << 19;
        /// No block: hidden page faults, and with REFLECT those of programs, end no stay in the guest world.
        const SERVE = 1 << 20;
        /// Sites that can have no jump keep their int3 and get a block behind it; with SERVE the int3 ends no stay.
        const TRAP = 1 << 21;
        /// Every block.
        const JUMP = 1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 | 256 | 512;
        /// Everything for shadow paging.
        const PAGING = 1 << 17 | 1 << 18;
        /// What a VM has unless its client says otherwise: what has passed the boots.
        const DEFAULT = Self::JUMP.bits() | Self::SYSCALL.bits() | Self::PAGING.bits() | Self::REFLECT.bits() | Self::SERVE.bits() | Self::TRAP.bits();
    }
}

/// A word in a tactics list that names no tactic: its position and length in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownTactic {
    /// First byte of the word.
    pub start: usize,
    /// Bytes of the word.
    pub len: usize,
}

impl fmt::Display for UnknownTactic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown tactic at character {}", self.start + 1)
    }
}

impl TacticSet {
    /// The words that [`TacticSet::parse`] knows.
    pub const WORDS: [(&'static str, TacticSet); 20] = [
        ("int3", TacticSet::empty()),
        ("cli", TacticSet::CLI),
        ("sti", TacticSet::STI),
        ("pushf", TacticSet::PUSHF),
        ("popf", TacticSet::POPF),
        ("selector", TacticSet::SELECTOR),
        ("interior", TacticSet::INTERIOR),
        ("iret", TacticSet::IRET),
        ("control", TacticSet::CONTROL),
        ("swapgs", TacticSet::SWAPGS),
        ("verw", TacticSet::VERW),
        ("syscall", TacticSet::SYSCALL),
        ("prefill", TacticSet::PREFILL),
        ("unsync", TacticSet::UNSYNC),
        ("reflect", TacticSet::REFLECT),
        ("serve", TacticSet::SERVE),
        ("trap", TacticSet::TRAP),
        ("jump", TacticSet::JUMP),
        ("paging", TacticSet::PAGING),
        ("default", TacticSet::DEFAULT),
    ];

    /// True if blocks of this kind are on.
    pub fn allows(self, kind: BlockKind) -> bool {
        match kind {
            BlockKind::None => false,
            BlockKind::Cli => self.contains(TacticSet::CLI),
            BlockKind::Sti => self.contains(TacticSet::STI),
            BlockKind::Pushf => self.contains(TacticSet::PUSHF),
            BlockKind::Popf => self.contains(TacticSet::POPF),
            BlockKind::Iret => self.contains(TacticSet::IRET),
            BlockKind::ReadControl => self.contains(TacticSet::CONTROL),
            BlockKind::Swapgs => self.contains(TacticSet::SWAPGS),
            BlockKind::Sysret | BlockKind::Sysexit => self.contains(TacticSet::SYSCALL),
            BlockKind::Verw => self.contains(TacticSet::VERW),
            BlockKind::ReadSelector | BlockKind::PushSelector => self.contains(TacticSet::SELECTOR),
        }
    }

    /// Parse a comma-separated list such as `int3` (nothing else) or `cli,sti` or `jump` (every block).
    pub fn parse(list: &str) -> Result<TacticSet, UnknownTactic> {
        let mut set = TacticSet::empty();
        let mut start = 0;
        for word in list.split(',') {
            let name = word.trim();
            let known = TacticSet::WORDS.iter().find(|(known, _)| *known == name);
            match known {
                Some((_, tactic)) => set |= *tactic,
                None if name.is_empty() => {}
                None => return Err(UnknownTactic { start, len: word.len() }),
            }
            start += word.len() + 1;
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_in_the_order_of_their_index() {
        for (index, refusal) in JumpRefusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index, "{}", refusal.name());
        }
    }

    #[test]
    fn lists_are_parsed_word_by_word() {
        assert_eq!(TacticSet::parse("int3"), Ok(TacticSet::empty()));
        assert_eq!(TacticSet::parse("cli, sti"), Ok(TacticSet::CLI | TacticSet::STI));
        assert_eq!(TacticSet::parse("int3,jump"), Ok(TacticSet::JUMP));
        assert_eq!(TacticSet::parse("syscall,jump,paging,reflect,serve,trap"), Ok(TacticSet::all()));
        assert_eq!(TacticSet::parse(""), Ok(TacticSet::empty()));
        assert_eq!(TacticSet::parse("cli,jmup"), Err(UnknownTactic { start: 4, len: 4 }));
    }
}
