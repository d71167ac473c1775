// SPDX-License-Identifier: GPL-2.0
//! Cases of 64-bit code by itself: instructions of ring 0, accesses to what is there and what is not, the host and the VMM area, and
//! segments with their bases.

use super::case::*;
use super::world::*;
use crate::switch::layout::{GDT_PAGE, PAGE};
use rvmm_arch::host::WorldExit;

/// GS base and RBX in the upper half: together `NOWHERE`.
fn high_gs(c: &mut State, _: &Place) {
    c.gs_base = NOWHERE & !0xfff;
    c.gpr[RBX] = NOWHERE & 0xfff;
}

pub(super) const CASES: &[Case] = &[
    case("nop; int3", &[0x90, 0xcc], same, INT3, 0, forward!(2)),
    case("inc rax; int3", &[0x48, 0xff, 0xc0, 0xcc], same, INT3, 0, |c, _| {
        c.gpr[RAX] = c.gpr[RAX].wrapping_add(1);
        c.rip += 4;
    }),
    case("int 0x80", &[0xcd, 0x80], same, GP, 0x402, same),
    case("ud2", &[0x0f, 0x0b], same, UD, 0, same),
    case("cli", &[0xfa], same, GP, 0, same),
    case("hlt", &[0xf4], same, GP, 0, same),
    case("in", &[0xe4, 0x80], same, GP, 0, same),
    case("swapgs", &[0x0f, 0x01, 0xf8], same, GP, 0, same),
    case("rdmsr", &[0x0f, 0x32], same, GP, 0, same),
    case("mov rax, cr3", &[0x0f, 0x20, 0xd8], same, GP, 0, same),
    case("read of an unmapped page", READ, rbx!(|_| NOWHERE), PF, U, cr2_is_rbx),
    case("write to the code page", WRITE, rbx!(|_| HIGH + 8), PF, P | W | U, cr2_is_rbx),
    case("fetch from a data page", JUMP, rbx!(|_| DATA), PF, P | U | FETCH, |c, _| {
        c.rip = DATA;
        c.cr2 = DATA;
    }),
    case("read of a bad address", READ, rbx!(|_| BAD), GP, 0, same),
    case("push on a bad stack", &[0x50], |c, _| c.gpr[RSP] = BAD, WorldExit::Exception(12), 0, same),
    // The host's own pages: not there, whatever the TLB may have known.
    case("read of the host's IDT", READ, rbx!(|p| p.host[0]), PF, U, cr2_is_rbx),
    case("read of the module", READ, rbx!(|p| p.host[1]), PF, U, cr2_is_rbx),
    // The VMM area: there, and not for ring 3.
    case("read of the VMM area", READ, rbx!(|p| control_page(p)), PF, P | U, cr2_is_rbx),
    case("write to the VMM area", WRITE, rbx!(|p| control_page(p)), PF, P | W | U, cr2_is_rbx),
    case("write to the shadow GDT", WRITE, rbx!(|p| p.area + (GDT_PAGE * PAGE) as u64), PF, P | W | U, cr2_is_rbx),
    case("jump into the VMM area", JUMP, rbx!(|p| p.area), PF, P | U | FETCH, |c, p| {
        c.rip = p.area;
        c.cr2 = p.area;
    }),
    case(
        "stack in the VMM area",
        &[0x50],
        |c, p| c.gpr[RSP] = control_page(p) + 0x800,
        PF,
        P | W | U,
        |c, _| c.cr2 = c.gpr[RSP] - 8,
    ),
    case("far jump to a segment of the VMM", &[0xff, 0x2b], rbx!(|_| DATA + FAR_TO_VMM), GP, 0xff88, same),
    // mov rax, fs:[0]; mov rcx, gs:[0]; int3. The data page has its own addresses in it.
    case(
        "FS and GS",
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x65, 0x48, 0x8b, 0x09, 0xcc],
        |c, _| c.gpr[RCX] = 8,
        INT3,
        0,
        |c, _| {
            c.gpr[RAX] = c.fs_base;
            c.gpr[RCX] = c.gs_base + 8;
            c.rip += 14;
        },
    ),
    // The upper half belongs to the guest as well: its kernel's GS.
    case("GS in the upper half", &[0x65, 0x48, 0x8b, 0x03], high_gs, PF, U, |c, _| c.cr2 = NOWHERE),
    case("mov gs, a segment with a base", &[0x8e, 0xeb, 0xcc], rbx!(|_| BASED as u64), INT3, 0, |c, _| {
        c.sel[5] = BASED;
        c.gs_base = BASE;
        c.rip += 3;
    }),
    case(
        "mov gs, a segment that is not present",
        &[0x8e, 0xeb],
        rbx!(|_| ABSENT as u64),
        WorldExit::Exception(11),
        0x28,
        same,
    ),
    case("rdfsbase without CR4.FSGSBASE", &[0xf3, 0x48, 0x0f, 0xae, 0xc0], same, UD, 0, same),
];
