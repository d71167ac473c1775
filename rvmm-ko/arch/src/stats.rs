//! Counters: one flat array of named 64-bit counts, so that the module, the tool and the tests share one list.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A counter. Its number is its place in the statistics ABI and never changes; new ones go to the end.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $name),+
        }

        impl Counter {
            /// All counters in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$name),+];

            /// Dotted name: `group.what`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Counter::$name => $text),+
                }
            }
        }
    };
}

counters! {
    /// Entries into the guest world.
    WorldSwitches = "world.switches",
    /// CR3 loads made by world switches, and for page faults served in the middle of stays.
    Cr3Loads = "world.cr3_loads",
    /// Exits whose frame showed CPL 0: must stay 0.
    ExitCpl0 = "exit.cpl0",
    /// Exits from guest kernel code in ring 1.
    ExitCpl1 = "exit.cpl1",
    /// Exits from guest user code in ring 3.
    ExitCpl3 = "exit.cpl3",
    /// Exits by host interrupt.
    ExitInterrupt = "exit.host_interrupt",
    /// Exits by NMI.
    ExitNmi = "exit.nmi",
    /// Exits by #DB.
    ExitDebug = "exit.db",
    /// Exits by #BP.
    ExitBreakpoint = "exit.bp",
    /// Exits by #UD.
    ExitInvalidOpcode = "exit.ud",
    /// Exits by #NM.
    ExitDeviceNotAvailable = "exit.nm",
    /// Exits by #GP.
    ExitGeneralProtection = "exit.gp",
    /// Exits by #PF.
    ExitPageFault = "exit.pf",
    /// Exits by #NP, #SS, #TS.
    ExitSegment = "exit.segment",
    /// Exits by any other exception.
    ExitOther = "exit.other",
    /// Returns to the client for port I/O.
    UserPio = "user.pio",
    /// Returns to the client for MMIO.
    UserMmio = "user.mmio",
    /// Returns to the client for HLT.
    UserHlt = "user.hlt",
    /// Returns to the client because interrupts became deliverable.
    UserIrqWindow = "user.irq_window",
    /// Returns to the client because of a signal or immediate_exit.
    UserSignal = "user.signal",
    /// Page faults that were the guest's own and were reflected.
    PageFaultTrue = "mmu.true_faults",
    /// Page faults hidden from the guest.
    PageFaultHidden = "mmu.hidden_faults",
    /// Writes to write-protected guest page tables.
    PageTableWrites = "mmu.table_writes",
    /// Shadow pages made.
    ShadowPages = "mmu.shadow_pages",
    /// Shadow pages reclaimed for want of memory.
    ShadowReclaims = "mmu.reclaims",
    /// Switches between shadow roots.
    RootSwitches = "mmu.root_switches",
    /// Shadow roots built.
    RootBuilds = "mmu.root_builds",
    /// Execution views made.
    Views = "code.views",
    /// Execution views dropped.
    ViewsRetired = "code.views_retired",
    /// Blocks scanned.
    BlocksScanned = "code.blocks_scanned",
    /// Instructions scanned.
    InstructionsScanned = "code.instructions_scanned",
    /// Sites patched by int3.
    SitesInt3 = "code.sites_int3",
    /// Sites patched by a jump to a block.
    SitesJump = "code.sites_jump",
    /// Sites refused by every tactic but int3, for want of room in patch memory.
    RefusedNoMemory = "refused.patch_memory",
    /// … because a branch or an instruction start lies in the jump window.
    RefusedWindow = "refused.jump_window",
    /// Entries into kernel code without blocks because CS or SS is not flat.
    RefusedNotFlat = "refused.not_flat",
    /// … because the guest leaves no hole in its linear space.
    RefusedNoHole = "refused.no_hole",
    /// … because the neighbours cannot be relocated.
    RefusedRelocation = "refused.relocation",
    /// Reads of a page's own code, interpreted.
    CodeReads = "code.reads",
    /// Writes to a page with a view.
    CodeWrites = "code.writes",
    /// Pages that hold one instruction for the CPU, mapped where the guest's kernel can read them (hosts that cannot hide views).
    CodeReadable = "code.readable_views",
    /// Events delivered to the guest: exceptions.
    InjectedExceptions = "event.exceptions",
    /// Events delivered: external interrupts.
    InjectedInterrupts = "event.interrupts",
    /// Events delivered: software interrupts (INT n, INT3, INTO, INT1).
    InjectedSoftware = "event.software",
    /// Instructions interpreted, all causes.
    Interpreted = "interp.total",
    /// … at a patch site.
    InterpretedSite = "interp.site",
    /// … that trapped as privileged.
    InterpretedPrivileged = "interp.privileged",
    /// … in a mode that cannot run directly.
    InterpretedMode = "interp.mode",
    /// … because a segment register's hidden part is not in the shadow table.
    InterpretedStaleSegment = "interp.stale_segment",
    /// … for MMIO.
    InterpretedMmio = "interp.mmio",
    /// … for a write to a guest page table.
    InterpretedTableWrite = "interp.table_write",
    /// … for a write to a descriptor table in use.
    InterpretedDescriptorWrite = "interp.descriptor_write",
    /// … for a read of or write to a code page.
    InterpretedCodeAccess = "interp.code_access",
    /// … because it crosses a page.
    InterpretedPageCrossing = "interp.page_crossing",
    /// … because an inner offset hides a critical instruction.
    InterpretedInterior = "interp.interior",
    /// … because of TF or a breakpoint.
    InterpretedSingleStep = "interp.single_step",
    /// … by request (--interpret-all).
    InterpretedAll = "interp.all",
    /// … for --verify.
    InterpretedVerify = "interp.verify",
    /// … at a segment load that trapped.
    InterpretedSegmentLoad = "interp.segment_load",
    /// … on a thrashing page.
    InterpretedThrashing = "interp.thrashing",
    /// … at a boundary after a block.
    InterpretedForward = "interp.forward",
    /// Instructions the interpreter lacks, executed one by one on the CPU.
    NativeSteps = "interp.native_steps",
    /// Steps verified equal.
    Verified = "verify.equal",
    /// Steps that cannot be verified (time, FPU).
    VerifySkipped = "verify.skipped",
    /// Patch memory in use, bytes.
    PatchBytes = "code.patch_bytes",
    /// Moves of the patch memory in the guest's linear space.
    HoleMoves = "code.hole_moves",
    /// Shadow descriptors synchronised from the guest's tables.
    DescriptorSyncs = "segment.descriptor_syncs",
    /// SYSENTER emulated.
    Sysenter = "event.sysenter",
    /// Guest RAM pages pinned.
    PinnedPages = "memory.pinned_pages",
    /// Hot harmless instructions shown although a critical one would begin in their middle: a jump there would not trap.
    Unguarded = "code.unguarded",
    /// Arrivals at an instruction that a jump covers: the exit goes on in the jump's block.
    WindowEntries = "code.window_entries",
    /// … once more, after the client has answered its port access.
    InterpretedPio = "interp.pio",
    /// SYSCALLs carried out in the VMM area.
    Syscall = "event.syscall",
    /// Exits at a SYSCALL, a program's or a block's, that the VMM area leaves to the engine.
    ExitSyscall = "exit.syscall",
    /// Returns to programs carried out in the VMM area.
    TurnBack = "event.turn_back",
    /// Shadow entries made before the fault that would have made them.
    Prefilled = "mmu.prefilled",
    /// Page tables let go out of sync because the guest wrote them.
    TablesLetGo = "mmu.unsync_tables",
    /// Page tables brought in line again.
    TableSyncs = "mmu.syncs",
    /// Entries compared for that.
    EntriesCompared = "mmu.sync_entries",
    /// Kernel instructions interpreted because this host could not keep the guest from reading their views.
    InterpretedUnhidden = "interp.unhidden",
    /// Jumps that became part of another one, whose site had no neighbours left.
    JumpsMerged = "code.jumps_merged",
    /// Iterations of string instructions that interpreted steps have done up to a page at a time.
    StringIterations = "interp.string_iterations",
    /// Instructions the interpreter lacks, with memory that only it may touch and nothing can stand in for: each has stopped its guest.
    NativeRefused = "interp.native_refused",
    /// Page faults of programs brought to their kernel in the VMM area.
    Reflected = "event.reflected",
    /// INT n of programs likewise.
    InterruptTurn = "event.int_turn",
    /// Events whose frame the VMM area could not have pushed, given back to the engine.
    EventsUndone = "event.undone",
    /// Pages that stood in for what only the interpreter may touch, for one step on the CPU each.
    StandIns = "interp.stand_ins",
    /// Entries of 64-bit kernels behind which null selectors with an RPL were loaded again.
    Reloads = "world.reloads",
    /// SYSENTERs of programs carried out in the VMM area.
    SysenterTurn = "event.sysenter_turn",
    /// Hidden faults that set an accessed or dirty bit in the guest's tables.
    HiddenRecorded = "hidden.recorded",
    /// … for want of a shadow table on the way.
    HiddenTable = "hidden.table",
    /// … at memory that no shadow entry leads to yet.
    HiddenNew = "hidden.new_memory",
    /// … with all of that there: only the entry was missing, or permitted less.
    HiddenPresent = "hidden.present",
    /// Hidden faults dealt with in the middle of a stay, without an exit.
    Served = "mmu.served",
    /// Sites without a jump whose int3 has a block behind it.
    SitesTrap = "code.sites_trap",
    /// int3 of views behind which execution went on in a block in the middle of a stay, without an exit.
    TrapsServed = "code.traps_served",
    /// Reads of device registers that the client has told to be constant.
    ConstantReads = "device.constant_reads",
    /// int3 behind which the switcher has gone on in a block, as it had been told before in the same stay.
    RepliedTraps = "world.replied_traps",
    /// Reads of constant device registers that the switcher has answered, likewise.
    RepliedLoads = "world.replied_loads",
}

/// Number of counters.
pub const COUNTERS: usize = Counter::ALL.len();

/// The counters of one virtual CPU.
#[derive(Clone, Debug)]
pub struct Stats {
    values: [u64; COUNTERS],
}

impl Default for Stats {
    fn default() -> Self {
        Self { values: [0; COUNTERS] }
    }
}

impl Stats {
    /// Adds one.
    #[inline]
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&mut self, counter: Counter, n: u64) {
        if let Some(v) = self.values.get_mut(counter as usize) {
            *v = v.wrapping_add(n);
        }
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&mut self, counter: Counter, n: u64) {
        if let Some(v) = self.values.get_mut(counter as usize) {
            *v = n;
        }
    }

    /// A counter's value.
    #[must_use]
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).copied().unwrap_or(0)
    }

    /// All values in the order of [`Counter::ALL`].
    #[must_use]
    #[inline]
    pub fn values(&self) -> &[u64] {
        &self.values
    }
}

/// A linear address and a counter in one word, for the table of hot places: the address' 48 significant bits, and the counter's
/// number above them.
#[must_use]
pub const fn hot_key(at: u64, cause: Counter) -> u64 {
    at & 0xffff_ffff_ffff | (cause as u64) << 48
}

/// The linear address of a [`hot_key`], and the counter if there is one of that number.
#[must_use]
pub fn hot_place(key: u64) -> (u64, Option<Counter>) {
    let at = ((key << 16) as i64 >> 16) as u64;
    (at, Counter::ALL.get((key >> 48) as usize).copied())
}
