// SPDX-License-Identifier: GPL-2.0
//! Counters of all VMs since the module was loaded (RVMM_GET_STATS).
//!
//! Locks: `REGISTRY`, then a VM's `values`; both are leaves to everything else.

use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{self, Arc, Mutex};
use kernel::uaccess::{UserPtr, UserSlice};
use rvmm_abi::{StatsKind, StatsRequest, StatsScope, STATS_VERSION};
use rvmm_arch::stats::COUNTERS;

/// All counters in order.
pub(crate) type Values = [u64; COUNTERS];

/// A VM's counters as of its last return to the client.
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

/// Called once, from module init.
pub(crate) fn init() {
    // SAFETY: called exactly once, before any other use of the lock.
    unsafe { REGISTRY.init() };
    *REGISTRY.lock() = Some(Registry { ended: [0; COUNTERS], live: KVec::new(), last: None, made: 0 });
}

/// Called from module exit.
pub(crate) fn exit() {
    let registry = REGISTRY.lock().take();
    drop(registry);
}

impl VmStats {
    /// Counters of a new VM.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let stats = Arc::pin_init(try_pin_init!(Self { values <- new_mutex!([0; COUNTERS]) }), GFP_KERNEL)?;
        let mut guard = REGISTRY.lock();
        let registry = guard.as_mut().ok_or(ENODEV)?;
        registry.live.push(stats.clone(), GFP_KERNEL)?;
        let before = registry.last.replace(stats.clone());
        registry.made = registry.made.wrapping_add(1);
        drop(guard);
        drop(before);
        Ok(stats)
    }

    /// Replaces the counters.
    pub(crate) fn set(&self, values: &Values) {
        *self.values.lock() = *values;
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

fn add(sum: &mut Values, values: &Values) {
    for (s, v) in sum.iter_mut().zip(values) {
        *s = s.wrapping_add(*v);
    }
}

/// The counters asked for, and how many VMs live and were made.
fn collect(vm: Option<&VmStats>, scope: StatsScope) -> Result<(Values, u32, u32)> {
    let guard = REGISTRY.lock();
    let registry = guard.as_ref().ok_or(ENODEV)?;
    let values = match (vm, scope) {
        (Some(stats), StatsScope::This) => return Ok((*stats.values.lock(), 1, 1)),
        (Some(_), StatsScope::Last) => return Err(EINVAL),
        (None, StatsScope::This) => {
            let mut sum = registry.ended;
            for s in &registry.live {
                add(&mut sum, &s.values.lock());
            }
            sum
        }
        (None, StatsScope::Last) => registry.last.as_ref().map_or([0; COUNTERS], |s| *s.values.lock()),
    };
    Ok((values, registry.live.len() as u32, registry.made))
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
    let values: &[u64] = match kind {
        StatsKind::Counters => &values,
        StatsKind::Sites => &[],
    };
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
