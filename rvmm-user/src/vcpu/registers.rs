//! The registers for people: 64-bit ones in long mode, 32-bit ones otherwise.

use std::fmt::Write;

use kvm_bindings::{kvm_regs, kvm_sregs};

/// EFER.LMA: long mode is active.
const LMA: u64 = 1 << 10;

/// The general registers, four in a line, and what says in which state the CPU is.
pub fn describe(regs: &kvm_regs, sregs: &kvm_sregs) -> String {
    let long = sregs.efer & LMA != 0;
    let (prefix, digits) = if long { ("R", 16) } else { ("E", 8) };
    let mut text = String::new();
    let legacy = [
        ("AX", regs.rax),
        ("BX", regs.rbx),
        ("CX", regs.rcx),
        ("DX", regs.rdx),
        ("SI", regs.rsi),
        ("DI", regs.rdi),
        ("BP", regs.rbp),
        ("SP", regs.rsp),
    ];
    let added = [
        ("R8 ", regs.r8),
        ("R9 ", regs.r9),
        ("R10", regs.r10),
        ("R11", regs.r11),
        ("R12", regs.r12),
        ("R13", regs.r13),
        ("R14", regs.r14),
        ("R15", regs.r15),
    ];
    // Writing to a string does not fail.
    let mut put = |name: String, value: u64, last: bool| {
        let _ = write!(text, "  {name} {value:0digits$x}{}", if last { "\n" } else { "" });
    };
    for (index, (name, value)) in legacy.into_iter().enumerate() {
        put(format!("{prefix}{name}"), value, index % 4 == 3);
    }
    if long {
        for (index, (name, value)) in added.into_iter().enumerate() {
            put(name.to_string(), value, index % 4 == 3);
        }
    }
    put(format!("{prefix}IP"), regs.rip, false);
    let mode = match (long, sregs.cs.l, sregs.cs.db) {
        (true, 1, _) => "64-bit code",
        (_, _, 1) => "32-bit code",
        _ => "16-bit code",
    };
    let bases = if long {
        format!("\n  FS base {:016x}  GS base {:016x}", sregs.fs.base, sregs.gs.base)
    } else {
        String::new()
    };
    let _ = write!(
        text,
        "  {prefix}FLAGS {:08x}  CS {:04x} ({mode})  SS {:04x}{bases}\n  CR0 {:08x}  CR2 {:0digits$x}  CR3 {:0digits$x}  CR4 {:08x}  EFER {:04x}",
        regs.rflags, sregs.cs.selector, sregs.ss.selector, sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_segment;

    #[test]
    fn long_mode_has_sixteen_wide_registers() {
        let regs = kvm_regs { rax: 0x1234_5678_9ABC_DEF0, r15: 15, rip: 0xFFFF_FFFF_8100_0000, ..Default::default() };
        let cs = kvm_segment { selector: 0x10, l: 1, ..Default::default() };
        let sregs = kvm_sregs { cs, efer: 0xD01, cr3: 0x1_2345_6000, ..Default::default() };
        let text = describe(&regs, &sregs);
        for part in [
            "RAX 123456789abcdef0",
            "R15 000000000000000f",
            "RIP ffffffff81000000",
            "CS 0010 (64-bit code)",
            "EFER 0d01",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.lines().count(), 7);
    }

    #[test]
    fn protected_mode_has_eight_narrow_ones() {
        let regs = kvm_regs { rsp: 0x8000, ..Default::default() };
        let cs = kvm_segment { db: 1, ..Default::default() };
        let text = describe(&regs, &kvm_sregs { cs, cr0: 0x11, ..Default::default() });
        assert!(text.contains("ESP 00008000") && text.contains("(32-bit code)") && !text.contains("R8"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }
}
