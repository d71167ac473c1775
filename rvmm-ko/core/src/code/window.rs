//! Where the windows go: the vCPU page, and patch memory.
//!
//! The vCPU page is readable and writable for the guest's kernel, so it must be where no user program can make a kernel
//! reach by handing it a pointer: high up, among the kernel's own addresses, if there is room at all.
//!
//! Patch memory is execute-only: every read or write of it is interpreted, and sees what the guest has there, which is
//! nothing. So it may be anywhere, and goes where it serves best: the displacement of a jump to it stands in the view over
//! guest instructions, and where one of those began, the byte must trap. The lower bytes of a displacement are a matter of
//! where in patch memory a block is; the highest is a matter of where patch memory is.
//!
//! What is looked at is the 4 GiB of linear space that the code is in. 32-bit code reaches all of it. 64-bit code, and blocks on
//! their way to the vCPU page, reach 2 GiB in each direction, so there patch memory comes first, near the code, and the vCPU page
//! goes to where that can reach it.

use rvmm_arch::Gva;
use rvmm_mmu::Occupied;
use rvmm_patcher::tactic::traps;
use rvmm_patcher::CodeSize;

/// Directory entries are this big: 4 MiB.
const SHIFT: u32 = 22;
/// Entries of the space that is looked at.
const ENTRIES: usize = 1024;
/// The first directory entry of the range that 32-bit kernels keep for themselves, as a rule.
const KERNEL_HALF: usize = 768;
/// Directory entries that patch memory takes, where there is room: 8 MiB, so that the third byte of a displacement has
/// 128 values in a row, some of which trap.
pub const CODE_ENTRIES: usize = 2;
/// How far around the code at hand its jumps may be, in directory entries: the third of a kernel on each side.
const REACH: i64 = 3;
/// A hole's edges further away than this are as good as any.
const FAR: usize = 8;
/// From any byte of an entry to any byte of one this many entries away, a displacement of 32 bits leads in 64-bit code.
const NEAR: usize = 511;

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
    pub fn fit_for(&self, near: Gva, size: CodeSize) -> u32 {
        fit(near, self.code, self.entries, size)
    }

    /// Does code at `near` reach it?
    pub fn reach(&self, near: Gva, size: CodeSize) -> bool {
        size != CodeSize::Bits64 || i32::try_from(self.code.0.wrapping_sub(near.0) as i64).is_ok()
    }

    /// Can code of this size use it at all? Addresses of 32-bit code end at 4 GiB.
    pub fn serves(&self, size: CodeSize) -> bool {
        size == CodeSize::Bits64 || self.code.0.max(self.vcpu.0) >> 32 == 0
    }
}

/// The first byte of the 4 GiB in which windows for the code around `near` are.
pub fn base(near: Gva) -> Gva {
    Gva(near.0 & !0xffff_ffff)
}

/// The longest run of free entries in `from..to`: start and length.
fn longest_run(free: impl Fn(usize) -> bool, from: usize, to: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    let mut start = from;
    for i in from..to {
        if !free(i) {
            start = i + 1;
        } else if best.is_none_or(|(_, len)| i + 1 - start > len) {
            best = Some((start, i + 1 - start));
        }
    }
    best
}

/// Of the displacements from around `near` to a window of `entries` at `code`: how many have a highest byte that traps.
fn fit(near: Gva, code: Gva, entries: usize, size: CodeSize) -> u32 {
    let mut count = 0;
    for around in -REACH..=REACH {
        let from = (near.0 >> SHIFT << SHIFT).wrapping_add_signed(around << SHIFT);
        for end in [0, entries] {
            let displacement = code.0.wrapping_add((end as u64) << SHIFT).wrapping_sub(from);
            let reached = size != CodeSize::Bits64 || i32::try_from(displacement as i64).is_ok();
            count += u32::from(reached && traps((displacement as u32 >> 24) as u8, size));
        }
    }
    count
}

/// Free entries before `index` and behind `end`, the fewer of both, up to [`FAR`].
fn margin(occupied: &Occupied, index: usize, end: usize) -> usize {
    let free = |i: &usize| occupied.get(*i) == Some(&false);
    let before = (0..index).rev().take(FAR).take_while(free).count();
    let behind = (end..ENTRIES).take(FAR).take_while(free).count();
    before.min(behind)
}

/// Places for both in what is free of the 4 GiB around `near`, for code there; `None` if there is no room.
#[must_use]
pub fn choose(occupied: &Occupied, near: Gva, size: CodeSize) -> Option<Windows> {
    let start_of = |index: usize| base(near).add((index as u64) << SHIFT);
    let windows = |vcpu: usize, code: usize, entries| {
        let code = start_of(code);
        Windows { vcpu: start_of(vcpu), code, entries, fit: fit(near, code, entries, size) }
    };
    // Page 0 is where wild pointers lead.
    let free = |i: usize| occupied.get(i) == Some(&false) && start_of(i) != Gva(0);
    match size {
        CodeSize::Bits64 => choose_near(occupied, near, free, windows),
        _ => choose_high(occupied, free, windows),
    }
}

/// For 32-bit code. Guests that share one kernel half among many address spaces keep it at the top, and fill it from its ends; the
/// middle of the longest free run there is the place that lasts longest.
fn choose_high(
    occupied: &Occupied,
    free: impl Fn(usize) -> bool,
    windows: impl Fn(usize, usize, usize) -> Windows,
) -> Option<Windows> {
    let unoccupied = |i: usize| occupied.get(i) == Some(&false);
    let (start, len) = [(KERNEL_HALF, 4), (512, 1), (0, 1)]
        .into_iter()
        .find_map(|(from, least)| longest_run(unoccupied, from, ENTRIES).filter(|&(_, len)| len >= least))?;
    let vcpu = start + len / 2;
    [CODE_ENTRIES, 1].into_iter().find_map(|entries| {
        let fits = |i: &usize| (*i..i + entries).all(|at| at != vcpu && free(at));
        let rank = |i: &usize| (windows(vcpu, *i, entries).fit, margin(occupied, *i, i + entries), *i);
        (0..ENTRIES).filter(fits).max_by_key(rank).map(|code| windows(vcpu, code, entries))
    })
}

/// For 64-bit code: what is mapped in these 4 GiB is the kernel's, or will be, so of places that are equally good for the code at
/// hand the one is best that most of it reaches.
fn choose_near(
    occupied: &Occupied,
    near: Gva,
    free: impl Fn(usize) -> bool,
    windows: impl Fn(usize, usize, usize) -> Windows,
) -> Option<Windows> {
    let here = (near.0.wrapping_sub(base(near).0) >> SHIFT) as usize;
    [CODE_ENTRIES, 1].into_iter().find_map(|entries| {
        // What is within reach of all of a window, from and to.
        let around = |i: usize| (i + entries - 1).saturating_sub(NEAR)..(i + NEAR + 1).min(ENTRIES);
        let vcpu = |i: usize| {
            let apart = |at| free(at) && !(i..i + entries).contains(&at);
            longest_run(apart, around(i).start, around(i).end).map(|(start, len)| start + len / 2)
        };
        let fits = |i: &usize| around(*i).contains(&here) && (*i..i + entries).all(&free);
        let reaching = |i: usize| around(i).filter(|at| occupied.get(*at) == Some(&true)).count();
        let rank = |(i, vcpu): &(usize, usize)| {
            (windows(*vcpu, *i, entries).fit, reaching(*i), margin(occupied, *i, i + entries), *i)
        };
        let places = (0..ENTRIES).filter(fits).filter_map(|i| vcpu(i).map(|vcpu| (i, vcpu)));
        places.max_by_key(rank).map(|(code, vcpu)| windows(vcpu, code, entries))
    })
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
            let windows = choose(&linux(128), Gva(base), CodeSize::Bits32).ok_or("room")?;
            assert_eq!(windows.fit, 14, "every displacement from around {base:#x}");
            assert!(windows.vcpu.0 >= 0xc000_0000, "users have no business at the vCPU page");
            assert_eq!(windows.entries, CODE_ENTRIES);
        }
        Ok(())
    }

    #[test]
    fn windows_are_free_and_apart() -> Result<(), &'static str> {
        let occupied = linux(64);
        let windows = choose(&occupied, Gva(0xc100_0000), CodeSize::Bits32).ok_or("room")?;
        let code = (windows.code.0 >> SHIFT) as usize;
        assert!(!occupied[code] && !occupied[code + 1]);
        assert!(!(code..code + 2).contains(&((windows.vcpu.0 >> SHIFT) as usize)));
        Ok(())
    }

    #[test]
    fn two_entries_are_the_least() -> Result<(), &'static str> {
        let mut occupied = [true; 1024];
        assert_eq!(choose(&occupied, Gva(0), CodeSize::Bits32), None);
        occupied[5] = false;
        assert_eq!(choose(&occupied, Gva(0), CodeSize::Bits32), None);
        occupied[9] = false;
        let windows = choose(&occupied, Gva(0), CodeSize::Bits32).ok_or("room for one each")?;
        assert_eq!(windows.entries, 1);
        assert_ne!(windows.code, windows.vcpu);
        occupied[10] = false;
        assert_eq!(
            choose(&occupied, Gva(0), CodeSize::Bits32).map(|w| w.entries),
            Some(1),
            "the longer run has the vCPU page in it"
        );
        Ok(())
    }

    /// The last 4 GiB of a 64-bit Linux: a kernel of 32 MiB at `kernel`, modules from 0xffff_ffff_c000_0000 on, fixmap at the end.
    fn linux64(kernel: u64) -> Occupied {
        let mut occupied = [false; ENTRIES];
        let first = ((kernel & 0xffff_ffff) >> SHIFT) as usize;
        for taken in [first..first + 8, 768..776, 1018..1024] {
            occupied[taken].fill(true);
        }
        occupied
    }

    #[test]
    fn a_64_bit_kernel_wherever_it_is_gets_windows_that_its_modules_reach_too() -> Result<(), &'static str> {
        for kernel in (0xffff_ffff_8100_0000..0xffff_ffff_bf00_0000_u64).step_by(0x100_0000) {
            let windows = choose(&linux64(kernel), Gva(kernel), CodeSize::Bits64).ok_or("room")?;
            assert_eq!((windows.fit, windows.entries), (14, CODE_ENTRIES), "{kernel:#x}: {windows:x?}");
            let last = windows.code.0 + (CODE_ENTRIES as u64) * (1 << SHIFT) - 1;
            for code in [kernel, kernel + 0x1ff_ffff, 0xffff_ffff_c000_0000, 0xffff_ffff_c1ff_ffff] {
                for place in [windows.code.0, last] {
                    assert!(place.abs_diff(code) < 1 << 31, "{kernel:#x}: {windows:x?}");
                }
            }
            assert!(windows.vcpu.0.abs_diff(windows.code.0) < (1 << 31) - (1 << SHIFT));
            assert!(windows.vcpu.0.abs_diff(last) < 1 << 31);
        }
        Ok(())
    }

    #[test]
    fn code_in_the_first_4_gib_is_kept_off_page_0() -> Result<(), &'static str> {
        let mut occupied = [true; ENTRIES];
        occupied[0..3].fill(false);
        let windows = choose(&occupied, Gva(0x100_0000), CodeSize::Bits64).ok_or("room for one each")?;
        assert!(windows.entries == 1 && windows.code != Gva(0) && windows.vcpu != Gva(0));
        assert!(windows.serves(CodeSize::Bits32) && windows.serves(CodeSize::Bits64));
        Ok(())
    }

    #[test]
    fn a_hole_out_of_reach_is_none() {
        let mut occupied = [true; ENTRIES];
        occupied[0..8].fill(false);
        assert_eq!(choose(&occupied, Gva(0xffff_ffff_9000_0000), CodeSize::Bits64), None);
        assert!(choose(&occupied, Gva(0xffff_ffff_7000_0000), CodeSize::Bits64).is_some());
        assert!(choose(&occupied, Gva(0x9000_0000), CodeSize::Bits32).is_some());
    }
}
