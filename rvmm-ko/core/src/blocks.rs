//! Tour 20/22, next: `rvmm-ko/mmu/src/sync.rs`.
//! Entering guest-kernel code with patch blocks in it, and leaving it at a guest boundary.
//!
//! Wherever the CPU stopped in a block, it is taken to the boundary before the guest instruction (if the block had not
//! committed its effect) or behind it, so that nothing else needs to know of blocks.

use rvmm_arch::host::{GuestContext, Host, WorldExit};
use rvmm_arch::regs::{gpr, Rflags};
use rvmm_arch::segment::SegReg;
use rvmm_arch::Gva;
use rvmm_patcher::block::BlockState;
use rvmm_patcher::CodeSize;

use crate::client::ClientExit;
use crate::code::{code_size, has_blocks, Returns, Waits, BLOCKS64};
use crate::direct::Mode;
use crate::vcpu::Vcpu;

/// The number of R11.
const R11: usize = 11;

/// Where guest-kernel code was when it stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// In guest code.
    Guest,
    /// In a block, which asked for an exit.
    Asked,
    /// In a block, at some other exit.
    Block,
}

impl Vcpu {
    /// Before an entry: lends the virtual flags to the blocks, and goes to where the next instruction was moved.
    pub(crate) fn lend_to_blocks<H: Host>(&mut self, host: &mut H, mode: Mode, ctx: &mut GuestContext) {
        // Good for this entry only, whatever it enters.
        let resume = self.parts.code.resume.take();
        if mode == Mode::User || !has_blocks(self.env()) {
            return;
        }
        let (waits, returns) = (self.waits(), self.returns());
        let writable = self.parts.verw.writable(&self.parts.segments);
        let code = &mut self.parts.code;
        code.patch.lend(host, &self.state, waits, returns, writable);
        if let Some((at, address)) = resume {
            if at == Gva(ctx.rip) {
                ctx.rip = address;
            }
        }
    }

    /// Does anything wait for the guest to open interrupts?
    pub(crate) fn waits(&self) -> Waits {
        if self.pending.interrupt.is_some() || self.pending.nmi || self.window_wanted {
            Waits::Event
        } else {
            Waits::Nothing
        }
    }

    /// Is an IRET to the guest's own CS, and from 64-bit code to its own SS, no more than RIP, RSP and flags? Not if it would switch
    /// tasks (NT) or open NMIs, and not if a descriptor that it would load is no longer, or not known to be, what the register holds.
    /// None of that changes without an exit: the flags come from the VMM only, and the descriptors' frames are write-tracked.
    pub(crate) fn returns(&self) -> Returns {
        let more = self.state.rflags.contains(Rflags::NT) || self.state.nmi_blocked;
        let idle = |reg| self.parts.segments.reload_is_idle(self.state.segment(reg));
        if more || !idle(SegReg::Cs) || self.env() == BLOCKS64 && !idle(SegReg::Ss) {
            Returns::Vmm
        } else {
            Returns::Native
        }
    }

    /// After an exit: registers to a guest boundary, in `ctx`. To be called before they are stored.
    pub(crate) fn leave_blocks<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        exit: WorldExit,
        ctx: &mut GuestContext,
    ) -> Left {
        if mode == Mode::User || !has_blocks(self.env()) {
            return Left::Guest;
        }
        let asked = exit == WorldExit::Exception(3);
        // What 32-bit code leaves in the upper halves of registers is not defined.
        let mask = if code_size(self.env()) == CodeSize::Bits64 { u64::MAX } else { 0xffff_ffff };
        let rip = ctx.rip.wrapping_sub(u64::from(asked)) & mask;
        let patch = &mut self.parts.code.patch;
        if !patch.contains(rip) {
            return Left::Guest;
        }
        let mut state = BlockState {
            rax: ctx.gpr[gpr::RAX] & mask,
            rcx: ctx.gpr[gpr::RCX] & mask,
            r11: ctx.gpr[R11],
            rsp: ctx.gpr[gpr::RSP] & mask,
            rip,
            rflags: ctx.rflags,
            ..BlockState::default()
        };
        if !patch.recover(host, rip, &mut state) {
            // The guest jumped here by itself. Its own tables map nothing here, and the interpreter will find that out.
            return Left::Guest;
        }
        ctx.gpr[gpr::RAX] = state.rax;
        ctx.gpr[gpr::RCX] = state.rcx;
        ctx.gpr[R11] = state.r11;
        ctx.gpr[gpr::RSP] = state.rsp;
        ctx.rip = state.rip;
        ctx.rflags = state.rflags;
        if asked {
            Left::Asked
        } else {
            Left::Block
        }
    }

    /// Was the instruction at RIP moved into a block, so that the CPU met a byte of the jump there (one that traps)? Then the
    /// next entry goes to the block.
    pub(crate) fn moved<H: Host>(&mut self, host: &mut H) -> Result<bool, ClientExit> {
        if !has_blocks(self.env()) {
            return Ok(false);
        }
        self.resume_at(host)?;
        Ok(self.parts.code.resume.is_some())
    }

    /// After the registers were stored: the virtual flags come back.
    pub(crate) fn take_from_blocks<H: Host>(&mut self, host: &mut H, mode: Mode) {
        if mode == Mode::Kernel && has_blocks(self.env()) {
            self.parts.code.patch.take_back(host, &mut self.state);
        }
    }
}
