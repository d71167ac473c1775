//! General-purpose registers by iced's names: AL to R15, with AH to BH and the zero-extension of 32-bit writes.

use iced_x86::Register;
use rvmm_arch::segment::SegReg;
use rvmm_arch::VcpuState;

/// Where a general-purpose register lies in [`VcpuState::gpr`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Index, masked to 0..16 at each use.
    index: usize,
    /// Bits to shift right: 8 for AH to BH, else 0.
    shift: u32,
    /// Bytes: 1, 2, 4, 8.
    pub size: u32,
}

/// The place of a general-purpose register; anything else (which no caller has) reads as a byte of RAX.
pub(crate) const fn place(reg: Register) -> Place {
    let r = reg as u32;
    if r >= Register::RAX as u32 && r <= Register::R15 as u32 {
        Place { index: (r - Register::RAX as u32) as usize, shift: 0, size: 8 }
    } else if r >= Register::EAX as u32 && r <= Register::R15D as u32 {
        Place { index: (r - Register::EAX as u32) as usize, shift: 0, size: 4 }
    } else if r >= Register::AX as u32 && r <= Register::R15W as u32 {
        Place { index: (r - Register::AX as u32) as usize, shift: 0, size: 2 }
    } else if r >= Register::SPL as u32 && r <= Register::R15L as u32 {
        Place { index: (r - Register::SPL as u32) as usize + 4, shift: 0, size: 1 }
    } else if r >= Register::AH as u32 && r <= Register::BH as u32 {
        Place { index: (r - Register::AH as u32) as usize, shift: 8, size: 1 }
    } else {
        Place { index: r.wrapping_sub(Register::AL as u32) as usize & 3, shift: 0, size: 1 }
    }
}

/// Bits in an operand of `size` bytes: 8, 16, 32 or 64 (as the compiler can see, which spares checks of shift counts).
pub(crate) const fn bits(size: u32) -> u32 {
    match size {
        1 => 8,
        2 => 16,
        4 => 32,
        _ => 64,
    }
}

/// The bits of a number of `size` bytes, set.
pub(crate) const fn mask(size: u32) -> u64 {
    u64::MAX >> (64 - bits(size))
}

/// The register's value, zero-extended.
pub(crate) const fn get(cpu: &VcpuState, reg: Register) -> u64 {
    let p = place(reg);
    (cpu.gpr[p.index & 15] >> p.shift) & mask(p.size)
}

/// Sets a register: 8- and 16-bit writes keep the other bits, 32-bit writes clear the upper half.
pub(crate) const fn set(cpu: &mut VcpuState, reg: Register, value: u64) {
    let p = place(reg);
    let slot = &mut cpu.gpr[p.index & 15];
    if p.size >= 4 {
        *slot = value & mask(p.size);
    } else {
        let m = mask(p.size) << p.shift;
        *slot = (*slot & !m) | ((value << p.shift) & m);
    }
}

/// The low `size` bytes of general-purpose register `index` (see [`rvmm_arch::regs::gpr`]).
pub(crate) const fn get_gpr(cpu: &VcpuState, index: usize, size: u32) -> u64 {
    cpu.gpr[index & 15] & mask(size)
}

/// Sets the low `size` bytes of general-purpose register `index`, with the rules of [`set`].
pub(crate) const fn set_gpr(cpu: &mut VcpuState, index: usize, size: u32, value: u64) {
    let slot = &mut cpu.gpr[index & 15];
    if size >= 4 {
        *slot = value & mask(size);
    } else {
        *slot = (*slot & !mask(size)) | (value & mask(size));
    }
}

/// The segment register iced names, if it is one.
pub(crate) const fn segment(reg: Register) -> Option<SegReg> {
    match reg {
        Register::ES => Some(SegReg::Es),
        Register::CS => Some(SegReg::Cs),
        Register::SS => Some(SegReg::Ss),
        Register::DS => Some(SegReg::Ds),
        Register::FS => Some(SegReg::Fs),
        Register::GS => Some(SegReg::Gs),
        _ => None,
    }
}

/// Sign-extends a number of `size` bytes to 64 bits.
pub(crate) const fn sign_extend(value: u64, size: u32) -> u64 {
    let shift = 64 - bits(size);
    (((value << shift) as i64) >> shift) as u64
}
