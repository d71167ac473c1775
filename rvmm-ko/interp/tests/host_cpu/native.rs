//! Executes one instruction on the CPU this test runs on, from a given register, flag and memory state.
//!
//! Layout of the arena, which lies below 2 GiB so that every part has a 32-bit absolute address:
//! a code page for 64-bit mode and one for 32-bit mode (prologue, three epilogues, the instruction), a state page
//! (registers in and out, a small stack), and data. 32-bit mode is entered through the code segment that Linux keeps
//! for 32-bit programs, and left by a far jump.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Bytes of data that instructions may touch.
pub const DATA: usize = 0x4000;
/// Offset of the instruction in the code page.
const INSTRUCTION: usize = 0xe00;
/// Offset of the second code page.
const CODE32: usize = 0x1000;
const STATE: usize = 0x2000;
/// Top of the small stack in the state page.
const SMALL_STACK: usize = 0x2f00;
const DATA_AT: usize = 0x3000;

/// Linux's selectors: 32-bit user code, user data, 64-bit user code.
const USER32_CS: u8 = 0x23;
const USER_DS: u8 = 0x2b;
const USER_CS: u8 = 0x33;

/// Registers in encoding order and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    pub gpr: [u64; 16],
    pub flags: u64,
}

/// The mode an instruction is executed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Mode {
    Bits64,
    Bits32,
}

impl Mode {
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits64 => 64,
            Self::Bits32 => 32,
        }
    }

    fn page(self) -> usize {
        match self {
            Self::Bits64 => 0,
            Self::Bits32 => CODE32,
        }
    }
}

/// How the instruction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Execution went on behind it.
    Next,
    /// Execution went on 5 bytes behind it: a branch was taken.
    Taken,
    /// A signal.
    Signal(i32),
}

/// The state page.
#[repr(C)]
struct State {
    input: Registers,
    output: Registers,
    host_rsp: u64,
    ending: u64,
}

/// PUSH RBX, RBP, R12 to R15.
const SAVE: &[u8] = &[0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57];
/// The reverse, and RET.
const RESTORE: &[u8] = &[0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3];

/// Offset of an epilogue in its code page: 0 for going on, 1 for a branch taken, 2 for a fault.
fn epilogue(which: u32) -> usize {
    0x200 + which as usize * 0x200
}

/// Machine code being written.
struct Emit(Vec<u8>);

impl Emit {
    fn new(start: &[u8]) -> Self {
        Self(start.to_vec())
    }
    fn bytes(&mut self, b: &[u8]) -> &mut Self {
        self.0.extend(b);
        self
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    /// MOV r64, [address] (opcode 8B) or MOV [address], r64 (89), with an absolute address.
    fn mov64(&mut self, opcode: u8, reg: u8, address: u32) -> &mut Self {
        self.bytes(&[0x48 | (reg >> 3) << 2, opcode, (reg & 7) << 3 | 4, 0x25]).u32(address)
    }
    /// JMP to an offset in the page.
    fn jump(&mut self, to: usize) {
        let end = self.0.len() + 5;
        self.bytes(&[0xe9]).u32((to as u32).wrapping_sub(end as u32));
    }
}

/// The mapped arena.
pub struct Native {
    base: *mut u8,
}

static SIGNAL: AtomicI32 = AtomicI32::new(0);
static FAULT_EPILOGUE: AtomicU64 = AtomicU64::new(0);

impl Native {
    /// Maps the arena, writes the thunks and installs the signal handlers. One per process.
    pub fn new() -> Self {
        let len = DATA_AT + DATA;
        let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "no executable memory below 2 GiB");
        let mut native = Self { base: base.cast() };
        native.write_thunks();
        native.install_handlers();
        native
    }

    /// Address of the instruction under test.
    pub fn instruction_at(&self, mode: Mode) -> u64 {
        (self.base as usize + mode.page() + INSTRUCTION) as u64
    }

    /// Address of the data.
    pub fn data_at(&self) -> u64 {
        self.base as u64 + DATA_AT as u64
    }

    /// The data.
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: the range lies in the mapping, which lives as long as the process; `self` is borrowed mutably and
        // nothing else refers to it.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(DATA_AT), DATA) }
    }

    fn code(&mut self, mode: Mode) -> &mut [u8] {
        // SAFETY: as for `data`; no code of the page is running.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(mode.page()), 0x1000) }
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: the state page is mapped, aligned, large enough, and any bit pattern is a valid `State`.
        unsafe { &mut *self.base.add(STATE).cast::<State>() }
    }

    fn write_thunks(&mut self) {
        let state = self.base as usize + STATE;
        let field = |offset: usize| (state + offset) as u32;
        let input = std::mem::offset_of!(State, input);
        let output = std::mem::offset_of!(State, output);
        let flags = std::mem::offset_of!(Registers, flags);
        let host_rsp = field(std::mem::offset_of!(State, host_rsp));
        let ending = field(std::mem::offset_of!(State, ending));
        let small_stack = (self.base as usize + SMALL_STACK) as u32;
        let order = |n: u8| (0..n).filter(|&r| r != 4).chain([4]);

        // 64-bit mode. The registers are loaded, RSP last, then comes the instruction.
        let mut code = Emit::new(SAVE);
        code.mov64(0x89, 4, host_rsp).bytes(&[0xff, 0x34, 0x25]).u32(field(input + flags)).bytes(&[0x9d]);
        for reg in order(16) {
            code.mov64(0x8b, reg, field(input + usize::from(reg) * 8));
        }
        code.jump(INSTRUCTION);
        for which in 0..3u32 {
            code.0.resize(epilogue(which), 0xcc);
            for reg in 0..16 {
                code.mov64(0x89, reg, field(output + usize::from(reg) * 8));
            }
            code.mov64(0x8b, 4, host_rsp).bytes(&[0x9c, 0x8f, 0x04, 0x25]).u32(field(output + flags));
            code.bytes(&[0xfc, 0xc7, 0x04, 0x25]).u32(ending).u32(which).bytes(RESTORE);
        }
        self.write_code(Mode::Bits64, &code.0);

        // 32-bit mode: DS and ES are loaded, for 64-bit mode leaves them null; RETFQ changes the mode.
        let inside = 0x40;
        let mut code = Emit::new(SAVE);
        // PUSH imm8; POP RAX; MOV DS, EAX; MOV ES, EAX.
        code.mov64(0x89, 4, host_rsp).bytes(&[0x6a, USER_DS, 0x58, 0x8e, 0xd8, 0x8e, 0xc0]);
        code.bytes(&[0x6a, USER32_CS, 0x68]).u32((self.base as usize + CODE32 + inside) as u32).bytes(&[0x48, 0xcb]);
        code.0.resize(inside, 0xcc);
        // MOV ESP, imm32; PUSH [flags]; POPFD.
        code.bytes(&[0xbc]).u32(small_stack).bytes(&[0xff, 0x35]).u32(field(input + flags)).bytes(&[0x9d]);
        for reg in order(8) {
            code.bytes(&[0x8b, reg << 3 | 5]).u32(field(input + usize::from(reg) * 8));
        }
        code.jump(INSTRUCTION);
        for which in 0..3u32 {
            let start = epilogue(which);
            code.0.resize(start, 0xcc);
            for reg in 0..8 {
                code.bytes(&[0x89, reg << 3 | 5]).u32(field(output + usize::from(reg) * 8));
            }
            code.bytes(&[0xbc]).u32(small_stack).bytes(&[0x9c, 0x8f, 0x05]).u32(field(output + flags)).bytes(&[0xfc]);
            // JMP FAR ptr16:32, to the 64-bit part right behind it.
            let back = self.base as usize + CODE32 + code.0.len() + 7;
            code.bytes(&[0xea]).u32(back as u32).bytes(&[USER_CS, 0]);
            code.mov64(0x8b, 4, host_rsp).bytes(&[0xc7, 0x04, 0x25]).u32(ending).u32(which).bytes(RESTORE);
        }
        self.write_code(Mode::Bits32, &code.0);
    }

    fn write_code(&mut self, mode: Mode, bytes: &[u8]) {
        assert!(bytes.len() < INSTRUCTION);
        self.code(mode)[..bytes.len()].copy_from_slice(bytes);
    }

    fn install_handlers(&self) {
        let size = 64 * 1024;
        let stack = Box::leak(vec![0u8; size].into_boxed_slice());
        let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: size };
        // SAFETY: the stack is leaked, so it outlives every handler that runs on it.
        let status = unsafe { libc::sigaltstack(&alternate, std::ptr::null_mut()) };
        assert_eq!(status, 0);
        for signal in [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGTRAP] {
            // SAFETY: all-zero is a valid `sigaction`.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: the handler only uses atomics and the context it is given.
            let status = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
            assert_eq!(status, 0);
        }
    }

    /// Executes `bytes` (one instruction) with `input`; the data is read and written in place.
    pub fn run(&mut self, mode: Mode, bytes: &[u8], input: &Registers) -> (Registers, Ending) {
        let start = INSTRUCTION;
        let behind = start + bytes.len();
        let (next, taken) = (epilogue(0), epilogue(1));
        let entry = self.base as usize + mode.page();
        FAULT_EPILOGUE.store((entry + epilogue(2)) as u64, Ordering::Relaxed);
        let code = self.code(mode);
        code[start..behind].copy_from_slice(bytes);
        // Two jumps of 5 bytes: behind the instruction, and where its branches lead.
        for (at, to) in [(behind, next), (behind + 5, taken)] {
            code[at] = 0xe9;
            code[at + 1..at + 5].copy_from_slice(&(to as i32 - (at as i32 + 5)).to_le_bytes());
        }
        self.state().input = *input;
        SIGNAL.store(0, Ordering::Relaxed);
        // SAFETY: each code page starts with a prologue, which follows the C calling convention: it keeps the callee-saved
        // registers and the stack, restores them in every epilogue, and clears DF. Whatever the instruction does to
        // registers is undone; its memory operands were made to lie in the data; its faults end in the third epilogue.
        unsafe {
            let thunk: extern "C" fn() = std::mem::transmute(entry);
            thunk();
        }
        let ending = match (SIGNAL.load(Ordering::Relaxed), self.state().ending) {
            (0, 0) => Ending::Next,
            (0, _) => Ending::Taken,
            (signal, _) => Ending::Signal(signal),
        };
        (self.state().output, ending)
    }
}

/// Notes the signal and goes on in the fault epilogue, with the registers as the instruction left them.
extern "C" fn on_fault(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if SIGNAL.swap(signal, Ordering::Relaxed) != 0 {
        // A second fault: in the thunk itself or in the test. Let it kill the process.
        // SAFETY: abort may be called in a handler.
        unsafe { libc::abort() };
    }
    // SAFETY: with SA_SIGINFO the third argument is the context that the kernel restores on return.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = FAULT_EPILOGUE.load(Ordering::Relaxed) as i64;
    // CS stays as it was at the fault, so the epilogue runs in the instruction's own mode.
}
