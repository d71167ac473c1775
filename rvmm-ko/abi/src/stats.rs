//! Counters on their way to userspace. Their names are the arch crate's (`rvmm_arch::stats`), which client and module share.

/// The numbering of the counters: incremented when one changes its place, not when one is added at the end.
pub const STATS_VERSION: u32 = 1;

/// Argument of [`crate::GET_STATS`].
///
/// The module writes the first `count` values, or as many as it has, to `values`, and sets `version` and `count` to its own: a
/// client whose array was too small learns the number that it needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsRequest {
    /// Out: [`STATS_VERSION`].
    pub version: u32,
    /// In: room at `values`, in values. Out: values there are.
    pub count: u32,
    /// In: a [`StatsScope`] as a number. On a VM it must be [`StatsScope::This`].
    pub scope: u32,
    /// In: a [`StatsKind`] as a number.
    pub kind: u32,
    /// In: address of an array of 64-bit counts in the client's memory.
    pub values: u64,
    /// Out: VMs that exist now (on a VM: 1).
    pub live_vms: u32,
    /// Out: VMs made since the module was loaded (on a VM: 1).
    pub made_vms: u32,
}

/// Whose counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsScope {
    /// The VM of the file descriptor; on the device, the sum over all VMs since the module was loaded.
    This = 0,
    /// On the device: the VM made last, whether it still exists or not.
    Last = 1,
}

impl StatsScope {
    /// From a client's number.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(StatsScope::This),
            1 => Some(StatsScope::Last),
            _ => None,
        }
    }
}

/// Which array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsKind {
    /// `rvmm_arch`'s counters, in the order of `Counter::ALL`.
    Counters = 0,
    /// Patch sites: for each row of the patcher's table, one count per tactic in the order of `Tactic::ALL`.
    Sites = 1,
    /// Sites by reason in the order of the patcher's `SiteReason::ALL`, then refused jumps in that of `JumpRefusal::ALL`.
    Reasons = 2,
    /// The guest instructions that cost the most exits, in pairs: a linear address with the number of the counter that counted its exits
    /// in the upper 32 bits, and the exits. A pair of zeroes is unused. Of one VM only: not with [`StatsScope::This`] on the device.
    Hottest = 3,
}

impl StatsKind {
    /// From a client's number.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(StatsKind::Counters),
            1 => Some(StatsKind::Sites),
            2 => Some(StatsKind::Reasons),
            3 => Some(StatsKind::Hottest),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(size_of::<StatsRequest>(), 32);
        assert_eq!(offset_of!(StatsRequest, count), 4);
        assert_eq!(offset_of!(StatsRequest, scope), 8);
        assert_eq!(offset_of!(StatsRequest, kind), 12);
        assert_eq!(offset_of!(StatsRequest, values), 16);
        assert_eq!(offset_of!(StatsRequest, live_vms), 24);
        assert_eq!(offset_of!(StatsRequest, made_vms), 28);
    }

    #[test]
    fn numbers_come_back() {
        for scope in [StatsScope::This, StatsScope::Last] {
            assert_eq!(StatsScope::from_raw(scope as u32), Some(scope));
        }
        for kind in [StatsKind::Counters, StatsKind::Sites, StatsKind::Reasons, StatsKind::Hottest] {
            assert_eq!(StatsKind::from_raw(kind as u32), Some(kind));
        }
        assert_eq!(StatsScope::from_raw(2), None);
        assert_eq!(StatsKind::from_raw(4), None);
    }
}
