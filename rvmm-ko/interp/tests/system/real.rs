//! Real mode: SDM vol. 3 chapter 21 and §9.9, vol. 2 under "Real-Address Mode Exceptions".

use crate::world::*;
use rvmm_arch::regs::gpr::*;
use rvmm_arch::regs::{Cr0, Rflags};
use rvmm_arch::segment::{CpuMode, SegReg, Segment, Selector};
use rvmm_arch::{Exception, VcpuState, Vector};
use rvmm_interp::{Delivered, Step};

/// Code at linear 0x8000, data at 0x18000, stack with its top at 0x14000.
const CS: u16 = 0x0800;
const DS: u16 = 0x1800;
const SS: u16 = 0x1000;
const SP: u32 = 0x4000;

fn world() -> World {
    let mut w = World { cpu: VcpuState::reset(), ..World::new() };
    for (reg, selector) in [(SegReg::Cs, CS), (SegReg::Ds, DS), (SegReg::Es, DS), (SegReg::Ss, SS)] {
        *w.cpu.segment_mut(reg) = Segment::real_mode(selector);
    }
    w.cpu.idtr.limit = 0x3ff;
    w.cpu.rip = 0;
    w.set_esp(SP);
    w
}

fn word(w: &World, n: u32) -> u16 {
    w.peek16(w.cpu.segment(SegReg::Ss).base as u32 + (w.esp() & 0xffff) + n * 2)
}

/// A far pointer in the interrupt vector table.
fn vector(w: &mut World, n: u8, cs: u16, ip: u16) {
    w.poke(u32::from(n) * 4, u32::from(cs) << 16 | u32::from(ip));
}

/// The address forms of 16 bits, and that offsets wrap at 64 KiB.
#[test]
fn addressing() {
    let set = |w: &mut World| {
        for (reg, value) in [(RBX, 0x1_1000), (RBP, 0x2_2000), (RSI, 0x3_0030), (RDI, 0x4_0004)] {
            w.set(reg, value);
        }
    };
    let forms: [(&[u8], u16); 9] = [
        (&[0x8d, 0x00], 0x1030),
        (&[0x8d, 0x01], 0x1004),
        (&[0x8d, 0x02], 0x2030),
        (&[0x8d, 0x03], 0x2004),
        (&[0x8d, 0x44, 0xff], 0x2f),
        (&[0x8d, 0x85, 0x00, 0xff], 0xff04),
        (&[0x8d, 0x46, 0x80], 0x1f80),
        (&[0x8d, 0x87, 0x00, 0xf0], 0),
        (&[0x8d, 0x06, 0x34, 0x12], 0x1234),
    ];
    for (code, offset) in forms {
        let mut w = world();
        set(&mut w);
        w.set(RAX, 0xaaaa_aaaa);
        w.ok(code);
        assert_eq!(w.get(RAX), 0xaaaa_0000 | u32::from(offset), "{code:02x?}");
    }
    // BP means SS, others DS; overrides; 32-bit forms with 67.
    let mut w = world();
    set(&mut w);
    w.poke(u32::from(SS) * 16 + 0x2030, 0x1111);
    w.poke(u32::from(DS) * 16 + 0x2030, 0x2222);
    w.ok(&[0x8b, 0x02]);
    assert_eq!(w.get(RAX) & 0xffff, 0x1111);
    w.ok(&[0x3e, 0x8b, 0x02]);
    assert_eq!(w.get(RAX) & 0xffff, 0x2222);
    w.set(RBX, 0x2000);
    w.ok(&[0x67, 0x8b, 0x43, 0x30]);
    assert_eq!(w.get(RAX) & 0xffff, 0x2222);
    w.ok(&[0x66, 0x8b, 0x87, 0x30, 0x00]);
    assert_eq!(w.get(RAX), 0x2222);
}

/// Segment × 16 + offset; what it makes above 1 MiB is the machine's to cut.
#[test]
fn segment_arithmetic() {
    let mut w = world();
    w.set(RAX, 0xffff);
    w.ok(&[0x8e, 0xd8]);
    assert_eq!(w.cpu.segment(SegReg::Ds).base, 0xf_fff0);
    w.m.accesses.clear();
    w.m.ram.resize(0x11_0000, 0x5a);
    w.ok(&[0xa0, 0xff, 0xff]);
    assert!(w.m.accesses.iter().any(|(la, _)| *la == 0x10_ffef));
    assert_eq!(w.get(RAX) & 0xff, 0x5a);
}

/// Beyond 64 KiB: #GP, on the stack #SS; both have no code in real mode's frames.
#[test]
fn limits() {
    let mut w = world();
    w.set(RBX, 0xffff);
    w.set(RBP, 0xffff);
    w.faults(&[0x8b, 0x07], gp(0));
    w.faults(&[0x89, 0x07], gp(0));
    w.faults(&[0x8b, 0x46, 0], ss(0));
    w.faults(&[0x66, 0xa1, 0xfd, 0xff], gp(0));
    w.faults(&[0xc5, 0x06, 0xfd, 0xff], gp(0));
    w.ok(&[0x8a, 0x07]);
    w.set(RBX, 0x1_0000);
    w.faults(&[0x67, 0x8a, 0x03], gp(0));
    w.ok(&[0xa1, 0xfe, 0xff]);
    // Stacks.
    w.set_esp(0xffff);
    w.faults(&[0x58], ss(0));
    w.set_esp(1);
    w.faults(&[0x50], ss(0));
    w.set_esp(0);
    w.ok(&[0x50]);
    assert_eq!(w.esp(), 0xfffe);
    w.ok(&[0x58]);
    assert_eq!(w.esp(), 0);
    // The upper half of ESP stays.
    w.set_esp(0x1234_0000);
    w.ok(&[0x50]);
    assert_eq!(w.esp(), 0x1234_fffe);
    // PUSHA and ENTER that do not fit have pushed nothing.
    for code in [&[0x60][..], &[0xc8, 0, 0, 3]] {
        let mut w = world();
        w.set_esp(7);
        w.set(RBP, 0x4000);
        let ram = w.m.ram.clone();
        w.poke_bytes(0x8000, code);
        let with_code = w.m.ram.clone();
        assert_ne!(ram, with_code);
        w.faults(code, ss(0));
        assert_eq!(w.m.ram, with_code);
    }
}

/// IP: branches wrap at 64 KiB with 16 bits, beyond it #GP with 32; execution does not run on into the next segment.
#[test]
fn instruction_pointer() {
    let mut w = world();
    w.cpu.rip = 0xfff0;
    w.ok(&[0xeb, 0x20]);
    assert_eq!(w.eip(), 0x12);
    w.cpu.rip = 0x10;
    w.ok(&[0xe9, 0x00, 0x80]);
    assert_eq!(w.eip(), 0x8013);
    w.faults(&[0x66, 0xe9, 0, 0x80, 0, 0], gp(0));
    // The last byte; an instruction that ends behind it; and then.
    w.cpu.rip = 0xffff;
    w.faults(&[0xb0, 0x12], gp(0));
    w.ok(&[0x90]);
    assert_eq!(w.eip(), 0x1_0000);
    w.faults(&[0x90], gp(0));
    vector(&mut w, 13, 0x900, 0x77);
    w.deliver(exception(gp(0)));
    assert_eq!((word(&w, 0), word(&w, 1), w.eip()), (0, CS, 0x77));
}

#[test]
fn far_transfers() {
    let mut w = world();
    w.ok(&[0x9a, 0x34, 0x12, 0x00, 0x09]);
    assert_eq!((w.selector(SegReg::Cs), w.cpu.segment(SegReg::Cs).base, w.eip()), (0x900, 0x9000, 0x1234));
    assert_eq!((w.esp(), word(&w, 0), word(&w, 1)), (SP - 4, 5, CS));
    w.push_words(&[0xaaaa]);
    w.set_esp(SP - 4);
    w.ok(&[0xca, 2, 0]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), w.esp()), (CS, 5, SP + 2));
    // 32 bits.
    w.ok(&[0x66, 0x9a, 0x34, 0x12, 0, 0, 0x00, 0x09]);
    assert_eq!((w.eip(), w.esp(), w.peek(0x1_0000 + w.esp())), (0x1234, SP + 2 - 8, 5 + 8));
    w.ok(&[0x66, 0xcb]);
    assert_eq!((w.selector(SegReg::Cs), w.eip(), w.esp()), (CS, 13, SP + 2));
    w.faults(&[0x66, 0xea, 0, 0, 1, 0, 0, 9], gp(0));
    w.push(4, &[]);
    w.push_words(&[0, 0x900, 1, 0]);
    w.faults(&[0x66, 0xcb], gp(0));
    // Through memory.
    w.poke_bytes(0x1_8010, &[0x78, 0x56, 0x00, 0x08]);
    w.ok(&[0xff, 0x2e, 0x10, 0]);
    assert_eq!((w.selector(SegReg::Cs), w.eip()), (0x800, 0x5678));
}

/// INT n, INTO, INT3, IRET and IRETD.
#[test]
fn software_interrupts() {
    let mut w = world();
    vector(&mut w, 0x21, 0x900, 0x55);
    vector(&mut w, 3, 0x900, 0x33);
    vector(&mut w, 4, 0x900, 0x44);
    w.cpu.rflags |= Rflags::IF | Rflags::TF | Rflags::AC | Rflags::OF | Rflags::NT;
    w.ok(&[0xcd, 0x21]);
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.esp()), (0x55, 0x900, SP - 6));
    assert_eq!((word(&w, 0), word(&w, 1), word(&w, 2)), (2, CS, 0x4b02));
    assert_eq!(w.flags().bits(), 0x4802);
    w.cpu.nmi_blocked = true;
    w.ok(&[0xcf]);
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.esp(), w.cpu.nmi_blocked), (2, CS, SP, false));
    assert_eq!(w.flags().bits(), 0x4b02);
    w.cpu.rflags.remove(Rflags::TF);
    w.ok(&[0xcc]);
    assert_eq!((w.eip(), word(&w, 0)), (0x33, 3));
    w.ok(&[0xcf]);
    w.ok(&[0xce]);
    assert_eq!((w.eip(), word(&w, 0)), (0x44, 4));
    // IRETD: all but VM, VIF and VIP.
    w.push_words(&[0x003f, 0x7ed7, 0, CS, 0, 0x60]);
    w.ok(&[0x66, 0xcf]);
    assert_eq!((w.eip(), w.flags().bits()), (0x60, 0x25_7ed7));
    w.push_words(&[0, 0, 0, CS, 1, 0]);
    w.faults(&[0x66, 0xcf], gp(0));
}

/// The vector table has a limit; a stack without room for a frame is a shutdown.
#[test]
fn nested_faults() {
    let mut w = world();
    w.cpu.idtr.limit = 0x21 * 4 + 2;
    w.faults(&[0xcd, 0x21], gp(0x21 * 8 + 2));
    w.cpu.idtr.limit = 0x21 * 4 + 3;
    w.ok(&[0xcd, 0x21]);
    // #GP's own entry is not there: #DF's is.
    let mut w = world();
    w.cpu.idtr.limit = 0x23;
    vector(&mut w, 8, 0x900, 0x88);
    assert_eq!(w.deliver(exception(gp(0))), Delivered::Done);
    assert_eq!((w.eip(), w.selector(SegReg::Cs), w.esp()), (0x88, 0x900, SP - 6));
    let mut w = world();
    w.cpu.idtr.limit = 0x1f;
    assert_eq!(w.deliver(exception(gp(0))), Delivered::Shutdown);
    for sp in [1, 3, 5] {
        let mut w = world();
        w.set_esp(sp);
        assert_eq!(w.deliver(external(0x20)), Delivered::Shutdown, "SP {sp}");
    }
    // Words may wrap as long as none straddles the end.
    let mut w = world();
    w.set_esp(2);
    assert_eq!(w.deliver(external(0x20)), Delivered::Done);
    assert_eq!((w.esp(), w.peek16(0x1_fffc)), (0xfffc, 0));
    // Elsewhere than at 0.
    let mut w = world();
    w.cpu.idtr.base = 0x3000;
    w.poke(0x3000 + 0x80, 0x0900_0011);
    w.deliver(external(0x20));
    assert_eq!((w.eip(), w.selector(SegReg::Cs)), (0x11, 0x900));
}

/// The way to protected mode and back: hidden parts stay until they are loaded, also with limits of 4 GiB ("unreal mode").
#[test]
fn to_protected_mode_and_back() {
    let mut w = world();
    w.poke_bytes(0x1_8000, &[0xff, 0, 0, 0x10, 0, 0xff]);
    // LGDT takes 24 bits of the base, with an operand size of 32 all of them.
    w.ok(&[0x0f, 0x01, 0x16, 0, 0]);
    assert_eq!((w.cpu.gdtr.base, w.cpu.gdtr.limit), (0x1000, 0xff));
    w.poke_bytes(0x1_8005, &[0]);
    w.ok(&[0x66, 0x0f, 0x01, 0x16, 0, 0]);
    assert_eq!(w.cpu.gdtr.base, 0x1000);
    let before = w.cpu.seg;
    w.set(RAX, 1);
    w.ok(&[0x0f, 0x01, 0xf0]);
    assert_eq!((w.cpu.mode(), w.cpu.cpl, w.cpu.seg == before), (CpuMode::Protected, 0, true));
    // 16-bit code with the old base still.
    assert_eq!(w.cpu.linear_rip(), 0x8000 + u64::from(w.eip()));
    w.set(RAX, sel::DATA0.into());
    w.ok(&[0x8e, 0xd8]);
    w.ok(&[0x8e, 0xc0]);
    assert_eq!(w.cpu.segment(SegReg::Ds).limit, u32::MAX);
    w.ok(&[0x0f, 0x20, 0xc0]);
    w.set(RAX, w.get(RAX) & !1);
    w.ok(&[0x0f, 0x22, 0xc0]);
    assert_eq!((w.cpu.mode(), w.cpu.cr0.contains(Cr0::PE)), (CpuMode::Real, false));
    // Still base 0 and 4 GiB; a load changes the base only.
    let ds = *w.cpu.segment(SegReg::Ds);
    assert_eq!((ds.selector.0, ds.base, ds.limit), (sel::DATA0, 0, u32::MAX));
    w.poke(0x2_0000, 0x1234_5678);
    w.set(RBX, 0x2_0000);
    w.ok(&[0x67, 0x66, 0x8b, 0x03]);
    assert_eq!(w.get(RAX), 0x1234_5678);
    w.set(RAX, 0x0100);
    w.ok(&[0x8e, 0xd8]);
    let ds = *w.cpu.segment(SegReg::Ds);
    assert_eq!((ds.selector.0, ds.base, ds.limit), (0x100, 0x1000, u32::MAX));
    w.set(RBX, 0x1_f000);
    w.ok(&[0x67, 0x66, 0x8b, 0x03]);
    assert_eq!(w.get(RAX), 0x1234_5678);
    // SS is as before: 64 KiB.
    w.set(RBX, 0x1_0000);
    w.faults(&[0x67, 0x36, 0x8b, 0x03], ss(0));
    // LMSW does not lead back.
    let mut w = world();
    w.set(RAX, 1);
    w.ok(&[0x0f, 0x01, 0xf0]);
    w.set(RAX, 0);
    w.ok(&[0x0f, 0x01, 0xf0]);
    assert_eq!(w.cpu.mode(), CpuMode::Protected);
    w.ok(&[0x0f, 0x01, 0xe0]);
    assert_eq!(w.get(RAX) & 1, 1);
}

/// Rights of segments left over from protected mode matter as limits do, but for CS (SDM vol. 3 §9.9.2: writable ones are to be loaded
/// before, and not null ones).
#[test]
fn hidden_rights() {
    let mut w = world();
    *w.cpu.segment_mut(SegReg::Ds) = Segment { selector: Selector(0x1800), base: 0x1_8000, limit: 0x1f, attrs: 0x91 };
    w.faults(&[0xa3, 0x1e, 0], gp(0));
    w.ok(&[0xa1, 0x1e, 0]);
    w.faults(&[0xa1, 0x1f, 0], gp(0));
    *w.cpu.segment_mut(SegReg::Ds) = Segment::null(Selector(0));
    w.faults(&[0xa0, 0, 0], gp(0));
    *w.cpu.segment_mut(SegReg::Cs) = Segment { attrs: 0x99, ..Segment::real_mode(CS) };
    // CS may be written.
    w.ok(&[0x2e, 0xa3, 0, 0x40]);
    w.ok(&[0x2e, 0xa1, 0, 0x40]);
}

/// What exists in protected mode only, and what needs no privilege here.
#[test]
fn instructions() {
    let mut w = world();
    for code in [
        &[0x0f, 0x00, 0xc0][..],
        &[0x0f, 0x00, 0xc8],
        &[0x0f, 0x00, 0xd0],
        &[0x0f, 0x00, 0xd8],
        &[0x0f, 0x00, 0xe0],
        &[0x0f, 0x00, 0xe8],
        &[0x0f, 0x02, 0xc0],
        &[0x0f, 0x03, 0xc0],
        &[0x63, 0xc0],
        &[0x8e, 0xc8],
        &[0x0f, 0x0b],
        &[0xf0, 0x90],
        &[0xf0, 0x01, 0xc0],
    ] {
        w.faults(code, ud());
    }
    for code in
        [&[0xfa][..], &[0xfb], &[0x0f, 0x06], &[0x0f, 0x08], &[0x0f, 0x20, 0xc0], &[0x0f, 0x23, 0xc0], &[0xe6, 0x80]]
    {
        w.ok(code);
    }
    assert_eq!(w.run(&[0xf4]), Step::Halted);
    // POPF: IOPL and NT as well; VM stays out of reach.
    let mut w = world();
    w.push_words(&[0x0002, 0x7202]);
    w.ok(&[0x66, 0x9d]);
    assert_eq!(w.flags().bits(), 0x7202);
    // 16 bytes are too long, 15 are not.
    let mut long = vec![0x3e; 14];
    long.push(0x90);
    w.ok(&long);
    long.insert(0, 0x3e);
    w.faults(&long, gp(0));
    // #DE and BOUND come by the table.
    w.faults(&[0xf6, 0xf1], Exception::new(Vector::DE));
    w.set(RAX, 5);
    w.poke(0x1_8100, 4 << 16);
    w.faults(&[0x62, 0x06, 0x00, 0x01], Exception::new(Vector::BR));
}

/// Strings: 16- and 32-bit counts and pointers, wrapping offsets, elements that straddle the end.
#[test]
fn strings() {
    let mut w = world();
    // Counts: CX, not ECX; ECX with 67.
    w.set(RCX, 0x1_0000);
    w.set(RDI, 0x100);
    w.ok(&[0xf3, 0xaa]);
    assert_eq!((w.get(RCX), w.get(RDI), w.eip()), (0x1_0000, 0x100, 2));
    w.cpu.rip = 0;
    w.ok(&[0x67, 0xf3, 0xaa]);
    assert_eq!((w.get(RCX), w.get(RDI), w.eip()), (0xffff, 0x101, 0));
    assert!(w.flags().contains(Rflags::RF));
    // DI wraps; a word at FFFF is #GP with the iterations before it done.
    let mut w = world();
    w.set(RCX, 3);
    w.set(RDI, 0x1_fffe);
    w.ok(&[0xf3, 0xab]);
    assert_eq!((w.get(RCX), w.get(RDI)), (2, 0x1_0000));
    w.set(RDI, 0xffff);
    w.faults(&[0xf3, 0xab], gp(0));
    w.cpu.rflags |= Rflags::DF;
    w.set(RDI, 0);
    w.ok(&[0xf3, 0xab]);
    assert_eq!((w.get(RCX), w.get(RDI)), (1, 0xfffe));
    // OUTS with an override, INS without one.
    let mut w = world();
    w.set(RDX, 0x80);
    w.set(RSI, 0x10);
    w.poke_bytes(0x1_0010, &[0x77]);
    w.ok(&[0x36, 0x6e]);
    assert_eq!(w.m.outputs.as_ref().unwrap().as_slice(), [(0x80, 1, 0x77)]);
    w.m.inputs = vec![0x99];
    w.set(RDI, 0x20);
    w.ok(&[0x36, 0x6c]);
    assert_eq!(w.m.ram[0x1_8020], 0x99);
}
