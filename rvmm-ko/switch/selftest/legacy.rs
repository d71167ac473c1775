// SPDX-License-Identifier: GPL-2.0
//! The part of the world switch's own test for 32-bit guests: rings 1 and 3, 32-bit segments.

use super::{fill, Seen};
use crate::switch::cpu;
use crate::switch::enter::World;
use crate::switch::refused;
use crate::switch::slot::{SLOT_INDEX, TABLE_FLAGS};
use crate::sys::page::OwnedPage;
use crate::sys::task;
use kernel::prelude::*;
use rvmm_arch::host::{DescriptorTable, GuestContext, WorldExit};

/// Where the code page is in the guest world.
const CODE: u64 = 0x1000;
/// Each case's code starts at a multiple of this.
const CASE: usize = 16;
/// A selector of each kind: code and data for rings 1 and 3, and one whose descriptor is not present.
const CS1: u16 = 0x9;
const SS1: u16 = 0x11;
const CS3: u16 = 0x1b;
const SS3: u16 = 0x23;
const ABSENT: u16 = 0x29;

struct Case {
    name: &'static str,
    code: &'static [u8],
    cs: u16,
    ds: u16,
    flags: u64,
    exit: WorldExit,
    /// RIP relative to the start of the code.
    rip: u64,
    error: u32,
}

const fn case(name: &'static str, code: &'static [u8], exit: WorldExit, rip: u64, error: u32) -> Case {
    Case { name, code, cs: CS1, ds: SS1, flags: 0, exit, rip, error }
}

const CASES: &[Case] = &[
    case("nop; int3", &[0x90, 0xcc], WorldExit::Exception(3), 2, 0),
    Case { cs: CS3, ds: SS3, ..case("nop; int3 in ring 3", &[0x90, 0xcc], WorldExit::Exception(3), 2, 0) },
    case("cli", &[0xfa], WorldExit::Exception(13), 0, 0),
    case("int 0x80", &[0xcd, 0x80], WorldExit::Exception(13), 0, 0x402),
    case("ud2", &[0x0f, 0x0b], WorldExit::Exception(6), 0, 0),
    case("syscall", &[0x0f, 0x05], WorldExit::Exception(6), 0, 0),
    case("sysenter", &[0x0f, 0x34], WorldExit::Exception(13), 0, 0),
    case("out", &[0xe6, 0x80], WorldExit::Exception(13), 0, 0),
    case("read of an unmapped page", &[0xa1, 0x34, 0x52, 0x00, 0x00], WorldExit::Exception(14), 0, 0),
    case("write to the code page", &[0xa3, 0x00, 0x10, 0x00, 0x00], WorldExit::Exception(14), 0, 3),
    case(
        "far jump to a 64-bit segment of the VMM",
        &[0xea, 0, 0, 0, 0, 0x88, 0xff],
        WorldExit::Exception(13),
        0,
        0xff88,
    ),
    Case { flags: 0x100, ..case("single step", &[0x90, 0xcc], WorldExit::Exception(1), 1, 0) },
    Case {
        flags: 0x100,
        cs: CS3,
        ds: SS3,
        ..case("single step into sysenter", &[0x0f, 0x34], WorldExit::Exception(13), 0, 0)
    },
    Case { ds: ABSENT, ..case("ES not present", &[0x90], WorldExit::Refused(refused::FAULT[2] | 11), 0, 0x28) },
    Case { cs: ABSENT, ..case("CS not present", &[0x90], WorldExit::Refused(refused::FAULT[6] | 11), 0, 0x28) },
    Case {
        cs: 0x31,
        ..case("CS beyond the guest's table", &[0x90], WorldExit::Refused(refused::FAULT[6] | 13), 0, 0x30)
    },
];

/// Runs all cases `rounds` times, and one endless loop until as many host interrupts have come as a hundredth of that.
// Off the frame of its caller.
#[inline(never)]
pub(super) fn run(mut world: World, rounds: u32) -> Result {
    let mut tables = KVec::new();
    for _ in 0..world.area.slot().levels() {
        tables.push(OwnedPage::new()?, GFP_KERNEL)?;
    }
    let mut code = OwnedPage::new()?;
    // The endless loop: inc eax; jmp back.
    let looping = CASES.len().wrapping_mul(CASE);
    let looped: &[u8] = &[0x40, 0xeb, 0xfd];
    let mut places = code.bytes().chunks_mut(CASE);
    for bytes in CASES.iter().map(|c| c.code) {
        fill(places.next(), bytes);
    }
    fill(places.next(), looped);
    for pair in tables.windows(2) {
        if let [upper, lower] = pair {
            upper.write_entry(0, lower.phys() | TABLE_FLAGS | 4);
        }
    }
    let (Some(top), Some(last)) = (tables.first(), tables.last()) else { return Err(EINVAL) };
    top.write_entry(usize::from(SLOT_INDEX), world.area.guest_entry());
    // Present, user, accessed, read-only: rings 1 and 3 run it, neither writes it.
    last.write_entry((CODE >> 12) as usize, code.phys() | 0x25);

    let cr3 = top.phys();
    for (index, raw) in [
        (1, 0x00cf_bb00_0000_ffff),
        (2, 0x00cf_b300_0000_ffff),
        (3, 0x00cf_fb00_0000_ffff),
        (4, 0x00cf_f300_0000_ffff),
        (5, 0x00cf_3b00_0000_ffff_u64),
    ] {
        if !world.area.set_descriptor(DescriptorTable::Gdt, index, raw) {
            return Err(EINVAL);
        }
    }
    for raw in [0x00cf_9b00_0000_ffff, 0x00af_bb00_0000_ffff, 0x0000_e900_0000_0067_u64] {
        if world.area.set_descriptor(DescriptorTable::Gdt, 6, raw) {
            pr_err!("selftest: descriptor {:#x} was let through\n", raw);
            return Err(EINVAL);
        }
    }
    let mut seen = Seen::default();
    for round in 0..rounds {
        for (i, case) in CASES.iter().enumerate() {
            check(&mut world, case, CODE.wrapping_add(i.wrapping_mul(CASE) as u64), cr3, round, &mut seen)?;
        }
        if round % 16 == 0 {
            task::cond_resched();
        }
    }
    if let Some(first) = CASES.first() {
        let begin = cpu::rdtsc();
        for round in 0..rounds {
            check(&mut world, first, CODE, cr3, round, &mut seen)?;
        }
        let cycles = cpu::rdtsc().wrapping_sub(begin) / u64::from(rounds.max(1));
        let ns = cycles.wrapping_mul(1_000_000) / u64::from(task::tsc_khz().max(1));
        pr_info!("selftest: {} ns per round trip\n", ns);
    }
    let mut ctx = context(cr3, CODE.wrapping_add(looping as u64), CS1, SS1, SS1, 0);
    let on_the_way = seen.interrupts;
    while seen.interrupts.wrapping_sub(on_the_way) < rounds / 100 {
        let exit = world.enter(&mut ctx, None, None);
        if !seen.count(exit) {
            pr_err!("selftest: loop: {:?} at {:#x}\n", exit, ctx.rip);
            return Err(EIO);
        }
        task::cond_resched();
        if task::must_return() {
            return Err(EINTR);
        }
    }
    pr_info!("selftest: {} cases {} times, {} turns of a loop: all as expected\n", CASES.len(), rounds, ctx.gpr[0]);
    pr_info!(
        "selftest: {} CR3 loads, {} interrupts, {} NMIs from the guest world, {} in the switcher\n",
        world.cr3_loads,
        seen.interrupts,
        seen.nmis,
        world.switcher_events
    );
    Ok(())
}

fn context(cr3: u64, rip: u64, cs: u16, ss: u16, ds: u16, flags: u64) -> GuestContext {
    let mut ctx = GuestContext { cr3, rip, rflags: flags, ..GuestContext::default() };
    for (i, r) in ctx.gpr.iter_mut().enumerate() {
        *r = 0x1110_0000_u64.wrapping_add(i as u64);
    }
    ctx.sel = [ds, cs, ss, ds, 0, 0];
    ctx
}

fn check(world: &mut World, case: &Case, start: u64, cr3: u64, round: u32, seen: &mut Seen) -> Result {
    let ss = if case.cs & 3 == 3 { SS3 } else { SS1 };
    loop {
        let before = context(cr3, start, case.cs, ss, case.ds, case.flags);
        let mut ctx = before;
        let exit = world.enter(&mut ctx, None, None);
        if seen.count(exit) {
            continue;
        }
        let rip = start.wrapping_add(case.rip);
        let low = ctx.gpr.iter().zip(&before.gpr).take(8).all(|(a, b)| a == b);
        let cr2 = exit != WorldExit::Exception(14) || ctx.cr2 == 0x5234 || ctx.cr2 == 0x1000;
        if exit != case.exit || ctx.rip != rip || ctx.error != case.error || !low || !cr2 || ctx.sel != before.sel {
            pr_err!("selftest: {} in round {}: {:?}, wanted {:?}\n", case.name, round, exit, case.exit);
            pr_err!(
                "selftest: rip {:#x} (wanted {:#x}), error {:#x}, cr2 {:#x}, sel {:x?}, gpr {:x?}\n",
                ctx.rip,
                rip,
                ctx.error,
                ctx.cr2,
                ctx.sel,
                ctx.gpr
            );
            return Err(EIO);
        }
        return Ok(());
    }
}
