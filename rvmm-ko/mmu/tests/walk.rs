//! The 32-bit guest walk against a specification written down separately from SDM vol. 3 §4.3, §4.6, §4.7 and §4.8:
//! every combination of the flag bits of both levels, access, privilege and mode bits.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::FakeHost;
use rvmm_arch::machine::{Access, AccessKind, Privilege};
use rvmm_arch::regs::{Cr0, Cr4, Efer, Rflags};
use rvmm_arch::{Gpa, Gva, PageFaultCode};
use rvmm_mmu::walk::{walk, Traces, Walked};
use rvmm_mmu::Paging;

const PD: u64 = 1;
const PT: u64 = 2;
const LA: u32 = 0x00c0_5678; // PDE 3, PTE 5, offset 0x678

/// Table 4-5 and 4-6 and the prose of §4.6.1, in the order in which the manual tells it. `Ok`: physical address and the
/// entries afterwards; `Err`: the error code.
fn manual(pde: u32, pte: u32, modes: u32, write: bool, fetch: bool, user: bool) -> Result<(u64, u32, u32), u32> {
    let (wp, pse, smep) = (modes & 1 != 0, modes & 2 != 0, modes & 4 != 0);
    let mut code = 0;
    if write {
        code |= 2
    }
    if user {
        code |= 4
    }
    if fetch && smep {
        code |= 16
    }
    let bit = |v: u32, n: u32| v >> n & 1 == 1;
    if !bit(pde, 0) {
        return Err(code);
    }
    let large = pse && bit(pde, 7);
    // 36 physical address bits: PDE bits 16:13 are address bits 35:32, bits 21:17 are reserved.
    if large && pde & 0x003e_0000 != 0 {
        return Err(code | 1 | 8);
    }
    if !large && !bit(pte, 0) {
        return Err(code);
    }
    let user_page = bit(pde, 2) && (large || bit(pte, 2));
    let writable = bit(pde, 1) && (large || bit(pte, 1));
    let denied = if user {
        !user_page || (write && !writable)
    } else {
        (write && !writable && wp) || (fetch && smep && user_page)
    };
    if denied {
        return Err(code | 1);
    }
    if large {
        let high = u64::from(pde >> 13 & 0xff) << 32;
        let pde = pde | 0x20 | if write { 0x40 } else { 0 };
        Ok((high | u64::from(pde & 0xffc0_0000) | u64::from(LA & 0x3f_ffff), pde, pte))
    } else {
        let after = pte | 0x20 | if write { 0x40 } else { 0 };
        Ok((u64::from(pte & 0xffff_f000) | u64::from(LA & 0xfff), pde | 0x20, after))
    }
}

fn paging(wp: bool, pse: bool, smep: bool) -> Paging {
    let mut cr0 = Cr0::PE | Cr0::PG;
    cr0.set(Cr0::WP, wp);
    let mut cr4 = Cr4::empty();
    cr4.set(Cr4::PSE, pse);
    cr4.set(Cr4::SMEP, smep);
    // The low bits of CR3 (PCD, PWT and ignored ones) must not matter.
    Paging { cr0, cr3: (PD << 12) | 0xfff, cr4, efer: Efer::NXE, rflags: Rflags::empty(), physical_bits: 36 }
}

fn compare(host: &mut FakeHost, pde: u32, pte: u32, modes: u32) {
    let (wp, pse, smep) = (modes & 1 != 0, modes & 2 != 0, modes & 4 != 0);
    let paging = paging(wp, pse, smep);
    for kind in [AccessKind::Read, AccessKind::Write, AccessKind::Fetch] {
        for privilege in [Privilege::User, Privilege::Supervisor, Privilege::Implicit] {
            let (write, fetch) = (kind == AccessKind::Write, kind == AccessKind::Fetch);
            let expected = manual(pde, pte, modes, write, fetch, privilege == Privilege::User);
            for traces in [Traces::None, Traces::Set] {
                host.set_gpte(PD, 3, pde);
                host.set_gpte(PT, 5, pte);
                let got = walk(host, &paging, Gva(u64::from(LA)), Access { kind, privilege }, traces);
                let context = format!("pde {pde:#x} pte {pte:#x} modes {modes} {kind:?} {privilege:?} {traces:?}");
                let after = (host.gpte(PD, 3), host.gpte(PT, 5));
                match (got.unwrap().unwrap(), expected) {
                    (Walked::Mapped(walk), Ok((gpa, pde_after, pte_after))) => {
                        assert_eq!(walk.gpa, Gpa(gpa), "{context}");
                        let wanted = if traces == Traces::Set { (pde_after, pte_after) } else { (pde, pte) };
                        assert_eq!(after, wanted, "{context}");
                        let large = pse && pde & 0x80 != 0;
                        let leaf = if large { wanted.0 } else { wanted.1 };
                        assert_eq!(walk.dirty, leaf & 0x40 != 0, "{context}");
                        assert_eq!(walk.bits, if large { 22 } else { 12 }, "{context}");
                        assert_eq!(walk.step(2).unwrap().raw, u64::from(wanted.0), "{context}");
                        assert_eq!(walk.step(1).map(|s| s.raw), (!large).then_some(u64::from(wanted.1)), "{context}");
                    }
                    (Walked::Fault(code), Err(bits)) => {
                        assert_eq!(code.bits(), bits, "{context}");
                        assert_eq!(after, (pde, pte), "{context}");
                    }
                    (got, expected) => panic!("{context}: {got:?}, the manual says {expected:x?}"),
                }
            }
        }
    }
}

/// Spreads the seven low bits of `n` over P, R/W, U/S, A, D, PS/PAT, G.
fn flags(n: u32) -> u32 {
    (n & 7) | (n & 0x78) << 2
}

#[test]
fn every_combination_of_flags_at_both_levels() {
    assert_eq!(flags(0x7f), 0x1e7);
    let mut host = FakeHost::new(8, 0);
    for pde_flags in 0..128 {
        for pte_flags in 0..128 {
            for modes in 0..8 {
                // A PDE that is valid in both readings: as a table it is frame 2, as a large page base 0 with bit 13
                // (address bit 32) set, which is frame 2 again.
                compare(&mut host, (PT as u32) << 12 | flags(pde_flags), 7 << 12 | flags(pte_flags), modes);
            }
        }
    }
}

#[test]
fn reserved_and_address_bits_of_a_large_entry() {
    for bit in 12..32 {
        for modes in 0..8 {
            for low in [0x80, 0x81, 0x83, 0x85, 0x87] {
                let mut host = FakeHost::new(8, 0);
                // Without PSE the entry is a table: only frame 2 (bit 13) is where `compare` puts the PTE.
                if modes & 2 == 0 && bit != 13 {
                    continue;
                }
                compare(&mut host, 1 << bit | low, 7 << 12 | 7, modes);
            }
        }
    }
}

#[test]
fn physical_width_decides_what_is_reserved() {
    for physical_bits in 32..=40 {
        for bit in 13..=21 {
            let mut host = FakeHost::new(8, 0);
            host.set_gpte(PD, 3, 1 << bit | 0x83);
            let paging = Paging { physical_bits, ..paging(true, true, false) };
            let access = Access { kind: AccessKind::Read, privilege: Privilege::Supervisor };
            let walked = walk(&mut host, &paging, Gva(u64::from(LA)), access, Traces::Set).unwrap().unwrap();
            // Bit 13 + n is address bit 32 + n.
            let allowed = bit < 21 && bit - 13 + 32 < u32::from(physical_bits);
            match walked {
                Walked::Mapped(w) => {
                    assert!(allowed);
                    assert_eq!(w.gpa.0 >> 22, 1 << (bit - 13 + 10));
                }
                Walked::Fault(code) => {
                    assert!(!allowed);
                    assert_eq!(code, PageFaultCode::P | PageFaultCode::RSVD);
                }
            }
        }
    }
}

#[test]
fn paging_off_is_the_identity_and_unknown_modes_are_refused() {
    let mut host = FakeHost::new(1, 0);
    let access = Access { kind: AccessKind::Write, privilege: Privilege::User };
    let off = Paging { cr0: Cr0::PE, ..paging(true, true, false) };
    match walk(&mut host, &off, Gva(0x1_ffff_fff3), access, Traces::Set).unwrap().unwrap() {
        Walked::Mapped(w) => assert_eq!((w.gpa, w.steps().len(), w.dirty), (Gpa(0xffff_fff3), 0, true)),
        Walked::Fault(_) => panic!("a fault without paging"),
    }
    for bit in [Cr4::LA57, Cr4::PKE] {
        let paging = Paging { cr4: Cr4::PAE | bit, efer: Efer::LMA, ..paging(true, true, false) };
        assert_eq!(walk(&mut host, &paging, Gva(0), access, Traces::Set), Ok(None));
    }
}

#[test]
fn tables_without_ram_read_as_not_present() {
    let mut host = FakeHost::new(8, 0);
    let access = Access { kind: AccessKind::Read, privilege: Privilege::User };
    host.set_gpte(PD, 3, 0x0100_0007);
    for paging in [paging(true, true, false), Paging { cr3: 0x0200_0000, ..paging(true, true, false) }] {
        let walked = walk(&mut host, &paging, Gva(u64::from(LA)), access, Traces::Set).unwrap().unwrap();
        assert_eq!(walked, Walked::Fault(PageFaultCode::U));
    }
    assert_eq!(host.gpte(PD, 3), 0x0100_0007, "an accessed bit for an access that faulted");
}

#[test]
fn tables_in_read_only_memory_serve_but_keep_their_bits() {
    let mut host = FakeHost::new(8, 0);
    host.set_gpte(PD, 3, (PT as u32) << 12 | 7);
    host.set_gpte(PT, 5, 7 << 12 | 7);
    host.readonly = vec![PD, PT];
    let access = Access { kind: AccessKind::Write, privilege: Privilege::User };
    let walked = walk(&mut host, &paging(true, true, false), Gva(u64::from(LA)), access, Traces::Set).unwrap().unwrap();
    assert!(matches!(walked, Walked::Mapped(w) if w.gpa == Gpa(0x7678) && w.dirty));
    assert_eq!((host.gpte(PD, 3), host.gpte(PT, 5)), ((PT as u32) << 12 | 7, 7 << 12 | 7));
}

#[test]
fn a_host_failure_is_not_a_guest_fault() {
    let mut host = FakeHost::new(8, 0);
    host.broken = Some(PD);
    let access = Access { kind: AccessKind::Read, privilege: Privilege::User };
    assert!(walk(&mut host, &paging(true, true, false), Gva(0), access, Traces::Set).is_err());
}
