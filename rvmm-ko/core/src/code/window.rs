//! Where the windows go: the vCPU page, and patch memory.
//!
//! The vCPU page is readable and writable for the guest's kernel, so it must be where no user program can make a kernel
//! reach by handing it a pointer: high up, among the kernel's own addresses, if there is room at all.
//!
//! Patch memory is execute-only: every read or write of it is interpreted, and sees what the guest has there, which is
//! nothing. So it may be anywhere, and goes where it serves best: the displacement of a jump to it stands in the view over
//! guest instructions, and where one of those began, the byte must trap. The lower bytes of a displacement are a matter of
//! where in patch memory a block is; the highest is a matter of where patch memory is.

use rvmm_arch::Gva;
use rvmm_mmu::Occupied;
use rvmm_patcher::tactic::traps;
use rvmm_patcher::CodeSize;

/// Directory entries are this big: 4 MiB.
const SHIFT: u32 = 22;
/// The first directory entry of the range that kernels keep for themselves, as a rule.
const KERNEL_HALF: usize = 768;
/// Directory entries that patch memory takes, where there is room: 8 MiB, so that the third byte of a displacement has
/// 128 values in a row, some of which trap.
pub const CODE_ENTRIES: usize = 2;
/// How far around the code at hand its jumps may be, in directory entries: the third of a kernel on each side.
const REACH: i64 = 3;
/// A hole's edges further away than this are as good as any.
const FAR: usize = 8;

/// Where to put things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// The window of the vCPU page.
    pub vcpu: Gva,
    /// The first byte of patch memory.
    pub code: Gva,
    /// Directory entries of patch memory: 1 or [`CODE_ENTRIES`].
    pub entries: usize,
    /// How well displacements from the code at hand trap there: 0 is not at all.
    pub fit: u32,
}

impl Windows {
    /// Where the `n`th directory entry of patch memory is.
    pub fn code_entry(&self, n: usize) -> Option<Gva> {
        (n < self.entries).then(|| self.code.add((n as u64) << SHIFT))
    }

    /// How well displacements from the code around `near` trap in this place.
    pub fn fit_for(&self, near: Gva) -> u32 {
        fit(near, (self.code.0 >> SHIFT) as usize, self.entries)
    }
}

fn start_of(index: usize) -> Gva {
    Gva((index as u64) << SHIFT)
}

/// The longest run of free entries from `from` on: start and length.
fn longest_run(occupied: &Occupied, from: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    let mut start = from;
    for (i, &taken) in occupied.iter().enumerate().skip(from) {
        if taken {
            start = i + 1;
        } else if best.is_none_or(|(_, len)| i + 1 - start > len) {
            best = Some((start, i + 1 - start));
        }
    }
    best
}

/// Of the displacements from around `near` to a window of `entries` at `index`: how many have a highest byte that traps.
fn fit(near: Gva, index: usize, entries: usize) -> u32 {
    let near = (near.0 >> SHIFT) as i64;
    let mut count = 0;
    for code in near.wrapping_sub(REACH)..=near.wrapping_add(REACH) {
        for end in [index, index.wrapping_add(entries)] {
            let displacement = ((end as i64).wrapping_sub(code) << SHIFT) as u32;
            count += u32::from(traps((displacement >> 24) as u8, CodeSize::Bits32));
        }
    }
    count
}

/// Free entries before `index` and behind `end`, the fewer of both, up to [`FAR`].
fn margin(occupied: &Occupied, index: usize, end: usize) -> usize {
    let free = |i: &usize| occupied.get(*i) == Some(&false);
    let before = (0..index).rev().take(FAR).take_while(free).count();
    let behind = (end..1024).take(FAR).take_while(free).count();
    before.min(behind)
}

/// Places for both in what is free, for code around `near`; `None` if there is no room.
///
/// Guests that share one kernel half among many address spaces keep it at the top, and fill it from its ends; the middle of
/// the longest free run there is the place that lasts longest.
#[must_use]
pub fn choose(occupied: &Occupied, near: Gva) -> Option<Windows> {
    let (start, len) = [(KERNEL_HALF, 4), (512, 1), (0, 1)]
        .into_iter()
        .find_map(|(from, least)| longest_run(occupied, from).filter(|&(_, len)| len >= least))?;
    let vcpu = start + len / 2;
    for entries in [CODE_ENTRIES, 1] {
        let free = |i: &usize| {
            (*i..i + entries).all(|at| at != vcpu && occupied.get(at) == Some(&false))
                // Page 0 is where wild pointers lead.
                && *i != 0
        };
        let rank = |i: &usize| (fit(near, *i, entries), margin(occupied, *i, i + entries), *i);
        if let Some(best) = (0..1024).filter(free).max_by_key(rank) {
            return Some(Windows {
                vcpu: start_of(vcpu),
                code: start_of(best),
                entries,
                fit: fit(near, best, entries),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel at 3 GiB with `low` entries of memory mapped from there, and programs at both ends of the lower part.
    fn linux(low: usize) -> Occupied {
        let mut occupied = [false; 1024];
        for taken in [0..2, 32..34, 0x2d8..0x2e0, 0x2fe..0x300, 768..768 + low, 1020..1024] {
            occupied[taken].fill(true);
        }
        occupied
    }

    #[test]
    fn a_linux_kernel_wherever_it_is_gets_displacements_that_trap() -> Result<(), &'static str> {
        for base in (0xc100_0000..0xdf00_0000_u64).step_by(0x100_0000) {
            let windows = choose(&linux(128), Gva(base)).ok_or("room")?;
            assert_eq!(windows.fit, 14, "every displacement from around {base:#x}");
            assert!(windows.vcpu.0 >= 0xc000_0000, "users have no business at the vCPU page");
            assert_eq!(windows.entries, CODE_ENTRIES);
        }
        Ok(())
    }

    #[test]
    fn windows_are_free_and_apart() -> Result<(), &'static str> {
        let occupied = linux(64);
        let windows = choose(&occupied, Gva(0xc100_0000)).ok_or("room")?;
        let code = (windows.code.0 >> SHIFT) as usize;
        assert!(!occupied[code] && !occupied[code + 1]);
        assert!(!(code..code + 2).contains(&((windows.vcpu.0 >> SHIFT) as usize)));
        Ok(())
    }

    #[test]
    fn two_entries_are_the_least() -> Result<(), &'static str> {
        let mut occupied = [true; 1024];
        assert_eq!(choose(&occupied, Gva(0)), None);
        occupied[5] = false;
        assert_eq!(choose(&occupied, Gva(0)), None);
        occupied[9] = false;
        let windows = choose(&occupied, Gva(0)).ok_or("room for one each")?;
        assert_eq!(windows.entries, 1);
        assert_ne!(windows.code, windows.vcpu);
        occupied[10] = false;
        assert_eq!(choose(&occupied, Gva(0)).map(|w| w.entries), Some(1), "the longer run has the vCPU page in it");
        Ok(())
    }
}
