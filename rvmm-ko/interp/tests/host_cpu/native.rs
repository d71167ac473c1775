//! Executes one instruction on the CPU this test runs on, from a given state of registers, segments, flags and memory.
//!
//! The CPU is sent there by IRETQ with TF set, so that it comes back by #DB as soon as the instruction is done, wherever that led; string
//! instructions have an INT3 behind them instead, so that the CPU may do their iterations as it likes. Faults come back by
//! themselves. Linux makes signals of all of them and tells vector, error code and CR2.
//!
//! The arena lies at a fixed address below 4 GiB, so that every mode reaches it.

use crate::tables::{self, LDT};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BASE: u64 = 0x2000_0000;
/// What goes in and comes out. Its upper half is that of ESP where a 16-bit stack leaves it (IRETQ may not load it).
const STATE: u64 = BASE + 0x1000;
/// The page of the instruction.
pub const CODE: u64 = BASE + 0x2000;
/// The instruction.
pub const INSTRUCTION: u64 = CODE + 0x800;
/// Base of the data segments.
pub const SEGMENT: u64 = BASE + 0x1_0000;
/// What can be accessed: [`WRITABLE`] bytes that can be written, then a page that can only be read, then nothing; nothing before them.
pub const DATA: u64 = SEGMENT + 0x7000;
/// Bytes that can be written.
pub const WRITABLE: usize = 0x4000;
/// Base of GS in 64-bit mode.
pub const GS_BASE: u64 = SEGMENT - 0x40;
const LEN: usize = 0x3_0000;

/// Selectors of Linux: 32-bit user code, user data, 64-bit user code.
pub const USER32_CS: u16 = 0x23;
pub const USER_DS: u16 = 0x2b;
pub const USER_CS: u16 = 0x33;

/// The width of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Mode {
    Bits16,
    Bits32,
    Bits64,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Bits16, Self::Bits32, Self::Bits64];

    pub fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// What a program sees of the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub flags: u64,
    /// Selectors, in the order of their encoding.
    pub seg: [u16; 6],
}

/// How the instruction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Done,
    Fault { vector: u8, error: u64, cr2: u64 },
}

/// The state page.
#[repr(C)]
struct Page {
    gpr: [u64; 16],
    /// RIP, CS, RFLAGS, RSP, SS, as IRETQ wants them.
    frame: [u64; 5],
    /// DS, ES, FS, GS.
    seg: [u64; 4],
    /// Are FS and GS loaded? Not in 64-bit mode, where they have their bases from elsewhere.
    load_fs_gs: u64,
    host_rsp: u64,
    fs_base: u64,
}

static ACTIVE: AtomicBool = AtomicBool::new(false);
static VECTOR: AtomicU64 = AtomicU64::new(0);
static ERROR: AtomicU64 = AtomicU64::new(0);
static CR2: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static FLAGS: AtomicU64 = AtomicU64::new(0);

macro_rules! at {
    ($field:ident) => {
        STATE as usize + std::mem::offset_of!(Page, $field)
    };
}

// rvmm_cells_enter follows the C calling convention; rvmm_cells_leave is where the signal handler sends the CPU, and returns from it.
// Nothing here touches memory but the state page and the stack. FS, and with it thread-local storage, is another in between.
std::arch::global_asm!(
    ".globl rvmm_cells_enter",
    "rvmm_cells_enter:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    // NT, which a POPF may have left set, would make the IRETQ fault.
    "push 2; popfq",
    "mov qword ptr [{host_rsp}], rsp",
    "mov eax, dword ptr [{seg}]; mov ds, eax",
    "mov eax, dword ptr [{seg} + 8]; mov es, eax",
    "cmp dword ptr [{load_fs_gs}], 0; je 2f",
    "mov eax, dword ptr [{seg} + 16]; mov fs, eax",
    "mov eax, dword ptr [{seg} + 24]; mov gs, eax",
    "2: lea rsp, [{frame}]",
    "mov rax, qword ptr [{gpr}]; mov rcx, qword ptr [{gpr} + 8]; mov rdx, qword ptr [{gpr} + 16]; mov rbx, qword ptr [{gpr} + 24]",
    "mov rbp, qword ptr [{gpr} + 40]; mov rsi, qword ptr [{gpr} + 48]; mov rdi, qword ptr [{gpr} + 56]",
    "mov r8, qword ptr [{gpr} + 64]; mov r9, qword ptr [{gpr} + 72]; mov r10, qword ptr [{gpr} + 80]; mov r11, qword ptr [{gpr} + 88]",
    "mov r12, qword ptr [{gpr} + 96]; mov r13, qword ptr [{gpr} + 104]; mov r14, qword ptr [{gpr} + 112]; mov r15, qword ptr [{gpr} + 120]",
    "iretq",
    ".globl rvmm_cells_leave",
    "rvmm_cells_leave:",
    "mov rsp, qword ptr [{host_rsp}]",
    "xor eax, eax; mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax",
    "mov eax, 158; mov edi, 0x1002; mov rsi, qword ptr [{fs_base}]; syscall",
    "mov eax, 158; mov edi, 0x1001; mov esi, {gs_base}; syscall",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    host_rsp = const at!(host_rsp),
    seg = const at!(seg),
    load_fs_gs = const at!(load_fs_gs),
    frame = const at!(frame),
    gpr = const at!(gpr),
    fs_base = const at!(fs_base),
    gs_base = const GS_BASE,
);

extern "C" {
    fn rvmm_cells_enter();
    fn rvmm_cells_leave();
}

/// The CPU. One per process.
pub struct Native;

impl Native {
    /// Maps the arena, fills the LDT and installs the signal handlers; None where the kernel gives no LDT.
    pub fn new() -> Option<Self> {
        let map = |at: u64, len: usize, prot: i32| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: MAP_FIXED_NOREPLACE touches nothing that exists.
            let got = unsafe { libc::mmap(at as *mut libc::c_void, len, prot, flags, -1, 0) };
            assert_eq!(got as u64, at, "the arena's addresses are taken");
        };
        let (r, w, x) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let low = (CODE - BASE) as usize + 0x1000;
        map(BASE, low, r | w | x);
        map(BASE + low as u64, LEN - low, libc::PROT_NONE);
        for (at, len, prot) in [(DATA, WRITABLE + 0x1000, r | w), (DATA + WRITABLE as u64, 0x1000, r)] {
            // SAFETY: a part of the arena, which nothing refers to yet.
            unsafe {
                assert_eq!(libc::mprotect(at as *mut libc::c_void, len, prot), 0);
                // Present, so that error codes are those of a page that is; where locking is not allowed touching must do.
                libc::mlock(at as *const libc::c_void, len);
                for page in (0..len).step_by(0x1000) {
                    (at as *const u8).add(page).read_volatile();
                }
            }
        }
        if !tables::install() {
            return None;
        }
        // SAFETY: all-zero is a valid `stack_t`, `sigaction` and state page; the stack is leaked and so outlives the handlers.
        unsafe {
            let stack = Box::leak(vec![0u8; 64 * 1024].into_boxed_slice());
            let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
            assert_eq!(libc::sigaltstack(&alternate, std::ptr::null_mut()), 0);
            for signal in [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGTRAP] {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
            let page = &mut *(STATE as *mut Page);
            assert_eq!(libc::syscall(libc::SYS_arch_prctl, 0x1003, &raw mut page.fs_base), 0);
            assert_eq!(libc::syscall(libc::SYS_arch_prctl, 0x1001, GS_BASE), 0);
        }
        Some(Self)
    }

    /// The writable data and the page behind it.
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: mapped as long as the process lives; `self` is the only way to it. Written to is only what can be.
        unsafe { std::slice::from_raw_parts_mut(DATA as *mut u8, WRITABLE) }
    }

    /// Executes `bytes`, one instruction, from `input`; the data is read and written in place. With `free` it is not single-stepped and must
    /// end behind itself or fault.
    pub fn run(&mut self, bytes: &[u8], mode: Mode, input: &State, free: bool) -> (State, Ending) {
        // SAFETY: the arena is mapped and nobody else's. The CPU comes back through the signal handler, whatever the instruction does:
        // it is single-stepped or followed by INT3, and what it can reach was chosen by the caller.
        let page = unsafe {
            let code = std::slice::from_raw_parts_mut(CODE as *mut u8, 0x1000);
            code.fill(filler(free));
            code[0x800..0x800 + bytes.len()].copy_from_slice(bytes);
            &mut *(STATE as *mut Page)
        };
        page.gpr = input.gpr;
        let tf = if free { 0 } else { 0x100 };
        page.frame = [input.rip, input.seg[1].into(), input.flags | tf, input.gpr[4], input.seg[2].into()];
        page.seg = [input.seg[3], input.seg[0], input.seg[4], input.seg[5]].map(u64::from);
        page.load_fs_gs = (mode != Mode::Bits64).into();
        ACTIVE.store(true, Ordering::SeqCst);
        // SAFETY: as above; it keeps what the C calling convention says.
        unsafe { rvmm_cells_enter() };
        let [ds, es, fs, gs] = page.seg.map(|s| s as u16);
        let mut rip = RIP.load(Ordering::SeqCst);
        let ending = match VECTOR.load(Ordering::SeqCst) {
            1 => Ending::Done,
            3 if free => {
                rip -= 1;
                Ending::Done
            }
            vector => {
                let coded = matches!(vector, 8 | 10..=14 | 17);
                let error = if coded { ERROR.load(Ordering::SeqCst) } else { 0 };
                let cr2 = if vector == 14 { CR2.load(Ordering::SeqCst) } else { 0 };
                Ending::Fault { vector: vector as u8, error, cr2 }
            }
        };
        let seg = [es, page.frame[1] as u16, page.frame[4] as u16, ds, fs, gs];
        (State { gpr: page.gpr, rip, flags: FLAGS.load(Ordering::SeqCst), seg }, ending)
    }
}

/// What is behind the instruction, and before it: INT3 or NOP.
pub fn filler(free: bool) -> u8 {
    if free {
        0xcc
    } else {
        0x90
    }
}

/// Notes what happened and sends the CPU to `rvmm_cells_leave`. No thread-local storage, no panic: FS may be the instruction's.
extern "C" fn on_signal(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !ACTIVE.swap(false, Ordering::SeqCst) {
        // A fault of the test's own: let it kill the process when it happens again.
        // SAFETY: the default action is always a valid one.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    let [mut ds, mut es, mut fs, mut gs] = [0u64; 4];
    // SAFETY: reading selectors changes nothing.
    unsafe {
        std::arch::asm!("mov {:r}, ds", "mov {:r}, es", "mov {:r}, fs", "mov {:r}, gs", inout(reg) ds, inout(reg) es, inout(reg) fs,
            inout(reg) gs, options(nomem, nostack));
    }
    // SAFETY: with SA_SIGINFO the third argument is the context that the kernel restores on return; the state page is mapped, and the
    // code that was interrupted does not look at it before it is left.
    let (registers, page) =
        unsafe { (&mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs, &mut *(STATE as *mut Page)) };
    const ORDER: [i32; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    for (to, from) in page.gpr.iter_mut().zip(ORDER) {
        *to = registers[from as usize] as u64;
    }
    // CS, GS, FS, SS, 16 bits each.
    let selectors = registers[libc::REG_CSGSFS as usize] as u64;
    page.frame[1] = selectors & 0xffff;
    page.frame[4] = selectors >> 48;
    page.seg = [ds, es, fs, gs];
    RIP.store(registers[libc::REG_RIP as usize] as u64, Ordering::SeqCst);
    FLAGS.store(registers[libc::REG_EFL as usize] as u64, Ordering::SeqCst);
    VECTOR.store(registers[libc::REG_TRAPNO as usize] as u64, Ordering::SeqCst);
    ERROR.store(registers[libc::REG_ERR as usize] as u64, Ordering::SeqCst);
    CR2.store(registers[libc::REG_CR2 as usize] as u64, Ordering::SeqCst);
    registers[libc::REG_RIP as usize] = rvmm_cells_leave as *const () as i64;
    registers[libc::REG_EFL as usize] = 0x202;
    registers[libc::REG_CSGSFS as usize] = (u64::from(USER_CS) | u64::from(USER_DS) << 48) as i64;
}

/// The descriptor of a selector, in the LDT or of Linux's GDT as far as it is known.
pub fn descriptor(selector: u16) -> Option<u64> {
    match selector & !3 {
        s if s & 4 != 0 => LDT.get(usize::from(s >> 3)).copied(),
        0x20 => Some(tables::GDT[4]),
        0x28 => Some(tables::GDT[5]),
        0x30 => Some(tables::GDT[6]),
        _ => None,
    }
}
