//! The guest page walk, apart from any policy: what the guest's own tables say about an address, and the accessed and
//! dirty bits set as the CPU sets them (SDM vol. 3 §4.6 to §4.8).
//!
//! Accessed bits are set in every entry of a successful translation, the dirty bit in the last one when it is for a
//! write; a faulting access sets none. Tables in memory that has no RAM behind it read as 0, "not present", as they do
//! under bare QEMU; bits that cannot be stored (a read-only memslot) are left alone and the access goes on.

use rvmm_arch::fault::PageFaultCode;
use rvmm_arch::host::{GuestMemory, HostError};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr4, Rflags};
use rvmm_arch::{Gpa, Gva};

use crate::gpte::{Entry, FourLevel, Pae, PagingMode, Permissions, TwoLevel};
use crate::paging::{GuestMode, Paging};

/// The most levels of any paging mode.
pub const MAX_LEVELS: usize = 5;

/// How often a walk starts again because an entry changed under it before it gives up setting that entry's bits.
const MAX_RESTARTS: u32 = 16;

/// Does the walk leave traces?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traces {
    /// Sets accessed and dirty bits.
    Set,
    /// Changes nothing.
    None,
}

/// One entry that a walk used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its level, 1 the lowest.
    pub level: u8,
    /// Where it is.
    pub at: Gpa,
    /// Its value, with the bits that the walk has set.
    pub raw: u64,
    /// What it alone permits.
    pub permissions: Permissions,
}

/// A successful translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The translated address.
    pub gpa: Gpa,
    /// log2 of the page's size.
    pub bits: u8,
    /// What all entries together permit.
    pub permissions: Permissions,
    /// The dirty bit of the last entry (true where there is none).
    pub dirty: bool,
    /// An accessed or dirty bit was clear, and this walk has set it.
    pub recorded: bool,
    steps: [Step; MAX_LEVELS],
    count: u8,
}

impl Walk {
    /// A translation by no table at all: paging off, or where only the address counts.
    pub const EMPTY: Self = Self {
        gpa: Gpa(0),
        bits: 12,
        permissions: Permissions::ALL,
        dirty: true,
        recorded: false,
        steps: [Step { level: 0, at: Gpa(0), raw: 0, permissions: Permissions::ALL }; MAX_LEVELS],
        count: 0,
    };

    /// The entries used, top level first; none with paging off.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// The entry used at `level`.
    #[must_use]
    pub fn step(&self, level: u8) -> Option<&Step> {
        self.steps().iter().find(|s| s.level == level)
    }

    fn push(&mut self, step: Step) {
        if let Some(place) = self.steps.get_mut(usize::from(self.count)) {
            *place = step;
            self.count = self.count.wrapping_add(1);
        }
    }
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walked {
    /// The access is permitted.
    Mapped(Walk),
    /// The guest faults: #PF with this error code.
    Fault(PageFaultCode),
}

/// Translates `la` in the address space of `paging`; `None` if its mode is not supported.
///
/// # Errors
/// The memory behind the tables cannot be reached.
pub fn walk<G: GuestMemory + ?Sized>(
    mem: &mut G,
    paging: &Paging,
    la: Gva,
    access: Access,
    traces: Traces,
) -> Result<Option<Walked>, HostError> {
    let la = paging.linear(la);
    match paging.mode() {
        None => Ok(None),
        Some(GuestMode::Off) => Ok(Some(Walked::Mapped(Walk { gpa: Gpa(la.0), ..Walk::EMPTY }))),
        Some(GuestMode::TwoLevel) => walk_mode::<TwoLevel, G>(mem, paging, la, access, traces).map(Some),
        Some(GuestMode::Pae) => walk_mode::<Pae, G>(mem, paging, la, access, traces).map(Some),
        Some(GuestMode::FourLevel) => walk_mode::<FourLevel, G>(mem, paging, la, access, traces).map(Some),
    }
}

/// The walk in one paging mode.
///
/// # Errors
/// As for [`walk`].
pub fn walk_mode<M: PagingMode, G: GuestMemory + ?Sized>(
    mem: &mut G,
    paging: &Paging,
    la: Gva,
    access: Access,
    traces: Traces,
) -> Result<Walked, HostError> {
    let mut restarts = 0;
    loop {
        let mut walk = match read_tables::<M, G>(mem, paging, la, access)? {
            Walked::Mapped(walk) => walk,
            fault @ Walked::Fault(_) => return Ok(fault),
        };
        if traces == Traces::None || leave_traces::<M, G>(mem, &mut walk, access, restarts >= MAX_RESTARTS)? {
            return Ok(Walked::Mapped(walk));
        }
        restarts += 1;
    }
}

/// The tables on the way to `la`, as far as there are any, whatever they permit: the entries used, without an address. The
/// last step is the first entry that refers to no table.
///
/// # Errors
/// As for [`walk`].
pub fn probe<G: GuestMemory + ?Sized>(
    mem: &mut G,
    paging: &Paging,
    mode: GuestMode,
    la: Gva,
) -> Result<(Walk, Entry), HostError> {
    let mut walk = Walk::EMPTY;
    let mut table = mode.root(paging);
    let mut entry = Entry::NotPresent;
    for level in (1..=mode.levels()).rev() {
        let at = table.add(mode.index(la, level).wrapping_mul(u64::from(mode.entry_bytes())));
        let raw = read_entry(mem, at, mode.entry_bytes())?;
        entry = mode.decode(raw, level, paging);
        let permissions = match entry {
            Entry::Table { permissions, .. } | Entry::Page { permissions, .. } => permissions,
            Entry::NotPresent | Entry::Reserved => Permissions::ALL,
        };
        walk.push(Step { level, at, raw, permissions });
        match entry {
            Entry::Table { base, .. } => table = base,
            _ => break,
        }
    }
    Ok((walk, entry))
}

/// Follows the tables and checks the access.
fn read_tables<M: PagingMode, G: GuestMemory + ?Sized>(
    mem: &mut G,
    paging: &Paging,
    la: Gva,
    access: Access,
) -> Result<Walked, HostError> {
    let fault = |why: PageFaultCode| Ok(Walked::Fault(why | access_code(paging, access)));
    let mut walk = Walk::EMPTY;
    let mut table = M::root(paging);
    for level in (1..=M::LEVELS).rev() {
        let at = table.add(M::index(la, level).wrapping_mul(u64::from(M::ENTRY_BYTES)));
        let raw = read_entry(mem, at, M::ENTRY_BYTES)?;
        match M::decode(raw, level, paging) {
            Entry::NotPresent => return fault(PageFaultCode::empty()),
            Entry::Reserved => return fault(PageFaultCode::P | PageFaultCode::RSVD),
            Entry::Table { base, permissions } => {
                walk.push(Step { level, at, raw, permissions });
                walk.permissions = walk.permissions.and(permissions);
                table = base;
            }
            Entry::Page { base, bits, permissions } => {
                walk.push(Step { level, at, raw, permissions });
                walk.permissions = walk.permissions.and(permissions);
                if !permitted(walk.permissions, access, paging) {
                    return fault(PageFaultCode::P);
                }
                walk.gpa = base.add(la.0 & (1_u64 << (bits & 63)).wrapping_sub(1));
                walk.bits = bits;
                walk.dirty = raw & M::DIRTY != 0;
                return Ok(Walked::Mapped(walk));
            }
        }
    }
    // A lowest-level entry is never a table; a mode that says so has its address not mapped.
    fault(PageFaultCode::empty())
}

/// Sets accessed and dirty bits. `false`: an entry has changed meanwhile, start again.
fn leave_traces<M: PagingMode, G: GuestMemory + ?Sized>(
    mem: &mut G,
    walk: &mut Walk,
    access: Access,
    give_up: bool,
) -> Result<bool, HostError> {
    let last = usize::from(walk.count).wrapping_sub(1);
    let (mut dirty, mut recorded) = (walk.dirty, false);
    for (i, step) in walk.steps.iter_mut().take(usize::from(walk.count)).enumerate() {
        let mut wanted = step.raw | M::accessed(step.level);
        if i == last && access.kind == AccessKind::Write {
            wanted |= M::DIRTY;
        }
        if wanted != step.raw {
            if mem.compare_exchange_ram(step.at, M::ENTRY_BYTES, step.raw, wanted)? {
                step.raw = wanted;
                recorded = true;
            } else if !give_up && read_entry(mem, step.at, M::ENTRY_BYTES)? != step.raw {
                return Ok(false);
            }
        }
        if i == last {
            // In read-only memory the bit stays clear although the write is permitted: shadow it as dirty would be.
            dirty = step.raw & M::DIRTY != 0 || access.kind == AccessKind::Write;
        }
    }
    walk.dirty = dirty;
    walk.recorded = recorded;
    Ok(true)
}

/// Reads a table entry; 0 where there is no RAM.
///
/// # Errors
/// The memory cannot be reached.
pub fn read_entry<G: GuestMemory + ?Sized>(mem: &mut G, at: Gpa, bytes: u8) -> Result<u64, HostError> {
    let mut buf = [0; 8];
    let Some(part) = buf.get_mut(..usize::from(bytes)) else {
        return Ok(0);
    };
    if !mem.read_ram(at, part)? {
        return Ok(0);
    }
    Ok(u64::from_le_bytes(buf))
}

/// Do these permissions allow the access? (SDM vol. 3 §4.6.1; protection keys are not offered to the guest.)
fn permitted(permissions: Permissions, access: Access, paging: &Paging) -> bool {
    // SMAP: supervisor data accesses to user pages only where the program asks for them by AC, and implicit ones never.
    let kept_out = permissions.user
        && paging.cr4.contains(Cr4::SMAP)
        && (access.privilege == Privilege::Implicit || !paging.rflags.contains(Rflags::AC));
    match (access.privilege, access.kind) {
        (Privilege::User, AccessKind::Read) => permissions.user,
        (Privilege::User, AccessKind::Write) => permissions.user && permissions.write,
        (Privilege::User, AccessKind::Fetch) => permissions.user && permissions.execute,
        (_, AccessKind::Read) => !kept_out,
        (_, AccessKind::Write) => (permissions.write || !paging.write_protect()) && !kept_out,
        (_, AccessKind::Fetch) => permissions.execute && !(permissions.user && paging.cr4.contains(Cr4::SMEP)),
    }
}

/// The bits of the error code that describe the access.
fn access_code(paging: &Paging, access: Access) -> PageFaultCode {
    let mut code = PageFaultCode::empty();
    code.set(PageFaultCode::W, access.kind == AccessKind::Write);
    code.set(PageFaultCode::U, access.privilege == Privilege::User);
    code.set(PageFaultCode::I, paging.reports_fetch(access.kind));
    code
}
