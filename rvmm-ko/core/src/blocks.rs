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

use crate::client::ClientExit;
use crate::code::{Returns, Waits, BLOCKS};
use crate::direct::Mode;
use crate::vcpu::Vcpu;

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
        if mode == Mode::User || self.env() != BLOCKS {
            return;
        }
        let waits = if self.pending.interrupt.is_some() || self.pending.nmi || self.window_wanted {
            Waits::Event
        } else {
            Waits::Nothing
        };
        let returns = self.returns();
        let code = &mut self.parts.code;
        code.patch.lend(host, &self.state, waits, returns);
        if let Some((at, address)) = resume {
            if at == Gva(ctx.rip) {
                ctx.rip = address;
            }
        }
    }

    /// Is an IRET to the guest's own CS no more than EIP, ESP and flags? Not if it would switch tasks (NT) or open NMIs, and not if the descriptor that it would load is no longer, or not known to be, what CS holds. None of that
    /// changes without an exit: the flags come from the VMM only, and the descriptor's frame is write-tracked.
    fn returns(&self) -> Returns {
        let more = self.state.rflags.contains(Rflags::NT) || self.state.nmi_blocked;
        if more || !self.parts.segments.matches(SegReg::Cs, self.state.segment(SegReg::Cs)) {
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
        if mode == Mode::User || self.env() != BLOCKS {
            return Left::Guest;
        }
        let asked = exit == WorldExit::Exception(3);
        let eip = ctx.rip.wrapping_sub(u64::from(asked)) & 0xffff_ffff;
        let patch = &mut self.parts.code.patch;
        if !patch.contains(eip) {
            return Left::Guest;
        }
        let mut state = BlockState {
            eax: ctx.gpr[gpr::RAX] as u32,
            ecx: ctx.gpr[gpr::RCX] as u32,
            esp: ctx.gpr[gpr::RSP] as u32,
            eip: eip as u32,
            eflags: ctx.rflags as u32,
            vif: 0,
            vflags: 0,
            shadow: 0,
        };
        if !patch.recover(host, eip, &mut state) {
            // The guest jumped here by itself. Its own tables map nothing here, and the interpreter will find that out.
            return Left::Guest;
        }
        ctx.gpr[gpr::RAX] = u64::from(state.eax);
        ctx.gpr[gpr::RCX] = u64::from(state.ecx);
        ctx.gpr[gpr::RSP] = u64::from(state.esp);
        ctx.rip = u64::from(state.eip);
        ctx.rflags = u64::from(state.eflags);
        if asked {
            Left::Asked
        } else {
            Left::Block
        }
    }

    /// Was the instruction at RIP moved into a block, so that the CPU met a byte of the jump there (one that traps)? Then the
    /// next entry goes to the block.
    pub(crate) fn moved<H: Host>(&mut self, host: &mut H) -> Result<bool, ClientExit> {
        if self.env() != BLOCKS {
            return Ok(false);
        }
        self.resume_at(host)?;
        Ok(self.parts.code.resume.is_some())
    }

    /// After the registers were stored: the virtual flags come back.
    pub(crate) fn take_from_blocks<H: Host>(&mut self, host: &mut H, mode: Mode) {
        if mode == Mode::Kernel && self.env() == BLOCKS {
            self.parts.code.patch.take_back(host, &mut self.state);
        }
    }
}
