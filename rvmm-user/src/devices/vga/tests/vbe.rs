use proptest::prelude::*;

use super::*;

fn dispi(vga: &mut Vga, index: u16, value: u16) {
    vga.dispi_write(0, index);
    vga.dispi_write(1, value);
}

fn read(vga: &mut Vga, index: u16) -> u16 {
    vga.dispi_write(0, index);
    vga.dispi_read(1)
}

fn enable(width: u16, height: u16, bpp: u16) -> Vga {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    dispi(&mut vga, 4, 0);
    dispi(&mut vga, 1, width);
    dispi(&mut vga, 2, height);
    dispi(&mut vga, 3, bpp);
    dispi(&mut vga, 4, 0x41);
    vga
}

#[test]
fn the_interface_says_what_it_is() {
    let mut vga = vga();
    assert_eq!(read(&mut vga, 0), 0xB0C5);
    dispi(&mut vga, 0, 0xB0C2);
    assert_eq!(read(&mut vga, 0), 0xB0C2);
    dispi(&mut vga, 0, 0x1234);
    assert_eq!(read(&mut vga, 0), 0xB0C2);
    assert_eq!(read(&mut vga, 10), 256);
    dispi(&mut vga, 4, 2);
    assert_eq!([1, 2, 3].map(|index| read(&mut vga, index)), [16000, 12000, 32]);
}

#[test]
fn all_depths_show_their_colours() {
    for (bpp, bytes, colour) in [
        (8, vec![5], rgb(5)),
        (15, vec![0x1F, 0x7C], [0xFF, 0, 0xFF]),
        (16, vec![0xE0, 0x07], [0, 0xFF, 0]),
        (24, vec![1, 2, 3], [3, 2, 1]),
        (32, vec![1, 2, 3, 0], [3, 2, 1]),
    ] {
        let mut vga = enable(640, 480, bpp);
        let at = (479 * 640 + 639) * bytes.len();
        vga.vram.write(at, &bytes);
        let image = vga.screen(0).render();
        assert_eq!((image.width, image.height), (640, 480));
        assert_eq!(image.pixel(639, 479), colour, "{bpp}");
        assert_eq!(image.pixel(638, 479), [0; 3], "{bpp}");
    }
}

#[test]
fn four_bits_are_in_planes_behind_the_window() {
    let mut vga = enable(800, 600, 4);
    poke(&mut vga, 0xA0000 + 100, &[0x80]);
    let image = vga.screen(0).render();
    assert_eq!((image.width, image.height), (800, 600));
    assert_eq!(image.pixel(0, 1), rgb(0x3F));
}

#[test]
fn the_picture_can_be_a_part_of_a_larger_one() {
    let mut vga = enable(640, 480, 32);
    dispi(&mut vga, 6, 1024);
    dispi(&mut vga, 8, 10);
    dispi(&mut vga, 9, 20);
    assert_eq!(read(&mut vga, 7), 4096);
    vga.vram.write((20 * 1024 + 10) * 4, &[0, 0, 0xFF, 0]);
    assert_eq!(vga.screen(0).render().pixel(0, 0), [0xFF, 0, 0]);
}

#[test]
fn the_window_is_banked() {
    let mut vga = enable(640, 480, 8);
    dispi(&mut vga, 5, 4);
    poke(&mut vga, 0xA0001, &[9]);
    assert_eq!(peek(&mut vga, 0xA0001), 9);
    let mut byte = [0];
    vga.vram.read(0x40001, &mut byte);
    assert_eq!(byte, [9]);
    assert_eq!(peek(&mut vga, 0xB8000), 0xFF);
}

#[test]
fn switching_on_clears_unless_told_otherwise() {
    let mut vga = enable(640, 480, 8);
    poke(&mut vga, 0xA0000, &[9]);
    dispi(&mut vga, 4, 0);
    dispi(&mut vga, 4, 0xC1);
    assert_eq!(peek(&mut vga, 0xA0000), 9);
    dispi(&mut vga, 4, 0);
    dispi(&mut vga, 4, 0x41);
    assert_eq!(peek(&mut vga, 0xA0000), 0);
}

#[test]
fn registers_are_in_bar_2_too() {
    let mut vga = vga();
    vga.bar_write(0x500 + 2, &1024u16.to_le_bytes());
    let mut word = [0; 2];
    vga.bar_read(0x502, &mut word, 0);
    assert_eq!(u16::from_le_bytes(word), 1024);
    vga.bar_write(0x402, &[0x67]);
    assert_eq!(vga.registers().misc, 0x67);
    vga.bar_write(0x414, &[0x0F, 0x33]);
    assert_eq!(vga.registers().crtc(0x0F), 0x33);
    let mut long = [0; 4];
    vga.bar_read(0x600, &mut long, 0);
    assert_eq!(long, [8, 0, 0, 0]);
    vga.bar_read(0x604, &mut long, 0);
    assert_eq!(long, [0x1E; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_mode_fits_into_memory(writes in prop::collection::vec((0u32..0x620, any::<u16>()), 0..100)) {
        let mut vga = Vga::new(Box::new(vec![0; 0x40000]));
        for (offset, value) in writes {
            vga.bar_write(0x500 + (offset & 0x1E), &value.to_le_bytes());
            vga.bar_write(offset, &value.to_le_bytes());
            vga.bar_read(offset, &mut [0; 8], 0);
            vga.memory_write(u32::from(value), &[1, 2]);
        }
        vga.registers.attribute_index |= 0x20;
        let screen = vga.screen(0);
        let (width, height) = screen.size();
        if vga.registers.dispi.is_enabled() {
            // A horizontal offset makes the last line's row end beyond what it shows.
            prop_assert!(screen::visible_bytes(&vga.registers) <= 0x40000 + vga.registers.dispi.stride());
        }
        prop_assert_eq!(screen.render().rgb.len(), width as usize * height as usize * 3);
    }
}
