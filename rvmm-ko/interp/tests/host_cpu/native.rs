//! Executes one instruction on the CPU this test runs on, from a given register, flag and memory state.
//!
//! Layout of the arena, which lies below 2 GiB so that every part has a 32-bit absolute address:
//! a code page (prologue, three epilogues, the instruction), a state page (registers in and out), and data.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Bytes of data that instructions may touch.
pub const DATA: usize = 0x8000;
/// Offset of the instruction in the code page.
const INSTRUCTION: usize = 0xe00;
const STATE: usize = 0x1000;
const DATA_AT: usize = 0x2000;

/// Registers in encoding order and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    pub gpr: [u64; 16],
    pub flags: u64,
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
    pub fn instruction_at(&self) -> u64 {
        self.base as u64 + INSTRUCTION as u64
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

    fn code(&mut self) -> &mut [u8] {
        // SAFETY: as for `data`; no code of the page is running.
        unsafe { std::slice::from_raw_parts_mut(self.base, STATE) }
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: the state page is mapped, aligned, large enough, and any bit pattern is a valid `State`.
        unsafe { &mut *self.base.add(STATE).cast::<State>() }
    }

    fn write_thunks(&mut self) {
        let state = self.base as u64 + STATE as u64;
        let field = |offset: usize| ((state + offset as u64) as u32).to_le_bytes();
        let input = std::mem::offset_of!(State, input);
        let output = std::mem::offset_of!(State, output);
        let flags = std::mem::offset_of!(Registers, flags);
        let host_rsp = std::mem::offset_of!(State, host_rsp);
        let ending = std::mem::offset_of!(State, ending);
        // MOV r64, [abs32] (8B) or MOV [abs32], r64 (89).
        let mov = |opcode: u8, reg: u8, offset: usize| {
            let mut b = vec![0x48 | (reg >> 3) << 2, opcode, (reg & 7) << 3 | 4, 0x25];
            b.extend(field(offset));
            b
        };
        let at = |b: &mut Vec<u8>, opcode: &[u8], offset: usize| {
            b.extend(opcode);
            b.extend(field(offset));
        };

        let mut prologue = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57];
        prologue.extend(mov(0x89, 4, host_rsp));
        at(&mut prologue, &[0xff, 0x34, 0x25], input + flags);
        prologue.push(0x9d);
        for reg in (0..16).filter(|&r| r != 4).chain([4]) {
            prologue.extend(mov(0x8b, reg, input + usize::from(reg) * 8));
        }
        prologue.push(0xe9);
        let jump_end = prologue.len() + 4;
        prologue.extend((INSTRUCTION as u32 - jump_end as u32).to_le_bytes());

        let mut code = prologue;
        for which in 0..3u32 {
            code.resize(self.epilogue(which), 0xcc);
            for reg in 0..16 {
                code.extend(mov(0x89, reg, output + usize::from(reg) * 8));
            }
            code.extend(mov(0x8b, 4, host_rsp));
            code.push(0x9c);
            at(&mut code, &[0x8f, 0x04, 0x25], output + flags);
            code.push(0xfc);
            at(&mut code, &[0xc7, 0x04, 0x25], ending);
            code.extend(which.to_le_bytes());
            code.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        }
        assert!(code.len() < INSTRUCTION);
        self.code()[..code.len()].copy_from_slice(&code);
        FAULT_EPILOGUE.store(self.base as u64 + self.epilogue(2) as u64, Ordering::Relaxed);
    }

    /// Offset of an epilogue: 0 for going on, 1 for a branch taken, 2 for a fault.
    fn epilogue(&self, which: u32) -> usize {
        0x200 + which as usize * 0x200
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
    pub fn run(&mut self, bytes: &[u8], input: &Registers) -> (Registers, Ending) {
        let start = INSTRUCTION;
        let behind = start + bytes.len();
        let (next, taken) = (self.epilogue(0), self.epilogue(1));
        let code = self.code();
        code[start..behind].copy_from_slice(bytes);
        // Two jumps of 5 bytes: behind the instruction, and where its branches lead.
        for (at, to) in [(behind, next), (behind + 5, taken)] {
            code[at] = 0xe9;
            code[at + 1..at + 5].copy_from_slice(&(to as i32 - (at as i32 + 5)).to_le_bytes());
        }
        self.state().input = *input;
        SIGNAL.store(0, Ordering::Relaxed);
        // SAFETY: the arena starts with the prologue, which follows the C calling convention: it keeps the callee-saved
        // registers and the stack, restores them in every epilogue, and clears DF. Whatever the instruction does to
        // registers is undone; its memory operands were made to lie in the data; its faults end in the third epilogue.
        unsafe {
            let thunk: extern "C" fn() = std::mem::transmute(self.base);
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
}
