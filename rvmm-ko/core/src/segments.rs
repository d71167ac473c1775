//! Tour 7/22, next: `rvmm-ko/switch/enter.rs`.
//! Descriptor shadowing: the GDT and LDT the CPU really uses while guest code runs.
//!
//! Shadow entry i stands for guest entry i, so selectors keep their values. DPL 0 becomes 1, where the guest's kernel runs
//! in ring 1; what must not reach the hardware (system descriptors), what needs work at its first load (the accessed bit
//! clear), and, where the kernel runs in ring 3 like its programs, what programs must not load (DPL 0 to 2)
//! is not present in the shadow, so that loading it traps and the interpreter does the load on the guest's own table.
//!
//! The guest's tables are write-tracked by frame; a write brings the entries up to date. The CPU's hidden descriptor
//! caches do not change with the table, but a world switch reloads them: so where a register's hidden part is not what its
//! selector now names (a *stale* segment: loaded by a boot loader, in real mode, or before the table was written), the
//! entry holds the hidden part for the one load by the switcher and is not present afterwards. A table that shares its page
//! with hot data is not followed at all, and every load from it traps. CS and SS of guest-kernel code, whose real values
//! the guest never sees, are loaded from entries of rvmm's own.

use alloc::vec::Vec;

use rvmm_arch::host::{DescriptorTable, Host, HostError};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::segment::{CpuMode, Descriptor, SegReg, Segment, Selector, TableRegister};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gfn, Gpa, Gva, VcpuState, PAGE_SIZE};
use rvmm_mmu::{Mmu, MmuError, Reason};

use crate::direct::{Deprivileging, Mode};

/// How the CPU reads descriptor tables.
const TABLE_READ: Access = Access { kind: AccessKind::Read, privilege: Privilege::Implicit };

/// Entries of the largest table.
const ENTRIES: usize = 8192;
/// Pages that the largest table may touch when it is not page-aligned.
const PAGES: usize = 17;

/// The entries of the guest kernel's CS and SS, which it can never read: just below the VMM's own.
pub const PRIVATE_CS: u16 = 8174;
/// See [`PRIVATE_CS`].
pub const PRIVATE_SS: u16 = 8175;
/// The registers that guest code loads natively.
pub(crate) const DATA: [SegReg; 4] = [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs];
/// Writes beside a table, in its pages, after which it is no longer followed until user code runs again; at first, and at least. One that lies
/// among hot data (xv6's, beside what each of its locks counts) is given up earlier each time.
const IDLE_WRITES: u32 = 256;
const FEWEST_IDLE_WRITES: u32 = 8;

/// Which entries a synchronisation writes to the shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sync {
    /// Those that differ from the last time.
    Changed,
    /// All.
    Force,
}

/// A base-0 stack segment of 4 GiB, ring 0.
const FLAT_STACK: Descriptor = Descriptor(0x00cf_9300_0000_ffff);

/// What the hardware gets for a guest descriptor.
#[must_use]
pub fn shadow_of(guest: Descriptor, deprivileging: Deprivileging) -> u64 {
    if !guest.is_code_or_data() {
        return 0;
    }
    let Deprivileging { kernel_ring, long } = deprivileging;
    let hidden = if kernel_ring == 3 { guest.dpl() != 3 } else { false };
    // Programs may look at what they may not load: LAR, LSL, VERR and VERW find a segment that is not present like any other, so
    // one that they must not find is none at all. A conforming one they would find.
    if hidden && !(guest.is_code() && guest.is_conforming()) {
        return 0;
    }
    let lowered = if guest.dpl() < kernel_ring { guest.with_dpl(kernel_ring) } else { guest };
    // Outside long mode the CPU that the guest sees ignores the L bit; the host's CPU would not. In it, L together with D is
    // reserved, and loading such a descriptor faults (SDM vol. 3 §5.2.1).
    let long = long
        && lowered.is_code()
        && lowered.0 & (Descriptor::LONG | Descriptor::DB) != Descriptor::LONG | Descriptor::DB;
    let shadow = (lowered.0 | Descriptor::ACCESSED) & if long { u64::MAX } else { !Descriptor::LONG };
    if hidden || guest.0 & Descriptor::ACCESSED == 0 {
        shadow & !Descriptor::PRESENT
    } else {
        shadow
    }
}

/// Is there a shadow of this entry? Index 0 of the GDT is the null descriptor; the last ones are rvmm's, and loads of them trap.
const fn shadowed(which: DescriptorTable, index: u16) -> bool {
    matches!(which, DescriptorTable::Ldt) || (index != 0 && index < PRIVATE_CS)
}

/// The guest world of a CPU just reset, under the first model.
const RESET: Deprivileging = Deprivileging { kernel_ring: 1, long: false };

/// One table of the guest.
#[derive(Debug)]
struct Table {
    which: DescriptorTable,
    /// The guest's entries as of the last synchronisation; empty until first used.
    guest: Vec<u64>,
    /// Behind the last of them that may not be 0.
    used: u16,
    /// Where the guest has it; `None`: no table.
    at: Option<TableRegister>,
    /// Frames of the pages it touches, in order; `None`: not mapped by the guest.
    frames: [Option<Gfn>; PAGES],
    /// Its pages are write-tracked and the shadow is kept equal.
    follow: bool,
    /// Writes to its pages, but not to it, since it is followed.
    idle_writes: u32,
    /// How many of them it is followed for.
    patience: u32,
    /// For whom its entries are.
    deprivileging: Deprivileging,
}

/// Both shadow tables.
#[derive(Debug)]
pub struct DescriptorShadow {
    gdt: Table,
    ldt: Table,
    /// Selectors whose entries are present in the shadow for one load only.
    lent: [Selector; 4],
    /// What the private entries of CS and SS hold.
    private: [u64; 2],
}

impl Table {
    fn new(which: DescriptorTable) -> Result<Self, HostError> {
        let mut guest = Vec::new();
        guest.try_reserve_exact(ENTRIES).map_err(|_| HostError::NoMemory)?;
        guest.resize(ENTRIES, 0);
        Ok(Self {
            which,
            guest,
            used: 0,
            at: None,
            frames: [None; PAGES],
            follow: true,
            idle_writes: 0,
            patience: IDLE_WRITES,
            deprivileging: RESET,
        })
    }

    /// Half of it, but no less than reading the table again costs.
    fn next_patience(&self) -> u32 {
        let entries = self.at.map_or(0, |at| u32::from(at.limit) / 8);
        (self.patience / 2).max(FEWEST_IDLE_WRITES.saturating_add(entries / 32))
    }

    fn entry(&self, index: u16) -> Descriptor {
        Descriptor(self.guest.get(usize::from(index)).copied().unwrap_or(0))
    }

    fn pages(&self, at: TableRegister) -> impl Iterator<Item = Gva> {
        let first = at.base & !(PAGE_SIZE - 1);
        let last = at.base.wrapping_add(u64::from(at.limit)) & !(PAGE_SIZE - 1);
        let count = (last.wrapping_sub(first) / PAGE_SIZE + 1).min(PAGES as u64);
        let width = if self.deprivileging.long { u64::MAX } else { 0xffff_ffff };
        (0..count).map(move |i| Gva(first.wrapping_add(i * PAGE_SIZE) & width))
    }

    /// Finds the table's frames anew; true if any differs from before.
    fn locate<H: Host>(&mut self, cpu: &VcpuState, mmu: &mut Mmu, host: &mut H) -> Result<bool, MmuError> {
        let mut frames = [None; PAGES];
        if let Some(at) = self.at {
            for (slot, page) in frames.iter_mut().zip(self.pages(at)) {
                *slot = mmu.peek(host, cpu, page, TABLE_READ)?.ok().map(Gpa::frame);
            }
        }
        if frames == self.frames {
            return Ok(false);
        }
        for gfn in self.frames.iter().flatten() {
            mmu.untrack(*gfn, Reason::Descriptor);
        }
        for gfn in frames.iter().flatten() {
            mmu.track(host, *gfn, Reason::Descriptor)?;
        }
        self.frames = frames;
        Ok(true)
    }

    /// Guest-physical address of entry `index`'s byte `byte`, if the table has it.
    fn gpa_of(&self, index: u16, byte: u64) -> Option<Gpa> {
        let at = self.at?;
        let offset = u64::from(index) * 8 + byte;
        if u64::from(index) * 8 + 7 > u64::from(at.limit) {
            return None;
        }
        let page = (at.base & (PAGE_SIZE - 1)) + offset;
        let gfn = (*self.frames.get((page / PAGE_SIZE) as usize)?)?;
        Some(gfn.base().add(page % PAGE_SIZE))
    }

    fn read_entry<H: Host>(&self, index: u16, host: &mut H) -> Result<u64, HostError> {
        let mut raw = [0; 8];
        let Some(first) = self.gpa_of(index, 0) else { return Ok(0) };
        if first.offset() <= PAGE_SIZE as usize - 8 {
            if !host.read_ram(first, &mut raw)? {
                return Ok(0);
            }
        } else {
            for (i, byte) in raw.iter_mut().enumerate() {
                let Some(gpa) = self.gpa_of(index, i as u64) else { return Ok(0) };
                if !host.read_ram(gpa, core::slice::from_mut(byte))? {
                    return Ok(0);
                }
            }
        }
        Ok(u64::from_le_bytes(raw))
    }

    fn sync_entry<H: Host>(
        &mut self,
        index: u16,
        host: &mut H,
        stats: &mut Stats,
        sync: Sync,
    ) -> Result<(), HostError> {
        let raw = self.read_entry(index, host)?;
        let Some(slot) = self.guest.get_mut(usize::from(index)) else { return Ok(()) };
        if *slot != raw || sync == Sync::Force {
            *slot = raw;
            self.used = self.used.max(index.saturating_add(1));
            stats.count(Counter::DescriptorSyncs);
            if shadowed(self.which, index) {
                let _refused = host.set_descriptor(self.which, index, shadow_of(Descriptor(raw), self.deprivileging));
            }
        }
        Ok(())
    }

    fn sync_all<H: Host>(&mut self, host: &mut H, stats: &mut Stats, sync: Sync) -> Result<(), HostError> {
        let limit = self.at.map_or(0, |at| at.limit / 8 + 1);
        for index in 0..limit.max(self.used).min(ENTRIES as u16) {
            let inside = self.at.is_some_and(|at| u64::from(index) * 8 + 7 <= u64::from(at.limit));
            if inside || self.guest.get(usize::from(index)).is_some_and(|e| *e != 0) {
                self.sync_entry(index, host, stats, sync)?;
            }
        }
        Ok(())
    }

    /// Brings the entries that overlap a guest-physical write up to date.
    fn wrote<H: Host>(&mut self, gpa: Gpa, len: u64, host: &mut H, stats: &mut Stats) -> Result<(), HostError> {
        let Some(at) = self.at else { return Ok(()) };
        let (mut near, mut inside) = (false, false);
        let start = at.base & (PAGE_SIZE - 1);
        for page in 0..PAGES {
            if self.frames.get(page).copied().flatten() != Some(gpa.frame()) {
                continue;
            }
            near = true;
            // Offset in the table of the first byte written, and of the last.
            let here = page as u64 * PAGE_SIZE + gpa.offset() as u64;
            let first = here.saturating_sub(start) / 8;
            let last = (here + len).saturating_sub(start + 1) / 8;
            if here + len <= start {
                continue;
            }
            let end = u64::from(at.limit) / 8;
            inside |= first <= end;
            for index in first..=last.min(end).min(ENTRIES as u64 - 1) {
                self.sync_entry(index as u16, host, stats, Sync::Changed)?;
            }
        }
        // A write beside the table; one to it may store what is there already (Linux' TLS entries at each task switch).
        if near && !inside {
            self.idle_writes = self.idle_writes.saturating_add(1);
        }
        Ok(())
    }
}

impl DescriptorShadow {
    /// Empty tables.
    ///
    /// # Errors
    /// [`HostError::NoMemory`].
    pub fn new() -> Result<Self, HostError> {
        Ok(Self {
            gdt: Table::new(DescriptorTable::Gdt)?,
            ldt: Table::new(DescriptorTable::Ldt)?,
            lent: [Selector(0); 4],
            private: [0; 2],
        })
    }

    /// For which guest world the tables are.
    #[must_use]
    pub fn deprivileging(&self) -> Deprivileging {
        self.gdt.deprivileging
    }

    /// The guest has entered or left long mode, or starts out in another model: all entries mean something else.
    ///
    /// # Errors
    /// Host failures.
    pub fn deprivilege<H: Host>(
        &mut self,
        deprivileging: Deprivileging,
        host: &mut H,
        stats: &mut Stats,
    ) -> Result<(), HostError> {
        if self.deprivileging() == deprivileging {
            return Ok(());
        }
        host.set_long_mode(deprivileging.long);
        self.private = [0; 2];
        for table in [&mut self.gdt, &mut self.ldt] {
            table.deprivileging = deprivileging;
            if table.follow {
                table.sync_all(host, stats, Sync::Force)?;
            }
        }
        Ok(())
    }

    fn table(&self, selector: Selector) -> &Table {
        if selector.is_ldt() {
            &self.ldt
        } else {
            &self.gdt
        }
    }

    /// The guest loaded GDTR or LDTR, or its translation may have changed.
    ///
    /// # Errors
    /// Host failures.
    pub fn relocate<H: Host>(
        &mut self,
        cpu: &VcpuState,
        mmu: &mut Mmu,
        host: &mut H,
        stats: &mut Stats,
    ) -> Result<(), MmuError> {
        let ldtr = &cpu.ldtr;
        // A reset leaves a null selector with 64 KiB from 0 on (SDM vol. 3 table 10-1). Whoever loads from there traps: to follow it would
        // make a tracked write of every one to the memory that boot code lives in.
        let followed = ldtr.usable() && !ldtr.selector.is_null();
        let ldt = followed.then_some(TableRegister { base: ldtr.base, limit: ldtr.limit.min(0xffff) as u16 });
        for (table, at) in [(&mut self.gdt, Some(cpu.gdtr)), (&mut self.ldt, ldt)] {
            let moved = table.at != at;
            table.at = at;
            if moved {
                table.follow = true;
                table.idle_writes = 0;
                table.patience = IDLE_WRITES;
            }
            if table.follow && (table.locate(cpu, mmu, host)? || moved) {
                table.sync_all(host, stats, Sync::Changed).map_err(MmuError::Host)?;
            }
        }
        Ok(())
    }

    /// Guest memory was written, nobody knows where, or the memory behind the tables has been exchanged.
    ///
    /// # Errors
    /// Host failures.
    pub fn read_again<H: Host>(&mut self, host: &mut H, stats: &mut Stats) -> Result<(), HostError> {
        for table in [&mut self.gdt, &mut self.ldt].into_iter().filter(|table| table.follow) {
            table.sync_all(host, stats, Sync::Changed)?;
        }
        Ok(())
    }

    /// Guest memory was written (`len` bytes within one page).
    ///
    /// # Errors
    /// Host failures.
    pub fn wrote<H: Host>(&mut self, gpa: Gpa, len: u64, host: &mut H, stats: &mut Stats) -> Result<(), HostError> {
        self.gdt.wrote(gpa, len, host, stats)?;
        self.ldt.wrote(gpa, len, host, stats)
    }

    /// The hidden part that a native load of `selector` has just given: what the guest's table says.
    #[must_use]
    pub fn loaded(&self, selector: Selector) -> Segment {
        if selector.is_null() {
            Segment::null(selector)
        } else {
            Segment::from_descriptor(selector, self.table(selector).entry(selector.index()))
        }
    }

    /// Would loading this register from the synchronised table give the hidden part that the guest runs with?
    #[must_use]
    pub fn matches(&self, reg: SegReg, segment: &Segment) -> bool {
        if segment.selector.is_null() {
            return !segment.usable();
        }
        let table = self.table(segment.selector);
        let entry = table.entry(segment.selector.index());
        let loaded = Segment::from_descriptor(segment.selector, entry);
        table.follow
            && shadowed(table.which, segment.selector.index())
            && shadow_of(entry, table.deprivileging) & Descriptor::PRESENT != 0
            && self.hidden(reg, &loaded) == self.hidden(reg, segment)
    }

    /// Does a data register get what it holds from the shadow table as it is? One that a program could not load itself may be left to it all the same, by
    /// a SYSEXIT; but the entry of a program is an IRETQ to an outer ring, which makes it null.
    fn stands(&self, reg: SegReg, segment: &Segment, mode: Mode) -> bool {
        let conforming = segment.is_code() && segment.to_descriptor().is_conforming();
        let kept = mode == Mode::Kernel || segment.selector.is_null() || segment.dpl() == 3 || conforming;
        kept && self.matches(reg, segment)
    }

    /// Would the guest's own load of what this register holds change nothing, neither the register nor the table? Told from the
    /// guest's table as it was tracked, whatever the shadow shows of it; where it is not tracked, it is not known.
    #[must_use]
    pub fn reload_is_idle(&self, segment: &Segment) -> bool {
        if segment.selector.is_null() {
            return !segment.usable();
        }
        let table = self.table(segment.selector);
        let entry = table.entry(segment.selector.index());
        let ready = Descriptor::PRESENT | Descriptor::ACCESSED;
        table.follow && entry.0 & ready == ready && Segment::from_descriptor(segment.selector, entry) == *segment
    }

    /// The hidden part as far as loading the selector decides it: in long mode the bases of FS and GS are MSRs, which the switcher
    /// loads behind it.
    fn hidden(&self, reg: SegReg, segment: &Segment) -> (u64, u32, u16) {
        let by_msr = self.deprivileging().long && matches!(reg, SegReg::Fs | SegReg::Gs);
        (if by_msr { 0 } else { segment.base }, segment.limit, segment.attrs)
    }

    /// Can the registers be loaded from shadow tables at all, be it from entries lent for the purpose?
    #[must_use]
    pub fn loadable(&self, cpu: &VcpuState, mode: Mode) -> bool {
        let fixed = match mode {
            // Kernel code never sees the real CS and SS: they have entries of their own.
            Mode::Kernel => return DATA.iter().all(|reg| self.lendable(cpu, *reg)),
            Mode::User => [SegReg::Cs, SegReg::Ss],
        };
        fixed.iter().all(|reg| self.matches(*reg, cpu.segment(*reg)))
            && DATA.iter().filter(|reg| !self.stands(**reg, cpu.segment(**reg), mode)).all(|reg| {
                let selector = cpu.segment(*reg).selector;
                let shared = fixed.iter().any(|f| cpu.segment(*f).selector.0 | 3 == selector.0 | 3);
                !shared && self.lendable(cpu, *reg)
            })
    }

    /// Can this register's hidden part stand in the entry of its selector while it is loaded?
    fn lendable(&self, cpu: &VcpuState, reg: SegReg) -> bool {
        let segment = cpu.segment(reg);
        if segment.selector.is_null() {
            return !segment.usable();
        }
        let clash = DATA.iter().any(|other| {
            cpu.segment(*other).selector.0 | 3 == segment.selector.0 | 3
                && self.hidden(*other, cpu.segment(*other)) != self.hidden(reg, segment)
        });
        segment.usable() && segment.readable() && !clash && segment.selector.index() < PRIVATE_CS
    }

    /// What the private entries of CS and SS are while the kernel that `cpu` is in runs.
    #[must_use]
    pub fn private_descriptors(&self, cpu: &VcpuState) -> [u64; 2] {
        let deprivileging = self.deprivileging();
        [SegReg::Cs, SegReg::Ss].map(|reg| {
            // In 64-bit mode SS may hold anything, a null selector included, and none of it acts; at the real ring it may not.
            let guest = match reg {
                SegReg::Ss if cpu.mode() == CpuMode::Long => FLAT_STACK,
                _ => cpu.segment(reg).to_descriptor(),
            };
            let dpl = guest.dpl().max(deprivileging.kernel_ring);
            shadow_of(Descriptor(guest.with_dpl(dpl).0 | Descriptor::ACCESSED), deprivileging)
        })
    }

    /// The switcher has set the private entries.
    pub fn privates_are(&mut self, raw: [u64; 2]) {
        self.private = raw;
    }

    /// Makes the shadow tables ready for an entry; what [`GuestContext::disarm`](rvmm_arch::host::GuestContext::disarm) must be:
    /// the data segments for which what they hold is good for one load only.
    pub fn prepare<H: Host>(&mut self, cpu: &VcpuState, mode: Mode, host: &mut H) -> u16 {
        let deprivileging = self.deprivileging();
        let private = match mode {
            Mode::Kernel => self.private_descriptors(cpu),
            // A program could load them where the kernel runs in its ring, or is on a conforming segment.
            Mode::User => [0; 2],
        };
        for ((index, slot), raw) in [(PRIVATE_CS, 0), (PRIVATE_SS, 1)].into_iter().zip(private) {
            if let Some(known) = self.private.get_mut(slot).filter(|known| **known != raw) {
                *known = raw;
                let _refused = host.set_descriptor(DescriptorTable::Gdt, index, raw);
            }
        }
        let mut disarm = 0;
        for (reg, slot) in DATA.into_iter().zip(0..) {
            let segment = cpu.segment(reg);
            // The others keep their entries, which CS or SS may be loaded from as well.
            if segment.selector.is_null() || self.stands(reg, segment, mode) {
                continue;
            }
            disarm |= 1 << slot;
            // DPL 3 takes any RPL, and a data segment's DPL has no effect once it is loaded.
            let raw = segment.to_descriptor().with_dpl(3).0 | Descriptor::ACCESSED;
            let table = self.table(segment.selector);
            let _refused =
                host.set_descriptor(table.which, segment.selector.index(), shadow_of(Descriptor(raw), deprivileging));
            if let Some(lent) = self.lent.get_mut(slot) {
                *lent = segment.selector;
            }
        }
        disarm
    }

    /// After the guest world was left: what was lent goes.
    pub fn take_back<H: Host>(&mut self, host: &mut H) {
        for slot in 0..self.lent.len() {
            let Some(selector) = self.lent.get_mut(slot).map(core::mem::take) else { continue };
            if !selector.is_null() {
                let table = self.table(selector);
                let shadow =
                    if table.follow { shadow_of(table.entry(selector.index()), table.deprivileging) } else { 0 };
                let _refused = host.set_descriptor(table.which, selector.index(), shadow);
            }
        }
    }

    /// Is a table of the guest's not followed?
    #[must_use]
    pub fn lags(&self) -> bool {
        !(self.gdt.follow && self.ldt.follow)
    }

    /// Before user code runs, its segments must be loadable natively: follow the tables again.
    ///
    /// # Errors
    /// Host failures.
    pub fn follow_again<H: Host>(
        &mut self,
        cpu: &VcpuState,
        mmu: &mut Mmu,
        host: &mut H,
        stats: &mut Stats,
    ) -> Result<(), MmuError> {
        for table in [&mut self.gdt, &mut self.ldt] {
            if !table.follow {
                table.follow = true;
                table.idle_writes = 0;
                table.locate(cpu, mmu, host)?;
                table.sync_all(host, stats, Sync::Force).map_err(MmuError::Host)?;
            }
        }
        Ok(())
    }

    /// Gives up following a table that lies among hot data: nothing of it is present in the shadow any more, so every load
    /// of a segment register traps and reads the guest's own table.
    pub fn stop_following_hot_tables<H: Host>(&mut self, mmu: &mut Mmu, host: &mut H) {
        for table in [&mut self.gdt, &mut self.ldt] {
            if table.follow && table.idle_writes > table.patience {
                table.follow = false;
                table.patience = table.next_patience();
                for gfn in table.frames.iter_mut().filter_map(Option::take) {
                    mmu.untrack(gfn, Reason::Descriptor);
                }
                let used = core::mem::take(&mut table.used);
                for (index, entry) in (0..used).zip(table.guest.iter_mut()) {
                    if core::mem::take(entry) != 0 && shadowed(table.which, index) {
                        let _refused = host.set_descriptor(table.which, index, 0);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLDS: [Deprivileging; 3] =
        [RESET, Deprivileging { kernel_ring: 3, long: false }, Deprivileging { kernel_ring: 3, long: true }];

    #[test]
    fn nothing_dangerous_reaches_the_hardware() {
        // Every type and attribute byte, all values of L and D.
        for (world, attrs) in WORLDS.into_iter().flat_map(|world| (0..=0xffu64).map(move |attrs| (world, attrs))) {
            for size in [0, Descriptor::LONG, Descriptor::DB, Descriptor::LONG | Descriptor::DB] {
                let guest = Descriptor(attrs << 40 | size | 0xffff);
                let raw = shadow_of(guest, world);
                let shadow = Descriptor(raw);
                if shadow.present() {
                    assert!(shadow.is_code_or_data());
                    assert!(shadow.dpl() >= world.kernel_ring);
                    assert!(world.kernel_ring == 1 || guest.dpl() == 3, "programs must not load the kernel's");
                    assert!(world.long || raw & Descriptor::LONG == 0);
                    assert_ne!(raw & Descriptor::ACCESSED, 0, "the CPU must have nothing to write");
                }
            }
        }
    }

    #[test]
    fn programs_find_no_kernel_segment() {
        // SDM vol. 2, LAR: not where CPL is above DPL, unless the segment is conforming; a type that is no segment's is not found.
        for (world, attrs) in WORLDS.into_iter().flat_map(|world| (0..=0xffu64).map(move |attrs| (world, attrs))) {
            let guest = Descriptor(attrs << 40 | 0xffff);
            let shadow = Descriptor(shadow_of(guest, world));
            let found = |d: Descriptor| d.is_code_or_data() && (d.dpl() == 3 || (d.is_code() && d.is_conforming()));
            assert_eq!(found(shadow), found(guest), "{guest:x?} {world:?}");
        }
    }

    #[test]
    fn a_flat_kernel_segment_keeps_everything_but_its_privilege() {
        let guest = Descriptor(0x00cf_9b00_0000_ffff);
        assert_eq!(shadow_of(guest, RESET), 0x00cf_bb00_0000_ffff);
        assert_eq!(shadow_of(Descriptor(0x00cf_9a00_0000_ffff), RESET) & Descriptor::PRESENT, 0, "A=0 traps once");
    }
}
