//! Goldens of scanning and patching: `golden/NAME.asm` is guest code, `golden/NAME.exp` what becomes of it.
//!
//! A line of an .asm file is `BYTES | INSTRUCTION`, and the test checks that the bytes are that instruction; `= OFFSET` sets
//! the position in the page, `bits 64` the size of the code, `tactics LIST` what may be replaced (jump), `scan` and `patch` mark the next instruction as an entry or as a site to patch, `#` comments.
//! With UPDATE_GOLDEN=1 in the environment the .exp files are written anew: read the difference before it is committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use rvmm_patcher::block::VcpuPageLayout;
use rvmm_patcher::patch_memory::{Block, PatchMemory, SearchHints};
use rvmm_patcher::tactic::{install, JumpRequest, BLOCK_BYTES};
use rvmm_patcher::{
    scan, CodeSize, PageBytes, PageMap, PageOffset, Place, Reach, ScanCounts, ScanInput, TacticSet, INT3, PAGE_SIZE,
};
use std::fmt::Write;
use std::path::Path;

/// Where everything is for a code size: the page, patch memory and the vCPU page.
const fn places(size: CodeSize) -> (u64, u64, u64) {
    match size {
        CodeSize::Bits64 => (0xFFFF_FFFF_8110_0000, 0xFFFF_FFFF_8120_0000, 0xFFFF_FFFF_8130_0000),
        _ => (0xC010_0000, 0xC020_0000, 0xC030_0000),
    }
}

const fn layout(size: CodeSize) -> VcpuPageLayout {
    VcpuPageLayout {
        linear: places(size).2,
        vif: 0x10,
        pending: 0x14,
        vflags: 0x18,
        cs: 0x1C,
        ss: 0x20,
        return_cs: 0x24,
        shadow: 0x28,
        control: 0x30,
        kernel_gs: 0x50,
        program: 0xC0,
        scratch: 0x58,
        event: 0xb0,
        writable: 0xf0,
    }
}

struct Source {
    size: CodeSize,
    tactics: TacticSet,
    page: Box<PageBytes>,
    /// Offsets and texts of the instructions.
    lines: Vec<(u16, String)>,
    scans: Vec<u16>,
    patches: Vec<u16>,
}

fn disassemble(size: CodeSize, bytes: &[u8], linear: u64) -> (String, usize) {
    let instruction = Decoder::with_ip(size.bits(), bytes, linear, DecoderOptions::NONE).decode();
    let mut text = String::new();
    let mut formatter = NasmFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_show_branch_size(false);
    formatter.format(&instruction, &mut text);
    (text, instruction.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn read(text: &str) -> Source {
    let page = Box::new([0x90; PAGE_SIZE]);
    let (size, tactics) = (CodeSize::Bits32, TacticSet::JUMP);
    let mut source = Source { size, tactics, page, lines: vec![], scans: vec![], patches: vec![] };
    let mut at = 0usize;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(offset) = line.strip_prefix("= ") {
            at = usize::from_str_radix(offset.trim_start_matches("0x"), 16).unwrap();
        } else if line == "bits 64" {
            source.size = CodeSize::Bits64;
        } else if let Some(list) = line.strip_prefix("tactics ") {
            source.tactics = TacticSet::parse(list).unwrap();
        } else if line == "scan" {
            source.scans.push(at as u16);
        } else if line == "patch" {
            source.patches.push(at as u16);
        } else {
            let (bytes, text) = line.split_once('|').unwrap_or_else(|| panic!("what is {line:?}?"));
            let bytes: Vec<u8> = bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let (found, len) = disassemble(source.size, &bytes, places(source.size).0 + at as u64);
            assert_eq!((found.as_str(), len), (text.trim(), bytes.len()), "at {at:#x}");
            let in_page = bytes.len().min(PAGE_SIZE - at);
            source.page[at..at + in_page].copy_from_slice(&bytes[..in_page]);
            source.lines.push((at as u16, found));
            at += bytes.len();
        }
    }
    source
}

fn place_name(place: Place) -> String {
    match place {
        Place::Site { reason, .. } => format!("site {}", reason.name()),
        Place::Verbatim { .. } => "verbatim".to_string(),
        other => format!("{other:?}").split([' ', '{']).next().unwrap().to_lowercase(),
    }
}

fn run(source: &Source) -> String {
    let (page, size) = (&source.page, source.size);
    let (linear, patch, _) = places(size);
    let (mut map, mut view) = (Box::new(PageMap::EMPTY), Box::new([INT3; PAGE_SIZE]));
    let mut counts = ScanCounts::ZERO;
    for &entry in &source.scans {
        let entry = PageOffset::of(u64::from(entry));
        let input = ScanInput { page, linear, entry, code_size: size, reach: Reach::default() };
        let outcome = scan(&input, &mut map, &mut counts).unwrap();
        map.write_view(page, linear, &mut view, outcome.changed);
    }
    let (mut granules, mut blocks, mut hints) = (vec![0; 4096], vec![Block::FREE; 16], SearchHints::default());
    let mut out = String::new();
    let mut listings = String::new();
    for &site in &source.patches {
        let mut memory = PatchMemory::new(patch, &mut granules, &mut blocks, &mut hints);
        let mut code = [0; BLOCK_BYTES];
        let request = JumpRequest {
            page,
            linear,
            site: PageOffset::of(u64::from(site)),
            code_size: size,
            tactics: source.tactics,
            layout: &layout(size),
            owner: 0,
        };
        match install(&request, &mut map, &mut memory, &mut code, &mut counts) {
            Err(refusal) => writeln!(listings, "\nsite {site:03x}: refused, {}", refusal.name()).unwrap(),
            Ok(installed) => {
                map.write_view(page, linear, &mut view, installed.changed);
                let block = memory.block(installed.block).unwrap();
                let region = block.region;
                writeln!(
                    listings,
                    "\nsite {site:03x}: region {:03x}..{:03x}, block at {:x}",
                    region.start, region.end, block.address
                )
                .unwrap();
                let mut at = 0usize;
                for entry in block.map.entries() {
                    assert_eq!(usize::from(entry.at), at, "an instruction without an entry");
                    let (text, len) =
                        disassemble(size, &code[at..usize::from(installed.len)], block.address + at as u64);
                    let undo: Vec<&str> = entry.undo.iter_names().map(|(name, _)| name).collect();
                    let line = format!("  {text:<44}; {:03x} {}", entry.guest, undo.join("+").to_lowercase());
                    writeln!(listings, "{}", line.trim_end()).unwrap();
                    at += len;
                }
                assert_eq!(at, usize::from(installed.len));
            }
        }
    }
    for (at, text) in &source.lines {
        let len = source.lines.iter().map(|line| line.0).find(|next| next > at).unwrap_or(*at + 15).min(*at + 15);
        let guest = disassemble(size, &page[usize::from(*at)..], linear).1.min(usize::from(len - at));
        let bytes = usize::from(*at)..(usize::from(*at) + guest.max(1)).min(PAGE_SIZE);
        let place = place_name(map.at(PageOffset::of(u64::from(*at))));
        writeln!(out, "{at:03x} {text:<36} {place:<22} {}", hex(&view[bytes])).unwrap();
    }
    out + &listings
}

#[test]
fn what_becomes_of_guest_code_is_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "asm"));
    names.sort();
    assert!(names.len() >= 8, "goldens are missing");
    for path in names {
        let found = run(&read(&std::fs::read_to_string(&path).unwrap()));
        let expected = path.with_extension("exp");
        if update {
            std::fs::write(&expected, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(found, wanted, "{}", path.display());
    }
}
