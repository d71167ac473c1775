//! What decisions see of the host: guest memory, host pages, and the world switch. rvmm-ko implements these traits; so
//! does the test host under `cargo test`.

use crate::addr::{Gfn, Gpa, Hpa, Pfn};
use crate::serve::Serve;
use crate::trace::{TraceEvent, TracePoint};

/// What stands behind a guest frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Guest RAM in a memslot, pinned.
    Ram {
        /// The host frame.
        pfn: Pfn,
        /// The memslot is read-only (KVM_MEM_READONLY): writes go to the client as MMIO.
        readonly: bool,
    },
    /// No memslot: an access is MMIO.
    Mmio,
}

/// A host failure, told to the client as an errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostError {
    /// No memory for the host's own pages (ENOMEM).
    NoMemory,
    /// The client's memory behind a memslot cannot be reached (EFAULT).
    BadClientMemory,
}

/// Guest-physical memory.
pub trait GuestMemory {
    /// What stands behind `gfn`. Pins the page on first use.
    ///
    /// # Errors
    /// The memslot's memory cannot be pinned.
    fn backing(&mut self, gfn: Gfn) -> Result<Backing, HostError>;

    /// Reads RAM; `gpa..gpa+len` must not cross a page. `Ok(false)`: not RAM, nothing was read.
    ///
    /// # Errors
    /// As for [`GuestMemory::backing`].
    fn read_ram(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<bool, HostError>;

    /// Writes RAM; must not cross a page. `Ok(false)`: not writable RAM, nothing was written.
    ///
    /// # Errors
    /// As for [`GuestMemory::backing`].
    fn write_ram(&mut self, gpa: Gpa, data: &[u8]) -> Result<bool, HostError>;

    /// Atomically replaces `size` (4 or 8) naturally aligned bytes if they still are `old`: how accessed and dirty bits
    /// are set. `Ok(false)`: they were not, or it is not writable RAM.
    ///
    /// # Errors
    /// As for [`GuestMemory::backing`].
    fn compare_exchange_ram(&mut self, gpa: Gpa, size: u8, old: u64, new: u64) -> Result<bool, HostError>;

    /// Is any of `count` frames from `first` on in a memslot? Pins nothing.
    fn has_memory(&mut self, first: Gfn, count: u64) -> bool;
}

/// A host page owned by the VM: shadow table, execution view, patch memory. Handles are given out by [`HostPages`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct HostPage(pub u32);

/// Allocation of and access to host pages. Never blocks for long, never panics; bounded by the VM's quota.
pub trait HostPages {
    /// A zeroed page.
    ///
    /// # Errors
    /// [`HostError::NoMemory`] when the host or the VM's quota has no page left.
    fn alloc_page(&mut self) -> Result<HostPage, HostError>;

    /// Gives a page back. It must not be mapped or referenced any more.
    fn free_page(&mut self, page: HostPage);

    /// The page's frame.
    fn pfn(&self, page: HostPage) -> Pfn;

    /// Entry `index` (0 to 511) of a table page; out-of-range reads give 0.
    fn read_entry(&self, page: HostPage, index: usize) -> u64;

    /// Sets entry `index` (0 to 511) of a table page in one store; out-of-range writes are ignored.
    fn write_entry(&mut self, page: HostPage, index: usize, value: u64);

    /// The bytes of a page.
    fn bytes(&mut self, page: HostPage) -> &mut [u8; 4096];
}

/// The table a shadow descriptor goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DescriptorTable {
    /// The shadow GDT.
    Gdt,
    /// The shadow LDT.
    Ldt,
}

/// The CPU state loaded on entry to the guest world and stored on exit from it. Everything is the *real* state: ring-1
/// selectors, real flags. `#[repr(C)]`: the switcher's assembly uses its offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct GuestContext {
    /// In and out: general-purpose registers in encoding order (RSP included).
    pub gpr: [u64; 16],
    /// In and out.
    pub rip: u64,
    /// In and out: the real RFLAGS (IF=1, IOPL=0 enforced by the switcher's glue on entry).
    pub rflags: u64,
    /// In and out: selectors ES, CS, SS, DS, FS, GS by [`crate::segment::SegReg`]. CS and SS must have RPL 1 or 3.
    pub sel: [u16; 6],
    /// In: load the shadow LDT (else LDTR is null).
    pub use_ldt: u16,
    /// In: which of ES, DS, FS and GS (bits 0 to 3) were lent their descriptors: once all are loaded, the present bits of these are
    /// cleared in the shadow tables, so that the guest runs with what was loaded but traps when it loads them itself.
    pub disarm: u16,
    /// In: host-physical address of the shadow root's top table.
    pub cr3: u64,
    /// In: guest-controlled bits of the real CR0 (MP, EM, TS, AM); the rest is the glue's.
    pub cr0: u64,
    /// In: the real CR4 wanted among the bits the glue lets through.
    pub cr4: u64,
    /// In: PKRU while in the guest world (ignored where CR4.PKE is not in `cr4`).
    pub pkru: u32,
    /// In: IA32_TSC_AUX while in the guest world, where `use_tsc_aux` is set.
    pub tsc_aux: u32,
    /// In: `tsc_aux` counts; else the host's stays.
    pub use_tsc_aux: u32,
    /// Out: the vector that ended the guest world's run.
    pub vector: u32,
    /// Out: its error code, or 0.
    pub error: u32,
    /// In: load `dr` and `dr7` (else DR7 is 0 in the guest world).
    pub use_debug: u32,
    /// In: XCR0 while in the guest world (ignored where CR4.OSXSAVE is not in `cr4`). Components that [`HostFeatures::xcr0`] does not have
    /// are refused.
    pub xcr0: u64,
    /// Out: CR2 (meaningful for #PF).
    pub cr2: u64,
    /// In: DR0 to DR3.
    pub dr: [u64; 4],
    /// In and out: DR6.
    pub dr6: u64,
    /// In: DR7.
    pub dr7: u64,
    /// In and out where `long` is set: base of FS, whatever its selector.
    pub fs_base: u64,
    /// In and out where `long` is set: base of GS.
    pub gs_base: u64,
    /// In: the guest is in long mode (EFER.LMA). FS and GS bases are loaded behind the selectors, CR4.PGE is off so that no
    /// global translation of the host's acts, and RIP may be any canonical address. Both rings must be 3.
    pub long: u32,
    /// Keeps the size a multiple of 8 bytes.
    pub reserved: u32,
    /// System calls, and returns from them, that need not end the stay.
    pub syscall: SyscallLoan,
}

/// What the switcher needs to carry out a SYSCALL of guest user code by itself: from the guest's program to the guest's kernel without
/// an exit, called a *turn*; and what it needs for the turn back, if that is lent too. Everything is real, as in [`GuestContext`].
///
/// Outside long mode SYSCALL stays off, and a turn to the kernel is made at an event ([`EventLoan`]); the rest is the same, but for the call
/// of a block's, which is an INT [`CALL_VECTOR`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SyscallLoan {
    /// In: host-physical address of the shadow root for the guest's kernel.
    pub cr3: u64,
    /// In: CR4 for the guest's kernel, as in [`GuestContext::cr4`].
    pub cr4: u64,
    /// In: where its code goes on: the guest's LSTAR, canonical.
    pub rip: u64,
    /// In: the guest's SFMASK.
    pub sfmask: u64,
    /// In: selectors of the kernel's CS and SS, in the shadow GDT and with the RPL of its ring.
    pub sel: [u16; 2],
    /// In: something is lent. In long mode EFER.SCE is on in the guest world, as it is for the guest. Else it is off, and SYSCALL is #UD.
    pub on: u16,
    /// Out: a data breakpoint was met right before the SYSCALL that ended the stay ([`WorldExit::Syscall`]), and DR6 tells which.
    pub debug: u16,
    /// In: what these selectors' entries are to be once the kernel runs. Before, they are not present.
    pub descriptors: [u64; 2],
    /// Out: turns made.
    pub turns: u64,
    /// In and out: whether the guest's kernel runs, at the entry and at the exit; from [`EventLoan::BY_EVENT`] on, by which event.
    pub kernel: u16,
    /// In: the kernel may go back to its program by a call of a block's ([`BlockCall`]), and the program to its kernel again, and so on.
    pub back: u16,
    /// In, as all that follows, where `back` is set: selectors of the program's CS and SS, in the shadow GDT. CS is of 64-bit code.
    pub program_sel: [u16; 2],
    /// Selector of the flat 32-bit code of a program in compatibility mode, likewise, to which the kernel may go back as well; 0: none.
    pub compat_cs: u16,
    /// In: a SYSCALL of compatibility code is a turn, too.
    pub compat: u16,
    /// In: a SYSEXIT to 32-bit code is a turn back, too: it loads the selectors lent for such code, with what their entries are.
    pub sysexit: u16,
    /// In: where the kernel goes on behind such a one: the guest's CSTAR, canonical.
    pub compat_rip: u64,
    /// Host-physical address of the shadow root for the program.
    pub program_cr3: u64,
    /// CR4 for the program.
    pub program_cr4: u64,
    /// Where the code of blocks is, first address and length: only a SYSCALL (outside long mode: an INT) from there is a call.
    pub blocks: [u64; 2],
    /// Host-physical address of the vCPU page, which the guest's kernel can write.
    pub vcpu_page: u64,
    /// What the kernel finds in its first words after a turn.
    pub words: [u64; VCPU_WORDS],
    /// Out: turns back made.
    pub returns: u64,
}

/// What the switcher needs to bring an event of a guest program to the guest kernel's handler by itself: a *turn* as at SYSCALL
/// ([`SyscallLoan`] has roots, CR4, selectors and the stack segment), to a block at the kernel's ring that pushes the frame natively and
/// jumps to the handler. So whatever is the matter with that stack is a fault of the kernel's ring, and ends the stay
/// there: the engine goes back to the program's instruction.
///
/// SYSENTER is one of them: while IA32_SYSENTER_CS is 0 it is #GP(0), or #UD on AMD's CPUs in long mode. It pushes nothing, so its turn leads
/// to the kernel's own entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EventLoan {
    /// In: the handlers, and out: how often they were taken. By [`EventLoan::PAGE_FAULT`], [`EventLoan::INTERRUPT`] and
    /// [`EventLoan::SYSENTER`].
    pub slots: [EventSlot; 3],
    /// In: host-physical address of the page of the guest's TSS that holds the stack pointers, for slots 0 and 1. It is read only.
    pub tss_page: u64,
    /// In: the bits of a hardware page fault's error code that the guest sees.
    pub error_bits: u32,
    /// In: the vector of the INT n that is lent.
    pub vector: u16,
    /// In: the selector of flat 32-bit code, by which an INT n or a SYSENTER may come as well as by that of the program in [`SyscallLoan`];
    /// or 0.
    pub flat_code: u16,
    /// In and out: the guest's CR2.
    pub cr2: u64,
    /// Out: CR2 before the event taken last.
    pub cr2_before: u64,
    /// Out: what the program was at the event taken last.
    pub frame: EventFrame,
}

impl EventLoan {
    /// The slot of a page fault that the shadow tables mark as the guest's own.
    pub const PAGE_FAULT: usize = 0;
    /// The slot of an INT n.
    pub const INTERRUPT: usize = 1;
    /// The slot of a SYSENTER.
    pub const SYSENTER: usize = 2;
    /// In [`SyscallLoan::kernel`] where the guest's kernel runs by the event of slot 0; of slot 1: one more, and so on.
    pub const BY_EVENT: u16 = 2;
}

/// One handler that is lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EventSlot {
    /// In: where the block is that pushes the frame; of SYSENTER the kernel's entry. 0: the event is not lent.
    pub block: u64,
    /// In: the handler. Not of SYSENTER.
    pub handler: u64,
    /// In: the offset of the stack pointer in the page of the TSS; outside long mode SS is behind it (SDM vol. 3 figure 8-2). Of SYSENTER the
    /// stack pointer.
    pub stack: u64,
    /// In: outside long mode, that SS; with another one there the event ends the stay.
    pub stack_segment: u64,
    /// In: what the entry of the kernel's CS is to be once the handler runs.
    pub code: u64,
    /// In: what the handler finds in the first words of the vCPU page.
    pub words: [u64; VCPU_WORDS],
    /// Out: events taken.
    pub taken: u64,
}

/// What the CPU pushed for an exit that became an event of the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EventFrame {
    /// Vector, sign-extended from what a stub has pushed: less 128.
    pub vector: u64,
    /// The error code, of the hardware.
    pub error: u64,
    /// The program's RIP.
    pub rip: u64,
    /// Its CS.
    pub cs: u64,
    /// Its flags.
    pub rflags: u64,
    /// Its RSP.
    pub rsp: u64,
    /// Its SS.
    pub ss: u64,
}

/// Where the guest's CR2 is in the vCPU page.
pub const VCPU_CR2: usize = 40;

/// Where the words of an event are in the vCPU page: in the order in which the block uses them.
pub const BLOCK_EVENT: usize = 176;

/// The words of the frame that a block pushes, in this order, and where it jumps then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct BlockEvent {
    /// SS.
    pub ss: u64,
    /// RSP.
    pub rsp: u64,
    /// The flags.
    pub flags: u64,
    /// CS.
    pub cs: u64,
    /// RIP.
    pub rip: u64,
    /// The error code, where the event has one.
    pub error: u64,
    /// The handler.
    pub handler: u64,
}

/// Where the kernel's virtual IF is in the vCPU page, a double word: 0, or IF in its place.
pub const VCPU_IF: usize = 0;

/// Where its other virtual flags are, IOPL and AC in their places: a double word as well.
pub const VCPU_FLAGS: usize = 8;

/// Words at the beginning of the vCPU page that a turn to the kernel sets.
pub const VCPU_WORDS: usize = 4;

/// The vector of the INT n by which blocks of 32-bit code call ring 0: one that is reserved (SDM vol. 3 table 6-1), so that no guest means it.
/// Like that of every INT n but INT 3 its gate has DPL 0, so it arrives as #GP.
pub const CALL_VECTOR: u8 = 15;

/// The error code of that #GP: the vector, and IDT (SDM vol. 3 figure 6-7).
pub const CALL_ERROR: u32 = (CALL_VECTOR as u32) << 3 | 2;

/// Where a [`BlockCall`] is in the vCPU page.
pub const BLOCK_CALL: usize = 120;

/// A return to the guest's program that a block asks for, as it stands in the vCPU page: the guest's to write. 32-bit blocks use the lower halves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct BlockCall {
    /// Where the program goes on.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// No part of the call.
    pub unused: u64,
    /// Its RCX.
    pub rcx: u64,
    /// Its R11.
    pub r11: u64,
    /// Its flags. Not of SYSEXIT, which leaves the kernel's.
    pub flags: u64,
    /// One of [`BlockCall::BY_SYSRETQ`] and the others; the upper half does not count.
    pub kind: u64,
}

impl BlockCall {
    /// The return is a SYSRET to 64-bit code.
    pub const BY_SYSRETQ: u32 = 1;
    /// An IRETQ to 64-bit code, or an IRETD of 32-bit code.
    pub const BY_IRETQ: u32 = 2;
    /// A SYSRET to compatibility code, of whose RIP the lower half counts.
    pub const BY_SYSRETL: u32 = 3;
    /// An IRETQ to compatibility code.
    pub const BY_IRETQ_COMPAT: u32 = 4;
    /// A SYSEXIT to 32-bit code, of whose RIP and RSP the lower halves count.
    pub const BY_SYSEXIT: u32 = 5;
}

/// Why the guest world was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorldExit {
    /// An exception with this vector (0 to 31); details are in the context.
    Exception(u8),
    /// A host interrupt, already handled by the host.
    HostInterrupt(u8),
    /// An NMI, already handled by the host.
    Nmi,
    /// A machine check, already handled by the host.
    MachineCheck,
    /// A SYSCALL that is more than a turn: it has been executed as far as RCX and R11 go, RIP is behind it, the flags are those before
    /// it. By 64-bit code, or by compatibility code.
    Syscall(SyscallFrom),
    /// The switcher refused or a fault hit it (bad context, fault on its own IRET): the guest must be stopped. The code
    /// is for the report.
    Refused(u32),
}

/// Which code has executed a SYSCALL: it goes to LSTAR or to CSTAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyscallFrom {
    /// 64-bit code.
    Long,
    /// Compatibility code.
    Compatibility,
}

/// Which code can execute SYSCALL on the host's CPU in long mode, and so what the guest can be lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyscallSupport {
    /// None: the MSRs cannot be had.
    #[default]
    None,
    /// 64-bit code (Intel).
    Long,
    /// Compatibility code as well (AMD).
    Compatibility,
}

/// What the host CPU offers and the module uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostFeatures {
    /// Levels of the host's page tables: 4 or 5.
    pub paging_levels: u8,
    /// Physical address width, bits.
    pub physical_bits: u8,
    /// Index of the VMM area's entry in the top-level table, and the entry.
    pub vmm_slot: (u16, u64),
    /// Protection keys for user pages.
    pub pku: bool,
    /// SMAP.
    pub smap: bool,
    /// UMIP.
    pub umip: bool,
    /// RDFSBASE and the like.
    pub fsgsbase: bool,
    /// RDTSCP, and with it IA32_TSC_AUX.
    pub tsc_aux: bool,
    /// Components that the guest's XCR0 may have; 0: no XSAVE.
    pub xcr0: u64,
    /// SYSCALL.
    pub syscall: SyscallSupport,
    /// A bit of page-table entries that stands for a physical address beyond what the CPU has, and of which the CPU says so in the error
    /// code of the page fault; 0: there is none.
    pub reserved_bit: u64,
    /// The TSC runs at a constant rate.
    pub constant_tsc: bool,
}

impl HostFeatures {
    /// Can execution views be kept from the reads of a guest kernel in this ring? Protection keys act in every ring, SMAP in rings 0
    /// to 2 (SDM vol. 3 §4.6).
    #[must_use]
    pub const fn hides_views(&self, kernel_ring: u8) -> bool {
        self.pku || (self.smap && kernel_ring != 3)
    }
}

/// The host as the engine sees it, for one virtual CPU.
pub trait Host: GuestMemory + HostPages {
    /// What the CPU offers.
    fn features(&self) -> HostFeatures;

    /// The guest is in long mode from now on, or no longer: whether descriptors with L=1 (of DPL 3) may stand in the shadow
    /// tables. Switching it off makes those that do not present.
    fn set_long_mode(&mut self, on: bool);

    /// Sets an entry of the shadow GDT or LDT. Refused (`false`) for descriptors that must never reach the hardware:
    /// DPL 0, system types, L=1 outside long mode, in long mode any DPL but 3, or an index of the VMM's own.
    fn set_descriptor(&mut self, table: DescriptorTable, index: u16, raw: u64) -> bool;

    /// The shadow entry last set.
    fn descriptor(&self, table: DescriptorTable, index: u16) -> u64;

    /// Enters the guest world and comes back at the next exit. The guest's FPU state is live inside. `events`: those of the guest's programs
    /// that need not end the stay; only with [`GuestContext::syscall`] lent both ways. `serve`: who is asked about page faults before they end
    /// it.
    fn enter(
        &mut self,
        ctx: &mut GuestContext,
        events: Option<&mut EventLoan>,
        serve: Option<&mut dyn Serve>,
    ) -> WorldExit;

    /// Must the run loop return to the client (signal pending, immediate_exit)? Also the place to reschedule.
    fn should_return(&mut self) -> bool;

    /// The host's time-stamp counter.
    fn tsc(&self) -> u64;

    /// Adds a line to the VM's report (the last error, a verify difference), for the client and the log.
    fn report(&mut self, line: core::fmt::Arguments<'_>);

    /// Does anybody listen at this tracepoint? Asked all the time ([`crate::trace!`]), so it must cost next to
    /// nothing.
    #[inline]
    fn traces(&self, _point: TracePoint) -> bool {
        false
    }

    /// Shows an event to those who listen.
    fn trace(&mut self, _event: &TraceEvent) {}

    /// The host-physical address of a page, for building tables.
    fn hpa(&self, page: HostPage) -> Hpa {
        self.pfn(page).base()
    }
}
