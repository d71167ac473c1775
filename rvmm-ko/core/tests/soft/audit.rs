//! What must hold of shadow tables whatever the guest does: looked at before an entry, and, where the guest's own tables are
//! known, compared with them by a walker of its own.

use rvmm_arch::host::GuestContext;
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::segment::{Descriptor, Selector};
use rvmm_arch::{Gva, Pfn, VcpuState};
use rvmm_core::segments::{PRIVATE_CS, PRIVATE_SS};

use super::walk::{frame_of, passed_on, present, reserved, Leaf};
use super::{SoftHost, PAGE_PFN};

/// Protection key of what may be executed but not read.
const VIEW_KEY: u32 = 1;

/// Is guest-kernel code about to run?
pub fn is_kernel(ctx: &GuestContext) -> bool {
    Selector(ctx.sel[1]).index() == PRIVATE_CS && !Selector(ctx.sel[1]).is_ldt()
}

/// The root last entered for one of the guest's modes.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    pub root: Pfn,
    /// How often that page had been given out.
    pub generation: u32,
    /// The guest's CR3.
    pub cr3: u64,
}

/// All leaves below a root: linear address and rights. The VMM's slot must be what the host said.
pub fn leaves(host: &mut SoftHost, root: Pfn) -> Vec<(Gva, Leaf)> {
    let levels = u32::from(host.features.paging_levels);
    let (slot, vmm) = host.features.vmm_slot;
    assert_eq!(host.entry(root, usize::from(slot)), vmm, "the VMM's slot in a root");
    let mut found = Vec::new();
    let mut tables = vec![(root, levels - 1, 0_u64, (true, true, true))];
    while let Some((table, level, base, (user, write, execute))) = tables.pop() {
        assert!(host.is_live(table), "a shadow table that was given back: {table:?} for {base:#x}");
        for index in 0..512 {
            let entry = host.entry(table, index);
            if !present(entry) || reserved(host, entry) || (level == levels - 1 && index == usize::from(slot)) {
                continue;
            }
            let la = base | (index as u64) << (12 + 9 * level);
            if level == 0 {
                let unused = 64 - (12 + 9 * levels);
                found.push((Gva(((la << unused) as i64 >> unused) as u64), Leaf::of(entry, user, write, execute)));
            } else {
                let (u, w, x) = passed_on(entry);
                tables.push((frame_of(entry), level - 1, la, (user && u, write && w, execute && x)));
            }
        }
    }
    found
}

/// What guest code about to run could reach.
pub fn tables(host: &mut SoftHost, ctx: &GuestContext) {
    let kernel = is_kernel(ctx);
    let ring = ctx.sel[1] & 3;
    // For a single step, and no longer, pages of the engine's own stand in for memory that guest code cannot be shown.
    let step = ctx.rflags & Rflags::TF.bits() != 0;
    let mut stand_ins = 0;
    for (la, leaf) in leaves(host, Pfn(ctx.cr3 >> 12)) {
        assert!(host.is_live(leaf.pfn), "{la:?} maps a page that was given back: {leaf:x?}");
        assert!(ctx.long != 0 || la.0 >> 32 == 0, "{la:?} is mapped for a 32-bit guest");
        let high = la.0 as i64 >> 47;
        assert!(high == 0 || high == -1, "{la:?} is mapped, which the guest's CPU has not");
        let own = leaf.pfn.0 >= PAGE_PFN;
        if step && own && leaf.key == 0 && (!kernel || leaf.execute || !leaf.write) {
            stand_ins += 1;
            assert!(stand_ins <= 2 && leaf.user == (!kernel || ring == 3), "a stand-in: {la:?} {leaf:x?}");
            continue;
        }
        if !kernel {
            assert!(leaf.user && leaf.key == 0 && !own, "in a user root: {la:?} {leaf:x?}");
            continue;
        }
        let user = ring == 3 || leaf.execute;
        assert_eq!(leaf.user, user, "U/S in a kernel root, ring {ring}: {la:?} {leaf:x?}");
        assert_eq!(leaf.execute, own && !leaf.write, "executable in a kernel root: {la:?} {leaf:x?}");
        // A CPU without protection keys ignores them (SDM vol. 3 §4.5.4).
        assert_eq!(leaf.key, if leaf.execute { VIEW_KEY } else { 0 }, "protection key: {la:?} {leaf:x?}");
    }
}

/// The descriptors that are not the guest's are not for its programs.
pub fn descriptors_of_mode(host: &SoftHost, ctx: &GuestContext) {
    if !is_kernel(ctx) {
        for index in [PRIVATE_CS, PRIVATE_SS] {
            let entry = Descriptor(host.gdt[usize::from(index)]);
            let reachable = entry.present() && (entry.dpl() == 3 || (entry.is_code() && entry.is_conforming()));
            assert!(!reachable, "a guest program can load rvmm's own descriptor {index}");
        }
    }
}

/// What guest code about to run could load into segment registers.
pub fn descriptors(host: &SoftHost, ctx: &GuestContext) {
    for (index, raw) in host.gdt.iter().chain(&host.ldt).enumerate() {
        let d = Descriptor(*raw);
        if !d.present() {
            continue;
        }
        assert!(d.is_code_or_data() && d.dpl() != 0, "shadow entry {index}: {raw:#x}");
        assert!(raw & Descriptor::ACCESSED != 0, "the CPU would write to shadow entry {index}: {raw:#x}");
        assert!(ctx.long != 0 || !d.is_code() || raw & Descriptor::LONG == 0, "L=1 in shadow entry {index}: {raw:#x}");
        assert!(ctx.long == 0 || d.dpl() == 3, "in long mode, shadow entry {index}: {raw:#x}");
    }
}

/// What the guest's own tables say of an address: frame, user, write (with the dirty bit), execute. `None`: nothing, or not accessed.
fn guest_walk(host: &SoftHost, cpu: &VcpuState, la: u64) -> Option<(u64, bool, bool, bool)> {
    let read = |at: u64, size: usize| {
        let bytes = host.ram.get(at as usize..at as usize + size)?;
        let mut entry = [0; 8];
        entry[..size].copy_from_slice(bytes);
        Some(u64::from_le_bytes(entry))
    };
    if !cpu.cr0.contains(Cr0::PG) {
        return Some((la >> 12, true, true, true));
    }
    // Per level, from the top: position of the index, its width, is a large page possible.
    let pae = cpu.cr4.contains(Cr4::PAE);
    let long = cpu.efer.contains(Efer::LMA);
    let levels: &[(u32, u32, bool)] = match (long, pae) {
        (true, _) => &[(39, 9, false), (30, 9, true), (21, 9, true), (12, 9, false)],
        (false, true) => &[(30, 2, false), (21, 9, true), (12, 9, false)],
        (false, false) => &[(22, 10, true), (12, 10, false)],
    };
    let size: usize = if pae { 8 } else { 4 };
    let large = pae || cpu.cr4.contains(Cr4::PSE);
    let mut table = match (long, pae) {
        (false, true) => cpu.cr3 & 0xffff_ffe0,
        (false, false) => cpu.cr3 & 0xffff_f000,
        _ => cpu.cr3 & 0x000f_ffff_ffff_f000,
    };
    let (mut user, mut write, mut execute) = (true, true, true);
    for (n, (shift, width, can_be_large)) in levels.iter().copied().enumerate() {
        let entry = read(table + ((la >> shift) & ((1 << width) - 1)) * size as u64, size)?;
        let pointer = !long && pae && n == 0;
        if entry & 1 == 0 || (!pointer && entry & 1 << 5 == 0) {
            return None;
        }
        if !pointer {
            user &= entry & 4 != 0;
            write &= entry & 2 != 0;
            execute &= !(pae && cpu.efer.contains(Efer::NXE) && entry >> 63 != 0);
        }
        let last = shift == 12 || (can_be_large && large && entry & 1 << 7 != 0);
        let address = entry & if pae { 0x000f_ffff_ffff_f000 } else { 0xffff_f000 };
        if last {
            let page = (1_u64 << shift) - 1;
            // PSE-36: bits 13 to 20 are address bits 32 to 39.
            let high = if !pae && shift == 22 { (entry >> 13 & 0xff) << 32 } else { 0 };
            let at = (address & !page) | high | (la & page);
            return Some((at >> 12, user, write && entry & 1 << 6 != 0, execute));
        }
        table = address;
    }
    None
}

/// The entries below a root that stand for nothing: an address in what each of them covers.
fn marks(host: &mut SoftHost, root: Pfn) -> Vec<u64> {
    let levels = u32::from(host.features.paging_levels);
    let slot = host.features.vmm_slot.0;
    let mut found = Vec::new();
    let mut tables = vec![(root, levels - 1, 0_u64)];
    while let Some((table, level, base)) = tables.pop() {
        for index in 0..512 {
            let entry = host.entry(table, index);
            if !present(entry) || (level == levels - 1 && index == usize::from(slot)) {
                continue;
            }
            let la = base | (index as u64) << (12 + 9 * level);
            if reserved(host, entry) {
                let unused = 64 - (12 + 9 * levels);
                found.push(((la << unused) as i64 >> unused) as u64);
            } else if level > 0 {
                tables.push((frame_of(entry), level - 1, la));
            }
        }
    }
    found
}

/// Does the walk of the guest's tables end at an entry that is not present?
fn is_absent(host: &SoftHost, cpu: &VcpuState, la: u64) -> bool {
    let wide = cpu.cr4.contains(Cr4::PAE);
    let (shifts, index, size): (&[u32], u64, usize) = match (cpu.long_mode(), wide) {
        (true, _) => (&[39, 30, 21, 12], 511, 8),
        (_, true) => (&[30, 21, 12], 511, 8),
        _ => (&[22, 12], 1023, 4),
    };
    let mut table = cpu.cr3 & if size == 8 && !cpu.long_mode() { 0xffff_ffe0 } else { 0x000f_ffff_ffff_f000 };
    for &shift in shifts {
        let at = (table + ((la >> shift) & index) * size as u64) as usize;
        let Some(bytes) = host.ram.get(at..at + size) else { return true };
        let entry = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if entry & 1 == 0 {
            return true;
        }
        // PS, which the two others know of always, and 32-bit paging with CR4.PSE.
        if entry & 1 << 7 != 0 && shift > 12 && (wide || cpu.cr4.contains(Cr4::PSE)) {
            return false;
        }
        table = entry & 0x000f_ffff_ffff_f000;
    }
    false
}

/// The trees last entered show nothing that the guest's tables do not: no other frame, and to programs no page of the kernel's.
/// Shadows are never stale, so this holds after every exit to the client.
pub fn against_guest(host: &mut SoftHost, cpu: &VcpuState) {
    for (kernel, entered) in [(true, host.entered[0]), (false, host.entered[1])] {
        let Some(Entered { root, generation, cr3 }) = entered else { continue };
        if cr3 != cpu.cr3 || host.generation(root) != generation || !host.is_live(root) {
            continue;
        }
        for la in marks(host, root) {
            assert!(!kernel && is_absent(host, cpu, la), "{la:#x} is marked as absent (kernel: {kernel})");
        }
        for (la, leaf) in leaves(host, root) {
            if leaf.pfn.0 >= PAGE_PFN && !leaf.execute {
                continue;
            }
            // Patch memory is where the guest has nothing.
            let Some((frame, user, write, execute)) = guest_walk(host, cpu, la.0) else {
                assert!(leaf.execute && kernel, "{la:?} {leaf:x?}: the guest has nothing there (kernel: {kernel})");
                continue;
            };
            if leaf.pfn.0 < PAGE_PFN {
                assert_eq!(leaf.pfn.0 - super::RAM_PFN, frame, "frame of {la:?}, kernel: {kernel}");
            }
            if !kernel {
                assert!(user, "a page of the guest's kernel in a user root: {la:?} {leaf:x?}");
                assert!(write || !leaf.write, "writable in a user root only: {la:?} {leaf:x?}");
                assert!(execute || !leaf.execute, "executable in a user root only: {la:?} {leaf:x?}");
            }
        }
    }
}
