//! Null selectors with an RPL, which no entry into the guest world leaves as they are: a 64-bit kernel that holds one is entered through
//! a block that loads it again (rvmm-patcher, `block/reload.rs`). docs/architecture.md, "Segments".

use iced_x86::{Instruction, Mnemonic, OpKind};
use rvmm_arch::host::{GuestContext, Host};
use rvmm_arch::regs::Cr4;
use rvmm_arch::segment::CpuMode;
use rvmm_arch::stats::Counter;
use rvmm_patcher::block::Reload;

use crate::code::BLOCKS64;
use crate::direct::{self, Mode};
use crate::segments::DATA;
use crate::vcpu::Vcpu;

impl Vcpu {
    /// Can null selectors be loaded behind an entry of the 64-bit kernel, if it gets its blocks? Not without the instructions that set
    /// the bases.
    pub(crate) fn can_reload(&self) -> bool {
        let [_, _, fs, gs] = direct::nulls_with_rpl(&self.state);
        let bases = fs.is_none() && gs.is_none() || self.features.fsgsbase && self.state.cr4.contains(Cr4::FSGSBASE);
        let long = self.state.mode() == CpuMode::Long;
        bases && long && self.parts.code.patch.can_reload()
    }

    /// A step that is compared is entered without that block: does `instruction` see, or replace, a null selector that is not in its register
    /// then?
    pub(crate) fn sees_null(&self, instruction: &Instruction) -> bool {
        let sensitive = || rvmm_patcher::table::classify(instruction).is_some();
        let operand =
            |n| instruction.op_kind(n) == OpKind::Register && instruction.op_register(n).is_segment_register();
        let far = || matches!(instruction.mnemonic(), Mnemonic::Lds | Mnemonic::Les | Mnemonic::Lfs | Mnemonic::Lgs);
        let names = || (0..instruction.op_count()).any(operand);
        direct::nulls_with_rpl(&self.state) != [None; 4] && (names() || far() || sensitive())
    }

    /// Before an entry: if the kernel holds null selectors with an RPL, `ctx` goes to the block that loads them, and `before` is what they will
    /// be. Tells whether it does; `None`: it cannot be entered.
    pub(crate) fn lend_reload<H: Host>(
        &mut self,
        host: &mut H,
        mode: Mode,
        (ctx, before): (&mut GuestContext, &mut GuestContext),
    ) -> Option<bool> {
        let selectors = direct::nulls_with_rpl(&self.state);
        if selectors == [None; 4] {
            return Some(false);
        }
        if mode == Mode::User || self.env() != BLOCKS64 || !self.can_reload() {
            return None;
        }
        let what =
            Reload { selectors, bases: [ctx.fs_base, ctx.gs_base], rax: ctx.gpr.first().copied()?, target: ctx.rip };
        ctx.rip = self.parts.code.patch.lend_reload(host, &what)?;
        for (reg, selector) in DATA.into_iter().zip(selectors) {
            if let (Some(slot), Some(selector)) = (before.sel.get_mut(reg as usize), selector) {
                *slot = selector;
            }
        }
        self.parts.stats.count(Counter::Reloads);
        Some(true)
    }

    /// After an exit: where the block was stopped, the kernel has not gone on.
    pub(crate) fn undo_reload(&self, ctx: &mut GuestContext, before: &GuestContext) {
        let turned = ctx.syscall.turns != 0 || ctx.syscall.returns != 0;
        if !turned && self.parts.code.patch.reloads(ctx.rip) {
            ctx.gpr = before.gpr;
            ctx.rip = before.rip;
            ctx.rflags = before.rflags;
            ctx.sel = before.sel;
            ctx.fs_base = before.fs_base;
            ctx.gs_base = before.gs_base;
        }
    }
}
