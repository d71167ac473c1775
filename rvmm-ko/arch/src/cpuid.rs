//! What of the host's CPU decides whether and how guests run, read from CPUID leaf 7 (SDM vol. 2). The module and `rvmm check` decide
//! by these same facts: /proc/cpuinfo tells others, since a host booted with `clearcpuid=smap` has SMAP and does not use it.

/// Features of leaf 7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leaf7 {
    /// FSGSBASE.
    pub fsgsbase: bool,
    /// SMAP, whether the host uses it or not.
    pub smap: bool,
    /// UMIP, likewise.
    pub umip: bool,
    /// Protection keys for user pages, switched on by the host (OSPKE, which is CR4.PKE).
    pub pku: bool,
}

impl Leaf7 {
    /// Asks `cpuid`, which takes a leaf and gives EAX, EBX, ECX, EDX of its first subleaf. CPUs without the leaf may answer with
    /// another's.
    pub fn read(cpuid: impl Fn(u32) -> [u32; 4]) -> Self {
        let [highest, ..] = cpuid(0);
        if highest < 7 {
            return Self::default();
        }
        let [_, ebx, ecx, _] = cpuid(7);
        Self { fsgsbase: ebx & 1 != 0, smap: ebx >> 20 & 1 != 0, umip: ecx >> 2 & 1 != 0, pku: ecx >> 4 & 1 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protection_keys_count_only_when_switched_on() {
        let with = |ebx, ecx| Leaf7::read(move |leaf| if leaf == 7 { [0, ebx, ecx, 0] } else { [13, 0, 0, 0] });
        assert!(!with(0, 1 << 3).pku && with(0, 1 << 4).pku);
        assert!(with(1 << 20, 0).smap && !with(1 << 20, 0).pku);
        assert!(with(0, 1 << 2).umip && with(1, 0).fsgsbase);
    }

    #[test]
    fn a_cpu_without_the_leaf_has_none_of_it() {
        assert_eq!(Leaf7::read(|leaf| if leaf == 0 { [5, 0, 0, 0] } else { [u32::MAX; 4] }), Leaf7::default());
    }
}
