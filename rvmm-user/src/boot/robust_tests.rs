//! Kernels that are damaged anywhere: refused or loaded, never a panic, and nothing is written outside guest memory. PROPTEST_CASES=N runs
//! longer.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 4;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A 32-bit ELF file of one segment at 1 MiB, with a multiboot header.
fn multiboot() -> Vec<u8> {
    let magic = 0x1BAD_B002u32;
    let mut file = b"\x7FELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(words(&[3 << 16 | 2, 1, 0x10_000C, 52, 0, 0, 32 << 16 | 52, 40 << 16 | 1, 0]));
    file.extend(words(&[1, 84, 0x10_0000, 0x10_0000, 13, 113, 7, 4]));
    file.extend(words(&[magic, 3, 0u32.wrapping_sub(magic + 3)]));
    file.extend([0xF4; 40]);
    file
}

/// The same with a multiboot 2 header.
fn multiboot2() -> Vec<u8> {
    let (magic, len) = (0xE852_50D6u32, 24);
    let mut file = multiboot();
    file.splice(88..88 + 24, words(&[magic, 0, len, 0u32.wrapping_sub(magic.wrapping_add(len)), 0, 8]));
    file
}

/// A 64-bit ELF file of one segment, and a PVH note.
fn pvh() -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(words(&[62 << 16 | 2, 1, 0x10_0000, 0, 64, 0, 0, 0, 0, 56 << 16 | 64, 64 << 16 | 2, 0]));
    file.extend(words(&[4, 4, 176, 0, 0x10_0000, 0, 0x10_0000, 0, 20, 0, 20, 0, 4, 0]));
    file.extend(words(&[1, 7, 176, 0, 0x10_0000, 0, 0x10_0000, 0, 32, 0, 200, 0, 0x1000, 0]));
    file.extend(words(&[4, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x10_0014]));
    file.extend([0xF4; 40]);
    file
}

/// A bzImage: one sector of setup code, and two of kernel.
fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 2048];
    file[0x1F1] = 1;
    file[0x1F4] = 64;
    file[0x1FE..0x202].copy_from_slice(&[0x55, 0xAA, 0xEB, 0x6A]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020Fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    file[0x22C..0x230].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
    file[0x230..0x234].copy_from_slice(&0x1000u32.to_le_bytes());
    file[0x236..0x23C].copy_from_slice(&[3, 0, 0xFF, 7, 0, 0]);
    file[0x260..0x264].copy_from_slice(&0x2000u32.to_le_bytes());
    file
}

proptest! {
    #[test]
    fn any_kernel_is_loaded_or_refused(
        kind in 0..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0u8), Just(0xFF), any::<u8>()]), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        modules in prop::collection::vec(("[ -~]{0,40}", 0usize..0x8000), 0..3),
        screen in any::<bool>(),
        command_line in "[ -~]{0,300}",
        protocol in prop_oneof![
            3 => Just(None),
            1 => Just(Some(Protocol::Linux32)),
            1 => Just(Some(Protocol::Linux64)),
            1 => Just(Some(Protocol::Multiboot)),
            1 => Just(Some(Protocol::Multiboot2)),
            1 => Just(Some(Protocol::Pvh)),
        ],
    ) {
        let mut kernel = match kind {
            0 => multiboot(),
            1 => pvh(),
            2 => bzimage(),
            3 => multiboot2(),
            _ => noise,
        };
        for (index, value) in changes {
            if !kernel.is_empty() {
                let at = index.index(kernel.len());
                kernel[at] = value;
            }
        }
        if let Some(cut) = cut {
            kernel.truncate(cut.index(kernel.len() + 1));
        }
        let modules: Vec<_> =
            modules.into_iter().map(|(text, length)| modules::Module { text, data: vec![0xA5; length] }).collect();
        let memory = crate::memory::create(MIB).unwrap();
        let payload = Payload {
            kernel_path: Path::new("kernel"),
            kernel: &kernel,
            modules: &modules,
            map: &Map::without_firmware(MIB << 20),
            screen: screen.then_some(Screen { frame_buffer: Some(0xFD00_0000), bytes: 16 << 20 }),
            firmware: screen,
            command_line: &command_line,
            memory_bytes: MIB << 20,
            protocol,
        };
        let _ = load(&memory, &payload);
    }
}

/// What the damage starts from is good.
#[test]
fn undamaged_ones_are_loaded() {
    for (kernel, protocol) in [
        (multiboot(), Protocol::Multiboot),
        (multiboot2(), Protocol::Multiboot2),
        (pvh(), Protocol::Pvh),
        (bzimage(), Protocol::Linux32),
    ] {
        let memory = crate::memory::create(MIB).unwrap();
        let payload = Payload {
            kernel_path: Path::new("kernel"),
            kernel: &kernel,
            modules: &[],
            map: &Map::without_firmware(MIB << 20),
            screen: None,
            firmware: false,
            command_line: "a",
            memory_bytes: MIB << 20,
            protocol: Some(protocol),
        };
        let outcome = load(&memory, &payload).map(drop);
        assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
    }
}
