//! A random guest in all paging modes against two references: the CPU's walk of the shadow tables (never more than the guest
//! permits, and after "fixed" exactly the access), and the guest walk by itself on a copy of memory (the same faults, the
//! same accessed and dirty bits). Here: the runs.
#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod expect;
mod guest;
mod history;
mod seen;
mod steps;
mod world;
mod writes;

use common::BEYOND;
use rvmm_arch::host::{HostError, HostPages};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gva, Model, PageFaultCode};
use rvmm_mmu::{GuestMode, MmuError, Space};
use seen::{check_seen, Seen};
use world::{Setting, World};

fn run(set: Setting, steps: u32, seen: &mut Seen) -> Stats {
    let mut world = World::new(set);
    for _ in 0..steps {
        world.step();
        assert!(world.machine.mmu.shadow_pages() <= set.max_shadow_pages);
    }
    let stats = world.machine.stats.clone();
    world.machine.mmu.free_all(&mut world.machine.host);
    assert_eq!(world.machine.host.live(), 0, "{set:?}: pages leaked");
    assert_eq!(world.machine.mmu.shadow_pages(), 0);
    for (what, times) in world.seen {
        *seen.entry(what).or_default() += times;
    }
    stats
}

/// The circumstances that follow from a seed: hosts, models, widths and modes in turn.
fn setting(seed: u64) -> Setting {
    let modes = [Some(GuestMode::TwoLevel), Some(GuestMode::Pae), Some(GuestMode::FourLevel), None];
    Setting {
        seed,
        levels: 4 + (seed & 1) as u8,
        model: if seed & 2 == 0 { Model::Ring1 } else { Model::Ring3 },
        mode: modes[(seed >> 2) as usize & 3],
        physical_bits: [36, 40, 46, 52][(seed >> 4) as usize & 3],
        max_shadow_pages: 1024,
        quota: 2000,
        prefill: seed % 5 != 0,
        unsync: seed % 3 != 0,
        absent: if seed % 7 == 1 { 0 } else { BEYOND },
    }
}

/// Seeds for each test; SEEDS in the environment for more, SEED for that one alone.
fn seeds() -> u64 {
    std::env::var("SEEDS").map_or(64, |n| n.parse().unwrap())
}

/// The only seed to look at.
fn only() -> Option<u64> {
    std::env::var("SEED").ok().map(|n| n.parse().unwrap())
}

const STEPS: u32 = 1500;

fn run_all(first: u64, max_shadow_pages: u32, quota: usize) -> u64 {
    let mut seen = Seen::new();
    let mut reclaims = 0;
    for seed in first..first + seeds() {
        if only().is_some_and(|only| only != seed) {
            continue;
        }
        let stats = run(Setting { max_shadow_pages, quota, ..setting(seed) }, STEPS, &mut seen);
        reclaims += stats.get(Counter::ShadowReclaims);
    }
    if std::env::var_os("SEEN").is_some() {
        println!("{seen:#?}");
    }
    if only().is_none() {
        check_seen(&seen);
    }
    reclaims
}

#[test]
fn plenty_of_memory() {
    // Some, where the host fails.
    assert!(run_all(0, 1024, 2000) < 100 * seeds());
}

#[test]
fn a_tiny_pool() {
    assert!(run_all(1 << 20, 64, 300) > 10 * seeds());
}

#[test]
fn a_tiny_quota_of_the_host() {
    assert!(run_all(2 << 20, 256, 34) > 100 * seeds());
}

#[test]
fn no_memory_at_all_is_an_error_and_loses_nothing() {
    let mut world = World::new(Setting { quota: 3, max_shadow_pages: 64, ..setting(1) });
    let fault = world.machine.handle(Space::Kernel, Gva(0), PageFaultCode::empty());
    assert_eq!(fault, Err(MmuError::Host(HostError::NoMemory)));
    world.machine.host.quota = 100;
    for _ in 0..200 {
        world.step();
    }
    world.machine.mmu.free_all(&mut world.machine.host);
    assert_eq!(world.machine.host.live(), 0);
    let page = world.machine.host.alloc_page().unwrap();
    world.machine.host.free_page(page);
}
