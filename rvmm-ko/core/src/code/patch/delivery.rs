//! The page behind the vCPU page: the blocks that push the frames of events, and the one that loads null selectors again.

use rvmm_arch::host::{Host, HostPage};
use rvmm_arch::{Gva, VcpuState, PAGE_SIZE};
use rvmm_mmu::{Mmu, MmuError};
use rvmm_patcher::block;
use rvmm_patcher::CodeSize;

use super::vcpu_page::RELOAD;
use super::{size_of, PatchArea, Windows, CODE_PAGE, INT3};

/// Offset of the block that loads null selectors again, behind those that push frames.
const RELOAD_AT: u64 = 128;
const _: () = assert!(RELOAD_AT as usize + block::RELOAD_BYTES <= PAGE_SIZE as usize);

impl PatchArea {
    /// The blocks that push the frames of events, and for a 64-bit kernel the one that loads null selectors again, on the page behind the
    /// vCPU page.
    pub(super) fn place_delivery<H: Host>(
        &mut self,
        mmu: &mut Mmu,
        host: &mut H,
        cpu: &VcpuState,
        windows: &Windows,
    ) -> Result<(), MmuError> {
        let page = match self.delivery {
            Some((page, _)) => page,
            None => host.alloc_page().map_err(MmuError::Host)?,
        };
        self.delivery = Some((page, size_of(cpu)));
        Self::write_delivery(host, windows, page, size_of(cpu));
        mmu.install_overlay_page(host, Self::delivery_at(windows), host.pfn(page), CODE_PAGE)
    }

    fn write_delivery<H: Host>(host: &mut H, windows: &Windows, page: HostPage, size: CodeSize) {
        let at = Self::delivery_at(windows);
        let code = host.bytes(page);
        code.fill(INT3);
        // Always in reach, being the next page.
        let _near = block::deliver(&Self::layout(windows), size, at.0, code);
        if let Some(code) = code.get_mut(RELOAD_AT as usize..).filter(|_| size == CodeSize::Bits64) {
            let words = windows.vcpu.0.wrapping_add(RELOAD.into());
            let _near = block::reload(words, at.0.wrapping_add(RELOAD_AT), code);
        }
    }

    /// Windows below 4 GiB that were placed for 32-bit code serve 64-bit code as well, and blocks of either size: these must be the kernel's.
    pub fn refit_delivery<H: Host>(&mut self, host: &mut H, cpu: &VcpuState) {
        let (size, windows) = (size_of(cpu), self.windows);
        if let (Some(windows), Some((page, written))) = (windows, &mut self.delivery) {
            if *written != size {
                *written = size;
                Self::write_delivery(host, &windows, *page, size);
            }
        }
    }

    const fn delivery_at(windows: &Windows) -> Gva {
        Gva(windows.vcpu.0.wrapping_add(PAGE_SIZE))
    }

    /// Where the block is that pushes the frame of an event with an error code, and the one without.
    pub fn delivery(&self) -> Option<[u64; 2]> {
        let (windows, _) = (self.windows.as_ref()?, self.delivery?);
        let at = Self::delivery_at(windows).0;
        Some([at, at.wrapping_add(block::WITHOUT_ERROR)])
    }

    /// Is `rip` in one of those blocks?
    pub fn delivers(&self, rip: u64) -> bool {
        self.delivery().is_some_and(|[at, _]| rip.wrapping_sub(at) < RELOAD_AT)
    }

    /// Where the block is that loads null selectors again.
    fn reload_at(&self) -> Option<u64> {
        let (_, size) = self.delivery?;
        let [at, _] = self.delivery().filter(|_| size == CodeSize::Bits64 && self.ring == 3)?;
        Some(at.wrapping_add(RELOAD_AT))
    }

    /// Is there such a block?
    pub fn can_reload(&self) -> bool {
        self.reload_at().is_some()
    }

    /// Is `rip` in it?
    pub fn reloads(&self, rip: u64) -> bool {
        self.reload_at().is_some_and(|at| rip.wrapping_sub(at) < block::RELOAD_BYTES as u64)
    }

    /// Puts what it loads into the vCPU page. Where to enter.
    pub fn lend_reload<H: Host>(&self, host: &mut H, what: &block::Reload) -> Option<u64> {
        let (words, entry) = what.words(self.reload_at()?);
        for (word, at) in words.into_iter().zip((RELOAD..).step_by(8)) {
            self.set_wide_field(host, at, word);
        }
        Some(entry)
    }
}
