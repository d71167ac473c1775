//! Every privileged instruction is #GP(0) outside CPL 0, before it looks at anything else (SDM vol. 3 §5.9).

use crate::world::*;
use rvmm_arch::regs::Cr4;

#[test]
fn privileged() {
    let instructions: [&[u8]; 32] = [
        &[0xf4],             // HLT
        &[0x0f, 0x06],       // CLTS
        &[0x0f, 0x08],       // INVD
        &[0x0f, 0x09],       // WBINVD
        &[0x0f, 0x01, 0x13], // LGDT
        &[0x0f, 0x01, 0x1b], // LIDT
        &[0x0f, 0x01, 0xf0], // LMSW
        &[0x0f, 0x01, 0x3b], // INVLPG
        &[0x0f, 0x00, 0xd0], // LLDT
        &[0x0f, 0x00, 0xd8], // LTR
        &[0x0f, 0x30],       // WRMSR
        &[0x0f, 0x32],       // RDMSR
        &[0x0f, 0x20, 0xc0], // MOV EAX, CR0
        &[0x0f, 0x20, 0xd0], // MOV EAX, CR2
        &[0x0f, 0x20, 0xd8], // MOV EAX, CR3
        &[0x0f, 0x20, 0xe0], // MOV EAX, CR4
        &[0x0f, 0x22, 0xc0], // MOV CR0, EAX
        &[0x0f, 0x22, 0xd0], // MOV CR2, EAX
        &[0x0f, 0x22, 0xd8], // MOV CR3, EAX
        &[0x0f, 0x22, 0xe0], // MOV CR4, EAX
        &[0x0f, 0x21, 0xc0], // MOV EAX, DR0
        &[0x0f, 0x21, 0xf0], // MOV EAX, DR6
        &[0x0f, 0x21, 0xf8], // MOV EAX, DR7
        &[0x0f, 0x23, 0xc0], // MOV DR0, EAX
        &[0x0f, 0x23, 0xf8], // MOV DR7, EAX
        &[0x0f, 0x35],       // SYSEXIT
        &[0x0f, 0x01, 0xd1], // XSETBV
        &[0x0f, 0xc7, 0x2b], // XSAVES
        &[0x0f, 0xc7, 0x1b], // XRSTORS
        &[0xf3, 0x0f, 0x09], // WBNOINVD
        &[0x0f, 0x01, 0x33], // LMSW m16
        &[0x0f, 0x00, 0x13], // LLDT m16
    ];
    for code in instructions {
        for ring in [1, 3] {
            let mut w = World::at_ring(ring);
            w.cpu.cr4 |= Cr4::OSXSAVE;
            // XSAVES is announced: bit 3 of subleaf 1, as this table answers every subleaf alike.
            w.m.cpuid.insert(0xd, [0xf, 0, 0, 0]);
            w.cpu.msrs.sysenter_cs = 8;
            // The memory operand is not reached.
            w.m.pages.insert(0, Page::NotPresent);
            w.faults(code, gp(0));
            assert!(w.m.changes.is_empty());
        }
    }
}
