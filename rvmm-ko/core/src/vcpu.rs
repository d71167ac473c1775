//! A virtual CPU and what it runs on.

use alloc::vec::Vec;

use rvmm_arch::host::{Host, HostError, HostFeatures};
use rvmm_arch::segment::Selector;
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::vcpu::Activity;
use rvmm_arch::{xstate, Gfn, Gpa, VcpuState};
use rvmm_interp::Decoded;
use rvmm_mmu::{Env, Mmu, MmuConfig, MmuError};
use rvmm_patcher::TacticSet;

use crate::ahead::Habits;
use crate::client::{ClientExit, InternalError};
use crate::code::{filled, CodePages, PLAIN, PLAIN64};
use crate::constants::Constants;
use crate::cpuid::{CpuidEntry, CpuidTable};
use crate::direct::{self, Cause, Deprivileging, Mode};
use crate::heap::Heap;
use crate::hot::{HotPlace, HotPlaces};
use crate::io::IoLog;
use crate::native::StepPages;
use crate::options::Options;
use crate::reflect::Gates;
use crate::segments::DescriptorShadow;
use crate::verify::Verifier;
use crate::verw::Verw;
use crate::world::{Changes, World};
use crate::writes::WriteLog;

/// Slots of the interpreter's decode cache.
const DECODED: usize = 512;

/// `Err` leaves the run loop for the client.
pub(crate) type Flow = Result<(), ClientExit>;

impl From<HostError> for ClientExit {
    fn from(error: HostError) -> Self {
        Self::InternalError(InternalError::Host(error))
    }
}

impl From<MmuError> for ClientExit {
    fn from(error: MmuError) -> Self {
        Self::InternalError(InternalError::Mmu(error))
    }
}

/// What the virtual CPU runs on. Belongs to the VM; apart from [`Vcpu`]'s own state so that the two can be borrowed apart,
/// and shared by several virtual CPUs one day.
pub(crate) struct Parts {
    pub mmu: Heap<Mmu>,
    pub code: Heap<CodePages>,
    pub segments: Heap<DescriptorShadow>,
    pub gates: Gates,
    pub verw: Verw,
    pub cpuid: CpuidTable,
    pub io: Heap<IoLog>,
    pub constants: Constants,
    pub writes: Heap<WriteLog>,
    pub changes: Changes,
    pub stats: Heap<Stats>,
    pub hot: HotPlaces,
    pub habits: Habits,
    pub host_error: Option<HostError>,
    pub replay_error: bool,
}

impl Parts {
    /// The interpreter's machine.
    pub(crate) fn world<'a, H: Host>(&'a mut self, host: &'a mut H) -> World<'a, H> {
        World {
            host,
            mmu: &mut self.mmu,
            stats: &mut self.stats,
            io: &mut self.io,
            constants: &mut self.constants,
            writes: &mut self.writes,
            changes: &mut self.changes,
            cpuid: &self.cpuid,
            host_error: &mut self.host_error,
            replay_error: &mut self.replay_error,
            hot: &mut self.hot,
            cause: None,
        }
    }
}

/// [`Heap::build`] for what cannot fail by itself.
fn on_heap<T>(make: impl FnOnce() -> T) -> Result<Heap<T>, HostError> {
    Heap::build(|| Ok(make()))
}

/// Events that wait to be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    /// KVM_INTERRUPT: an external interrupt's vector.
    pub interrupt: Option<u8>,
    /// KVM_NMI.
    pub nmi: bool,
}

/// A virtual CPU.
pub struct Vcpu {
    pub(crate) state: Heap<VcpuState>,
    pub(crate) parts: Parts,
    pub(crate) pending: Pending,
    pub(crate) options: Options,
    pub(crate) features: HostFeatures,
    pub(crate) step_pages: StepPages,
    pub(crate) verifier: Verifier,
    /// Instructions the interpreter has decoded.
    pub(crate) decoded: Vec<Decoded>,
    /// The execution environment of the last entry.
    pub(crate) env: Env,
    /// That of the guest's kernel behind a turn that is made in the VMM area.
    pub(crate) kernel_env: Env,
    /// CS and SS of the program that was entered last.
    pub(crate) program_sel: [Selector; 2],
    /// The client asked to hear of the interrupt window.
    pub(crate) window_wanted: bool,
    /// CR8 when the client had the vCPU last.
    pub(crate) client_cr8: u64,
}

/// May page-table entries that the guest does not have present say so to the CPU? Not if there may be writes that nobody tells of: an
/// entry that is made present by one would be the guest's fault for ever.
const fn reflects(options: &Options) -> bool {
    options.coherent_client
        && options.tactics.contains(TacticSet::REFLECT)
        && options.tactics.contains(TacticSet::SYSCALL)
}

impl Vcpu {
    /// A virtual CPU in its reset state. Its larger parts are on the heap, each built in a frame of its own, and this is not inlined, so that
    /// no frame on the host's stack has all of it.
    ///
    /// # Errors
    /// The host has no memory for the tables, or lacks a feature that nothing replaces.
    #[inline(never)]
    pub fn new<H: Host>(host: &mut H, options: Options) -> Result<Self, MmuError> {
        let features = host.features();
        let state = on_heap(VcpuState::reset)?;
        let mut stats = on_heap(Stats::default)?;
        let mut segments = Heap::build(DescriptorShadow::new)?;
        let deprivileging = Deprivileging::of(&state, options.model);
        segments.deprivilege(deprivileging, host, &mut stats)?;
        Ok(Self {
            state,
            parts: Parts {
                mmu: Heap::build(|| {
                    Mmu::new(MmuConfig {
                        model: options.model,
                        prefill: options.tactics.contains(TacticSet::PREFILL),
                        unsync: options.tactics.contains(TacticSet::UNSYNC),
                        absent: if reflects(&options) { features.reserved_bit } else { 0 },
                        ..MmuConfig::new(&features)
                    })
                })?,
                code: Heap::build(|| CodePages::new(&options))?,
                segments,
                gates: Gates::default(),
                verw: Verw::default(),
                cpuid: CpuidTable::new(features.xcr0),
                io: on_heap(IoLog::default)?,
                constants: Constants::default(),
                writes: on_heap(WriteLog::default)?,
                changes: Changes::default(),
                stats,
                hot: HotPlaces::new().map_err(MmuError::Host)?,
                habits: Habits::new().map_err(MmuError::Host)?,
                host_error: None,
                replay_error: false,
            },
            pending: Pending::default(),
            options,
            features,
            step_pages: StepPages::new(host).map_err(MmuError::Host)?,
            verifier: Verifier::new(options.verify).map_err(MmuError::Host)?,
            decoded: filled(DECODED, Decoded::default()).map_err(MmuError::Host)?,
            env: PLAIN,
            kernel_env: PLAIN64,
            program_sel: [Selector(0); 2],
            window_wanted: false,
            client_cr8: 0,
        })
    }

    /// Gives every host page back. Call before the virtual CPU is dropped.
    pub fn free<H: Host>(&mut self, host: &mut H) {
        self.parts.code.free_all(host);
        self.step_pages.free(host);
        self.parts.mmu.free_all(host);
    }

    /// The architectural state.
    #[must_use]
    pub fn state(&self) -> &VcpuState {
        &self.state
    }

    /// Replaces the architectural state, as the KVM_SET_* ioctls do. An instruction that waits for a device's answer is given up; device
    /// writes of one that has retired are still made.
    ///
    /// # Errors
    /// Host failures while shadow state is rebuilt.
    pub fn set_state<H: Host>(&mut self, host: &mut H, state: VcpuState) -> Result<(), MmuError> {
        let old = core::mem::replace(&mut *self.state, state);
        // A CPU that has shut down runs again from what it is given: how clients reset it.
        self.state.activity = Activity::Running;
        self.parts.io.give_up();
        let new = &self.state;
        let moved = (old.cr0, old.cr3, old.cr4, old.efer) != (new.cr0, new.cr3, new.cr4, new.efer);
        self.parts.gates.look_again();
        self.parts.verw.look_again();
        if moved {
            self.parts.mmu.flush_all(host);
        }
        let deprivileging = Deprivileging::of(new, self.options.model);
        self.parts.segments.deprivilege(deprivileging, host, &mut self.parts.stats).map_err(MmuError::Host)?;
        if moved || (old.gdtr, old.ldtr) != (new.gdtr, new.ldtr) {
            let parts = &mut self.parts;
            parts.segments.relocate(new, &mut parts.mmu, host, &mut parts.stats)?;
        }
        Ok(())
    }

    /// Replaces CR8 (`kvm_run.cr8`), which clients do with every answer: unlike [`Vcpu::set_state`] it gives no device access up.
    pub fn set_cr8(&mut self, value: u64) {
        self.state.cr8 = value;
    }

    /// Are execution views kept from the reads of the guest's kernel, in the ring that it runs in now?
    pub(crate) fn hides_views(&self) -> bool {
        self.features.hides_views(self.parts.segments.deprivileging().kernel_ring)
    }

    /// May the next instruction run directly, and as what? Kernel code whose views could be read does not: docs/patching.md, "Hosts
    /// that cannot hide views".
    ///
    /// # Errors
    /// The counter that names the reason.
    pub(crate) fn runnable(&self) -> Result<Mode, Cause> {
        match direct::runnable(&self.state, &self.parts.segments, &self.options, || self.can_reload()) {
            Ok(Mode::Kernel) if !self.hides_views() => Err(Counter::InterpretedUnhidden),
            other => other,
        }
    }

    /// Events that wait.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.pending
    }

    /// Replaces the events that wait (KVM_SET_VCPU_EVENTS).
    pub fn set_pending(&mut self, pending: Pending) {
        self.pending = pending;
    }

    /// KVM_INTERRUPT. `false`: one waits already (EEXIST).
    pub fn interrupt(&mut self, vector: u8) -> bool {
        if self.pending.interrupt.is_some() {
            return false;
        }
        self.pending.interrupt = Some(vector);
        true
    }

    /// KVM_NMI.
    pub fn nmi(&mut self) {
        self.pending.nmi = true;
    }

    /// The registers that the engine is to read for the client from now on.
    pub fn set_constants(&mut self, constants: Constants) {
        self.parts.constants = constants;
    }

    /// `ready_for_interrupt_injection`: KVM_INTERRUPT would be delivered at the next entry.
    #[must_use]
    pub fn ready_for_interrupt(&self) -> bool {
        self.pending.interrupt.is_none() && self.state.interruptible() && !self.parts.io.unfinished()
    }

    /// KVM_SET_CPUID2. Which bits of page tables are reserved follows from it.
    ///
    /// # Errors
    /// No memory; the table is unchanged.
    pub fn set_cpuid<H: Host>(
        &mut self,
        host: &mut H,
        entries: impl ExactSizeIterator<Item = CpuidEntry>,
    ) -> Result<(), HostError> {
        self.parts.cpuid.set(entries)?;
        if self.parts.mmu.set_guest_physical_bits(self.parts.cpuid.physical_bits()) {
            self.parts.mmu.flush_all(host);
        }
        Ok(())
    }

    /// KVM_GET_CPUID2.
    #[must_use]
    pub fn cpuid(&self) -> &[CpuidEntry] {
        self.parts.cpuid.entries()
    }

    /// The components that the guest's XCR0 may have (KVM_SET_XCRS); `None`: the host has no XSAVE, and there is no XCR0.
    #[must_use]
    pub fn xcr0_supported(&self) -> Option<u64> {
        (self.features.xcr0 != 0).then(|| self.parts.cpuid.xcr0_supported() | xstate::component::X87)
    }

    /// The client's answer to [`ClientExit::Io`]: the value read, or anything for a write.
    pub fn complete_io(&mut self, value: u64) {
        self.parts.io.complete(value);
    }

    /// The same for [`IoAccess::PortInString`](crate::io::IoAccess::PortInString): the byte at each place is asked for.
    pub fn complete_string(&mut self, byte: impl Fn(usize) -> u8) {
        for (at, place) in self.parts.io.string_mut().iter_mut().enumerate() {
            *place = byte(at);
        }
        self.parts.io.complete(0);
    }

    /// The bytes of a pending [`IoAccess::PortOutString`](crate::io::IoAccess::PortOutString) of `len` bytes.
    #[must_use]
    pub fn io_string(&self, len: usize) -> &[u8] {
        self.parts.io.string(len)
    }

    /// The client wrote guest memory. It may name any range; beyond what the guest can address nothing is watched, and nothing is
    /// looked at, so that the work is bounded.
    ///
    /// # Errors
    /// Host failures.
    pub fn memory_written<H: Host>(&mut self, host: &mut H, mut gpa: Gpa, len: u64) -> Result<(), MmuError> {
        let end = gpa.0.saturating_add(len).min(self.parts.mmu.guest_physical_end());
        while gpa.0 < end {
            let here = (gpa.page().0.saturating_add(4096)).min(end) - gpa.0;
            self.parts.wrote(host, gpa, here)?;
            gpa = gpa.add(here);
        }
        Ok(())
    }

    /// A memslot appeared, moved or vanished.
    ///
    /// # Errors
    /// Host failures.
    pub fn memory_changed<H: Host>(&mut self, host: &mut H, first: Gfn, count: u64) -> Result<(), MmuError> {
        self.parts.code.retire_range(&mut self.parts.mmu, host, &mut self.parts.stats, first, count);
        self.parts.mmu.zap_gfns(host, first, count);
        self.parts.io.memory_changed();
        self.parts.gates.look_again();
        self.parts.verw.look_again();
        let parts = &mut self.parts;
        parts.segments.relocate(&self.state, &mut parts.mmu, host, &mut parts.stats)?;
        parts.segments.read_again(host, &mut parts.stats).map_err(MmuError::Host)
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.parts.stats
    }

    /// Counts what happens outside the engine: the returns to the client, by reason.
    pub fn count(&mut self, counter: Counter) {
        self.parts.stats.count(counter);
    }

    /// What the scanner and the patcher have done: sites by row of the table, by reason, jumps, refusals.
    #[must_use]
    pub fn scan_counts(&self) -> Option<&rvmm_patcher::ScanCounts> {
        self.parts.code.counts()
    }

    /// The guest instructions that cost the most exits.
    #[must_use]
    pub fn hot_places(&self) -> &[HotPlace] {
        self.parts.hot.places()
    }

    /// True once the guest has stopped for good (triple fault) and only a reset helps.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.state.activity == Activity::Shutdown
    }
}
