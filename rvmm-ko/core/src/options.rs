//! What the client chose for a VM.

use rvmm_arch::Model;
use rvmm_patcher::TacticSet;

/// How directly executed code is checked against the interpreter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// Not at all.
    #[default]
    Off,
    /// Each guest-kernel instruction the first `n` times it is reached.
    First(u32),
    /// Each time.
    Always,
}

/// Options of a VM.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The real ring of a guest kernel that is not in long mode.
    pub model: Model,
    /// Tactics the patcher may use.
    pub tactics: TacticSet,
    /// Verification.
    pub verify: Verify,
    /// Execute nothing directly.
    pub interpret_all: bool,
    /// The client reports every write it makes to guest memory (RVMM_MEMORY_WRITTEN), so views need no revalidation at
    /// each entry.
    pub coherent_client: bool,
}
