//! Emission: a few instruction forms into a fixed buffer, each with its map entry.

use super::layout::{Field, VcpuPageLayout};
use super::map::{BlockMap, MapEntry, Undo};
use super::BlockRefusal;

/// SS segment override: every access to the vCPU page has it.
const SS: u8 = 0x36;

/// A block under construction. Once something did not fit, the rest is ignored and [`Emitter::finish`] says so.
pub(super) struct Emitter<'a> {
    code: &'a mut [u8],
    len: usize,
    map: BlockMap,
    /// Linear address of the block.
    address: u32,
    layout: &'a VcpuPageLayout,
    overflow: bool,
    /// The guest boundary and undo of the next instructions.
    guest: i32,
    undo: Undo,
}

/// A short forward jump whose target is not known yet.
#[must_use]
pub(super) struct Hole(usize);

impl<'a> Emitter<'a> {
    pub(super) fn new(code: &'a mut [u8], address: u32, layout: &'a VcpuPageLayout) -> Self {
        Self { code, len: 0, map: BlockMap::EMPTY, address, layout, overflow: false, guest: 0, undo: Undo::empty() }
    }

    /// From here on instructions belong to this guest boundary, with this to undo.
    pub(super) fn stand(&mut self, guest: i32, undo: Undo) {
        self.guest = guest;
        self.undo = undo;
    }

    /// One instruction, given as its bytes in up to three parts.
    pub(super) fn op(&mut self, head: &[u8], middle: &[u8], tail: &[u8]) {
        let entry = MapEntry { at: self.len as u16, undo: self.undo, guest: self.guest };
        self.overflow |= !self.map.push(entry);
        // A place to enter is the first instruction only.
        self.undo.remove(Undo::HEAD);
        for &value in head.iter().chain(middle).chain(tail) {
            match self.code.get_mut(self.len) {
                Some(slot) => *slot = value,
                None => self.overflow = true,
            }
            self.len += 1;
        }
    }

    /// `opcode ss:[field]`, with a ModRM byte for a plain displacement (SDM 2, table 2-2) in `opcode` where it has one.
    fn field(&mut self, opcode: &[u8], field: Field, immediate: &[u8]) {
        let address = self.layout.address(field).to_le_bytes();
        let mut head = [SS; 4];
        let len = opcode.len().min(3);
        for (slot, &value) in head.iter_mut().skip(1).zip(opcode) {
            *slot = value;
        }
        self.op(head.get(..=len).unwrap_or(&[]), &address, immediate);
    }

    /// `mov dword ss:[field], value`
    pub(super) fn set_field(&mut self, field: Field, value: u32) {
        self.field(&[0xC7, 0x05], field, &value.to_le_bytes());
    }

    /// `mov ss:[field], eax`
    pub(super) fn store_eax(&mut self, field: Field) {
        self.field(&[0xA3], field, &[]);
    }

    /// `mov eax, ss:[field]`
    pub(super) fn load_eax(&mut self, field: Field) {
        self.field(&[0xA1], field, &[]);
    }

    /// `mov ss:[field], ecx`
    pub(super) fn store_ecx(&mut self, field: Field) {
        self.field(&[0x89, 0x0D], field, &[]);
    }

    /// `mov ecx, ss:[field]`
    pub(super) fn load_ecx(&mut self, field: Field) {
        self.field(&[0x8B, 0x0D], field, &[]);
    }

    /// `mov reg, ss:[field]`: 32 bits, or 16 with the operand-size prefix.
    pub(super) fn load_register(&mut self, wide: bool, register: u8, field: Field) {
        let modrm = 0x05 | (register & 7) << 3;
        if wide {
            self.field(&[0x8B, modrm], field, &[]);
        } else {
            self.field(&[0x66, 0x8B, modrm], field, &[]);
        }
    }

    /// `cmp eax, ss:[field]`
    pub(super) fn compare_eax(&mut self, field: Field) {
        self.field(&[0x3B, 0x05], field, &[]);
    }

    /// `cmp dword ss:[field], 0`
    pub(super) fn compare_to_0(&mut self, field: Field) {
        self.field(&[0x83, 0x3D], field, &[0]);
    }

    /// `jmp dword ss:[field]`: the way out of a block to where no register and no stack may say.
    pub(super) fn jump_to(&mut self, field: Field) {
        self.field(&[0xFF, 0x25], field, &[]);
    }

    /// `push dword ss:[field]`, or a word.
    pub(super) fn push_field(&mut self, wide: bool, field: Field) {
        if wide {
            self.field(&[0xFF, 0x35], field, &[]);
        } else {
            self.field(&[0x66, 0xFF, 0x35], field, &[]);
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

    /// The target of a jump.
    pub(super) fn land(&mut self, hole: Hole) {
        let distance = self.len - hole.0;
        match (u8::try_from(distance), self.code.get_mut(hole.0 - 1)) {
            (Ok(distance), Some(slot)) if distance < 0x80 => *slot = distance,
            _ => self.overflow = true,
        }
    }

    /// An instruction of this opcode with a rel32 operand that leads to a linear address.
    pub(super) fn branch(&mut self, opcode: &[u8], target: u32) {
        let next = self.address.wrapping_add((self.len + opcode.len() + 4) as u32);
        self.op(opcode, &target.wrapping_sub(next).to_le_bytes(), &[]);
    }

    /// The length and the map, unless something did not fit.
    pub(super) fn finish(self) -> Result<(u16, BlockMap), BlockRefusal> {
        match (self.overflow, u16::try_from(self.len)) {
            (false, Ok(len)) => Ok((len, self.map)),
            _ => Err(BlockRefusal::TooLong),
        }
    }
}
