//! Where windows can be: what the address spaces known have taken.

use rvmm_arch::host::HostError;
use rvmm_arch::{Gpa, Gva, VcpuState};

use super::claim::{addressable, has_memory};
use super::WINDOW_BITS;
use crate::gpte::Entry;
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::GuestMode;
use crate::pool::PageIndex;
use crate::role::{Context, Env, Role, Source, Space};
use crate::walk::probe;

/// The 4 MiB units of 4 GiB of linear space: true for those that are taken.
pub type Occupied = [bool; 1024];

impl Mmu {
    /// Which 4 MiB units from `base` on (a 4 GiB boundary) the current address space or any that is cached maps; with paging off, those
    /// with memory. `false` where no window can be.
    ///
    /// # Errors
    /// Guest memory cannot be read, or the paging mode is not supported.
    pub fn occupied<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        cpu: &VcpuState,
        base: Gva,
        present: &mut Occupied,
    ) -> Result<bool, MmuError> {
        let context = self.context(cpu, Space::Kernel, Env(0)).ok_or(MmuError::UnsupportedPaging)?;
        let base = Gva(base.0 & !0xffff_ffff);
        if self.out_of_reach(context.mode, base) {
            return Ok(false);
        }
        present.fill(false);
        if context.mode == GuestMode::Off {
            for (mark, start) in present.iter_mut().zip((base.0..).step_by(1 << WINDOW_BITS)) {
                *mark = has_memory(host, Gva(start));
            }
        } else {
            self.mark_present(host, &context, base, present)?;
        }
        for i in 0..self.pool.capacity() {
            let Some(key) = self.pool.get(PageIndex(i)).map(|p| p.key) else { continue };
            let Role { level, mode, source, place, .. } = key.role;
            if level == self.top() && mode != GuestMode::Off && source != Source::Overlay && addressable(mode, base) {
                let part = if mode == GuestMode::Pae { u64::from(place) << 5 } else { 0 };
                let root = Context { table: key.gfn.base().add(part), ..self.context_of(&key) };
                self.mark_present(host, &root, base, present)?;
            }
        }
        Ok(true)
    }

    fn mark_present<H: MmuHost + ?Sized>(
        &self,
        host: &mut H,
        context: &Context,
        base: Gva,
        present: &mut Occupied,
    ) -> Result<(), MmuError> {
        let paging = self.paging_in(context);
        for (gigabyte, marks) in present.chunks_exact_mut(256).enumerate() {
            let start = base.add((gigabyte as u64) << 30);
            let (walk, last) = probe(host, &paging, context.mode, start)?;
            let Some((end, above)) = walk.steps().split_last() else { continue };
            let above = if end.level < 2 { above.split_last().map_or(above, |(_, above)| above) } else { above };
            let permits = above.iter().all(|s| s.permissions.write && s.permissions.execute);
            if end.level > 2 || !permits {
                if last != Entry::NotPresent || !permits {
                    marks.fill(true);
                }
                continue;
            }
            let Some(directory) = walk.step(2).map(|s| s.at) else { continue };
            mark_directory(host, context.mode, directory, marks)?;
        }
        Ok(())
    }
}

/// Marks what the directory entries of a gigabyte map, from the one at `at` on.
fn mark_directory<H: MmuHost + ?Sized>(
    host: &mut H,
    mode: GuestMode,
    at: Gpa,
    marks: &mut [bool],
) -> Result<(), HostError> {
    // Of 32-bit paging one entry of 4 bytes is a window, else two of 8.
    let (entry, unit) = if mode == GuestMode::TwoLevel { (4, 4) } else { (8, 16) };
    let mut buf = [0; 64];
    for (i, marks) in marks.chunks_mut(64 / unit).enumerate() {
        if host.read_ram(at.add(i as u64 * 64), &mut buf)? {
            for (mark, entries) in marks.iter_mut().zip(buf.chunks_exact(unit)) {
                *mark |= entries.iter().step_by(entry).any(|low| low & 1 != 0);
            }
        }
    }
    Ok(())
}
