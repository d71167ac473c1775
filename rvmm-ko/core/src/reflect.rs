//! Events of programs that are brought to the guest kernel's handler without an exit: what is lent to the switcher for
//! that, and what has become of the virtual CPU when the stay is over. docs/architecture.md, "Events of programs".
//!
//! Lent are the gate of the page fault, for those faults that the shadow tables mark as the guest's own (rvmm-mmu, `absent.rs`), and that of
//! the INT n that programs used last. What a gate makes of the CPU is known beforehand, as at SYSCALL, while its frame of the IDT is
//! write-tracked and the GDT is followed. Where the stack is the switcher looks up itself, in the guest's TSS: kernels keep hot data
//! beside it. Where gate and TSS are in guest memory is found out again whenever translations may have changed, as for the GDT.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::host::{Backing, EventFrame, EventLoan, EventSlot, GuestContext, Host, WorldExit};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gpa, Gva, VcpuState, Vector, PAGE_SIZE};
use rvmm_mmu::{Mmu, MmuError, Reason, TranslateStop};
use rvmm_patcher::TacticSet;

use crate::client::ClientExit;
use crate::code::{plain, PatchArea};
use crate::direct::Mode;
use crate::segments::DescriptorShadow;
use crate::syscall::canonical;
use crate::vcpu::{Flow, Vcpu};
use crate::{syscall, sysenter};

/// How the CPU reads the IDT and the TSS.
const TABLE_READ: Access = Access { kind: AccessKind::Read, privilege: Privilege::Implicit };
/// Bytes of a gate at most, and of a stack pointer in the TSS: in long mode RSP, else ESP and SS.
const GATE_BYTES: u64 = 16;
const POINTER_BYTES: u64 = 8;
/// Types of 32-bit TSSs, and of gates that lead to a handler and are as wide as the code (SDM vol. 3 table 3-2).
const TSS: u8 = 9;
const BUSY_TSS: u8 = 11;
const INTERRUPT_GATE: u8 = 14;
const TRAP_GATE: u8 = 15;
/// Writes in a row to a gate's frame that change no gate, after which no event is lent until IDTR is loaded.
const IDLE_WRITES: u32 = 256;
/// The vector of a stub as it stands in a frame: less 128.
const STUB_VECTOR: u64 = 128;

/// A gate of the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gate {
    /// Where it is.
    at: Gpa,
    selector: Selector,
    handler: u64,
    /// It clears IF.
    disables: bool,
    /// The host's page that holds the stack pointer, and the offset in it.
    stack: (u64, u64),
    /// Where that is in guest memory.
    pointer: Gpa,
    /// Outside long mode: SS, as the guest's TSS had it when that was looked at last.
    stack_segment: Selector,
}

/// CS and SS as a gate loads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Inner {
    code: Segment,
    stack: Segment,
}

/// The gates that may be lent, and what they were found by.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    found: [Option<Gate>; 2],
    idtr: TableRegister,
    /// Base and limit of the TSS.
    task: (u64, u32),
    /// The INT n of a program met last.
    vector: u8,
    /// In long mode.
    long: bool,
    /// To be looked for again.
    stale: bool,
    idle_writes: u32,
}

/// A linear address of the mode's width.
const fn linear(cpu: &VcpuState, address: u64) -> u64 {
    if cpu.long_mode() {
        address
    } else {
        address & 0xffff_ffff
    }
}

impl Gates {
    /// Translations, or the memory behind them, may be others than they were.
    pub(crate) fn look_again(&mut self) {
        self.stale = true;
    }

    /// A program's INT n has ended a stay: the next one is lent.
    pub(crate) fn met(&mut self, vector: u8) {
        if self.vector != vector {
            self.vector = vector;
            self.stale = true;
        }
    }

    /// Guest memory was written (`len` bytes within one page).
    pub(crate) fn wrote(&mut self, gpa: Gpa, len: u64) {
        let (mut near, mut inside) = (false, false);
        for gate in self.found.iter().flatten().filter(|gate| gate.at.frame() == gpa.frame()) {
            near = true;
            inside |= gpa.0 < gate.at.0.wrapping_add(GATE_BYTES) && gate.at.0 < gpa.0.wrapping_add(len);
        }
        if inside {
            self.idle_writes = 0;
            self.stale = true;
        } else if near {
            self.idle_writes = self.idle_writes.saturating_add(1);
            self.stale |= self.gave_up();
        }
    }

    const fn gave_up(&self) -> bool {
        self.idle_writes > IDLE_WRITES
    }

    /// Finds the gates again if they may be others.
    fn refresh<H: Host>(&mut self, cpu: &VcpuState, mmu: &mut Mmu, host: &mut H) -> Result<(), MmuError> {
        let long = cpu.long_mode();
        let wide = long || matches!(cpu.tr.kind(), TSS | BUSY_TSS);
        let task = (cpu.tr.base, if cpu.tr.usable() && wide { cpu.tr.limit } else { 0 });
        if self.idtr != cpu.idtr {
            self.idle_writes = 0;
        }
        if !self.stale && (self.idtr, self.task, self.long) == (cpu.idtr, task, long) {
            return self.refresh_stacks(host);
        }
        (self.idtr, self.task, self.long, self.stale) = (cpu.idtr, task, long, false);
        let mut found = [None; 2];
        if !self.gave_up() {
            for (slot, gate) in found.iter_mut().enumerate() {
                *gate = self.find(cpu, mmu, host, slot)?;
            }
        }
        let tracked = |gates: &[Option<Gate>; 2]| gates.map(|gate| gate.map(|gate| gate.at.frame()));
        if tracked(&self.found) != tracked(&found) {
            for gfn in tracked(&self.found).into_iter().flatten() {
                mmu.untrack(gfn, Reason::Other);
            }
            for gate in &mut found {
                let Some(gfn) = gate.map(|gate| gate.at.frame()) else { continue };
                match mmu.track(host, gfn, Reason::Other) {
                    Ok(()) => {}
                    Err(MmuError::TrackingFull) => *gate = None,
                    Err(error) => return Err(error),
                }
            }
        }
        self.found = found;
        self.refresh_stacks(host)
    }

    /// SS in a TSS of 32 bits may change without notice, as may ESP, which the switcher reads for itself.
    fn refresh_stacks<H: Host>(&mut self, host: &mut H) -> Result<(), MmuError> {
        if self.long {
            return Ok(());
        }
        for slot in &mut self.found {
            let Some(gate) = slot else { continue };
            let mut raw = [0; 2];
            if host.read_ram(gate.pointer.add(4), &mut raw)? {
                gate.stack_segment = Selector(u16::from_le_bytes(raw));
            } else {
                *slot = None;
            }
        }
        Ok(())
    }

    /// The gate for a slot, if the guest has one there that leads to a handler, and its stack pointer. A is set in the entries that lead to
    /// both, as for a speculative use.
    fn find<H: Host>(
        &self,
        cpu: &VcpuState,
        mmu: &mut Mmu,
        host: &mut H,
        slot: usize,
    ) -> Result<Option<Gate>, MmuError> {
        let vector = if slot == EventLoan::PAGE_FAULT { Vector::PF.0 } else { self.vector };
        let bytes = if self.long { GATE_BYTES } else { GATE_BYTES / 2 };
        let offset = u64::from(vector).wrapping_mul(bytes);
        if offset + bytes > u64::from(self.idtr.limit) + 1 {
            return Ok(None);
        }
        let Some(at) = place(cpu, mmu, host, self.idtr.base.wrapping_add(offset), bytes)? else { return Ok(None) };
        let mut raw = [0; 16];
        if !raw.get_mut(..bytes as usize).map_or(Ok(false), |raw| host.read_ram(at, raw))? {
            return Ok(None);
        }
        let raw = u128::from_le_bytes(raw);
        let (low, high) = (raw as u64, (raw >> 64) as u64);
        let gate = Descriptor(low);
        let leads = !gate.is_code_or_data() && matches!(gate.kind(), INTERRUPT_GATE | TRAP_GATE) && gate.present();
        // What a program may call.
        let open = slot == EventLoan::PAGE_FAULT || gate.dpl() == 3;
        let selector = Selector((low >> 16) as u16);
        let handler = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
        if !leads || !open || selector.is_null() || selector.is_ldt() || !canonical(handler) {
            return Ok(None);
        }
        // SDM vol. 3 figure 7-11: RSP0, or one of seven others; figure 7-2: ESP0 and SS0.
        let pointer = match low >> 32 & 7 {
            n if self.long && n != 0 => 0x1c + n * POINTER_BYTES,
            _ => 4,
        };
        if pointer + POINTER_BYTES > u64::from(self.task.1) + 1 {
            return Ok(None);
        }
        let pointer = place(cpu, mmu, host, self.task.0.wrapping_add(pointer), POINTER_BYTES)?;
        let Some(pointer) = pointer else { return Ok(None) };
        let Backing::Ram { pfn, .. } = host.backing(pointer.frame())? else { return Ok(None) };
        let stack = (pfn.base().0, pointer.offset() as u64);
        let (disables, stack_segment) = (gate.kind() == INTERRUPT_GATE, Selector(0));
        Ok(Some(Gate { at, selector, handler, disables, stack, pointer, stack_segment }))
    }
}

/// Where `len` bytes of a table are, if the guest has them there, all on one page.
pub(crate) fn place<H: Host>(
    cpu: &VcpuState,
    mmu: &mut Mmu,
    host: &mut H,
    la: u64,
    len: u64,
) -> Result<Option<Gpa>, MmuError> {
    let la = linear(cpu, la);
    if !canonical(la) || la % PAGE_SIZE + len > PAGE_SIZE {
        return Ok(None);
    }
    match mmu.translate(host, cpu, Gva(la), TABLE_READ) {
        Ok(gpa) => Ok(Some(gpa)),
        Err(TranslateStop::Guest(_)) => Ok(None),
        Err(TranslateStop::Mmu(error)) => Err(error),
    }
}

/// What a gate loads, if that changes nothing in the GDT and leads to code of ring 0, as wide as the mode's; outside long mode to flat segments.
fn inner(segments: &DescriptorShadow, gate: &Gate) -> Option<Inner> {
    let is_long = segments.deprivileging().long;
    let selector = gate.selector.with_rpl(0);
    let code = segments.loaded(selector);
    let conforming = code.attrs & 4 != 0;
    let width = if is_long { code.long() && !code.db() } else { code.db() && !code.long() && code.flat() };
    let right = code.is_code() && !conforming && code.dpl() == 0 && width;
    if !right || !segments.reload_is_idle(&code) {
        return None;
    }
    if is_long {
        // SDM vol. 3 §6.14.4: a null selector with the new CPL.
        return Some(Inner { code, stack: Segment::null(Selector(0)) });
    }
    // SDM vol. 3 §6.12.1: RPL and DPL are the new CPL, or there is a fault.
    let selector = gate.stack_segment;
    let stack = segments.loaded(selector);
    let named = !selector.is_null() && !selector.is_ldt() && selector.rpl() == 0;
    let right = named && stack.writable() && stack.dpl() == 0 && stack.flat() && stack.db();
    (right && segments.reload_is_idle(&stack)).then_some(Inner { code, stack })
}

/// The virtual CPU as an event through `gate` leaves it, from a program, but for general registers, RIP and native flags.
fn enter_by(cpu: &mut VcpuState, inner: Inner, gate: &Gate) {
    syscall::program_flags(cpu);
    *cpu.segment_mut(SegReg::Cs) = inner.code;
    *cpu.segment_mut(SegReg::Ss) = inner.stack;
    cpu.cpl = 0;
    if gate.disables {
        cpu.rflags.remove(Rflags::IF);
    }
}

impl Vcpu {
    /// May events be lent? Not if the guest's tables may be written without anybody's telling.
    const fn reflects(&self) -> bool {
        self.options.tactics.contains(TacticSet::REFLECT) && self.options.coherent_client
    }

    /// Before events are lent, and before the roots are chosen: finds the gates again.
    ///
    /// # Errors
    /// Host failures.
    pub(crate) fn find_gates<H: Host>(&mut self, host: &mut H) -> Flow {
        if self.reflects() {
            let parts = &mut self.parts;
            parts.gates.refresh(&self.state, &mut parts.mmu, host)?;
        }
        Ok(())
    }

    /// Makes the virtual CPU that of the kernel behind an event that may be lent. False: there is none.
    pub(crate) fn turn_by_event(&mut self) -> bool {
        if !self.reflects() {
            return false;
        }
        let segments = &self.parts.segments;
        let gates = self.parts.gates.found.iter().flatten();
        let Some((gate, inner)) = gates.filter_map(|gate| Some((gate, inner(segments, gate)?))).next() else {
            return false;
        };
        enter_by(&mut self.state, inner, gate);
        self.state.rip = gate.handler;
        true
    }

    /// With a loan of turns both ways in `ctx`, and the virtual CPU that of the kernel behind one: lends events as well, in `loan`. Leaves CS, SS,
    /// CPL, RIP and flags of the virtual CPU as they come.
    pub(crate) fn lend_events(&mut self, mode: Mode, program_cs: Selector, ctx: &GuestContext, loan: &mut EventLoan) {
        if !self.reflects() || ctx.syscall.back == 0 {
            return;
        }
        let [_, stack] = ctx.syscall.descriptors;
        let Some(blocks) = self.parts.code.patch.delivery() else { return };
        loan.error_bits = (PageFaultCode::W | PageFaultCode::U).bits();
        loan.vector = self.parts.gates.vector.into();
        loan.flat_code = self.flat_code(mode, program_cs);
        loan.cr2 = self.state.cr2;
        // SDM vol. 3 §4.7: with NX only; the host's is always on.
        if self.state.efer.contains(Efer::NXE) && self.state.cr4.contains(Cr4::PAE) {
            loan.error_bits |= PageFaultCode::I.bits();
        }
        // What tells that a fault is the guest's own, without an exit.
        let told = self.parts.mmu.marks_absent() || self.options.tactics.contains(TacticSet::SERVE);
        for (n, (slot, block)) in loan.slots.iter_mut().zip(blocks).enumerate() {
            let gate = self.parts.gates.found.get(n).copied().flatten();
            let Some(gate) = gate.filter(|_| told || n != EventLoan::PAGE_FAULT) else { continue };
            let Some(inner) = inner(&self.parts.segments, &gate) else { continue };
            let (page, offset) = gate.stack;
            if loan.tss_page != 0 && loan.tss_page != page {
                continue;
            }
            enter_by(&mut self.state, inner, &gate);
            let [code, same_stack] = self.parts.segments.private_descriptors(&self.state);
            // One SS for all.
            if same_stack != stack {
                continue;
            }
            loan.tss_page = page;
            let words = PatchArea::words(&self.state, self.waits(), self.returns());
            let (handler, stack_segment) = (gate.handler, gate.stack_segment.0.into());
            *slot = EventSlot { block, handler, stack: offset, stack_segment, code, words, taken: 0 };
        }
    }

    /// A selector by which programs have flat 32-bit code: that of the program that is entered, or that of SYSRET. 0: none.
    pub(crate) fn flat_code(&self, mode: Mode, program_cs: Selector) -> u16 {
        let by_sysret = Selector((self.state.msrs.star >> 48) as u16 | 3);
        let held = (mode == Mode::User).then_some(program_cs);
        let flat = |selector: &Selector| {
            let segment = self.parts.segments.loaded(*selector);
            let right = segment.is_code() && segment.flat() && segment.dpl() == 3 && segment.db() && !segment.long();
            right && !selector.is_null() && selector.rpl() == 3 && self.parts.segments.reload_is_idle(&segment)
        };
        held.into_iter().chain([by_sysret]).find(flat).map_or(0, |selector| selector.0)
    }

    /// The virtual CPU behind the event of `slot`, the last turn of a stay; what its private code descriptor was.
    pub(crate) fn behind_event(&mut self, events: &EventLoan, slot: usize) -> u64 {
        let gate = self.parts.gates.found.get(slot).copied().flatten();
        if slot == EventLoan::SYSENTER {
            sysenter::turn(&mut self.state);
        } else if let Some((gate, inner)) = gate.and_then(|gate| Some((gate, inner(&self.parts.segments, &gate)?))) {
            enter_by(&mut self.state, inner, &gate);
        }
        events.slots.get(slot).map_or(0, |slot| slot.code)
    }

    /// A stay with events taken is over: what they leave behind.
    pub(crate) fn take_events(&mut self, ctx: &GuestContext, events: &EventLoan, undelivered: bool) {
        let [faults, interrupts, sysenters] = events.slots.map(|slot| slot.taken);
        self.parts.stats.add(Counter::SysenterTurn, sysenters);
        if faults == 0 && interrupts == 0 {
            return;
        }
        let undone = |slot: usize| u64::from(undelivered && ctx.syscall.kernel == EventLoan::BY_EVENT + slot as u16);
        let [faults, interrupts] = [(faults, EventLoan::PAGE_FAULT), (interrupts, EventLoan::INTERRUPT)]
            .map(|(n, slot)| n.saturating_sub(undone(slot)));
        let stats = &mut self.parts.stats;
        stats.add(Counter::Reflected, faults);
        stats.add(Counter::InterruptTurn, interrupts);
        let cr2 = if undelivered { events.cr2_before } else { events.cr2 };
        self.state.cr2 = linear(&self.state, cr2);
        if faults != 0 {
            let parts = &mut self.parts;
            parts.mmu.reflected(&mut parts.stats, &self.state, Gva(self.state.cr2), faults);
        }
    }

    /// Is the stay over before the event taken last had its frame? Then it has not happened.
    pub(crate) fn is_undelivered(&self, ctx: &GuestContext) -> bool {
        // SYSENTER has no frame.
        let by_gate = [EventLoan::PAGE_FAULT, EventLoan::INTERRUPT].map(|slot| EventLoan::BY_EVENT + slot as u16);
        by_gate.contains(&ctx.syscall.kernel) && self.parts.code.patch.delivers(ctx.rip)
    }

    /// Makes of such an exit that of the program's instruction, as which it is dealt with. The virtual CPU is the kernel's, and becomes
    /// the program's.
    // Rare, and off the frame of its caller.
    #[inline(never)]
    pub(crate) fn undo_event<H: Host>(
        &mut self,
        host: &mut H,
        exit: WorldExit,
        (ctx, before): (&mut GuestContext, &mut GuestContext),
        events: &EventLoan,
    ) -> Result<WorldExit, ClientExit> {
        self.parts.stats.count(Counter::EventsUndone);
        match exit {
            // What only the shadow lacked is there from now on; of anything else the delivery in software learns by itself.
            WorldExit::Exception(14) => {
                self.parts.stats.count(Counter::ExitPageFault);
                self.fault_outcome(host, Mode::Kernel, ctx)?;
            }
            WorldExit::HostInterrupt(_) => self.parts.stats.count(Counter::ExitInterrupt),
            WorldExit::Nmi | WorldExit::MachineCheck => self.parts.stats.count(Counter::ExitNmi),
            _ => self.parts.stats.count(Counter::ExitOther),
        }
        let EventFrame { vector, error, rip, cs, rflags, rsp, ss } = events.frame;
        syscall::program(&mut self.state, &self.parts.segments, [cs, ss].map(|selector| Selector(selector as u16)));
        // The kernel may have run in this stay, before it went back to the program.
        self.parts.code.patch.take_back_from_program(host, &mut self.state);
        (ctx.rip, ctx.rflags, ctx.gpr[rvmm_arch::regs::gpr::RSP]) = (rip, rflags, rsp);
        ctx.vector = vector.wrapping_add(STUB_VECTOR) as u32 & 0xff;
        ctx.error = error as u32;
        ctx.cr2 = events.cr2;
        for (reg, selector) in [(SegReg::Cs, cs), (SegReg::Ss, ss)] {
            *self.state.segment_mut(reg) = self.parts.segments.loaded(Selector(selector as u16));
            for ctx in [&mut *ctx, &mut *before] {
                if let Some(slot) = ctx.sel.get_mut(reg as usize) {
                    *slot = selector as u16;
                }
            }
        }
        self.env = plain(&self.state);
        Ok(WorldExit::Exception(ctx.vector as u8))
    }
}
