//! The architectural state of a virtual CPU, as the guest sees it: ring 0 is ring 0 here.

use crate::regs::{Cr0, Cr4, Efer, Rflags};
use crate::segment::{CpuMode, SegReg, Segment, Selector, TableRegister};

/// An interrupt shadow: interrupts wait until after the next instruction (SDM vol. 3 §6.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InterruptShadow {
    /// None.
    #[default]
    None,
    /// After STI that set IF: maskable interrupts wait.
    Sti,
    /// After MOV SS or POP SS: interrupts and most debug exceptions wait.
    MovSs,
}

/// Whether the virtual CPU executes instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Activity {
    /// It does.
    #[default]
    Running,
    /// After HLT: until an interrupt.
    Halted,
    /// After a triple fault: until reset.
    Shutdown,
}

/// Model-specific registers that have state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Msrs {
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub arch_capabilities: u64,
    pub apic_base: u64,
    pub debugctl: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    pub mtrr_var: [u64; 16],
}

/// The architectural state of one virtual CPU, without FPU and vector registers (those stay in hardware format).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VcpuState {
    /// General-purpose registers in encoding order, see [`crate::regs::gpr`].
    pub gpr: [u64; 16],
    /// Instruction pointer: an offset into CS.
    pub rip: u64,
    /// Flags as the guest sees them (IF and IOPL are the guest's own).
    pub rflags: Rflags,
    /// Segment registers by [`SegReg`], selectors as the guest sees them (CS.RPL = CPL).
    pub seg: [Segment; 6],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR.
    pub idtr: TableRegister,
    /// CR0.
    pub cr0: Cr0,
    /// CR2: linear address of the last page fault.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// CR8: task priority.
    pub cr8: u64,
    /// IA32_EFER.
    pub efer: Efer,
    /// XCR0.
    pub xcr0: u64,
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// MSRs.
    pub msrs: Msrs,
    /// Guest TSC minus host TSC.
    pub tsc_offset: u64,
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
    /// Interrupt shadow in force for the next instruction.
    pub shadow: InterruptShadow,
    /// NMIs are blocked until the next IRET.
    pub nmi_blocked: bool,
    /// Running, halted, shut down.
    pub activity: Activity,
}

impl VcpuState {
    /// The state after RESET (SDM vol. 3 §9.1.1).
    #[must_use]
    pub const fn reset() -> Self {
        let data = Segment { selector: Selector(0), base: 0, limit: 0xffff, attrs: 0x93 };
        let cs = Segment { selector: Selector(0xf000), base: 0xffff_0000, limit: 0xffff, attrs: 0x9b };
        Self {
            gpr: [0; 16],
            rip: 0xfff0,
            rflags: Rflags::ONE,
            seg: [data, cs, data, data, data, data],
            ldtr: Segment { selector: Selector(0), base: 0, limit: 0xffff, attrs: 0x82 },
            tr: Segment { selector: Selector(0), base: 0, limit: 0xffff, attrs: 0x8b },
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            cr0: Cr0::from_bits_retain(0x6000_0010),
            cr2: 0,
            cr3: 0,
            cr4: Cr4::empty(),
            cr8: 0,
            efer: Efer::empty(),
            xcr0: 1,
            dr: [0; 4],
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            msrs: Msrs {
                sysenter_cs: 0,
                sysenter_esp: 0,
                sysenter_eip: 0,
                star: 0,
                lstar: 0,
                cstar: 0,
                sfmask: 0,
                kernel_gs_base: 0,
                tsc_aux: 0,
                pat: 0x0007_0406_0007_0406,
                misc_enable: 1,
                arch_capabilities: 0,
                apic_base: 0xfee0_0900,
                debugctl: 0,
                mtrr_def_type: 0,
                mtrr_fixed: [0; 11],
                mtrr_var: [0; 16],
            },
            tsc_offset: 0,
            cpl: 0,
            shadow: InterruptShadow::None,
            nmi_blocked: false,
            activity: Activity::Running,
        }
    }

    /// A segment register.
    #[must_use]
    #[inline]
    pub const fn segment(&self, reg: SegReg) -> &Segment {
        &self.seg[reg as usize]
    }

    /// A segment register, to be changed.
    #[inline]
    pub const fn segment_mut(&mut self, reg: SegReg) -> &mut Segment {
        &mut self.seg[reg as usize]
    }

    /// The execution mode.
    #[must_use]
    #[inline]
    pub const fn mode(&self) -> CpuMode {
        CpuMode::of(
            self.cr0,
            self.rflags.contains(Rflags::VM),
            self.efer.contains(Efer::LMA),
            self.seg[SegReg::Cs as usize].long(),
        )
    }

    /// Paging on?
    #[must_use]
    #[inline]
    pub const fn paging(&self) -> bool {
        self.cr0.contains(Cr0::PG)
    }

    /// Linear address of the next instruction (32-bit wrap outside 64-bit mode).
    #[must_use]
    #[inline]
    pub const fn linear_rip(&self) -> u64 {
        if matches!(self.mode(), CpuMode::Long) {
            self.rip
        } else {
            self.seg[SegReg::Cs as usize].base.wrapping_add(self.rip) & 0xffff_ffff
        }
    }

    /// Cuts a linear address, or an instruction pointer, to the width of the mode: 32 bits outside 64-bit mode.
    #[must_use]
    #[inline]
    pub const fn wrap(&self, la: u64) -> u64 {
        if matches!(self.mode(), CpuMode::Long) {
            la
        } else {
            la & 0xffff_ffff
        }
    }

    /// In long mode (EFER.LMA), be it 64-bit or compatibility mode?
    #[must_use]
    #[inline]
    pub const fn long_mode(&self) -> bool {
        self.efer.contains(Efer::LMA)
    }

    /// Would a maskable interrupt be taken now?
    #[must_use]
    #[inline]
    pub const fn interruptible(&self) -> bool {
        self.rflags.contains(Rflags::IF) && matches!(self.shadow, InterruptShadow::None)
    }
}
