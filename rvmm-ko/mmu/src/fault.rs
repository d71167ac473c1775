//! Tour 11/22, next: `rvmm-ko/core/src/code/exec.rs`.
//! A page fault in the guest world: whose is it?

use rvmm_arch::fault::{Exception, PageFaultCode};
use rvmm_arch::host::{Backing, HostError};
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::stats::{Counter, Stats};
use rvmm_arch::{Gpa, Gva, VcpuState};

use crate::gpte::Permissions;
use crate::links::{frame, EntryId};
use crate::map::{guest_leaf, leaf_write};
use crate::mmu::{Mmu, MmuError, MmuHost};
use crate::paging::{canonical, GuestMode, Paging};
use crate::pool::PageIndex;
use crate::role::{host_index, Context, Env, Space};
use crate::spte;
use crate::track::Reasons;
use crate::walk::{walk, Traces, Walk, Walked};

/// What a fault was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultOutcome {
    /// The guest's own: to be delivered to it.
    Guest(Exception),
    /// The shadow was behind; it no longer is. Enter again.
    Fixed,
    /// There is no RAM at this address, or it is read-only and the access is a write: a device access.
    Mmio {
        /// The address.
        gpa: Gpa,
    },
    /// A permitted write to a tracked frame: to be interpreted, then told to [`Mmu::guest_wrote`].
    TrackedWrite {
        /// The address.
        gpa: Gpa,
        /// Why the frame is tracked.
        reasons: Reasons,
    },
    /// A permitted instruction fetch in the kernel tree from a page without an execution view.
    NeedView {
        /// The address fetched from.
        gpa: Gpa,
        /// Its linear page.
        page: Gva,
    },
    /// A permitted data access to a linear page that holds an execution view: to be interpreted.
    ViewAccess {
        /// The address.
        gpa: Gpa,
        /// It is a write.
        write: bool,
    },
    /// An access to patch memory that its page does not allow. The guest has nothing there, so interpreting the
    /// instruction gives it its fault.
    Overlay,
    /// A permitted access under the entry of the top table that belongs to the VMM area, on a host with no more levels than
    /// the guest: no shadow can be there. To be interpreted; a write to a tracked frame then is told to
    /// [`Mmu::guest_wrote`] like any.
    Slot {
        /// The address.
        gpa: Gpa,
    },
    /// An address that the host's five levels translate and the guest's four do not. Interpreting the instruction gives it its
    /// #GP or #SS.
    NonCanonical,
}

impl FaultOutcome {
    /// In a word, for the trace.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Guest(_) => "true",
            Self::Fixed => "hidden",
            Self::Mmio { .. } => "mmio",
            Self::TrackedWrite { reasons, .. } if reasons.contains(Reasons::VIEW) => "tracked-view",
            Self::TrackedWrite { reasons, .. } if reasons.contains(Reasons::DESCRIPTOR) => "tracked-descriptor",
            Self::TrackedWrite { .. } => "tracked-table",
            Self::NeedView { .. } => "view-fetch",
            Self::ViewAccess { write: false, .. } => "view-read",
            Self::ViewAccess { write: true, .. } => "view-write",
            Self::Overlay => "patch-memory",
            Self::Slot { .. } => "vmm-slot",
            Self::NonCanonical => "non-canonical",
        }
    }

    /// Where the guest's tables lead, if that matters for the outcome.
    #[must_use]
    pub fn gpa(&self) -> Option<Gpa> {
        match *self {
            Self::Mmio { gpa }
            | Self::TrackedWrite { gpa, .. }
            | Self::NeedView { gpa, .. }
            | Self::ViewAccess { gpa, .. }
            | Self::Slot { gpa } => Some(gpa),
            Self::Guest(_) | Self::Fixed | Self::Overlay | Self::NonCanonical => None,
        }
    }
}

impl Mmu {
    /// Decides on the #PF with hardware error code `code` at `gva` (CR2), raised in the guest world under the root of
    /// `cpu`, `space` and `env`, and does what can be done about it here. Accessed and dirty bits are set as the access
    /// would set them.
    ///
    /// # Errors
    /// The host failed even after reclaim, the paging mode is not supported, or no guest can touch `gva`.
    #[allow(clippy::too_many_arguments)]
    pub fn fault<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        space: Space,
        env: Env,
        gva: Gva,
        code: PageFaultCode,
    ) -> Result<FaultOutcome, MmuError> {
        let outcome = self.find_out(host, stats, cpu, space, env, gva, code)?;
        match outcome {
            FaultOutcome::Guest(_) => stats.count(Counter::PageFaultTrue),
            FaultOutcome::Fixed => stats.count(Counter::PageFaultHidden),
            _ => {}
        }
        Ok(outcome)
    }

    /// The same, but for the counts of outcomes. What it does for any outcome but `Fixed` may be done twice.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn find_out<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        cpu: &VcpuState,
        space: Space,
        env: Env,
        gva: Gva,
        code: PageFaultCode,
    ) -> Result<FaultOutcome, MmuError> {
        let context = self.context(cpu, space, env).ok_or(MmuError::UnsupportedPaging)?;
        if context.mode != GuestMode::FourLevel {
            if gva.0 >> 32 != 0 {
                return Err(MmuError::BadAddress);
            }
        } else if !canonical(gva) {
            return Ok(FaultOutcome::NonCanonical);
        }
        let root = self.root_page(host, stats, &context)?;
        self.reserve(host, stats, usize::from(self.top()))?;
        if self.overlay_reaches(host, &context, gva)? {
            return self.overlay_fault(host, stats, &context, root, gva, code);
        }
        let access = access_of(code, space);
        let paging = Paging::of(cpu, self.config.guest_physical_bits);
        match walk(host, &paging, gva, access, Traces::Set)?.ok_or(MmuError::UnsupportedPaging)? {
            Walked::Fault(code) => {
                self.table_used(root, gva);
                // The fault forgets what the CPU knew of this page (SDM vol. 3 §4.10.4.1).
                self.sync_page_of(host, gva);
                self.await_entry(&context, gva);
                Ok(FaultOutcome::Guest(Exception::page_fault(code, gva.0)))
            }
            Walked::Mapped(walk) => {
                if self.in_vmm_slot(gva) {
                    return Ok(FaultOutcome::Slot { gpa: walk.gpa });
                }
                self.resolve(host, stats, &context, root, gva, (access.kind, &walk))
            }
        }
    }

    /// A fault of the guest's own is a use of the table that it ended in: what follows are its repairs, not data.
    pub(crate) fn table_used(&mut self, root: PageIndex, gva: Gva) {
        let table = self.lookup(root, gva).and_then(|id| self.pool.get(PageIndex(id.page())));
        if let Some(writes) = table.map(|p| p.key.gfn).and_then(|gfn| self.pool.table_writes(gfn)) {
            *writes = 0;
        }
    }

    /// The guest permits the access: what keeps the shadow from permitting it?
    fn resolve<H: MmuHost + ?Sized>(
        &mut self,
        host: &mut H,
        stats: &mut Stats,
        context: &Context,
        root: PageIndex,
        gva: Gva,
        (kind, walk): (AccessKind, &Walk),
    ) -> Result<FaultOutcome, MmuError> {
        let gpa = walk.gpa;
        let gfn = gpa.frame();
        let write = kind == AccessKind::Write;
        let Backing::Ram { pfn, readonly } = host.backing(gfn)? else {
            return Ok(FaultOutcome::Mmio { gpa });
        };
        if write && readonly {
            return Ok(FaultOutcome::Mmio { gpa });
        }
        let leaf = self.lookup(root, gva);
        let has_view =
            leaf.is_some_and(|id| self.links.target(id) == Some(frame(gfn)) && self.read(host, id) & spte::VIEW != 0);
        if has_view && kind != AccessKind::Fetch {
            return Ok(FaultOutcome::ViewAccess { gpa, write });
        }
        if context.space == Space::Kernel && kind == AccessKind::Fetch && !has_view {
            return Ok(FaultOutcome::NeedView { gpa, page: gva.page() });
        }
        let (led, known) = (leaf.is_some(), self.first_leaf(gfn).is_some());
        let mut let_go = false;
        if write {
            let reasons = self.reasons(gfn);
            let_go = reasons == Reasons::TABLE && self.let_go(host, gfn);
            if !reasons.is_empty() && !let_go {
                return Ok(FaultOutcome::TrackedWrite { gpa, reasons });
            }
        }
        let table = self.path(host, stats, context, root, gva, (1, walk))?;
        if has_view {
            // Only something above the leaf was missing, and now is there.
            stats.count(Counter::HiddenTable);
            return Ok(FaultOutcome::Fixed);
        }
        // The path may have come to use this very frame as a table.
        let reasons = self.reasons(gfn);
        if write && !reasons.is_empty() {
            return Ok(FaultOutcome::TrackedWrite { gpa, reasons });
        }
        let source = self.pool.get(table).ok_or(HostError::NoMemory)?.key.role.source;
        // The permissions of the upper levels are in the shadow's upper levels.
        let own = walk.step(1).map_or(Permissions::ALL, |s| s.permissions);
        let write = leaf_write(context, source, own.write, walk.dirty) && !readonly && reasons.is_empty();
        let leaf = guest_leaf(context, pfn, write, own.execute);
        let id = EntryId::new(table.0, host_index(gva, 1));
        self.set_leaf(host, id, leaf, gfn);
        self.map_around(host, context, id);
        self.fill_around(host, id, gva);
        if !let_go {
            stats.count(match (led, known) {
                _ if walk.recorded => Counter::HiddenRecorded,
                (_, false) => Counter::HiddenNew,
                (false, true) => Counter::HiddenTable,
                (true, true) => Counter::HiddenPresent,
            });
        }
        Ok(FaultOutcome::Fixed)
    }
}

/// The access that a hardware error code tells of.
fn access_of(code: PageFaultCode, space: Space) -> Access {
    let kind = if code.contains(PageFaultCode::I) {
        AccessKind::Fetch
    } else if code.contains(PageFaultCode::W) {
        AccessKind::Write
    } else {
        AccessKind::Read
    };
    // The U bit of the hardware's code says no more than the ring does: the kernel tree serves the guest's kernel, in ring 1 or
    // 3, the user tree its programs.
    let privilege = match space {
        Space::Kernel => Privilege::Supervisor,
        Space::User => Privilege::User,
    };
    Access { kind, privilege }
}
