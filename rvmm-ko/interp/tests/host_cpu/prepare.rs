//! Random states: segments, registers and data, such that what an instruction touches mostly exists.

use crate::cells::{Cell, Prefix};
use crate::make::{address_bits, far_selector, Made, Rng};
use crate::native::{self, Mode, State, DATA, GS_BASE, SEGMENT, USER32_CS, USER_CS, USER_DS, WRITABLE};
use crate::tables::*;
use iced_x86::{Code, Instruction, Mnemonic as M, OpKind, Register};
use rvmm_arch::regs::Rflags;
use rvmm_arch::segment::Descriptor;

/// Selectors in the order of their encoding (ES, CS, SS, DS, FS, GS). Flat ones are Linux's own.
pub fn segments(rng: &mut Rng, mode: Mode, flat: bool) -> [u16; 6] {
    if mode == Mode::Bits64 {
        let null = |rng: &mut Rng| rng.pick(&[0, USER_DS]);
        return [null(rng), USER_CS, USER_DS, null(rng), 0, 0];
    }
    let cs = match (mode, flat) {
        (Mode::Bits16, _) => CODE16,
        (_, true) => USER32_CS,
        (_, false) => CODE32,
    };
    const COMMON: [u16; 4] = [DATA16, DATA32, DATA16, DATA32];
    let data = |rng: &mut Rng| match rng.below(12) {
        0..=5 => rng.pick(&COMMON),
        6 => rng.pick(&[SHORT16, SHORT32]),
        7 => rng.pick(&[DOWN16, DOWN32]),
        8 => CONSTANT,
        9 => rng.pick(&[LOWER16, LOWER32]),
        10 => rng.pick(&[CODE16, CODE32, 0]),
        _ => USER_DS,
    };
    let stack = match rng.below(8) {
        0 => rng.pick(&[SHORT16, SHORT32]),
        1 => rng.pick(&[DOWN16, DOWN32]),
        _ if mode == Mode::Bits16 || rng.chance(4) => DATA16,
        _ => DATA32,
    };
    let other = |rng: &mut Rng| rng.pick(&[LOWER16, LOWER32]);
    match flat {
        true => [USER_DS, cs, USER_DS, USER_DS, other(rng), other(rng)],
        false => [data(rng), cs, stack, data(rng), other(rng), other(rng)],
    }
}

/// What is being prepared.
struct Prepare<'a> {
    rng: &'a mut Rng,
    ins: Instruction,
    cell: Cell,
    s: State,
    data: &'a mut [u8],
}

/// Registers and data for `made` in the segments given.
pub fn state(rng: &mut Rng, made: &Made, cell: &Cell, seg: [u16; 6], data: &mut [u8]) -> State {
    let mut s = State { rip: made.ip, seg, ..State::default() };
    for reg in &mut s.gpr {
        *reg = rng.value();
    }
    for chunk in data.chunks_exact_mut(8) {
        let v = if rng.chance(4) { rng.value() } else { rng.next() };
        chunk.copy_from_slice(&v.to_le_bytes());
    }
    s.flags = rng.next() & (Rflags::STATUS | Rflags::DF).bits() | 0x202;
    let mut p = Prepare { rng, ins: made.instruction, cell: *cell, s, data };
    p.values();
    p.stack();
    p.strings();
    p.memory();
    p.branches();
    if cell.mode != Mode::Bits64 {
        p.s.gpr.iter_mut().take(8).for_each(|r| *r &= 0xffff_ffff);
    }
    p.s
}

impl Prepare<'_> {
    /// Base of a segment, by the number of its register.
    fn base(&self, seg: usize) -> u64 {
        match (self.cell.mode, seg) {
            (Mode::Bits64, 5) => GS_BASE,
            (Mode::Bits64, _) => 0,
            _ => native::descriptor(self.s.seg[seg]).map_or(SEGMENT, |d| Descriptor(d).base().into()),
        }
    }

    /// Does every offset in it lead to the arena or nowhere?
    fn bounded(&self, seg: usize) -> bool {
        self.cell.mode != Mode::Bits64
            && native::descriptor(self.s.seg[seg]).is_none_or(|d| {
                let d = Descriptor(d);
                d.limit() <= 0xffff && (d.is_code() || d.kind() & 4 == 0)
            })
    }

    /// A linear address of an operand: mostly in what can be written, sometimes at its edges.
    fn target(&mut self) -> u64 {
        let end = WRITABLE as u64;
        let at = match self.rng.below(24) {
            0 => end - self.rng.below(16),
            1 => end + self.rng.below(0x1000),
            2 => self.rng.below(8).wrapping_sub(8),
            3 => 0x2000u64.wrapping_sub(self.rng.below(8)),
            4 => end + 0x1000 - self.rng.below(8),
            _ => 0x1c00 + self.rng.below(0x800),
        };
        let at = DATA.wrapping_add(at);
        // Locked accesses are aligned: see NOT_COVERED.
        let locks = self.cell.prefix == Prefix::Lock || self.ins.mnemonic() == M::Xchg;
        if locks || self.rng.chance(2) {
            at & !15
        } else {
            at
        }
    }

    fn set_data(&mut self, at: u64, bytes: &[u8]) {
        let from = at.wrapping_sub(DATA) as usize;
        if let Some(to) = self.data.get_mut(from..from.saturating_add(bytes.len())) {
            to.copy_from_slice(bytes);
        }
    }

    fn selector(&mut self) -> u16 {
        let random = self.rng.next() as u16;
        let rpl = if self.rng.chance(12) { random & 3 } else { 3 };
        // Of Linux's own table only what is known.
        let selector = self.rng.pick(&SELECTORS) & !3 | rpl;
        far_selector(selector, self.ins.mnemonic() == M::Call, self.cell.mode)
    }

    /// Where a branch may lead: IP or EIP within the segment mostly, any address in the lower half in 64-bit mode.
    fn branch_target(&mut self) -> u64 {
        match self.cell.mode {
            Mode::Bits64 => self.rng.next() & 0x3fff_ffff_ffff,
            _ if self.rng.chance(4) => self.rng.next(),
            _ => self.rng.below(0x9100),
        }
    }

    /// Operands whose values matter in another way than by being random.
    fn values(&mut self) {
        let (rng, r) = (&mut *self.rng, &mut self.s.gpr);
        match self.ins.mnemonic() {
            M::Div | M::Idiv if !rng.chance(3) => {
                let small = rng.below(256);
                r[2] = if rng.chance(3) { small.wrapping_neg() >> 1 } else { small };
                r[0] = if rng.chance(2) { r[0] & 0xffff } else { r[0] };
            }
            // The bit string around the operand.
            M::Bt | M::Bts | M::Btr | M::Btc if self.ins.op1_kind() == OpKind::Register => {
                let far = if rng.chance(8) { 0x1_0000 } else { 0x4000 };
                r[self.ins.op1_register().full_register().number()] = rng.below(2 * far).wrapping_sub(far);
            }
            M::Loop | M::Loope | M::Loopne | M::Jcxz | M::Jecxz | M::Jrcxz => {
                let high = 1 << rng.pick(&[16, 32]);
                r[1] = [0, 1, 2, high, high + 1][rng.below(5) as usize];
            }
            M::Into => self.s.flags &= !Rflags::OF.bits(),
            _ => {}
        }
        let loads = self.ins.op0_register().is_segment_register();
        if loads || matches!(self.ins.mnemonic(), M::Lar | M::Lsl | M::Verr | M::Verw | M::Arpl | M::Lldt | M::Ltr) {
            for i in 0..self.ins.op_count().min(2) {
                let reg = self.ins.op_register(i);
                if self.ins.op_kind(i) == OpKind::Register && reg.is_gpr() {
                    let v = self.selector();
                    let high = self.rng.next() & !0xffff;
                    self.s.gpr[reg.full_register().number()] = u64::from(v) | high;
                }
            }
        }
    }

    fn stack(&mut self) {
        let wide = native::descriptor(self.s.seg[2]).is_some_and(|d| d & Descriptor::DB != 0)
            || self.cell.mode == Mode::Bits64;
        // IRETQ may leave the upper half of ESP where the stack is of 16 bits; it is that of the state page.
        let high = if wide { 0 } else { 0x2000_0000 };
        let base = self.base(2);
        let at = match self.rng.below(16) {
            0 => self.target(),
            1 => self.target() & !1,
            _ => DATA + 0x2000 + (self.rng.below(64) & if self.rng.chance(4) { !0 } else { !7 }),
        };
        let mask = if wide { u64::MAX } else { 0xffff };
        let mut sp = at.wrapping_sub(base) & mask | high;
        if self.bounded(2) && self.rng.chance(24) {
            sp = self.rng.pick(&[0, 1, 2, 3, 4, 6, 0xffff, 0xfffe, 0x7fff, 0x1_0002]) & mask | high;
        }
        self.s.gpr[4] = sp;
        if matches!(self.ins.mnemonic(), M::Enter | M::Leave) {
            let bp = DATA + 0x2800 + self.rng.below(16) - base;
            let any = if wide { 0 } else { self.rng.next() & 0xffff_0000 };
            self.s.gpr[5] = if self.bounded(2) && self.rng.chance(8) { self.rng.next() } else { bp | any };
        }
        // What is to be popped into a segment register.
        if self.ins.mnemonic() == M::Pop && self.ins.op0_register().is_segment_register() {
            let v = self.selector();
            self.set_data(at, &v.to_le_bytes());
        }
        if matches!(self.ins.mnemonic(), M::Popf | M::Popfd | M::Popfq) {
            // Not AC and NT, which would act in Linux and in the signal handler.
            let image = self.rng.next() & !0x4_4000;
            self.set_data(at, &image.to_le_bytes());
        }
    }

    fn strings(&mut self) {
        if !crate::cells::is_string(self.cell.code) {
            return;
        }
        let bits = address_bits(&self.cell);
        let mask = u64::MAX >> (64 - bits);
        let (source, destination) = (self.ins.memory_segment(), Register::ES);
        let number = |r: Register| if r.is_segment_register() { r.number() } else { 3 };
        let middle = if self.rng.chance(6) { DATA + 0x3f80 } else { DATA + 0x1c00 };
        let from = middle + self.rng.below(64);
        let to = match self.rng.below(4) {
            0 => from,
            // Overlapping by a part.
            1 => from + self.rng.below(64) - 32,
            _ => DATA + 0x2c00 + self.rng.below(64) - if self.rng.chance(8) { 0x2c20 } else { 0 },
        };
        let count = if self.rng.chance(3) { self.rng.below(300) } else { self.rng.below(6) };
        let (si, di) = (from.wrapping_sub(self.base(number(source))), to.wrapping_sub(self.base(number(destination))));
        let rng = &mut *self.rng;
        // What is above the address size must not count.
        let mut above = |v: u64| v & mask | rng.next() & !mask;
        (self.s.gpr[1], self.s.gpr[6], self.s.gpr[7]) = (above(count), above(si), above(di));
    }

    fn memory(&mut self) {
        let ins = self.ins;
        let mut at = None;
        let explicit = (0..ins.op_count()).any(|i| ins.op_kind(i) == OpKind::Memory);
        let seg = if ins.memory_segment().is_segment_register() { ins.memory_segment().number() } else { 3 };
        let bits = address_bits(&self.cell);
        let mask = u64::MAX >> (64 - bits);
        let target = self.target();
        let offset = target.wrapping_sub(self.base(seg));
        if !explicit {
            return;
        }
        if ins.is_ip_rel_memory_operand() {
            at = Some(ins.memory_displacement64());
        } else if ins.memory_base() != Register::None && !(self.bounded(seg) && self.rng.chance(24)) {
            let mut base = offset.wrapping_sub(ins.memory_displacement64());
            let index = ins.memory_index();
            if index == Register::AL {
                base = base.wrapping_sub(self.s.gpr[0] & 0xff);
            } else if index != Register::None {
                let v = self.rng.below(64);
                self.s.gpr[index.number()] = v & mask | self.rng.next() & !mask;
                base = base.wrapping_sub(v * u64::from(ins.memory_index_scale()));
            }
            // The stack pointer as a base stays what it is.
            if ins.memory_base().full_register() != Register::RSP {
                self.s.gpr[ins.memory_base().full_register().number()] = base & mask | self.rng.next() & !mask;
                at = Some(target);
            }
        } else if ins.memory_base() == Register::None {
            at = Some(self.base(seg).wrapping_add(ins.memory_displacement64()));
        }
        let Some(at) = at else { return };
        match ins.mnemonic() {
            // Half of the compare-and-exchanges find what they expect.
            M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if self.rng.chance(2) => {
                let half = if ins.mnemonic() == M::Cmpxchg8b { 4 } else { 8 };
                let (a, d) = (self.s.gpr[0].to_le_bytes(), self.s.gpr[2].to_le_bytes());
                self.set_data(at, &a[..half]);
                self.set_data(at + half as u64, &d[..half]);
            }
            M::Lds | M::Les | M::Lss | M::Lfs | M::Lgs => {
                let selector = self.selector();
                self.set_data(at + far_offset_size(ins.code()), &selector.to_le_bytes());
            }
            M::Mov if !ins.op0_register().is_segment_register() => {}
            M::Lar | M::Lsl | M::Verr | M::Verw | M::Arpl | M::Mov | M::Lldt | M::Ltr => {
                let selector = self.selector();
                self.set_data(at, &selector.to_le_bytes());
            }
            M::Bound => {
                let size = u64::from(ins.op0_register().size() as u32);
                let v = self.s.gpr[ins.op0_register().full_register().number()];
                let (low, high) =
                    (v.wrapping_sub(self.rng.below(3)), v.wrapping_add(self.rng.below(3)).wrapping_sub(1));
                self.set_data(at, &low.to_le_bytes()[..size as usize]);
                self.set_data(at + size, &high.to_le_bytes()[..size as usize]);
            }
            M::Jmp | M::Call => {
                let to = self.branch_target();
                self.set_data(at, &to.to_le_bytes());
                if ins.is_jmp_far_indirect() || ins.is_call_far_indirect() {
                    let selector = self.selector();
                    self.set_data(at + far_offset_size(ins.code()), &selector.to_le_bytes());
                }
            }
            _ => {}
        }
    }

    fn branches(&mut self) {
        let ins = self.ins;
        let mut sp = self.s.gpr[4];
        if !self.wide_stack() {
            sp &= 0xffff;
        }
        let top = sp.wrapping_add(self.base(2));
        match ins.mnemonic() {
            M::Jmp | M::Call if ins.op0_kind() == OpKind::Register => {
                let to = self.branch_target();
                self.s.gpr[ins.op0_register().full_register().number()] = to;
            }
            M::Ret => {
                let to = self.branch_target();
                self.set_data(top, &to.to_le_bytes());
            }
            M::Retf | M::Iret | M::Iretd | M::Iretq => {
                let size = operand_size(ins.code());
                let mut image = vec![self.branch_target(), self.selector().into()];
                if ins.mnemonic() != M::Retf {
                    // Not AC and NT; TF, so that the CPU comes back, as POPF does it anyway.
                    image.push(self.rng.next() & !0x4_4000 | 0x100);
                    image.push(self.branch_target());
                    image.push(self.selector().into());
                    if self.rng.chance(2) {
                        image[4] = self.rng.pick(&[USER_DS, DATA16, DATA32]).into();
                    }
                }
                if self.rng.chance(2) {
                    image[1] = self.rng.pick(&[USER_CS, USER32_CS, CODE16, CODE32]).into();
                }
                for (i, v) in image.into_iter().enumerate() {
                    self.set_data(top + i as u64 * size, &v.to_le_bytes()[..size as usize]);
                }
            }
            _ => {}
        }
    }

    fn wide_stack(&self) -> bool {
        self.cell.mode == Mode::Bits64 || native::descriptor(self.s.seg[2]).is_some_and(|d| d & Descriptor::DB != 0)
    }
}

/// Where the stack's top lies in the data, if it does.
pub fn stack_top(s: &State, mode: Mode) -> Option<usize> {
    let d = native::descriptor(s.seg[2]).map(Descriptor)?;
    let linear = match mode {
        Mode::Bits64 => s.gpr[4],
        _ if d.0 & Descriptor::DB != 0 => s.gpr[4].wrapping_add(d.base().into()),
        _ => (s.gpr[4] & 0xffff).wrapping_add(d.base().into()),
    };
    linear.checked_sub(DATA).map(|at| at as usize)
}

/// Bytes before the selector of a far pointer.
fn far_offset_size(code: Code) -> u64 {
    let name = format!("{code:?}");
    if name.contains("m1632") {
        4
    } else {
        2
    }
}

/// Bytes of each element of a far return's frame.
fn operand_size(code: Code) -> u64 {
    let name = format!("{code:?}");
    match () {
        () if name.starts_with("Retfw") || name == "Iretw" => 2,
        () if name.starts_with("Retfd") || name == "Iretd" => 4,
        () => 8,
    }
}
