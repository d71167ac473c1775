//! What the helper itself counts: returns from KVM_RUN by reason, and interrupts.

/// Counters of one vCPU, whatever the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCounters {
    pub port_reads: u64,
    pub port_writes: u64,
    pub memory_reads: u64,
    pub memory_writes: u64,
    pub halts: u64,
    pub irq_windows: u64,
    /// Signals and kicks.
    pub interrupted: u64,
    /// Vectors given to the CPU.
    pub interrupts: u64,
    /// Resets of the machine after which it started again.
    pub resets: u64,
}

impl ExitCounters {
    /// Names and values for the report.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("helper.port_reads", self.port_reads),
            ("helper.port_writes", self.port_writes),
            ("helper.memory_reads", self.memory_reads),
            ("helper.memory_writes", self.memory_writes),
            ("helper.halts", self.halts),
            ("helper.irq_windows", self.irq_windows),
            ("helper.interrupted", self.interrupted),
            ("helper.interrupts", self.interrupts),
            ("helper.resets", self.resets),
        ]
    }
}
