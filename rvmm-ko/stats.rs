// SPDX-License-Identifier: GPL-2.0
//! Counters of all VMs since the module was loaded (RVMM_GET_STATS).
//!
//! Locks: `REGISTRY`, then a VM's `values`; both are leaves to everything else.

use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{self, Arc, Mutex};
use kernel::uaccess::{UserPtr, UserSlice};
use rvmm_abi::{StatsKind, StatsRequest, StatsScope, STATS_VERSION};
use rvmm_arch::stats::{Counter, Stats, COUNTERS};
use rvmm_core::hot::{HotPlace, HOTTEST};
use rvmm_patcher::table::ROW_COUNT;
use rvmm_patcher::tactic::JumpRefusal;
use rvmm_patcher::{ScanCounts, SiteReason, Tactic};

/// Sites: for each row of the patcher's table one count per tactic.
const SITES: usize = ROW_COUNT * Tactic::ALL.len();
/// Reasons: of sites, then of refused jumps.
const REASONS: usize = SiteReason::ALL.len() + JumpRefusal::COUNT;

/// The hottest places, a key and a count each.
const HOT: usize = 2 * HOTTEST;
/// What can be added up over VMs.
const SUMMED: usize = COUNTERS + SITES + REASONS;

/// Counters, sites, reasons and the hottest places, in this order. Too many for the stack.
type Values = KVec<u64>;

fn zero() -> Result<Values> {
    Ok(KVec::from_elem(0, SUMMED + HOT, GFP_KERNEL)?)
}

/// The part of the values that a client asks for.
fn part(values: &[u64], kind: StatsKind) -> &[u64] {
    let (start, len) = match kind {
        StatsKind::Counters => (0, COUNTERS),
        StatsKind::Sites => (COUNTERS, SITES),
        StatsKind::Reasons => (COUNTERS + SITES, REASONS),
        StatsKind::Hottest => (SUMMED, HOT),
    };
    values.get(start..start + len).unwrap_or(&[])
}

/// A VM's counters as of its last return to the client, or a few accesses to devices before that.
#[pin_data]
pub(crate) struct VmStats {
    #[pin]
    values: Mutex<Values>,
}

struct Registry {
    /// Sum over the VMs that are gone.
    ended: Values,
    live: KVec<Arc<VmStats>>,
    last: Option<Arc<VmStats>>,
    made: u32,
}

sync::global_lock! {
    // SAFETY: initialised in the module's init before anything can open the device.
    unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

/// Called once, from module init; on failure too, [`exit`] must follow.
pub(crate) fn init() -> Result {
    // SAFETY: called exactly once, before any other use of the lock.
    unsafe { REGISTRY.init() };
    *REGISTRY.lock() = Some(Registry { ended: zero()?, live: KVec::new(), last: None, made: 0 });
    Ok(())
}

/// Called from module exit.
pub(crate) fn exit() {
    let registry = REGISTRY.lock().take();
    drop(registry);
}

impl VmStats {
    /// Counters of a new VM.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let zero = zero()?;
        let stats = Arc::pin_init(try_pin_init!(Self { values <- new_mutex!(zero) }), GFP_KERNEL)?;
        let mut guard = REGISTRY.lock();
        let registry = guard.as_mut().ok_or(ENODEV)?;
        registry.live.push(stats.clone(), GFP_KERNEL)?;
        let before = registry.last.replace(stats.clone());
        registry.made = registry.made.wrapping_add(1);
        drop(guard);
        drop(before);
        Ok(stats)
    }

    /// Replaces the counters: the engine's, those that the module keeps itself, the scanner's, and the hottest places.
    pub(crate) fn set(&self, stats: &Stats, own: &[(Counter, u64)], scans: Option<&ScanCounts>, hot: &[HotPlace]) {
        let mut values = self.values.lock();
        write(&mut values, 0.., stats.values());
        for (counter, value) in own {
            write(&mut values, *counter as usize.., &[*value]);
        }
        for (place, at) in hot.iter().zip((SUMMED..).step_by(2)) {
            write(&mut values, at.., &[place.key, place.count]);
        }
        let Some(scans) = scans else { return };
        // Verbatim instructions are not counted by row.
        for (tactic, rows) in [(Tactic::Int3, &scans.rows), (Tactic::Jump, &scans.jump_rows)] {
            write(&mut values, (COUNTERS + tactic.index()..).step_by(Tactic::ALL.len()), rows);
        }
        write(&mut values, COUNTERS + SITES.., &scans.sites);
        write(&mut values, COUNTERS + SITES + SiteReason::ALL.len().., &scans.jump_refusals);
    }

    /// The VM is gone: its counters go to the sum.
    pub(crate) fn end(this: &Arc<Self>) {
        let mut guard = REGISTRY.lock();
        let Some(registry) = guard.as_mut() else { return };
        if let Some(at) = registry.live.iter().position(|s| Arc::ptr_eq(s, this)) {
            add(&mut registry.ended, &this.values.lock());
            let gone = registry.live.remove(at);
            drop(guard);
            drop(gone);
        }
    }
}

/// Writes values to the places given.
fn write(values: &mut [u64], places: impl Iterator<Item = usize>, from: &[u64]) {
    for (at, value) in places.zip(from) {
        if let Some(place) = values.get_mut(at) {
            *place = *value;
        }
    }
}

fn copy(to: &mut [u64], values: &[u64]) {
    write(to, 0.., values);
}

/// Adds what can be added: places of different guests have nothing to do with each other.
fn add(sum: &mut [u64], values: &[u64]) {
    for (s, v) in sum.iter_mut().zip(values).take(SUMMED) {
        *s = s.wrapping_add(*v);
    }
}

/// The counters asked for, and how many VMs live and were made.
fn collect(vm: Option<&VmStats>, scope: StatsScope) -> Result<(Values, u32, u32)> {
    let mut sum = zero()?;
    let guard = REGISTRY.lock();
    let registry = guard.as_ref().ok_or(ENODEV)?;
    match (vm, scope) {
        (Some(stats), StatsScope::This) => {
            copy(&mut sum, &stats.values.lock());
            return Ok((sum, 1, 1));
        }
        (Some(_), StatsScope::Last) => return Err(EINVAL),
        (None, StatsScope::This) => {
            add(&mut sum, &registry.ended);
            for s in &registry.live {
                add(&mut sum, &s.values.lock());
            }
        }
        (None, StatsScope::Last) => {
            if let Some(stats) = &registry.last {
                copy(&mut sum, &stats.values.lock());
            }
        }
    }
    Ok((sum, registry.live.len() as u32, registry.made))
}

/// RVMM_GET_STATS on a VM (`Some`) or on the device.
pub(crate) fn get(vm: Option<&VmStats>, arg: usize) -> Result<isize> {
    let user = UserPtr::from_addr(arg);
    let mut bytes = [0_u8; 32];
    UserSlice::new(user, bytes.len()).reader().read_slice(&mut bytes)?;
    let mut request = parse(&bytes);
    let scope = StatsScope::from_raw(request.scope).ok_or(EINVAL)?;
    let kind = StatsKind::from_raw(request.kind).ok_or(EINVAL)?;
    let (values, live, made) = collect(vm, scope)?;
    let values = part(&values, kind);
    let room = request.count as usize;
    let mut out = UserSlice::new(UserPtr::from_addr(request.values as usize), room.saturating_mul(8)).writer();
    for v in values.iter().take(room) {
        out.write(v)?;
    }
    request.version = STATS_VERSION;
    request.count = values.len() as u32;
    request.live_vms = live;
    request.made_vms = made;
    UserSlice::new(user, bytes.len()).writer().write_slice(&format(&request))?;
    Ok(0)
}

fn parse(b: &[u8; 32]) -> StatsRequest {
    let u32_at = |at: usize| b.iter().skip(at).take(4).rev().fold(0_u32, |v, b| v << 8 | u32::from(*b));
    StatsRequest {
        version: u32_at(0),
        count: u32_at(4),
        scope: u32_at(8),
        kind: u32_at(12),
        values: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
        live_vms: 0,
        made_vms: 0,
    }
}

fn format(r: &StatsRequest) -> [u8; 32] {
    let words = [r.version, r.count, r.scope, r.kind, r.values as u32, (r.values >> 32) as u32, r.live_vms, r.made_vms];
    let mut out = [0; 32];
    for (to, from) in out.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    out
}
