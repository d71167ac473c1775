//! A single step on the CPU for code that the guest world cannot be entered for: real mode, virtual 8086 mode, 16-bit code, rings 1 and 2,
//! segments that cannot be loaded.
//!
//! The instruction (x87, MMX, SSE) is written anew for flat 32-bit kernel code, its memory operand as the linear address, and shown to the CPU
//! somewhere on its page, where its operand is not. What a CPU checks of the operand in the guest's own mode is checked before. Of the result general registers and
//! status flags count; RIP is moved by the length that the instruction has for the guest.
//!
//! One thing shows: the pointers that FNSTENV and FNSAVE store are those of the flat code, and in the format of protected mode.

use iced_x86::{Instruction, Mnemonic, OpKind};
use rvmm_arch::host::Host;
use rvmm_arch::machine::AccessKind;
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{SegReg, Segment, Selector};
use rvmm_arch::vcpu::InterruptShadow;
use rvmm_arch::{Gva, VcpuState};
use rvmm_interp::{Stop, Unsupported};

use crate::direct::{Mode, NATIVE};
use crate::native::{Fetched, Stepped, MAX_INSTRUCTION};
use crate::stand_in::StandIns;
use crate::vcpu::{Flow, Vcpu};
use crate::verify;

/// Prefixes. SS is the one segment that is flat.
const SS: u8 = 0x36;
const OPERAND_SIZE: u8 = 0x66;
const REPNE: u8 = 0xf2;
const REPE: u8 = 0xf3;
/// ModRM: no base, a displacement of 32 bits.
const ABSOLUTE: u8 = 0b00_000_101;

/// An instruction written anew.
struct Writer {
    bytes: [u8; MAX_INSTRUCTION],
    len: usize,
}

impl Writer {
    fn push(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len = self.len.checked_add(1)?;
        Some(())
    }
}

/// `x`, whose bytes are `code`, as 32-bit code with its memory operand at `operand`. `None`: of a kind that nobody has thought of here.
fn for_flat_code(x: &Instruction, code: &[u8], bits: u32, operand: Option<Gva>) -> Option<Writer> {
    let mut out = Writer { bytes: [0; MAX_INSTRUCTION], len: 0 };
    if operand.is_some() {
        out.push(SS)?;
    }
    let prefix = |byte: &u8| matches!(*byte, 0x26 | 0x2e | SS | 0x3e | 0x64..=0x67 | 0xf0 | REPNE | REPE);
    let prefixes = code.iter().take_while(|byte| prefix(byte));
    let mut at = prefixes.clone().count();
    let opcode = *code.get(at)?;
    // Where it is no part of the opcode, the prefix tells the size of x87's environment, and of RDRAND's register.
    let narrow = (bits == 16) != prefixes.clone().any(|byte| *byte == OPERAND_SIZE);
    let random = matches!(x.mnemonic(), Mnemonic::Rdrand | Mnemonic::Rdseed);
    let sized = matches!(opcode, 0xd8..=0xdf) || random;
    let second = code.get(at.checked_add(1)?).copied();
    let operand_size = if sized { narrow } else { prefixes.clone().any(|byte| *byte == OPERAND_SIZE) };
    if operand_size {
        out.push(OPERAND_SIZE)?;
    }
    for repeat in prefixes.filter(|byte| matches!(**byte, REPNE | REPE)) {
        out.push(*repeat)?;
    }
    let opcode_len: usize = match (opcode, second) {
        (0x0f, Some(0x38 | 0x3a)) => 3,
        (0x0f, Some(_)) => 2,
        (0x9b | 0xd8..=0xdf, _) => 1,
        _ => return None,
    };
    for _ in 0..opcode_len {
        out.push(*code.get(at)?)?;
        at = at.checked_add(1)?;
    }
    // WAIT and EMMS have no ModRM byte.
    if !matches!(x.mnemonic(), Mnemonic::Wait | Mnemonic::Emms | Mnemonic::Femms) {
        let modrm = *code.get(at)?;
        match operand {
            None => out.push(modrm)?,
            Some(la) => {
                out.push((modrm & 0b00_111_000) | ABSOLUTE)?;
                for byte in (la.0 as u32).to_le_bytes() {
                    out.push(byte)?;
                }
            }
        }
    }
    let immediates =
        (0..x.op_count()).filter(|i| matches!(x.op_kind(*i), OpKind::Immediate8 | OpKind::Immediate8_2nd)).count();
    for byte in code.get(x.len().checked_sub(immediates)?..x.len())? {
        out.push(*byte)?;
    }
    Some(out)
}

/// Is the memory operand of `x` written? Of the instructions with one operand by name, of the others where it comes first.
fn writes(x: &Instruction) -> bool {
    if x.op_count() > 1 && !x.is_stack_instruction() {
        return x.op0_kind() == OpKind::Memory;
    }
    matches!(
        x.mnemonic(),
        Mnemonic::Fst
            | Mnemonic::Fstp
            | Mnemonic::Fist
            | Mnemonic::Fistp
            | Mnemonic::Fisttp
            | Mnemonic::Fbstp
            | Mnemonic::Fnstcw
            | Mnemonic::Fnstsw
            | Mnemonic::Fnstenv
            | Mnemonic::Fnsave
            | Mnemonic::Fstcw
            | Mnemonic::Fstsw
            | Mnemonic::Fstenv
            | Mnemonic::Fsave
            | Mnemonic::Stmxcsr
            | Mnemonic::Fxsave
    )
}

/// Memory operands that are not named by a ModRM byte, or have no length of their own.
fn has_hidden_operand(x: &Instruction) -> bool {
    let explicit =
        |kind| matches!(kind, OpKind::Register | OpKind::Memory | OpKind::Immediate8 | OpKind::Immediate8_2nd);
    !(0..x.op_count()).all(|i| explicit(x.op_kind(i)))
}

/// Where on `page` the instruction is shown: where no byte of the operand, of at most 512, lies. (Its page stands in for itself then, and what
/// is read or written there must be the guest's.)
fn place(page: Gva, operand: Option<Gva>, len: usize) -> Gva {
    let overlaps = |at: Gva| {
        let before = |a: Gva, len: usize, b: Gva| a.0.saturating_add(len as u64) <= b.0;
        operand.is_some_and(|operand| !before(at, MAX_INSTRUCTION, operand) && !before(operand, len, at))
    };
    [0, 0x800].map(|offset| page.add(offset)).into_iter().find(|at| !overlaps(*at)).unwrap_or(page)
}

/// What is put away of the guest's state while its CPU is in flat code.
struct PutAway {
    seg: [Segment; 6],
    cr0: Cr0,
    rflags: Rflags,
    shadow: InterruptShadow,
    cpl: u8,
    rip: u64,
}

impl PutAway {
    /// Makes `cpu` flat 32-bit kernel code at `at`.
    fn of(cpu: &mut VcpuState, at: Gva) -> Self {
        let away =
            Self { seg: cpu.seg, cr0: cpu.cr0, rflags: cpu.rflags, shadow: cpu.shadow, cpl: cpu.cpl, rip: cpu.rip };
        for reg in SegReg::ALL {
            *cpu.segment_mut(reg) = Segment::null(Selector(0));
        }
        *cpu.segment_mut(SegReg::Cs) = Segment { selector: Selector(8), base: 0, limit: u32::MAX, attrs: 0xc09b };
        *cpu.segment_mut(SegReg::Ss) = Segment { selector: Selector(16), base: 0, limit: u32::MAX, attrs: 0xc093 };
        cpu.cr0 |= Cr0::PE;
        cpu.rflags -= Rflags::VM | Rflags::TF | Rflags::AC;
        cpu.cpl = 0;
        cpu.rip = at.0;
        away
    }

    /// Puts it back. Status flags and general registers are those of `cpu`, if the instruction is done: then it had `len` bytes.
    fn put_back(self, cpu: &mut VcpuState, done: Option<usize>) {
        (cpu.seg, cpu.cr0, cpu.cpl) = (self.seg, self.cr0, self.cpl);
        let now = cpu.rflags;
        (cpu.rflags, cpu.rip, cpu.shadow) = (self.rflags, self.rip, self.shadow);
        if let Some(len) = done {
            cpu.rflags = (now & NATIVE) | (self.rflags - NATIVE - Rflags::RF) | Rflags::ONE;
            cpu.rip = cpu.wrap(cpu.rip.wrapping_add(len as u64));
            cpu.shadow = InterruptShadow::None;
        }
    }
}

impl Vcpu {
    /// Executes the instruction at RIP, which the interpreter does not have, as flat code.
    #[inline(never)]
    pub(crate) fn flat_step<H: Host>(&mut self, host: &mut H) -> Flow {
        let fetched = self.fetch(host)?;
        let x = verify::decode(&self.state, &fetched);
        let code = fetched.bytes.get(..x.len().min(fetched.available)).unwrap_or(&[]);
        if self.state.long_mode() || x.is_invalid() || has_hidden_operand(&x) {
            return self.refuse(host, Unsupported::Mode);
        }
        let has_memory = (0..x.op_count()).any(|i| x.op_kind(i) == OpKind::Memory);
        let operand = if has_memory {
            let len = x.memory_size().size() as u32;
            if len == 0 {
                return self.refuse(host, Unsupported::Mode);
            }
            let kind = if writes(&x) { AccessKind::Write } else { AccessKind::Read };
            match rvmm_interp::checked_operand(&mut self.state, &mut self.parts.world(host), &x, len, kind) {
                Ok(la) => Some(la),
                // What the CPU itself says of the instruction comes first: no x87, no SSE.
                Err(Stop::Fault(_)) if self.fpu_is_off() => Some(Gva(0)),
                Err(Stop::Fault(fault)) => return self.deliver(host, fault.into()),
                Err(Stop::HostError) => return Err(self.host_failure()),
                Err(_) => return self.refuse(host, Unsupported::Mode),
            }
        } else {
            None
        };
        let Some(written) = for_flat_code(&x, code, verify::bitness(&self.state), operand) else {
            return self.refuse(host, Unsupported::Mode);
        };
        let shown = Fetched { bytes: written.bytes, available: written.len, frames: [fetched.frames[0], None] };
        let mut stand_ins = StandIns::default();
        let trap = self.state.rflags.contains(Rflags::TF);
        let at = place(Gva(self.state.linear_rip()).page(), operand, x.memory_size().size());
        let away = PutAway::of(&mut self.state, at);
        let stepped = self.step_alone(host, Mode::Kernel, &shown, &mut stand_ins);
        let done = matches!(stepped, Ok(Stepped::Done)).then(|| x.len());
        away.put_back(&mut self.state, done);
        let stepped = stepped?;
        self.finish_step(host, stepped, &stand_ins, trap)
    }

    /// Would an instruction of x87 or SSE fault for that alone?
    fn fpu_is_off(&self) -> bool {
        self.state.cr0.intersects(Cr0::EM | Cr0::TS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use iced_x86::{Decoder, DecoderOptions};

    /// The 32-bit instruction that `code` becomes, with its operand, if it has one, at 12345678.
    fn flat(bits: u32, code: &[u8]) -> Option<Vec<u8>> {
        let x = Decoder::with_ip(bits, code, 0, DecoderOptions::NONE).decode();
        assert_eq!(x.len(), code.len(), "{code:02x?}");
        let memory = (0..x.op_count()).any(|i| x.op_kind(i) == OpKind::Memory);
        let written = for_flat_code(&x, code, bits, memory.then_some(Gva(0x1234_5678)))?;
        let bytes = written.bytes[..written.len].to_vec();
        let y = Decoder::with_ip(32, &bytes, 0, DecoderOptions::NONE).decode();
        assert_eq!(
            (y.len(), y.code(), y.op_count()),
            (bytes.len(), x.code(), x.op_count()),
            "{code:02x?}: {bytes:02x?}"
        );
        for i in 0..x.op_count() {
            match x.op_kind(i) {
                OpKind::Register => assert_eq!(x.op_register(i), y.op_register(i)),
                OpKind::Memory => assert_eq!(y.memory_displacement32(), 0x1234_5678),
                _ => assert_eq!(x.immediate(i), y.immediate(i)),
            }
        }
        Some(bytes)
    }

    const AT: [u8; 4] = [0x78, 0x56, 0x34, 0x12];

    #[test]
    fn encodings() {
        // fninit, wait, emms, fnstsw ax, faddp
        for code in [&[0xdb, 0xe3][..], &[0x9b], &[0x0f, 0x77], &[0xdf, 0xe0], &[0xde, 0xc1]] {
            assert!(flat(16, code).is_some());
        }
        // fnstcw [bp-2]; fnstcw cs:[1234h]; fld qword [bx+si]
        assert_eq!(
            flat(16, &[0xd9, 0x7e, 0xfe]).unwrap_or_default()[1..],
            [&[OPERAND_SIZE, 0xd9, 0x3d][..], &AT].concat()
        );
        assert!(flat(16, &[0x2e, 0xd9, 0x3e, 0x34, 0x12]).is_some());
        assert!(flat(16, &[0xdd, 0x00]).is_some());
        // fnstenv and fnsave of both sizes
        for (bits, code) in
            [(16, &[0xd9, 0x37][..]), (16, &[0x66, 0xd9, 0x37]), (32, &[0xd9, 0x33]), (32, &[0x66, 0xdd, 0x33])]
        {
            assert!(flat(bits, code).is_some());
        }
        // movups [bx+1], xmm1; movss xmm0, [67: eax*4+8]; pshufd xmm1, [bx], 1bh; pextrw eax, mm1, 2; movd mm0, [si]; palignr xmm0, [bx], 3
        assert!(flat(16, &[0x0f, 0x11, 0x4f, 1]).is_some());
        assert!(flat(16, &[0x67, 0xf3, 0x0f, 0x10, 0x04, 0x85, 8, 0, 0, 0]).is_some());
        assert_eq!(
            flat(16, &[0x66, 0x0f, 0x70, 0x0f, 0x1b]).unwrap_or_default(),
            [&[SS, OPERAND_SIZE, 0x0f, 0x70, 0x0d][..], &AT, &[0x1b]].concat()
        );
        assert!(flat(16, &[0x0f, 0xc5, 0xc1, 2]).is_some());
        assert!(flat(16, &[0x0f, 0x6e, 0x04]).is_some());
        assert!(flat(16, &[0x66, 0x0f, 0x3a, 0x0f, 0x07, 3]).is_some());
        // rdrand ax, rdrand eax; fxsave [bx]; ldmxcsr [bx]
        assert!(flat(16, &[0x0f, 0xc7, 0xf0]).is_some());
        assert!(flat(16, &[0x66, 0x0f, 0xc7, 0xf0]).is_some());
        assert!(flat(16, &[0x0f, 0xae, 0x07]).is_some());
        assert!(flat(16, &[0x0f, 0xae, 0x17]).is_some());
    }

    #[test]
    fn what_is_written() {
        let writes = |code: &[u8]| super::writes(&Decoder::new(16, code, DecoderOptions::NONE).decode());
        for code in
            [&[0xd9, 0x3f][..], &[0xdd, 0x1f], &[0xdb, 0x3f], &[0xdd, 0x37], &[0x0f, 0x11, 0x07], &[0x0f, 0xae, 0x1f]]
        {
            assert!(writes(code), "{code:02x?}");
        }
        for code in
            [&[0xd9, 0x2f][..], &[0xdd, 0x07], &[0xd8, 0x07], &[0xdd, 0x27], &[0x0f, 0x10, 0x07], &[0x0f, 0xae, 0x17]]
        {
            assert!(!writes(code), "{code:02x?}");
        }
    }

    #[test]
    fn beside_the_operand() {
        let page = Gva(0x8000);
        for (operand, len, at) in [
            (None, 0, 0),
            (Some(0x8010), 16, 0),
            (Some(0x800e), 2, 0x800),
            (Some(0x7ff8), 16, 0x800),
            (Some(0x9000), 8, 0),
        ] {
            assert_eq!(place(page, operand.map(Gva), len), page.add(at), "{operand:x?}");
        }
    }
}
