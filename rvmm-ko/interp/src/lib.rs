//! The interpreter: the ground truth of guest execution.
//!
//! A complete software CPU for the integer instructions of protected and long mode, over [`rvmm_arch::VcpuState`] and the one doorway [`rvmm_arch::machine::Machine`].
//! [`step()`] executes one instruction; [`deliver`] brings an event into the guest. x87 and vector instructions are
//! reported as [`Unsupported`] and left to the caller, which can run them on the CPU itself.
//!
//! From the outside in: [`mod@step`] (one instruction: fetch, decode, execute, retire), `exec` (what instruction
//! handlers work with: operands, addresses, stack), one file per instruction family, `system` (everything privileged,
//! and event delivery), [`mem`] (linear memory).
#![no_std]
#![forbid(unsafe_code)]

mod arith;
mod batch;
mod bcd;
mod bits;
mod bmi;
mod control;
mod data;
mod dispatch;
mod exec;
mod fetch;
mod flags;
pub mod mem;
mod operand;
mod reg;
mod shift;
pub mod step;
mod string;
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod undefined;

pub use fetch::Decoded;
pub use operand::{checked_operand, memory_operand};
pub use step::{step, step_and_deliver, step_cached, steps_cached, Step, Stop, Unsupported};
pub use system::{
    behind_syscall, deliver, enter_by_syscall, enter_by_sysenter, has_sysenter, leave_by_sysret,
    leave_by_sysret_to_compat, msr, sysexit_segments, Delivered,
};
pub use undefined::{undefined, Undefined};
