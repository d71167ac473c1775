//! The vocabulary of rvmm, shared by every crate of the module.
//!
//! Addresses ([`addr`]), register bits ([`regs`]), segments ([`segment`]), faults ([`fault`]), the architectural state
//! of a virtual CPU ([`vcpu`]), the deprivileging model ([`model`]), what the host's CPU must have ([`cpuid`]), the traits through which decisions see the
//! host ([`host`]) and the software CPU sees its machine ([`machine`]), the counters ([`stats`]), the tracepoints
//! ([`trace`]) and the extended state ([`xstate`]). Nothing here decides anything.
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod cpuid;
pub mod fault;
pub mod host;
pub mod machine;
pub mod model;
pub mod regs;
pub mod segment;
pub mod serve;
pub mod stats;
pub mod trace;
pub mod vcpu;
pub mod xstate;

pub use addr::{Gfn, Gpa, Gva, Hpa, Pfn, PAGE_SHIFT, PAGE_SIZE};
pub use fault::{Exception, PageFaultCode, Vector};
pub use model::Model;
pub use vcpu::VcpuState;
