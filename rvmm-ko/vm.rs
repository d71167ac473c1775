// SPDX-License-Identifier: GPL-2.0
//! Tour 3/22, next: `rvmm-ko/vcpu.rs`.
//! A VM: its file descriptor, its memory, its lock.
//!
//! Locks, in order: `Vm::machine`; then the slot's state, the statistics. `machine` guards all that the guest consists of and is held
//! while KVM_RUN runs the guest; whoever else wants it announces that in `waiting`, which makes the run loop step aside (as it does
//! for signals). `Vm::running` lets one thread at a time into KVM_RUN and is held for no more than a look. With several vCPUs the vCPU part will have a lock of its own, taken before the memory's.

use crate::device;
use crate::host::VcpuHost;
use crate::kvm_abi::{self as kvm, MemoryRegion};
use crate::memory::{Change, Memory};
use crate::pages::PagePool;
use crate::report::Report;
use crate::stats::{self, VmStats};
use crate::switch::enter::World;
use crate::switch::slot::{self, Slot};
use crate::sys::file::{self, Fd};
use crate::sys::run_page::RunPage;
use crate::sys::task::AddressSpace;
use crate::vcpu::{errno, Vcpu};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::lock::{mutex::MutexBackend, Guard};
use kernel::sync::{Arc, ArcBorrow, CondVar, Mutex};
use kernel::uaccess::{UserPtr, UserSlice};
use kernel::{new_condvar, new_mutex};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gfn, Gpa};
use rvmm_core::io::IoAccess;
use rvmm_core::Verify;

/// One vCPU with what it runs on.
pub(crate) struct Unit {
    /// The engine's part.
    pub(crate) cpu: KBox<rvmm_core::Vcpu>,
    /// The world switch.
    pub(crate) world: World,
    /// The page shared with the client.
    pub(crate) run: Arc<RunPage>,
    /// KVM_SET_SIGNAL_MASK.
    pub(crate) signal_mask: Option<u64>,
    /// The access that the client was last asked to make.
    pub(crate) io: Option<IoAccess>,
    /// Returns to the client for such an access since the counters were published.
    unpublished: u32,
}

/// Returns for device accesses between two publications of the counters: these are a fifth of such a return.
const UNPUBLISHED: u32 = 64;

/// All that the guest consists of.
pub(crate) struct Machine {
    memory: Memory,
    pages: PagePool,
    report: Report,
    options: Option<rvmm_core::Options>,
    unit: Option<Unit>,
    stats: Arc<VmStats>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end_unit();
    }
}

impl Machine {
    /// The vCPU goes. Afterwards no table maps guest memory any more, so it may be unpinned.
    fn end_unit(&mut self) {
        self.publish();
        let nobody = AtomicU32::new(0);
        if let Ok(mut s) = self.split(&nobody) {
            s.cpu.free(&mut s.host);
        }
        self.unit = None;
    }

    /// KVM_RUN returns. With many accesses to devices the counters are published now and then only, else before the client may wait.
    pub(crate) fn returns(&mut self, for_access: bool) {
        let Some(unit) = &mut self.unit else { return };
        unit.unpublished = unit.unpublished.wrapping_add(1);
        if !for_access || unit.unpublished >= UNPUBLISHED {
            self.publish();
        }
    }

    /// Publishes the counters.
    fn publish(&mut self) {
        let Some(unit) = &mut self.unit else { return };
        unit.unpublished = 0;
        let [traps, loads] = unit.world.replied;
        let own = [
            (Counter::Cr3Loads, unit.world.cr3_loads),
            (Counter::RepliedTraps, traps),
            (Counter::RepliedLoads, loads),
            (Counter::PinnedPages, self.memory.pinned()),
        ];
        self.stats.set(unit.cpu.stats(), &own, unit.cpu.scan_counts(), unit.cpu.hot_places());
    }

    /// The vCPU and, borrowed apart, its host. ENXIO before KVM_CREATE_VCPU.
    pub(crate) fn split<'a>(&'a mut self, waiting: &'a AtomicU32) -> Result<Split<'a>> {
        let Unit { cpu, world, run, signal_mask, io, .. } = self.unit.as_mut().ok_or(ENXIO)?;
        let host = VcpuHost {
            memory: &mut self.memory,
            pages: &mut self.pages,
            report: &mut self.report,
            world,
            run,
            waiting,
        };
        Ok(Split { cpu, host, signal_mask, io })
    }
}

/// The machine under its lock.
pub(crate) type Locked<'a> = Guard<'a, Machine, MutexBackend>;

/// A vCPU and its host, borrowed apart.
pub(crate) struct Split<'a> {
    pub(crate) cpu: &'a mut rvmm_core::Vcpu,
    pub(crate) host: VcpuHost<'a>,
    pub(crate) signal_mask: &'a mut Option<u64>,
    pub(crate) io: &'a mut Option<IoAccess>,
}

/// Where a VM is entered in: the process' page tables, the list of counters.
struct Registration {
    space: AddressSpace,
    slot: Arc<Slot>,
    stats: Arc<VmStats>,
}

impl Registration {
    fn new() -> Result<Self> {
        let space = AddressSpace::current()?;
        let slot = slot::get()?;
        let stats = VmStats::new()?;
        if let Err(e) = slot.attach(&space) {
            VmStats::end(&stats);
            return Err(e);
        }
        Ok(Self { space, slot, stats })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.slot.detach(&self.space);
        VmStats::end(&self.stats);
    }
}

/// A VM. The fields go in this order.
#[pin_data]
pub(crate) struct Vm {
    #[pin]
    machine: Mutex<Machine>,
    registration: Registration,
    /// Threads that want `machine`.
    pub(crate) waiting: AtomicU32,
    /// A thread is in KVM_RUN; it may have put `machine` down to step aside.
    #[pin]
    running: Mutex<bool>,
    /// Told when it is no longer.
    #[pin]
    idle: CondVar,
}

/// The right to run the vCPU, given up on drop.
pub(crate) struct Turn<'a>(&'a Vm);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() = false;
        self.0.idle.notify_all();
    }
}

impl Vm {
    /// A VM of the current process.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let registration = Registration::new()?;
        let machine = Machine {
            memory: Memory::default(),
            pages: PagePool::new()?,
            report: Report::new()?,
            options: None,
            unit: None,
            stats: registration.stats.clone(),
        };
        Arc::pin_init(
            try_pin_init!(Self {
                registration,
                waiting: AtomicU32::new(0),
                running <- new_mutex!(false),
                idle <- new_condvar!(),
                machine <- new_mutex!(machine),
            }),
            GFP_KERNEL,
        )
    }

    /// Everything of a VM belongs to the process that made it: EIO for others, as KVM answers.
    pub(crate) fn check_owner(&self) -> Result {
        if self.registration.space.is_current() {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// The machine, for others than the run loop: asks that to step aside.
    pub(crate) fn lock(&self) -> Locked<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let guard = self.machine.lock();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        guard
    }

    /// KVM_RUN begins. It waits while another thread is in it, as KVM lets it, but so that a signal ends that (EINTR): a guest may
    /// never exit.
    pub(crate) fn begin_run(&self) -> Result<Turn<'_>> {
        let mut running = self.running.lock();
        while *running {
            if self.idle.wait_interruptible(&mut running) {
                return Err(EINTR);
            }
        }
        *running = true;
        Ok(Turn(self))
    }

    /// The machine, for the run loop.
    pub(crate) fn lock_to_run(&self) -> Locked<'_> {
        self.machine.lock()
    }

    fn create_vcpu(this: ArcBorrow<'_, Self>, id: usize) -> Result<isize> {
        if id != 0 {
            return Err(EINVAL);
        }
        let mut guard = this.lock();
        let machine = &mut *guard;
        if machine.unit.is_some() {
            return Err(EINVAL);
        }
        let options = machine.options.unwrap_or_else(default_options);
        let run = Arc::new(RunPage::new()?, GFP_KERNEL)?;
        let mut world = World::new(this.registration.slot.clone())?;
        let mut host = VcpuHost {
            memory: &mut machine.memory,
            pages: &mut machine.pages,
            report: &mut machine.report,
            world: &mut world,
            run: &run,
            waiting: &this.waiting,
        };
        let cpu = new_engine(&mut host, options)?;
        machine.unit = Some(Unit { cpu, world, run: run.clone(), signal_mask: None, io: None, unpublished: 0 });
        drop(guard);
        let installed =
            Arc::new(Vcpu { vm: this.into(), run }, GFP_KERNEL).map_err(Error::from).and_then(file::install);
        if installed.is_err() {
            // No descriptor was to be had: the client may close some and try again.
            this.lock().end_unit();
        }
        installed
    }

    fn set_memory_region(&self, arg: usize) -> Result<isize> {
        let region = UserSlice::new(UserPtr::from_addr(arg), 32).reader().read::<MemoryRegion>()?;
        let mut guard = self.lock();
        let change = guard.memory.check(&region)?;
        let old = guard.memory.extent(region.slot);
        // First the engine forgets the old frames, then they are unpinned.
        match change {
            Change::None => return Ok(0),
            Change::Create => guard.memory.create(&self.registration.space, &region)?,
            Change::Delete | Change::Move => {
                if let Some((first, count)) = old {
                    self.memory_changed(&mut guard, first, count)?;
                }
                if matches!(change, Change::Delete) {
                    guard.memory.delete(region.slot);
                } else {
                    guard.memory.relocate(&region);
                }
            }
        }
        // What it follows (descriptor tables above all) it read again while the old frames were still there: once more, where there
        // was memory and where there is some now.
        for (first, count) in [old, guard.memory.extent(region.slot)].into_iter().flatten() {
            self.memory_changed(&mut guard, first, count)?;
        }
        Ok(0)
    }

    fn memory_changed(&self, machine: &mut Machine, first: Gfn, count: u64) -> Result {
        match machine.split(&self.waiting) {
            Ok(mut s) => s.cpu.memory_changed(&mut s.host, first, count).map_err(errno),
            Err(_) => Ok(()),
        }
    }

    fn set_options(&self, arg: usize) -> Result<isize> {
        let mut bytes = [0_u8; 64];
        UserSlice::new(UserPtr::from_addr(arg), bytes.len()).reader().read_slice(&mut bytes)?;
        let options = parse_options(&bytes)?;
        let mut machine = self.lock();
        if machine.unit.is_some() || machine.options.is_some() {
            return Err(EBUSY);
        }
        machine.options = Some(options);
        Ok(0)
    }

    fn memory_written(&self, arg: usize) -> Result<isize> {
        let mut reader = UserSlice::new(UserPtr::from_addr(arg), 16).reader();
        let (gpa, len) = (reader.read::<u64>()?, reader.read::<u64>()?);
        let mut machine = self.lock();
        if let Ok(mut s) = machine.split(&self.waiting) {
            s.cpu.memory_written(&mut s.host, Gpa(gpa), len).map_err(errno)?;
        }
        Ok(0)
    }

    fn get_report(&self, arg: usize) -> Result<isize> {
        let user = UserPtr::from_addr(arg);
        let mut reader = UserSlice::new(user, 16).reader();
        let (room, reserved, text) = (reader.read::<u32>()?, reader.read::<u32>()?, reader.read::<u64>()?);
        if reserved != 0 {
            return Err(EINVAL);
        }
        let machine = self.lock();
        let report = machine.report.text();
        let shown = report.get(..room as usize).unwrap_or(report);
        UserSlice::new(UserPtr::from_addr(text as usize), shown.len()).writer().write_slice(shown)?;
        UserSlice::new(user, 4).writer().write(&(report.len() as u32))?;
        Ok(0)
    }

    fn set_identity_map_addr(&self, arg: usize) -> Result<isize> {
        // Only VT-x without unrestricted guest needs such a page; rvmm has its own real mode.
        UserSlice::new(UserPtr::from_addr(arg), 8).reader().read::<u64>()?;
        if self.lock().unit.is_some() {
            return Err(EINVAL);
        }
        Ok(0)
    }
}

/// The engine's part of a vCPU. Its large parts are on the heap (rvmm-ko/core/src/heap.rs); never inlined, so that what passes over the stack
/// all the same is in no frame of what else a VM's ioctls do.
#[inline(never)]
fn new_engine(host: &mut VcpuHost<'_>, options: rvmm_core::Options) -> Result<KBox<rvmm_core::Vcpu>> {
    let place = KBox::new_uninit(GFP_KERNEL)?;
    Ok(KBox::write(place, rvmm_core::Vcpu::new(host, options).map_err(errno)?))
}

fn set_tss_addr(arg: usize) -> Result<isize> {
    // As above: accepted, checked as KVM does, not needed.
    if arg as u32 > 0_u32.wrapping_sub(3 * 4096) {
        return Err(EINVAL);
    }
    Ok(0)
}

fn default_options() -> rvmm_core::Options {
    rvmm_core::Options {
        model: rvmm_arch::Model::Ring1,
        tactics: rvmm_patcher::TacticSet::DEFAULT,
        verify: Verify::Off,
        interpret_all: false,
        coherent_client: false,
    }
}

fn parse_options(b: &[u8; 64]) -> Result<rvmm_core::Options> {
    use rvmm_abi::{OptionFlags, Options};
    let word = |at: usize| b.iter().skip(at).take(8).rev().fold(0_u64, |v, b| v << 8 | u64::from(*b));
    let raw = Options {
        size: word(0) as u32,
        model: (word(0) >> 32) as u32,
        flags: word(8) as u32,
        tactics: (word(8) >> 32) as u32,
        verify_first: word(16),
        reserved: [word(24), word(32), word(40), word(48), word(56)],
    };
    let (model, flags) = raw.check().map_err(|_| EINVAL)?;
    let mut options = default_options();
    options.model = match model {
        rvmm_abi::Model::Ring013 => rvmm_arch::Model::Ring1,
        rvmm_abi::Model::Ring033 => rvmm_arch::Model::Ring3,
    };
    if flags.contains(OptionFlags::TACTICS) {
        options.tactics = rvmm_patcher::TacticSet::from_bits(raw.tactics).ok_or(EINVAL)?;
    }
    if flags.contains(OptionFlags::VERIFY) {
        options.verify = match raw.verify_first {
            0 => Verify::Always,
            n => Verify::First(u32::try_from(n).map_err(|_| EINVAL)?),
        };
    }
    options.interpret_all = flags.contains(OptionFlags::INTERPRET_ALL);
    options.coherent_client = flags.contains(OptionFlags::COHERENT_CLIENT);
    Ok(options)
}

impl Fd for Vm {
    const NAME: &'static CStr = c"rvmm-vm";

    fn ioctl(this: ArcBorrow<'_, Self>, cmd: u32, arg: usize) -> Result<isize> {
        this.check_owner()?;
        match cmd {
            kvm::CREATE_VCPU => Self::create_vcpu(this, arg),
            kvm::SET_USER_MEMORY_REGION => this.set_memory_region(arg),
            kvm::SET_TSS_ADDR => set_tss_addr(arg),
            kvm::SET_IDENTITY_MAP_ADDR => this.set_identity_map_addr(arg),
            kvm::CHECK_EXTENSION => Ok(device::check_extension(arg)),
            rvmm_abi::SET_OPTIONS => this.set_options(arg),
            rvmm_abi::MEMORY_WRITTEN => this.memory_written(arg),
            rvmm_abi::GET_REPORT => this.get_report(arg),
            rvmm_abi::GET_STATS => {
                this.lock().publish();
                stats::get(Some(&this.registration.stats), arg)
            }
            _ => Err(ENOTTY),
        }
    }
}
