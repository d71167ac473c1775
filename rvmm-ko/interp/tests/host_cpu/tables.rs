//! The descriptors that both the CPU and the interpreter have: a local table, and what programs can use of Linux's global one.

use crate::native::{CODE, SEGMENT};

/// A descriptor with DPL 3, accessed. `kind`: type without the accessed bit. `flags`: G, D/B, L, AVL. The limit is not scaled.
const fn user(base: u64, limit: u64, kind: u64, flags: u64, present: bool) -> u64 {
    let access = 0x70 | kind | 1 | (present as u64) << 7;
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (base >> 24 & 0xff) << 56
}

const READ_ONLY: u64 = 0;
const WRITABLE: u64 = 2;
const EXPAND_DOWN: u64 = 6;
const EXECUTE_ONLY: u64 = 8;
const CODE_SEGMENT: u64 = 10;
/// D/B, and AVL, which Linux calls useable.
const D: u64 = 4;
const AVL: u64 = 1;
const G: u64 = 8;

/// The local table. Two byte offsets below another base, so that a mistaken segment gives a mistaken address.
pub const LDT: [u64; 17] = [
    user(CODE, 0x8fff, CODE_SEGMENT, AVL, true),
    user(CODE, 0x8fff, CODE_SEGMENT, D | AVL, true),
    user(SEGMENT, 0xffff, WRITABLE, AVL, true),
    user(SEGMENT, 0xffff, WRITABLE, D | AVL, true),
    // A limit in the middle of what can be written.
    user(SEGMENT, 0x8fff, WRITABLE, AVL, true),
    user(SEGMENT, 0x9003, WRITABLE, D | AVL, true),
    // Expand-down: valid is what lies above.
    user(SEGMENT, 0x7fff, EXPAND_DOWN, AVL, true),
    user(SEGMENT, 0x7ffd, EXPAND_DOWN, D | AVL, true),
    user(SEGMENT, 0xffff, READ_ONLY, AVL, true),
    user(CODE, 0x8fff, EXECUTE_ONLY, AVL, true),
    user(CODE, 0xa, EXECUTE_ONLY, D | G | AVL, true),
    user(SEGMENT, 0xffff, WRITABLE, AVL, false),
    user(CODE, 0xffff, CODE_SEGMENT, AVL, false),
    user(SEGMENT, 0xf, WRITABLE, D | G | AVL, true),
    user(SEGMENT - 0x100, 0xffff, WRITABLE, AVL, true),
    user(SEGMENT - 0x200, 0xffff, WRITABLE, D | AVL, true),
    user(SEGMENT, 0, EXPAND_DOWN, G | AVL, true),
];

pub const CODE16: u16 = 7;
pub const CODE32: u16 = 1 << 3 | 7;
pub const DATA16: u16 = 2 << 3 | 7;
pub const DATA32: u16 = 3 << 3 | 7;
pub const SHORT16: u16 = 4 << 3 | 7;
pub const SHORT32: u16 = 5 << 3 | 7;
pub const DOWN16: u16 = 6 << 3 | 7;
pub const DOWN32: u16 = 7 << 3 | 7;
pub const CONSTANT: u16 = 8 << 3 | 7;
pub const LOWER16: u16 = 14 << 3 | 7;
pub const LOWER32: u16 = 15 << 3 | 7;

/// The global table as far as programs can use it: 32-bit code, data, 64-bit code.
pub const GDT: [u64; 7] = [0, 0, 0, 0, 0x00cf_fb00_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];

/// Selectors to be loaded: all of the table, one beyond it, null, and those of the global table that are known.
pub const SELECTORS: [u16; 25] = [
    0, 1, 3, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x57, 0x5f, 0x67, 0x6f, 0x77, 0x7f, 0x87,
    0x8f, 0x23, 0x2b, 0x33, 0xffff,
];

/// `struct user_desc` of modify_ldt(2).
#[repr(C)]
struct UserDesc {
    entry_number: u32,
    base: u32,
    limit: u32,
    /// seg_32bit, contents (2 bits), read_exec_only, limit_in_pages, seg_not_present, useable.
    flags: u32,
}

/// Gives the process the local table. False where the kernel has none to give, or no 16-bit segments.
pub fn install() -> bool {
    LDT.iter().enumerate().all(|(i, d)| {
        let bit = |n: u32| (d >> n & 1) as u32;
        let desc = UserDesc {
            entry_number: i as u32,
            base: (d >> 16 & 0xff_ffff | d >> 32 & 0xff00_0000) as u32,
            limit: (d & 0xffff | d >> 32 & 0xf_0000) as u32,
            flags: bit(54)
                | (d >> 42 & 3) as u32 * 2
                | (1 - bit(41)) << 3
                | bit(55) << 4
                | (1 - bit(47)) << 5
                | bit(52) << 6,
        };
        // SAFETY: the call reads the structure, and changes no entry that is in use.
        unsafe { libc::syscall(libc::SYS_modify_ldt, 0x11, &raw const desc, std::mem::size_of::<UserDesc>()) == 0 }
    })
}
