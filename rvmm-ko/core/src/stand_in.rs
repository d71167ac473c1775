//! Memory that an instruction for the CPU alone cannot be shown in place: a device's, a page whose writes are followed, a page with a
//! view. A page of the host's stands in for it, for that one step.
//!
//! It holds what the instruction may read there: the bytes of the guest's page, or those that a device gives for this operand, each asked
//! for once. What the instruction writes there goes where it belongs behind the step: to memory the bytes that differ, which is all
//! that anybody can tell, to a device all bytes of the operand. A fault leaves nothing.

use rvmm_arch::host::{Host, HostError, HostPage};
use rvmm_arch::machine::{Access, AccessKind, Machine, MachineStop};
use rvmm_arch::stats::Counter;
use rvmm_arch::{Gfn, Gpa, Gva, PAGE_SIZE};
use rvmm_interp::mem::privilege;
use rvmm_mmu::{FaultOutcome, StandInRights, TranslateStop};

use crate::client::{ClientExit, InternalError};
use crate::direct::Mode;
use crate::io::IoAccess;
use crate::native::{pair, Fetched};
use crate::vcpu::{Flow, Vcpu};
use crate::verify;

/// Bytes copied and compared at a time: they are on the stack.
const CHUNK: usize = 64;
/// Faults on stand-ins before an instruction is given up: one for each page and for each change of rights, and some for entries that
/// were reclaimed meanwhile.
const ROUNDS: u32 = 8;

/// The two pages of one stand-in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandInPages {
    /// What the CPU sees.
    shown: HostPage,
    /// What was there before the step, to tell what was written. (The guest's page itself may change meanwhile: a client's device.)
    before: HostPage,
}

impl StandInPages {
    /// Takes them.
    pub fn new<H: Host>(host: &mut H) -> Result<Self, HostError> {
        let [shown, before] = pair(host, H::alloc_page, |host, page| host.free_page(page))?;
        Ok(Self { shown, before })
    }

    /// Gives them back.
    pub fn free<H: Host>(&self, host: &mut H) {
        host.free_page(self.shown);
        host.free_page(self.before);
    }
}

/// Why a step on the CPU could not be made in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Blocked {
    /// For the counters.
    pub cause: Counter,
    /// The address that faulted.
    pub at: Gva,
    /// Where the guest's tables lead, if there is something that a page can stand in for.
    pub gpa: Option<Gpa>,
    /// It is a device's (or read-only memory, written).
    pub device: bool,
    /// The access is a write.
    pub write: bool,
}

impl Blocked {
    /// By what the page fault means.
    pub fn new(cause: Counter, at: Gva, write: bool, outcome: &FaultOutcome) -> Self {
        let gpa = match outcome {
            FaultOutcome::Mmio { gpa }
            | FaultOutcome::TrackedWrite { gpa, .. }
            | FaultOutcome::ViewAccess { gpa, .. } => Some(*gpa),
            _ => None,
        };
        Self { cause, at, gpa, device: matches!(outcome, FaultOutcome::Mmio { .. }), write }
    }
}

/// What is behind a stand-in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Behind {
    /// Memory.
    Ram,
    /// A device: the bytes of the page that belong to the operand.
    Device { from: usize, to: usize },
}

#[derive(Clone, Copy, Debug)]
struct StandIn {
    page: Gva,
    gfn: Gfn,
    write: bool,
    behind: Behind,
}

/// The stand-ins of one step.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    pages: [Option<StandIn>; 2],
    rounds: u32,
}

impl StandIns {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.pages.iter().flatten().count() as u64
    }
}

/// Can the step be made with what stands in now?
pub(crate) enum StoodIn {
    Yes,
    No,
    /// The instruction faults at another page of the operand, before it touches the device at this one.
    Faulted(rvmm_arch::fault::Exception),
}

/// The accesses that a CPU makes to `from..to` of a page, none of them longer than 8 bytes: each as long as its address is aligned, in ascending
/// order.
fn accesses(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = from;
    core::iter::from_fn(move || {
        let left = to.checked_sub(at).filter(|left| *left != 0)?;
        let aligned = 1_usize << at.trailing_zeros().min(3);
        let len = aligned.min(1 << left.ilog2());
        let here = at;
        at = at.checked_add(len)?;
        Some((here, len))
    })
}

impl Vcpu {
    /// Lets a page stand in for the one that `blocked` names.
    #[inline(never)]
    pub(crate) fn stand_in<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        fetched: &Fetched,
        stand_ins: &mut StandIns,
        blocked: Blocked,
    ) -> Result<StoodIn, ClientExit> {
        stand_ins.rounds = stand_ins.rounds.saturating_add(1);
        // Breakpoints on data behind a stand-in would be met twice, or not at all.
        let Some(gpa) = blocked.gpa.filter(|_| self.state.dr7 & 0xff == 0 && stand_ins.rounds <= ROUNDS) else {
            return Ok(StoodIn::No);
        };
        let page = blocked.at.page();
        let there = |s: &Option<StandIn>| s.is_none_or(|s| s.page == page);
        let Some(slot) = stand_ins.pages.iter().position(there) else { return Ok(StoodIn::No) };
        let Some((place, pages)) = stand_ins.pages.get_mut(slot).zip(self.step_pages.data.get(slot).copied()) else {
            return Ok(StoodIn::No);
        };
        let stand_in = match *place {
            Some(old) if blocked.device && old.write != blocked.write => return Ok(StoodIn::No),
            Some(old) => StandIn { write: old.write || blocked.write, ..old },
            None => {
                let behind = if blocked.device {
                    match self.show_device(host, pages, fetched, blocked)? {
                        Ok(behind) => behind,
                        Err(outcome) => return Ok(outcome),
                    }
                } else {
                    copy_frame(host, gpa.frame(), [pages.shown, pages.before])?;
                    self.show_instruction(host, pages, fetched, page);
                    Behind::Ram
                };
                StandIn { page, gfn: gpa.frame(), write: blocked.write, behind }
            }
        };
        *place = Some(stand_in);
        let execute = self.lies_on(fetched, page);
        let shown = host.pfn(pages.shown);
        let rights = StandInRights { write: stand_in.write, execute };
        let (space, env) = (self.space(mode), self.env());
        let parts = &mut self.parts;
        let place = (shown, rights);
        let mapped =
            parts.mmu.stand_in(host, &mut parts.stats, &self.state, (space, env), page, stand_in.gfn, place)?;
        Ok(if mapped { StoodIn::Yes } else { StoodIn::No })
    }

    /// Where the instruction lies on this page, too, the stand-in must hold it as it is executed, which need not be as the guest has it
    /// (flat_step.rs).
    fn show_instruction<H: Host>(&self, host: &mut H, pages: StandInPages, fetched: &Fetched, page: Gva) {
        let at = Gva(self.state.linear_rip());
        if at.page() != page {
            return;
        }
        let bytes = fetched.bytes.get(..fetched.available).unwrap_or(&[]);
        for copy in [pages.shown, pages.before] {
            for (to, from) in host.bytes(copy).iter_mut().skip(at.offset()).zip(bytes) {
                *to = *from;
            }
        }
    }

    /// Does the instruction at RIP lie on this linear page?
    fn lies_on(&self, fetched: &Fetched, page: Gva) -> bool {
        let first = Gva(self.state.linear_rip());
        let second = Gva(self.state.wrap(first.page().0.wrapping_add(PAGE_SIZE)));
        [first.page(), second].iter().zip(fetched.frames).any(|(at, frame)| frame.is_some() && *at == page)
    }

    /// Fills a stand-in with what the device gives for the bytes of the operand on its page; `Err`: nobody can tell which, or the instruction
    /// faults without touching it.
    #[inline(never)]
    fn show_device<H: Host>(
        &mut self,
        host: &mut H,
        pages: StandInPages,
        fetched: &Fetched,
        blocked: Blocked,
    ) -> Result<Result<Behind, StoodIn>, ClientExit> {
        let x = verify::decode(&self.state, fetched);
        let Some((first, len)) = rvmm_interp::memory_operand(&self.state, &x) else { return Ok(Err(StoodIn::No)) };
        let begin = first.offset();
        let here = len.min((PAGE_SIZE as usize).saturating_sub(begin));
        let second = Gva(self.state.wrap(first.page().0.wrapping_add(PAGE_SIZE)));
        let page = blocked.at.page();
        let (from, to) = if page == first.page() {
            (begin, begin.saturating_add(here))
        } else if page == second {
            (0, len.saturating_sub(here))
        } else {
            return Ok(Err(StoodIn::No));
        };
        if !(from..to).contains(&blocked.at.offset()) {
            return Ok(Err(StoodIn::No));
        }
        // The CPU translates all of the operand before it touches any of it.
        let kind = if blocked.write { AccessKind::Write } else { AccessKind::Read };
        let privilege = privilege(&self.state);
        let parts = &mut self.parts;
        for at in [Some(first), (here < len).then_some(second)].into_iter().flatten() {
            match parts.mmu.translate(host, &self.state, at, Access { kind, privilege }) {
                Ok(_) => {}
                Err(TranslateStop::Guest(fault)) => return Ok(Err(StoodIn::Faulted(fault))),
                Err(TranslateStop::Mmu(error)) => return Err(error.into()),
            }
        }
        host.bytes(pages.shown).fill(0);
        if !blocked.write {
            let base = blocked.gpa.unwrap_or(Gpa(0)).page();
            for (at, len) in accesses(from, to) {
                let mut bytes = [0; 8];
                let Some(piece) = bytes.get_mut(..len) else { break };
                match self.parts.world(host).read(base.add(at as u64), piece) {
                    Ok(()) => {}
                    Err(MachineStop::IoPending) => {
                        return Err(self.parts.io.pending().map_or_else(|| self.host_failure(), ClientExit::Io));
                    }
                    Err(_) => return Err(self.host_failure()),
                }
                if let Some(to) = host.bytes(pages.shown).get_mut(at..at.wrapping_add(len)) {
                    to.copy_from_slice(piece);
                }
            }
        }
        Ok(Ok(Behind::Device { from, to }))
    }

    /// Takes the stand-ins away. What was written there is still to be had.
    pub(crate) fn drop_stand_ins<H: Host>(&mut self, host: &mut H, stand_ins: &StandIns) {
        for (stand_in, pages) in stand_ins.pages.iter().zip(self.step_pages.data) {
            if let Some(stand_in) = stand_in {
                let shown = host.pfn(pages.shown);
                self.parts.mmu.drop_stand_in(host, stand_in.gfn, shown);
            }
        }
    }

    /// The instruction has retired: what it wrote to stand-ins goes to memory at once.
    #[inline(never)]
    pub(crate) fn write_memory_behind<H: Host>(&mut self, host: &mut H, stand_ins: &StandIns) -> Flow {
        for (stand_in, pages) in stand_ins.pages.iter().zip(self.step_pages.data) {
            match stand_in {
                Some(s) if s.write && s.behind == Behind::Ram => self.write_page(host, s.gfn, pages)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the bytes that differ to the guest's page, and says so once.
    fn write_page<H: Host>(&mut self, host: &mut H, gfn: Gfn, pages: StandInPages) -> Flow {
        // First and last byte that were written.
        let mut written: Option<(usize, usize)> = None;
        for start in (0..PAGE_SIZE as usize).step_by(CHUNK) {
            let (before, now) = (chunk(host, pages.before, start), chunk(host, pages.shown, start));
            if before == now {
                continue;
            }
            let mut at = 0;
            while let Some((first, len)) = next_difference(&before, &now, at) {
                at = first.wrapping_add(len);
                let bytes = now.get(first..at).unwrap_or(&[]);
                let offset = start.wrapping_add(first);
                if !host.write_ram(gfn.base().add(offset as u64), bytes)? {
                    host.report(format_args!("{gfn:?} is no longer memory that can be written"));
                    return Err(ClientExit::InternalError(InternalError::Emulation));
                }
                let end = offset.wrapping_add(len);
                written = Some((written.map_or(offset, |(first, _)| first), end));
            }
        }
        if let Some((first, end)) = written {
            let len = end.wrapping_sub(first) as u64;
            self.parts.wrote(host, gfn.base().add(first as u64), len)?;
        }
        Ok(())
    }

    /// … and to devices by way of the client, from now on.
    #[inline(never)]
    pub(crate) fn write_devices_behind<H: Host>(&mut self, host: &mut H, stand_ins: &StandIns) -> Flow {
        self.parts.io.clear();
        let mut behind = [(0, 0, None); 2];
        for ((slot, stand_in), pages) in behind.iter_mut().zip(&stand_ins.pages).zip(self.step_pages.data) {
            if let Some(StandIn { gfn, write: true, behind: Behind::Device { from, to }, .. }) = *stand_in {
                *slot = (from, to, Some((gfn, pages.shown)));
            }
        }
        // An operand that goes on in the next page begins there with the page.
        if let [(0, _, Some(_)), (1.., _, Some(_))] = behind {
            behind.reverse();
        }
        for (from, to, page) in behind {
            let Some((gfn, shown)) = page else { continue };
            for (at, len) in accesses(from, to) {
                let mut bytes = [0; 8];
                if let (Some(to), Some(from)) = (bytes.get_mut(..len), host.bytes(shown).get(at..at.wrapping_add(len)))
                {
                    to.copy_from_slice(from);
                }
                let data = u64::from_le_bytes(bytes);
                let write = IoAccess::MmioWrite { gpa: gfn.base().add(at as u64), len: len as u8, data };
                if !self.parts.io.post(write) {
                    host.report(format_args!("more device writes than one instruction makes"));
                    return Err(ClientExit::InternalError(InternalError::IoReplay));
                }
            }
        }
        self.parts.io.pending().map_or(Ok(()), |first| Err(ClientExit::Io(first)))
    }
}

/// Copies a page of the guest's.
pub(crate) fn copy_frame<H: Host, const N: usize>(host: &mut H, gfn: Gfn, pages: [HostPage; N]) -> Flow {
    for start in (0..PAGE_SIZE as usize).step_by(CHUNK) {
        let mut bytes = [0; CHUNK];
        if !host.read_ram(gfn.base().add(start as u64), &mut bytes)? {
            host.report(format_args!("{gfn:?} is no longer memory"));
            return Err(ClientExit::InternalError(InternalError::Emulation));
        }
        for page in pages {
            if let Some(to) = host.bytes(page).get_mut(start..start.wrapping_add(CHUNK)) {
                to.copy_from_slice(&bytes);
            }
        }
    }
    Ok(())
}

fn chunk<H: Host>(host: &mut H, page: HostPage, start: usize) -> [u8; CHUNK] {
    let mut bytes = [0; CHUNK];
    if let Some(from) = host.bytes(page).get(start..start.wrapping_add(CHUNK)) {
        bytes.copy_from_slice(from);
    }
    bytes
}

/// The next run of bytes that differ, from `from` on: where, and how long.
fn next_difference(before: &[u8; CHUNK], now: &[u8; CHUNK], from: usize) -> Option<(usize, usize)> {
    let differs = |at: &usize| before.get(*at) != now.get(*at);
    let first = (from..CHUNK).find(differs)?;
    let end = (first..CHUNK).find(|at| !differs(at)).unwrap_or(CHUNK);
    Some((first, end.wrapping_sub(first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn accesses_are_aligned_and_ascending() {
        let all = |from, to| accesses(from, to).collect::<Vec<_>>();
        assert_eq!(all(0, 16), [(0, 8), (8, 8)]);
        assert_eq!(all(8, 12), [(8, 4)]);
        assert_eq!(all(3, 19), [(3, 1), (4, 4), (8, 8), (16, 2), (18, 1)]);
        assert_eq!(all(0xff8, 0x1000), [(0xff8, 8)]);
        assert_eq!(all(0, 10), [(0, 8), (8, 2)]);
        assert_eq!(all(1, 109).len(), 17);
        assert_eq!(all(5, 5), []);
    }

    #[test]
    fn runs_of_differences() {
        let before = [0; CHUNK];
        let mut now = before;
        now[0] = 1;
        now[5..8].fill(2);
        now[63] = 3;
        let mut at = 0;
        let mut runs = Vec::new();
        while let Some((first, len)) = next_difference(&before, &now, at) {
            runs.push((first, len));
            at = first + len;
        }
        assert_eq!(runs, [(0, 1), (5, 3), (63, 1)]);
    }
}
