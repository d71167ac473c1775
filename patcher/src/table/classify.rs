//! From a decoded instruction to its row, in a table look-up: a const-built index by mnemonic, and a short list of
//! rows to compare where the mnemonic alone does not decide (MOV, PUSH, POP, CALL, JMP).

use super::rows::ROW_ARRAY;
use super::{Match, Row, ROWS, ROW_COUNT};
use iced_x86::{Code, Instruction, Mnemonic};

/// Index of a row in [`ROWS`]; fits the counters that are arrays by row.
pub type RowId = u8;

/// More than the decoder has mnemonics; the const evaluation of [`INDEX`] fails if a row's mnemonic does not fit.
const MNEMONICS: usize = 2048;
/// No row for this mnemonic.
const NO_ROW: u8 = 0xFF;
/// The encoding or an operand decides.
const LOOK_CLOSER: u8 = 0xFE;

const _: () = assert!(ROW_COUNT < LOOK_CLOSER as usize);

static INDEX: [u8; MNEMONICS] = build_index();

const fn build_index() -> [u8; MNEMONICS] {
    let mut index = [NO_ROW; MNEMONICS];
    let mut i = 0;
    while i < ROW_COUNT {
        if let Match::Mnemonics(list) = ROW_ARRAY[i].matches {
            let mut k = 0;
            while k < list.len() {
                // Two rows for one mnemonic would make the later one win silently: refuse to compile.
                assert!(index[list[k] as usize] == NO_ROW);
                index[list[k] as usize] = i as u8;
                k += 1;
            }
        }
        i += 1;
    }
    index[Mnemonic::Mov as usize] = LOOK_CLOSER;
    index[Mnemonic::Push as usize] = LOOK_CLOSER;
    index[Mnemonic::Pop as usize] = LOOK_CLOSER;
    index[Mnemonic::Call as usize] = LOOK_CLOSER;
    index[Mnemonic::Jmp as usize] = LOOK_CLOSER;
    index
}

/// The row with this index, if there is one.
pub fn row(id: RowId) -> Option<&'static Row> {
    ROWS.get(usize::from(id))
}

/// The row of a decoded instruction: `None` means that the instruction is not sensitive (or not valid).
pub fn classify(instruction: &Instruction) -> Option<&'static Row> {
    classify_index(instruction).and_then(row)
}

/// As [`classify`], but the index of the row.
pub fn classify_index(instruction: &Instruction) -> Option<RowId> {
    match INDEX.get(instruction.mnemonic() as usize).copied() {
        None | Some(NO_ROW) => None,
        Some(LOOK_CLOSER) => look_closer(instruction),
        Some(id) => Some(id),
    }
}

/// MOV, PUSH, POP, CALL and JMP: nearly always the harmless encodings, which leave at once.
fn look_closer(instruction: &Instruction) -> Option<RowId> {
    let code = instruction.code();
    let stores = matches!(code, Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg);
    let loads = matches!(code, Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16);
    ROWS.iter().zip(0u8..).find_map(|(row, id)| {
        let hit = match row.matches {
            Match::Mnemonics(_) => false,
            Match::Codes(codes) => codes.contains(&code),
            Match::StoreSreg(regs) => stores && regs.contains(&instruction.op1_register()),
            Match::LoadSreg(regs) => loads && regs.contains(&instruction.op0_register()),
        };
        hit.then_some(id)
    })
}
