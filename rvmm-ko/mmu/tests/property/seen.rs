//! How often each thing has happened, so that what the runs do not test is noticed.

use std::collections::BTreeMap;

use rvmm_mmu::GuestMode;

use crate::guest::MODES;

/// Times by paging mode and name.
pub type Seen = BTreeMap<(String, &'static str), u64>;

/// Has everything happened that can?
pub fn check_seen(seen: &Seen) {
    const ALWAYS: [&str; 14] = [
        "true",
        "hidden",
        "mmio",
        "tracked-view",
        "tracked-descriptor",
        "tracked-table",
        "view-fetch",
        "view-read",
        "view-write",
        "reached",
        "conflict",
        "leaf",
        "served",
        "not served",
    ];
    for mode in MODES {
        let at_least = |least, what| seen.get(&(format!("{mode:?}"), what)).is_some_and(|&n| n >= least);
        let often = |what| at_least(10, what);
        for what in ALWAYS.into_iter().chain(["host failure", "reached by a large page", "window", "patch-memory"]) {
            assert!(often(what), "{what} in {mode:?}: {seen:#?}");
        }
        for what in ["table written untold", "table moved"] {
            assert!(often(what), "{what} in {mode:?}: {seen:#?}");
        }
        // Reclaim leaves few of them where the pool is tiny.
        assert!(at_least(3, "old translation"), "in {mode:?}: {seen:#?}");
        let long = mode == GuestMode::FourLevel;
        assert_eq!((often("vmm-slot"), often("non-canonical")), (long, long), "{seen:#?}");
        assert!(often("marked"), "in {mode:?}: {seen:#?}");
    }
}
