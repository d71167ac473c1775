//! A guest that switches to long mode by itself, as a 32-bit boot loader's guest does: page tables, PAE, EFER.LME, paging, far
//! jump; then a 64-bit IDT, an exception and its return, a program in ring 3 with SYSCALL, all on real 4-level tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use rvmm_arch::regs::{Cr0, Cr4, Efer};
use rvmm_arch::segment::CpuMode;
use rvmm_arch::VcpuState;
use rvmm_interp::testing::{flat32, TestMachine};
use rvmm_interp::{step, step_and_deliver, Step};

const CODE32: u64 = 0x1000;
const GDT: u64 = 0x2000;
const IDT: u64 = 0x3000;
/// PML4, page directory pointers, directory, table.
const PML4: u64 = 0x4000;
const CODE64: u64 = 0x8000;
const HANDLER: u64 = 0x9000;
const ENTRY: u64 = 0xa000;
const USER: u64 = 0xb000;
const STACK: u64 = 0x1_0000;
/// Where memory shows again in the kernel's half.
const HIGH: u64 = 0xffff_ffff_8000_0000;

fn machine() -> (VcpuState, TestMachine) {
    let mut m = TestMachine::new(0x40_0000);
    m.cpuid = vec![
        (1, [0x611, 0, 0, 0x0000_a97f]),
        (0x8000_0000, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, [0, 0, 0, 1 << 29 | 1 << 20 | 1 << 11]),
        (0x8000_0008, [0x3028, 0, 0, 0]),
    ];
    for (i, raw) in [
        0u64,
        0x00cf_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00af_9b00_0000_ffff,
        // SYSCALL's: code 18h, data 20h; SYSRET's: 28h + 10h, 28h + 8.
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
    ]
    .into_iter()
    .enumerate()
    {
        m.poke(GDT + 8 * i as u64, &raw.to_le_bytes());
    }
    // Identity by 4 KiB pages below 2 MiB, user pages for the program; a 2 MiB page for the upper half.
    let user = |page: u64| if (USER..STACK).contains(&page) { 7 } else { 3 };
    m.poke(PML4, &(0x5000u64 | 7).to_le_bytes());
    m.poke(PML4 + 511 * 8, &(0x5000u64 | 3).to_le_bytes());
    m.poke(0x5000, &(0x6000u64 | 7).to_le_bytes());
    m.poke(0x5000 + 510 * 8, &(0x7000u64 | 3).to_le_bytes());
    m.poke(0x6000, &(0xc000u64 | 7).to_le_bytes());
    m.poke(0x7000, &(0x83u64).to_le_bytes());
    for i in 0..512u64 {
        m.poke(0xc000 + i * 8, &(i << 12 | user(i << 12)).to_le_bytes());
    }
    // #UD goes to HANDLER in the upper half, through code 18h.
    let target = HIGH + HANDLER;
    let low = (target & 0xffff) | 0x18 << 16 | 0x8e00 << 32 | (target & 0xffff_0000) << 32;
    m.poke(IDT + 6 * 16, &low.to_le_bytes());
    m.poke(IDT + 6 * 16 + 8, &(target >> 32).to_le_bytes());
    let mut cpu = flat32(CODE32 as u32, STACK as u32);
    (cpu.gdtr.base, cpu.gdtr.limit) = (GDT, 0x3f);
    (cpu.idtr.base, cpu.idtr.limit) = (IDT, 0xfff);
    (cpu, m)
}

fn run(cpu: &mut VcpuState, m: &mut TestMachine, instructions: usize) {
    for _ in 0..instructions {
        let at = cpu.linear_rip();
        assert_eq!(step(cpu, m), Step::Retired, "at {at:#x}");
    }
}

#[test]
fn from_protected_mode_to_a_program_and_back() {
    let (mut cpu, mut m) = machine();
    let switch = [
        0x0f, 0x20, 0xe0, // mov eax, cr4
        0x83, 0xc8, 0x20, // or eax, PAE
        0x0f, 0x22, 0xe0, // mov cr4, eax
        0xb8, 0x00, 0x40, 0x00, 0x00, // mov eax, PML4
        0x0f, 0x22, 0xd8, // mov cr3, eax
        0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, EFER
        0x0f, 0x32, // rdmsr
        0x0d, 0x01, 0x09, 0x00, 0x00, // or eax, SCE | LME | NXE
        0x0f, 0x30, // wrmsr
        0x0f, 0x20, 0xc0, // mov eax, cr0
        0x0d, 0x00, 0x00, 0x01, 0x80, // or eax, PG | WP
        0x0f, 0x22, 0xc0, // mov cr0, eax
        0xea, 0x00, 0x80, 0x00, 0x00, 0x18, 0x00, // ljmp 18h:CODE64
    ];
    m.poke(CODE32, &switch);
    run(&mut cpu, &mut m, 12);
    assert!(cpu.efer.contains(Efer::LME | Efer::LMA | Efer::NXE | Efer::SCE));
    assert!(cpu.cr0.contains(Cr0::PG) && cpu.cr4.contains(Cr4::PAE));
    assert_eq!(cpu.mode(), CpuMode::Protected);
    run(&mut cpu, &mut m, 1);
    assert_eq!((cpu.mode(), cpu.rip), (CpuMode::Long, CODE64));

    // UD2 goes through the gate to the upper half; IRETQ returns behind it.
    m.poke(CODE64, &[0x0f, 0x0b]);
    m.poke(HANDLER, &[0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf]);
    assert!(matches!(step_and_deliver(&mut cpu, &mut m), Step::Exception(_)));
    assert_eq!((cpu.rip, cpu.gpr[4]), (HIGH + HANDLER, STACK - 40));
    run(&mut cpu, &mut m, 2);
    assert_eq!((cpu.rip, cpu.gpr[4]), (CODE64 + 2, STACK));

    // SYSRET to the program, which calls back by SYSCALL.
    cpu.msrs.star = 0x002b_0018_0000_0000;
    cpu.msrs.lstar = HIGH + ENTRY;
    (cpu.gpr[1], cpu.gpr[11]) = (USER, 2);
    m.poke(CODE64 + 2, &[0x48, 0x0f, 0x07]);
    m.poke(USER, &[0x0f, 0x05]);
    run(&mut cpu, &mut m, 1);
    assert_eq!((cpu.cpl, cpu.rip, cpu.seg[1].selector.0, cpu.seg[2].selector.0), (3, USER, 0x3b, 0x33));
    run(&mut cpu, &mut m, 1);
    assert_eq!((cpu.cpl, cpu.rip, cpu.gpr[1]), (0, HIGH + ENTRY, USER + 2));
    // Accessed and dirty bits: the program was fetched from, the stack written to.
    assert_eq!(m.peek(0xc000 + (USER >> 12) * 8, 1), [0x27]);
    assert_eq!(m.peek(0xc000 + ((STACK - 1) >> 12) * 8, 1)[0] & 0x60, 0x60);
}

/// Reserved and NX bits with PAE, in and outside long mode.
#[test]
fn page_faults_of_wide_entries() {
    use rvmm_arch::{Exception, PageFaultCode as C};
    for long in [false, true] {
        let (mut cpu, mut m) = machine();
        cpu.cr4 |= Cr4::PAE;
        cpu.cr0 |= Cr0::PG | Cr0::WP;
        cpu.efer = Efer::NXE;
        cpu.cr3 = 0x5000;
        if long {
            cpu.efer |= Efer::LME | Efer::LMA;
            cpu.cr3 = PML4;
        } else {
            // Outside long mode the entries of the top have no rights.
            m.poke(0x5000, &(0x6000u64 | 1).to_le_bytes());
        }
        let at = 0x2_0000u64;
        cpu.gpr[3] = at;
        m.poke(CODE32, &[0x89, 0x03]);
        let entry = 0xc000 + (at >> 12) * 8;
        for (pte, expected) in [
            (at | 2, Some(C::W)),
            (at | 1, Some(C::W | C::P)),
            (at | 3 | 1 << 41, Some(C::W | C::P | C::RSVD)),
            (at | 3 | 1 << 63, None),
        ] {
            m.poke(entry, &pte.to_le_bytes());
            cpu.rip = CODE32;
            let expected = expected.map_or(Step::Retired, |c| Step::Exception(Exception::page_fault(c, at)));
            assert_eq!(step(&mut cpu, &mut m), expected, "{pte:#x}");
        }
        cpu.rip = at;
        assert_eq!(step(&mut cpu, &mut m), Step::Exception(Exception::page_fault(C::P | C::I, at)));
        cpu.efer.remove(Efer::NXE);
        assert_eq!(step(&mut cpu, &mut m), Step::Exception(Exception::page_fault(C::P | C::RSVD, at)));
    }
}
