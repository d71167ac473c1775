//! Linux's 32-bit and 64-bit boot protocols (Documentation/arch/x86/boot.rst of the kernel), loading by linux-loader.

use std::io::Cursor;

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use super::{checksum, page_tables, too_small, unexpected, Entry, Failure, FlatSegments, Mode, Payload};
use crate::error::{Error, ImageError};
use crate::memory::{GuestMemory, HIGH_START};

/// The "zero page".
const BOOT_PARAMS: u64 = 0x7000;
const COMMAND_LINE: u64 = 0x2_0000;
/// Up to where the command line may reach: below the EBDA with room to spare.
const COMMAND_LINE_END: u64 = 0x9_0000;

/// Oldest protocol with a `cmdline_size`.
const OLDEST: u16 = 0x0206;
/// Offset of the setup header in the file.
const HEADER: usize = 0x1F1;
/// `type_of_loader` of a loader without a number of its own.
const UNDEFINED_LOADER: u8 = 0xFF;
const LOADED_HIGH: u8 = 0x01;
/// `xloadflags` bit 0: has a 64-bit entry point, so many bytes behind the 32-bit one.
const KERNEL_64: u16 = 0x01;
const ENTRY_64: u64 = 0x200;
const PAGE: u64 = 4096;

/// The setup header as far as loading depends on it.
struct Image {
    header: setup_header,
    /// First byte behind what the kernel needs before it looks at its memory map.
    needs_until: u64,
    sixty_four_bit: bool,
}

/// Loads the image, to be entered in `wanted` mode or, if that is open, in the kernel's own.
pub(super) fn load(memory: &GuestMemory, payload: &Payload<'_>, wanted: Option<Mode>) -> Result<Entry, Failure> {
    let image = parse(payload.kernel)?;
    let mode = match (wanted, image.sixty_four_bit) {
        (Some(Mode::Long), false) => return Err(ImageError::No64BitEntry.into()),
        (Some(mode), _) => mode,
        (None, true) => Mode::Long,
        (None, false) => Mode::Protected,
    };
    let command_line = command_line(payload, &image)?;
    let initrd = place_initrd(payload, &image)?;

    let loaded =
        BzImage::load(memory, None, &mut Cursor::new(payload.kernel), Some(GuestAddress(HIGH_START))).map_err(
            |error| Error::Host { what: "loading the kernel", source: std::io::Error::other(error.to_string()) },
        )?;
    let write = |bytes: &[u8], address: u64| memory.write_slice(bytes, GuestAddress(address)).map_err(unexpected);
    write(command_line.as_bytes(), COMMAND_LINE)?;
    write(&[0], COMMAND_LINE + command_line.len() as u64)?;

    let mut header = loaded.setup_header.unwrap_or(image.header);
    header.type_of_loader = UNDEFINED_LOADER;
    header.cmd_line_ptr = COMMAND_LINE as u32;
    if let (Some(start), Some(data)) = (initrd, payload.initrd()) {
        write(data, start)?;
        header.ramdisk_image = start as u32;
        header.ramdisk_size = data.len() as u32;
    }
    let params = boot_params_for(header, payload);
    write(params.as_slice(), BOOT_PARAMS)?;

    let offset = match mode {
        Mode::Protected => 0,
        Mode::Long => {
            page_tables::write(memory)?;
            ENTRY_64
        }
    };
    Ok(Entry {
        rip: loaded.kernel_load.0 + offset,
        eax: 0,
        ebx: 0,
        esi: BOOT_PARAMS as u32,
        segments: FlatSegments::LINUX,
        mode,
        needs_long_mode: image.sixty_four_bit,
        picture: None,
    })
}

fn parse(file: &[u8]) -> Result<Image, ImageError> {
    let need = HEADER + size_of::<setup_header>();
    let mut header = setup_header::default();
    let Some(bytes) = file.get(HEADER..need) else {
        return Err(ImageError::Truncated { have: file.len() as u64, need: need as u64 });
    };
    header.as_mut_slice().copy_from_slice(bytes);
    let version = header.version;
    if version < OLDEST {
        return Err(ImageError::OldProtocol(version));
    }
    if header.loadflags & LOADED_HIGH == 0 {
        return Err(ImageError::Header("it is a zImage, which loads low"));
    }
    let setup_sectors = match header.setup_sects {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let setup_bytes = (setup_sectors + 1) * 512;
    let kernel_bytes = u64::from(header.syssize) * 16;
    if kernel_bytes == 0 {
        return Err(ImageError::Header("no protected-mode part"));
    }
    let whole = setup_bytes + kernel_bytes;
    if (file.len() as u64) < whole {
        return Err(ImageError::Truncated { have: file.len() as u64, need: whole });
    }
    let payload_end = u64::from(header.payload_offset) + u64::from(header.payload_length);
    if version >= 0x0208 && payload_end > kernel_bytes {
        return Err(ImageError::Header("the payload lies outside the image"));
    }
    if u64::from(header.code32_start) < HIGH_START {
        return Err(ImageError::Header("it loads below 1 MiB"));
    }
    if !checksum::holds(file, whole as usize) {
        tracing::warn!("the kernel image's checksum does not hold: it is damaged, or of a version that carries none");
    }
    Ok(Image {
        needs_until: needs_until(&header, file.len() as u64 - setup_bytes),
        sixty_four_bit: version >= 0x020C && header.xloadflags & KERNEL_64 != 0,
        header,
    })
}

fn needs_until(header: &setup_header, loaded_bytes: u64) -> u64 {
    let load = u64::from(header.code32_start);
    let mut end = load + loaded_bytes;
    if header.version >= 0x020A {
        // A relocatable kernel moves itself up to its preferred address; init_size counts from where it then is.
        let start = load.max(header.pref_address);
        end = end.max(start + u64::from(header.init_size));
    }
    end
}

fn command_line<'a>(payload: &Payload<'a>, image: &Image) -> Result<&'a str, Failure> {
    let room = (COMMAND_LINE_END - COMMAND_LINE - 1) as usize;
    let limit = match image.header.cmdline_size {
        0 => 255,
        size => size as usize,
    };
    let limit = limit.min(room);
    let length = payload.command_line.len();
    if length > limit {
        return Err(Error::CommandLine { length, limit }.into());
    }
    Ok(payload.command_line)
}

/// As high as the kernel allows, where its decompressor does not write.
fn place_initrd(payload: &Payload<'_>, image: &Image) -> Result<Option<u64>, Failure> {
    let kernel_end = image.needs_until.next_multiple_of(PAGE);
    if kernel_end > payload.map.upper_end() {
        return Err(too_small(payload, kernel_end, "the kernel"));
    }
    let Some(initrd) = payload.initrd() else {
        return Ok(None);
    };
    let size = (initrd.len() as u64).next_multiple_of(PAGE);
    let limit = u64::from(image.header.initrd_addr_max) + 1;
    let top = payload.map.upper_end().min(limit);
    match top.checked_sub(size).map(|start| start & !(PAGE - 1)) {
        Some(start) if start >= kernel_end => Ok(Some(start)),
        _ => Err(too_small(payload, kernel_end + size, "the kernel and its initrd")),
    }
}

fn boot_params_for(header: setup_header, payload: &Payload<'_>) -> boot_params {
    let mut params = boot_params { hdr: header, ..Default::default() };
    let map = payload.map;
    for (slot, entry) in params.e820_table.iter_mut().zip(map.entries()) {
        *slot = boot_e820_entry { addr: entry.start, size: entry.len, r#type: entry.kind };
    }
    params.e820_entries = map.entries().len().min(params.e820_table.len()) as u8;
    // What BIOS calls 88 and E801 would have said, for kernels that ignore the map.
    let extended_kib = map.upper_end().saturating_sub(HIGH_START) >> 10;
    params.alt_mem_k = extended_kib as u32;
    params.screen_info.ext_mem_k = extended_kib.min(0xFFFF) as u16;
    if payload.screen.is_some() {
        // As the kernel's own 16-bit code finds out from the BIOS.
        let screen = &mut params.screen_info;
        (screen.orig_video_mode, screen.orig_video_cols, screen.orig_video_lines) = (3, 80, 25);
        (screen.orig_video_isVGA, screen.orig_video_points) = (1, 16);
    }
    params
}

#[cfg(test)]
mod tests {
    use super::super::mib;
    use super::super::modules::Module;
    use super::*;
    use crate::memory;
    use crate::memory::map::{Map, RAM};
    use std::path::Path;

    /// A well-formed image of one setup sector and 64 KiB of "kernel".
    fn image() -> Vec<u8> {
        let header = setup_header {
            setup_sects: 1,
            syssize: 4096,
            boot_flag: 0xAA55,
            header: 0x5372_6448,
            version: 0x020F,
            loadflags: LOADED_HIGH,
            code32_start: 0x10_0000,
            initrd_addr_max: 0x37FF_FFFF,
            cmdline_size: 2047,
            pref_address: 0x100_0000,
            init_size: 0x20_0000,
            payload_length: 100,
            ..Default::default()
        };
        let mut file = vec![0; 1024 + 65_536];
        file[HEADER..HEADER + size_of::<setup_header>()].copy_from_slice(header.as_slice());
        file[1024] = 0xF4;
        file
    }

    fn boot(
        memory: &GuestMemory,
        kernel: &[u8],
        initrd: Option<Vec<u8>>,
        mib: u64,
        (command_line, wanted): (&str, Option<Mode>),
    ) -> Result<Entry, Failure> {
        let modules: Vec<Module> = initrd.into_iter().map(|data| Module { text: "initrd".into(), data }).collect();
        let payload = Payload {
            kernel_path: Path::new("kernel"),
            kernel,
            modules: &modules,
            command_line,
            memory_bytes: mib << 20,
            map: &Map::without_firmware(mib << 20),
            screen: None,
            firmware: false,
            protocol: None,
        };
        load(memory, &payload, wanted)
    }

    const TEXT: &str = "console=ttyS0";

    fn reason(file: &[u8]) -> ImageError {
        parse(file).err().unwrap()
    }

    #[test]
    fn a_kernel_is_loaded_as_the_protocol_says() {
        let file = image();
        let initrd = vec![0xAB; 5000];
        let memory = memory::create(64).unwrap();
        let entry = boot(&memory, &file, Some(initrd), 64, (TEXT, None)).ok().unwrap();
        assert_eq!((entry.rip, entry.mode, entry.needs_long_mode), (0x10_0000, Mode::Protected, false));
        assert_eq!(entry.esi, BOOT_PARAMS as u32);
        let first: u8 = memory.read_obj(GuestAddress(0x10_0000)).unwrap();
        assert_eq!(first, 0xF4);
        let params: boot_params = memory.read_obj(GuestAddress(BOOT_PARAMS)).unwrap();
        let header = params.hdr;
        let (start, size) = (header.ramdisk_image, header.ramdisk_size);
        assert_eq!(size, 5000);
        assert_eq!(u64::from(start), (64 << 20) - 8192);
        let byte: u8 = memory.read_obj(GuestAddress(u64::from(start) + 4999)).unwrap();
        assert_eq!(byte, 0xAB);
        let mut text = [0; 14];
        memory.read_slice(&mut text, GuestAddress(COMMAND_LINE)).unwrap();
        assert_eq!(&text, b"console=ttyS0\0");
        assert_eq!(params.e820_entries, 4);
    }

    #[test]
    fn a_64_bit_kernel_can_be_entered_in_either_mode() {
        let mut file = image();
        file[0x236] = KERNEL_64 as u8;
        let enter = |file: &[u8], wanted| {
            let memory = memory::create(64).unwrap();
            let entry = boot(&memory, file, None, 64, (TEXT, wanted)).ok()?;
            let tables: u64 = memory.read_obj(GuestAddress(page_tables::TOP)).unwrap();
            Some((entry.rip, entry.mode, entry.needs_long_mode, tables != 0))
        };
        assert_eq!(enter(&file, None), Some((0x10_0200, Mode::Long, true, true)));
        assert_eq!(enter(&file, Some(Mode::Long)), Some((0x10_0200, Mode::Long, true, true)));
        assert_eq!(enter(&file, Some(Mode::Protected)), Some((0x10_0000, Mode::Protected, true, false)));
        assert_eq!(enter(&image(), Some(Mode::Long)), None, "no such entry point");
    }

    #[test]
    fn memory_above_4_gib_is_told_and_nothing_is_loaded_there() {
        let mut file = image();
        file[0x22C..0x230].copy_from_slice(&u32::MAX.to_le_bytes());
        let memory = memory::create(5 << 10).unwrap();
        boot(&memory, &file, Some(vec![1; 4096]), 5 << 10, (TEXT, None)).ok().unwrap();
        let params: boot_params = memory.read_obj(GuestAddress(BOOT_PARAMS)).unwrap();
        let (entries, initrd) = (params.e820_entries, params.hdr.ramdisk_image);
        let last = params.e820_table[4];
        let (start, size, type_) = (last.addr, last.size, last.r#type);
        assert_eq!((entries, start, size, type_), (5, 4 << 30, 2 << 30, RAM));
        assert_eq!(u64::from(initrd), (3 << 30) - 4096);
    }

    #[test]
    fn damaged_images_are_told_apart() {
        let file = image();
        assert!(parse(&file).is_ok());
        assert!(matches!(reason(&file[..file.len() - 1]), ImageError::Truncated { .. }));
        assert!(matches!(reason(&file[..600]), ImageError::Truncated { .. }));
        let change = |offset: usize, bytes: &[u8]| {
            let mut file = image();
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
            reason(&file)
        };
        assert_eq!(change(0x206, &[0x04, 0x02]), ImageError::OldProtocol(0x0204));
        assert!(matches!(change(0x211, &[0]), ImageError::Header(_)));
        assert!(matches!(change(0x24C, &[0xFF; 4]), ImageError::Header(_)));
        assert!(matches!(change(0x1F4, &[0; 4]), ImageError::Header(_)));
    }

    #[test]
    fn memory_must_hold_kernel_and_initrd() {
        let file = image();
        let memory = memory::create(64).unwrap();
        let small = boot(&memory, &file, None, 16, (TEXT, None)).err();
        let Some(Failure::Other(Error::Memory { needed_mib, .. })) = small else {
            panic!("16 MiB cannot hold a kernel at 16 MiB");
        };
        assert_eq!(needed_mib, mib(0x120_0000));
        let initrd = vec![0; 60 << 20];
        assert!(boot(&memory, &file, Some(initrd), 64, (TEXT, None)).is_err());
    }

    #[test]
    fn a_long_command_line_is_refused() {
        let file = image();
        let memory = memory::create(64).unwrap();
        let text = "x".repeat(2048);
        let Some(Failure::Other(Error::CommandLine { limit, .. })) =
            boot(&memory, &file, None, 64, (&text, None)).err()
        else {
            panic!("2,048 bytes do not fit into 2,047");
        };
        assert_eq!(limit, 2047);
    }
}
