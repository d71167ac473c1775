//! The vCPU page: what the blocks of a guest's kernel read and write of its virtual CPU.

use rvmm_arch::host::{
    BlockCall, BlockEvent, Host, BLOCK_CALL, BLOCK_EVENT, VCPU_CR2, VCPU_FLAGS, VCPU_IF, VCPU_WORDS,
};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::SegReg;
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::VcpuState;
use rvmm_patcher::block::{self, VcpuPageLayout, CALL_WORD, EVENT_WORDS, NO_RETURN, NO_SHADOW, SCRATCH_WORDS};
use rvmm_patcher::CodeSize;

use super::{size_of, PatchArea, Windows};
use crate::segments::PRIVATE_SS;
use crate::syscall::canonical;

// The fields of the vCPU page, byte offsets: four bytes each, and eight from SHADOW on.
pub(super) const VIF: u16 = 0;
const PENDING: u16 = 4;
pub(super) const VFLAGS: u16 = 8;
const CS: u16 = 12;
const SS: u16 = 16;
const RETURN_CS: u16 = 20;
pub(super) const SHADOW: u16 = 24;
const CONTROL: u16 = 32;
pub(super) const KERNEL_GS: u16 = 64;
const PROGRAM: u16 = 72;
pub(super) const SCRATCH: u16 = 88;
const EVENT: u16 = 176;
pub(super) const RELOAD: u16 = 232;
const WRITABLE: u16 = 328;
/// The switcher reads the call of a block and the virtual flags, and writes what comes before `CONTROL`, and an event.
const _: () = {
    assert!(SCRATCH as usize + 8 * CALL_WORD == BLOCK_CALL);
    assert!(CONTROL as usize == 8 * VCPU_WORDS);
    assert!(CONTROL as usize + 8 == VCPU_CR2);
    assert!(VIF as usize == VCPU_IF && VFLAGS as usize == VCPU_FLAGS);
    assert!(core::mem::size_of::<BlockCall>() == 8 * (SCRATCH_WORDS - CALL_WORD));
    assert!(BlockCall::BY_SYSRETQ == block::BY_SYSRETQ && BlockCall::BY_IRETQ == block::BY_IRETQ);
    assert!(BlockCall::BY_SYSRETL == block::BY_SYSRETL && BlockCall::BY_IRETQ_COMPAT == block::BY_IRETQ_COMPAT);
    assert!(BlockCall::BY_SYSEXIT == block::BY_SYSEXIT);
    assert!(EVENT as usize == BLOCK_EVENT && EVENT as usize >= SCRATCH as usize + 8 * SCRATCH_WORDS);
    assert!(core::mem::size_of::<BlockEvent>() == 8 * EVENT_WORDS);
    assert!(block::CALL_VECTOR == rvmm_arch::host::CALL_VECTOR);
    assert!(RELOAD as usize >= EVENT as usize + 8 * EVENT_WORDS);
    assert!(WRITABLE as usize >= RELOAD as usize + 8 * block::RELOAD_WORDS);
};

/// The virtual flags beside IF.
const VIRTUAL: Rflags = Rflags::IOPL.union(Rflags::AC);

/// Does an event wait for the guest, so that a block that opens interrupts must ask for an exit?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// Nothing waits.
    Nothing,
    /// An interrupt, an NMI, or the client for the interrupt window.
    Event,
}

/// Who does an IRET that stays in the guest's ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returns {
    /// Its block, if the flags in the frame are usual.
    Native,
    /// The VMM: there is more to do than a block knows.
    Vmm,
}

impl PatchArea {
    /// Where the vCPU page is, for blocks.
    pub(super) fn layout(windows: &Windows) -> VcpuPageLayout {
        VcpuPageLayout {
            linear: windows.vcpu.0,
            vif: VIF,
            pending: PENDING,
            shadow: SHADOW,
            vflags: VFLAGS,
            cs: CS,
            ss: SS,
            return_cs: RETURN_CS,
            control: CONTROL,
            kernel_gs: KERNEL_GS,
            program: PROGRAM,
            scratch: SCRATCH,
            event: EVENT,
            writable: WRITABLE,
        }
    }

    pub(super) fn field<H: Host>(&self, host: &mut H, offset: u16) -> u32 {
        let Some(page) = self.vcpu_page else { return 0 };
        let at = usize::from(offset);
        let bytes = host.bytes(page).get(at..at.wrapping_add(4)).and_then(|b| <[u8; 4]>::try_from(b).ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    pub(super) fn set_field<H: Host>(&self, host: &mut H, offset: u16, value: u32) {
        let Some(page) = self.vcpu_page else { return };
        let at = usize::from(offset);
        if let Some(slot) = host.bytes(page).get_mut(at..at.wrapping_add(4)) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
    }

    pub(super) fn wide_field<H: Host>(&self, host: &mut H, offset: u16) -> u64 {
        let [low, high] = [0, 4].map(|half| u64::from(self.field(host, offset.wrapping_add(half))));
        high << 32 | low
    }

    pub(super) fn set_wide_field<H: Host>(&self, host: &mut H, offset: u16, value: u64) {
        self.set_field(host, offset, value as u32);
        self.set_field(host, offset.wrapping_add(4), (value >> 32) as u32);
    }

    /// Before guest-kernel code runs: what blocks may read. `waits`: an event does; `returns`: who does an IRET to the guest's
    /// own CS; `writable`: where the word is that a VERW finds to name a segment that ring 0 may write.
    pub fn lend<H: Host>(&self, host: &mut H, cpu: &VcpuState, waits: Waits, returns: Returns, writable: Option<u64>) {
        for (word, at) in Self::words(cpu, waits, returns).into_iter().zip((VIF..).step_by(8)) {
            self.set_wide_field(host, at, word);
        }
        self.lend_program(host, None);
        let control = [cpu.cr0.bits(), cpu.cr2, cpu.cr3, cpu.cr4.bits()];
        for (value, at) in control.into_iter().zip((CONTROL..).step_by(8)) {
            self.set_wide_field(host, at, value);
        }
        self.set_wide_field(host, KERNEL_GS, cpu.msrs.kernel_gs_base);
        self.set_wide_field(host, WRITABLE, writable.unwrap_or(0));
        self.set_field(host, WRITABLE + 8, u32::from(PRIVATE_SS << 3 | u16::from(self.ring)));
    }

    /// What comes before `CONTROL` in the vCPU page.
    pub fn words(cpu: &VcpuState, waits: Waits, returns: Returns) -> [u64; VCPU_WORDS] {
        let selector = |reg| u64::from(cpu.segment(reg).selector.0);
        let return_cs = match returns {
            Returns::Native => selector(SegReg::Cs),
            Returns::Vmm => u64::from(NO_RETURN),
        };
        let mut words = [0; VCPU_WORDS];
        for (at, value) in [
            (VIF, (cpu.rflags & Rflags::IF).bits()),
            (PENDING, u64::from(waits == Waits::Event)),
            (VFLAGS, (cpu.rflags & VIRTUAL).bits()),
            (CS, selector(SegReg::Cs)),
            (SS, selector(SegReg::Ss)),
            (RETURN_CS, return_cs),
            (SHADOW, if cpu.shadow == InterruptShadow::None { NO_SHADOW } else { cpu.rip }),
        ] {
            if let Some(word) = words.get_mut(usize::from(at / 8)) {
                *word |= value << (at % 8 * 8);
            }
        }
        words
    }

    /// The program's CS and SS, and CS of compatibility code (0: none), with which an IRET may call ring 0; `None`: none.
    pub fn lend_program<H: Host>(&self, host: &mut H, program: Option<[u16; 3]>) {
        let field = |selector| if selector == 0 { NO_RETURN } else { u32::from(selector) };
        let fields = program.map_or([NO_RETURN; 3], |sel| sel.map(field));
        for (value, at) in fields.into_iter().zip((PROGRAM..).step_by(4)) {
            self.set_field(host, at, value);
        }
    }

    /// After a turn back: what of the kernel's blocks outlives the kernel.
    pub fn take_back_from_program<H: Host>(&self, host: &mut H, cpu: &mut VcpuState) {
        let gs = self.wide_field(host, KERNEL_GS);
        // 32-bit kernels have no SWAPGS.
        if cpu.long_mode() && canonical(gs) {
            cpu.msrs.kernel_gs_base = gs;
        }
    }

    /// After guest-kernel code has run, with registers already at a guest boundary: takes the virtual flags back.
    pub fn take_back<H: Host>(&self, host: &mut H, cpu: &mut VcpuState) {
        let vif = Rflags::from_bits_retain(u64::from(self.field(host, VIF))) & Rflags::IF;
        let vflags = Rflags::from_bits_retain(u64::from(self.field(host, VFLAGS))) & VIRTUAL;
        cpu.rflags = (cpu.rflags - Rflags::IF - VIRTUAL) | vif | vflags;
        // A shadow that is still there is that of the instruction at which the CPU was entered and stopped again.
        let mask = if size_of(cpu) == CodeSize::Bits64 { u64::MAX } else { 0xffff_ffff };
        let shadowed = (self.wide_field(host, SHADOW) ^ cpu.rip) & mask == 0 && vif == Rflags::IF;
        if cpu.shadow == InterruptShadow::None && shadowed {
            cpu.shadow = InterruptShadow::Sti;
        }
        // 32-bit code has no SWAPGS. An address that is not canonical can only have been scribbled there.
        let gs = self.wide_field(host, KERNEL_GS);
        if size_of(cpu) == CodeSize::Bits64 && canonical(gs) {
            cpu.msrs.kernel_gs_base = gs;
        }
    }
}
