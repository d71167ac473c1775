use super::*;

/// Character 1 is a left half block, DF (line graphics) all dots.
fn font() -> Vec<u8> {
    let mut font = vec![0; 4096];
    font[16..32].fill(0xF0);
    font[0xDF * 16..0xE0 * 16].fill(0xFF);
    font
}

fn text_screen() -> Vga {
    let mut vga = vga();
    vga.set_text_mode(&font());
    vga
}

#[test]
fn text_is_read_with_its_colours_and_cursor() {
    let mut vga = text_screen();
    poke(&mut vga, 0xB8000, b"H\x1Fi\x9F");
    poke(&mut vga, 0xB8000 + 160 * 24 + 158, b"!\x07");
    set(&mut vga, 0x3D4, 0x0E, 0x00);
    set(&mut vga, 0x3D4, 0x0F, 81);
    let text = vga.screen(0).text().unwrap();
    assert_eq!((text.columns, text.rows), (80, 25));
    assert_eq!(text.row(0), "Hi");
    assert_eq!(text.cells[0].background, [0, 0, 0xAA]);
    assert_eq!(text.cells[0].foreground, [0xFF; 3]);
    assert!(!text.cells[0].blinks && text.cells[1].blinks);
    assert_eq!(text.cells.last().unwrap().character, b'!');
    assert_eq!(text.cursor, Some((1, 1)));
    set(&mut vga, 0x3D4, 0x0A, 0x20);
    assert_eq!(vga.screen(0).text().unwrap().cursor, None);
}

#[test]
fn text_is_drawn_in_dots() {
    let mut vga = text_screen();
    set(&mut vga, 0x3D4, 0x0A, 0x20);
    poke(&mut vga, 0xB8000, b"\x01\x1E\xDF\x0F");
    let image = vga.screen(0).render();
    assert_eq!((image.width, image.height), (720, 400));
    assert_eq!(image.rgb.len(), 720 * 400 * 3);
    let (yellow, blue) = ([0xFF, 0xFF, 0x55], [0, 0, 0xAA]);
    assert_eq!([0, 3, 4, 8].map(|x| image.pixel(x, 0)), [yellow, yellow, blue, blue]);
    assert_eq!(image.pixel(17, 15), [0xFF; 3], "line graphics have a ninth dot");
    assert_eq!(image.pixel(18, 15), [0; 3]);
    assert_eq!(image.pixel(0, 16), [0; 3]);
}

#[test]
fn the_cursor_and_blinking_characters_blink() {
    let mut vga = text_screen();
    set(&mut vga, 0x3D4, 0x0A, 0x00);
    set(&mut vga, 0x3D4, 0x0B, 0x0F);
    poke(&mut vga, 0xB8002, b"\xDF\x87");
    let frame = 14_300_000;
    let at = |frames: u64| vga.screen(frame * frames).render();
    assert_eq!([at(0).pixel(0, 0), at(9).pixel(0, 0), at(17).pixel(0, 0)], [[0xAA; 3], [0; 3], [0xAA; 3]]);
    assert_eq!([at(0).pixel(9, 0), at(9).pixel(9, 0), at(17).pixel(9, 0)], [[0xAA; 3], [0xAA; 3], [0; 3]]);
}

#[test]
fn a_smooth_scroll_and_panning_move_the_picture() {
    let mut vga = text_screen();
    set(&mut vga, 0x3D4, 0x0A, 0x20);
    poke(&mut vga, 0xB8000 + 160, b"\x01\x0F");
    set(&mut vga, 0x3D4, 8, 8);
    assert_eq!(vga.screen(0).render().pixel(0, 8), [0xFF; 3]);
    set(&mut vga, 0x3D4, 0x0D, 80);
    set(&mut vga, 0x3D4, 8, 0);
    input(&mut vga, 0x3DA);
    out(&mut vga, 0x3C0, 0x33);
    out(&mut vga, 0x3C0, 1);
    let image = vga.screen(0).render();
    assert_eq!([1, 2].map(|x| image.pixel(x, 0)), [[0xFF; 3], [0; 3]]);
}

#[test]
fn mode_13_has_256_colours_of_doubled_dots() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_13());
    poke(&mut vga, 0xA0000 + 320 * 7 + 9, &[200]);
    let image = vga.screen(0).render();
    assert_eq!((image.width, image.height), (640, 400));
    for (x, y) in [(18, 14), (19, 15)] {
        assert_eq!(image.pixel(x, y), rgb(200));
    }
    for (x, y) in [(17, 14), (20, 14), (18, 13), (18, 16)] {
        assert_eq!(image.pixel(x, y), [0; 3]);
    }
}

#[test]
fn all_of_mode_13_is_shown() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_13());
    let pixel = |x: u32, y: u32| (x * 7 + y * 13) as u8;
    for y in 0..200 {
        let line: Vec<u8> = (0..320).map(|x| pixel(x, y)).collect();
        poke(&mut vga, 0xA0000 + 320 * y, &line);
    }
    let image = vga.screen(0).render();
    for (x, y) in (0..320).flat_map(|x| (0..200).map(move |y| (x, y))) {
        assert_eq!(image.pixel(2 * x, 2 * y), rgb(pixel(x, y)), "{x}, {y}");
        assert_eq!(peek(&mut vga, 0xA0000 + 320 * y + x), pixel(x, y));
    }
}

#[test]
fn mode_x_is_mode_13_unchained() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_13());
    set(&mut vga, 0x3C4, 4, 0x06);
    set(&mut vga, 0x3D4, 0x14, 0x00);
    set(&mut vga, 0x3D4, 0x17, 0xE3);
    // The second page, pixel (6, 1): plane 2 of address 80 + 1.
    set(&mut vga, 0x3D4, 0x0C, 0x40);
    set(&mut vga, 0x3C4, 2, 4);
    poke(&mut vga, 0xA4000 + 81, &[77]);
    let image = vga.screen(0).render();
    assert_eq!(image.pixel(12, 2), rgb(77));
    assert_eq!(image.pixel(14, 2), [0; 3]);
}

#[test]
fn mode_12_has_16_colours_in_planes() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    set(&mut vga, 0x3CE, 5, 2);
    set(&mut vga, 0x3CE, 8, 0x40);
    poke(&mut vga, 0xA0000 + 80 * 479 + 79, &[0x0E]);
    let image = vga.screen(0).render();
    assert_eq!((image.width, image.height), (640, 480));
    assert_eq!(image.pixel(633, 479), rgb(0x3E));
    assert_eq!(image.pixel(634, 479), [0; 3]);
}

#[test]
fn a_split_screen_starts_again_at_0() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    vga.vram.write(0, &[0x80, 0, 0, 0]);
    set(&mut vga, 0x3D4, 0x0C, 0x80);
    set(&mut vga, 0x3D4, 0x18, 99);
    set(&mut vga, 0x3D4, 7, 0x2E);
    set(&mut vga, 0x3D4, 9, 0x00);
    let image = vga.screen(0).render();
    assert_eq!([99, 100, 101].map(|y| image.pixel(0, y)), [[0; 3], rgb(1), [0; 3]]);
}

#[test]
fn mode_4_has_two_bits_a_pixel_and_two_banks() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_4());
    poke(&mut vga, 0xB8000, &[0b11_10_01_00, 0b01_00_00_00]);
    poke(&mut vga, 0xBA000 + 79, &[0b00_00_00_10]);
    let image = vga.screen(0).render();
    assert_eq!((image.width, image.height), (640, 400));
    assert_eq!([0, 2, 4, 6, 8].map(|x| image.pixel(x, 0)), [0x17, 0x15, 0x13, 0, 0x13].map(rgb));
    assert_eq!([1, 2].map(|y| image.pixel(0, y)), [rgb(0x17), [0; 3]]);
    assert_eq!(image.pixel(639, 2), rgb(0x15));
}

#[test]
fn mode_6_has_one_bit_a_pixel() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_6());
    poke(&mut vga, 0xB8001, &[0x80]);
    poke(&mut vga, 0xBA000, &[0x01]);
    let image = vga.screen(0).render();
    assert_eq!(image.pixel(8, 0), rgb(0x17));
    assert_eq!(image.pixel(7, 2), rgb(0x17));
    assert_eq!(vga.screen(0).text(), None);
}

#[test]
fn nothing_is_shown_while_the_attribute_controller_is_programmed() {
    let mut vga = text_screen();
    poke(&mut vga, 0xB8000, b"\xDF\x0F");
    input(&mut vga, 0x3DA);
    out(&mut vga, 0x3C0, 0x00);
    assert_eq!(vga.screen(0).render(), Image::filled(720, 400, [0; 3]));
    assert_eq!(vga.screen(0).text(), None);
}

#[test]
fn every_character_has_its_own_look() {
    let looks: std::collections::HashSet<char> = (0..=255).map(cp437::to_char).collect();
    assert_eq!(looks.len(), 255, "only 00 and 20 are the same");
    assert_eq!([0xB0, 0xC4, 0xDB, 0xFE, 0x7F, 0x1F].map(cp437::to_char), ['░', '─', '█', '■', '⌂', '▼']);
}
