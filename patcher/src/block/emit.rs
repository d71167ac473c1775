//! Emission: a few instruction forms into a fixed buffer, each with its map entry.
//!
//! 32-bit and 64-bit blocks are the same instructions for the most part. What differs is here: 32-bit code reaches the vCPU page
//! through SS at an absolute address, 64-bit code relative to RIP (every other form of that has a sign-extended displacement,
//! which reaches the last and the first 2 GiB only), and works on 64-bit registers by a REX prefix.

use super::layout::{Field, VcpuPageLayout};
use super::map::{BlockMap, MapEntry, Undo};
use super::BlockRefusal;
use crate::page::CodeSize;

/// SS segment override: every access to the vCPU page from 32-bit code has it.
const SS: u8 = 0x36;
/// REX.W: 64-bit operands.
const REX_W: u8 = 0x48;
/// The bit of REX that extends the register field of ModRM.
const REX_R: u8 = 0x44;
/// The operand-size prefix.
const OPERAND_SIZE: u8 = 0x66;

/// How much of a register an instruction writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// 16 bits; the rest stays.
    Half,
    /// 32 bits; in 64-bit code the rest becomes zero.
    Double,
    /// All of it.
    Word,
}

/// A block under construction. Once something did not fit, the rest is ignored and [`Emitter::finish`] says so.
pub(super) struct Emitter<'a> {
    code: &'a mut [u8],
    len: usize,
    map: BlockMap,
    size: CodeSize,
    /// Linear address of the block.
    address: u64,
    layout: &'a VcpuPageLayout,
    refusal: Option<BlockRefusal>,
    /// The guest boundary and undo of the next instructions.
    guest: i32,
    undo: Undo,
}

/// A short forward jump whose target is not known yet.
#[must_use]
pub(super) struct Hole(usize);

/// A forward jump with a 32-bit distance whose target is not known yet.
#[must_use]
pub(super) struct FarHole(usize);

impl<'a> Emitter<'a> {
    pub(super) fn new(code: &'a mut [u8], size: CodeSize, address: u64, layout: &'a VcpuPageLayout) -> Self {
        let (map, undo) = (BlockMap::EMPTY, Undo::empty());
        Self { code, len: 0, map, size, address, layout, refusal: None, guest: 0, undo }
    }

    /// Is it 64-bit code?
    pub(super) fn is_64(&self) -> bool {
        self.size == CodeSize::Bits64
    }

    /// From here on instructions belong to this guest boundary, with this to undo.
    pub(super) fn stand(&mut self, guest: i32, undo: Undo) {
        self.guest = guest;
        self.undo = undo;
    }

    /// One instruction, given as its bytes in up to three parts.
    pub(super) fn op(&mut self, head: &[u8], middle: &[u8], tail: &[u8]) {
        let entry = MapEntry { at: self.len as u16, undo: self.undo, guest: self.guest };
        if !self.map.push(entry) {
            self.refuse(BlockRefusal::TooLong);
        }
        // A place to enter is the first instruction only.
        self.undo.remove(Undo::HEAD);
        for &value in head.iter().chain(middle).chain(tail) {
            match self.code.get_mut(self.len) {
                Some(slot) => *slot = value,
                None => self.refuse(BlockRefusal::TooLong),
            }
            self.len += 1;
        }
    }

    fn refuse(&mut self, refusal: BlockRefusal) {
        self.refusal = self.refusal.or(Some(refusal));
    }

    /// The same on registers as wide as the code's: with REX.W in 64-bit code.
    pub(super) fn word_op(&mut self, code: &[u8], immediate: &[u8]) {
        let rex: &[u8] = if self.is_64() { &[REX_W] } else { &[] };
        self.op(rex, code, immediate);
    }

    /// The 32-bit operand that makes an instruction, whose next one is `behind` bytes further on, lead to a linear address.
    fn relative(&mut self, behind: usize, target: u64) -> [u8; 4] {
        let next = self.address.wrapping_add((self.len + behind) as u64);
        let distance = target.wrapping_sub(next);
        if self.is_64() && i32::try_from(distance as i64).is_err() {
            self.refuse(BlockRefusal::OutOfReach);
        }
        (distance as u32).to_le_bytes()
    }

    /// `opcode [field]`, with the prefix `operand_size` and register number `register` in the ModRM byte (SDM 2, table 2-2:
    /// a plain displacement), on 64 bits if `wide`.
    fn access(&mut self, prefixes: &[u8], rex: u8, opcode: u8, register: u8, field: Field, immediate: &[u8]) {
        let mut head = [0; 5];
        let own: &[u8] = if self.is_64() { &[] } else { &[SS] };
        let rex = [rex];
        let rex: &[u8] = if rex == [0] { &[] } else { &rex };
        let modrm = [opcode, 0x05 | (register & 7) << 3];
        let bytes = own.iter().chain(prefixes).chain(rex).chain(&modrm);
        let len = own.len() + prefixes.len() + rex.len() + modrm.len();
        for (slot, &value) in head.iter_mut().zip(bytes) {
            *slot = value;
        }
        let target = self.layout.address(field);
        let displacement =
            if self.is_64() { self.relative(len + 4 + immediate.len(), target) } else { (target as u32).to_le_bytes() };
        self.op(head.get(..len).unwrap_or(&[]), &displacement, immediate);
    }

    /// `opcode [field]` as wide as the field.
    fn field(&mut self, opcode: u8, register: u8, field: Field, immediate: &[u8]) {
        let rex = if self.is_64() && self.layout.is_word(field) { REX_W } else { 0 };
        self.access(&[], rex, opcode, register, field, immediate);
    }

    /// `mov [field], value`; where the field is wider, sign-extended.
    pub(super) fn set_field(&mut self, field: Field, value: u32) {
        self.field(0xC7, 0, field, &value.to_le_bytes());
    }

    /// The same with an address, which takes two instructions in 64-bit code, unless it is one that sign extension gives.
    pub(super) fn set_field_to_address(&mut self, field: Field, value: u64) {
        let low = value as u32;
        if !self.is_64() || value == low as i32 as u64 {
            return self.set_field(field, low);
        }
        // mov rax would be shorter, and would need RAX saved.
        let at = self.layout.address(field);
        for (at, half) in [(at, low), (at.wrapping_add(4), (value >> 32) as u32)] {
            let displacement = self.relative(10, at);
            self.op(&[0xC7, 0x05], &displacement, &half.to_le_bytes());
        }
    }

    /// `mov [field], eax`: RAX where the field is as wide.
    pub(super) fn store_eax(&mut self, field: Field) {
        if self.is_64() {
            self.field(0x89, 0, field, &[]);
        } else {
            self.short_move(0xA3, field);
        }
    }

    /// `mov eax, [field]`, zero-extended.
    pub(super) fn load_eax(&mut self, field: Field) {
        if self.is_64() {
            self.field(0x8B, 0, field, &[]);
        } else {
            self.short_move(0xA1, field);
        }
    }

    /// EAX and an address, without ModRM; 64-bit code has no short form of it.
    fn short_move(&mut self, opcode: u8, field: Field) {
        let address = self.layout.address(field) as u32;
        self.op(&[SS, opcode], &address.to_le_bytes(), &[]);
    }

    /// `mov [field], ecx`
    pub(super) fn store_ecx(&mut self, field: Field) {
        self.field(0x89, 1, field, &[]);
    }

    /// `mov ecx, [field]`, zero-extended.
    pub(super) fn load_ecx(&mut self, field: Field) {
        self.field(0x8B, 1, field, &[]);
    }

    /// `mov [field], register`, all of it.
    pub(super) fn store_register(&mut self, register: u8, field: Field) {
        let rex = if self.is_64() { REX_W | if register > 7 { REX_R } else { 0 } } else { 0 };
        self.access(&[], rex, 0x89, register, field, &[]);
    }

    /// `mov register, [field]`: of the register as much as `width` says, which must not be more than the field has.
    pub(super) fn load_register(&mut self, width: Width, register: u8, field: Field) {
        let high = if register > 7 { REX_R } else { 0 };
        match width {
            Width::Half => self.access(&[OPERAND_SIZE], high, 0x8B, register, field, &[]),
            Width::Word if self.is_64() => self.access(&[], REX_W | high, 0x8B, register, field, &[]),
            Width::Word | Width::Double => self.access(&[], high, 0x8B, register, field, &[]),
        }
    }

    /// `cmp eax, [field]`
    pub(super) fn compare_eax(&mut self, field: Field) {
        self.field(0x3B, 0, field, &[]);
    }

    /// `cmp [field], 0`
    pub(super) fn compare_to_0(&mut self, field: Field) {
        self.field(0x83, 7, field, &[0]);
    }

    /// `verw [field]`, of 16 bits.
    pub(super) fn verw(&mut self, field: Field) {
        self.access(&[0x0F], 0, 0x00, 5, field, &[]);
    }

    /// `jmp [field]`: the way out of a block to where no register and no stack may say.
    pub(super) fn jump_to(&mut self, field: Field) {
        self.access(&[], 0, 0xFF, 4, field, &[]);
    }

    /// `push [field]`, a double word or a word: of 32-bit code only.
    pub(super) fn push_field(&mut self, width: Width, field: Field) {
        let prefix: &[u8] = if width == Width::Half { &[OPERAND_SIZE] } else { &[] };
        self.access(prefix, 0, 0xFF, 6, field, &[]);
    }

    /// Pushes an address. Behind the first instruction the memory is there, and what is in it does not count before the last.
    pub(super) fn push_address(&mut self, value: u64) {
        let low = value as u32;
        self.op(&[0x68], &low.to_le_bytes(), &[]); // push, sign-extended in 64-bit code
        self.undo = Undo::PUSHED;
        if self.is_64() && value != low as i32 as u64 {
            self.op(&[0xC7, 0x44, 0x24, 4], &((value >> 32) as u32).to_le_bytes(), &[]);
            // mov dword [rsp+4], high half
        }
    }

    /// A guest instruction, with its displacement adapted if it is relative to RIP: where that is in `bytes`, and the address.
    pub(super) fn copy(&mut self, bytes: &[u8], relative: Option<(usize, u64)>) {
        let Some((at, target)) = relative else { return self.op(bytes, &[], &[]) };
        let displacement = self.relative(bytes.len(), target);
        let (head, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
        match rest.split_at_checked(displacement.len()) {
            Some((_, tail)) => self.op(head, &displacement, tail),
            None => self.refuse(BlockRefusal::NotMovable),
        }
    }

    /// `int3`: leave the block for the VMM, which goes to the guest boundary that the entry names.
    pub(super) fn exit(&mut self) {
        self.op(&[crate::INT3], &[], &[]);
    }

    /// A two-byte jump of this opcode over what comes before [`Emitter::land`].
    pub(super) fn jump_over(&mut self, opcode: u8) -> Hole {
        self.op(&[opcode, 0], &[], &[]);
        Hole(self.len)
    }

    /// The same for whatever is too far for that: `0F 8x`, given the opcode of the short form.
    pub(super) fn jump_far_over(&mut self, opcode: u8) -> FarHole {
        self.op(&[0x0F, opcode.wrapping_add(0x10)], &[0; 4], &[]);
        FarHole(self.len)
    }

    /// The target of a far jump.
    pub(super) fn land_far(&mut self, hole: &FarHole) {
        let distance = (self.len - hole.0) as u32;
        match hole.0.checked_sub(4).and_then(|at| self.code.get_mut(at..hole.0)) {
            Some(slot) => slot.copy_from_slice(&distance.to_le_bytes()),
            None => self.refuse(BlockRefusal::TooLong),
        }
    }

    /// The target of a jump.
    pub(super) fn land(&mut self, hole: Hole) {
        let distance = self.len - hole.0;
        match (u8::try_from(distance), self.code.get_mut(hole.0 - 1)) {
            (Ok(distance), Some(slot)) if distance < 0x80 => *slot = distance,
            _ => self.refuse(BlockRefusal::TooLong),
        }
    }

    /// An instruction of this opcode with a rel32 operand that leads to a linear address.
    pub(super) fn branch(&mut self, opcode: &[u8], target: u64) {
        let displacement = self.relative(opcode.len() + 4, target);
        self.op(opcode, &displacement, &[]);
    }

    /// The length and the map, unless something did not fit.
    pub(super) fn finish(self) -> Result<(u16, BlockMap), BlockRefusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        u16::try_from(self.len).map(|len| (len, self.map)).map_err(|_| BlockRefusal::TooLong)
    }
}
