use super::*;

#[test]
fn chain_4_leads_a_byte_to_its_plane() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_13());
    poke(&mut vga, 0xA0005, &[0x42]);
    assert_eq!(peek(&mut vga, 0xA0005), 0x42);
    let mut quad = [0; 4];
    vga.vram.read(4 * 4, &mut quad);
    assert_eq!(quad, [0, 0x42, 0, 0]);
}

#[test]
fn the_map_mask_and_the_read_map_choose_planes() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    set(&mut vga, 0x3C4, 2, 0x05);
    poke(&mut vga, 0xA0010, &[0xA5]);
    for (plane, expected) in [(0, 0xA5), (1, 0), (2, 0xA5), (3, 0)] {
        set(&mut vga, 0x3CE, 4, plane);
        assert_eq!(peek(&mut vga, 0xA0010), expected);
    }
}

#[test]
fn write_mode_0_has_set_reset_rotation_functions_and_bit_mask() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    // Planes 0 and 1 from set/reset (1 and 0), the others from the rotated byte.
    set(&mut vga, 0x3CE, 0, 0x01);
    set(&mut vga, 0x3CE, 1, 0x03);
    set(&mut vga, 0x3CE, 3, 0x01);
    poke(&mut vga, 0xA0000, &[0x03]);
    let mut quad = [0; 4];
    vga.vram.read(0, &mut quad);
    assert_eq!(quad, [0xFF, 0x00, 0x81, 0x81]);
    // XOR with the latches, upper half only.
    set(&mut vga, 0x3CE, 1, 0);
    set(&mut vga, 0x3CE, 3, 0x18);
    set(&mut vga, 0x3CE, 8, 0xF0);
    peek(&mut vga, 0xA0000);
    poke(&mut vga, 0xA0000, &[0xFF]);
    vga.vram.read(0, &mut quad);
    assert_eq!(quad, [0x0F, 0xF0, 0x71, 0x71]);
}

#[test]
fn write_modes_1_2_and_3() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    let mut quad = [0; 4];
    set(&mut vga, 0x3CE, 5, 2);
    set(&mut vga, 0x3CE, 8, 0x80);
    poke(&mut vga, 0xA0000, &[0x06]);
    vga.vram.read(0, &mut quad);
    assert_eq!(quad, [0, 0x80, 0x80, 0]);
    set(&mut vga, 0x3CE, 5, 1);
    peek(&mut vga, 0xA0000);
    poke(&mut vga, 0xA0050, &[0x55]);
    vga.vram.read(0x50 * 4, &mut quad);
    assert_eq!(quad, [0, 0x80, 0x80, 0]);
    set(&mut vga, 0x3CE, 5, 3);
    set(&mut vga, 0x3CE, 0, 0x09);
    set(&mut vga, 0x3CE, 8, 0x3C);
    peek(&mut vga, 0xA0100);
    poke(&mut vga, 0xA0100, &[0x0F]);
    vga.vram.read(0x100 * 4, &mut quad);
    assert_eq!(quad, [0x0C, 0, 0, 0x0C]);
}

#[test]
fn read_mode_1_compares_colours() {
    let mut vga = vga();
    set_mode(&mut vga, &mode_12());
    vga.vram.write(0, &[0xF0, 0xCC, 0xAA, 0x00]);
    set(&mut vga, 0x3CE, 5, 8);
    set(&mut vga, 0x3CE, 2, 0x03);
    set(&mut vga, 0x3CE, 7, 0x0F);
    assert_eq!(peek(&mut vga, 0xA0000), 0xF0 & 0xCC & !0xAA);
    set(&mut vga, 0x3CE, 7, 0x03);
    assert_eq!(peek(&mut vga, 0xA0000), 0xF0 & 0xCC);
    set(&mut vga, 0x3CE, 7, 0x00);
    assert_eq!(peek(&mut vga, 0xA0000), 0xFF);
}

#[test]
fn the_window_is_where_the_graphics_controller_puts_it() {
    let mut vga = vga();
    vga.set_text_mode(&[]);
    poke(&mut vga, 0xB8000, b"X");
    assert_eq!(peek(&mut vga, 0xB8000), b'X');
    for outside in [0xA0000, 0xB0000, 0xB7FFF] {
        poke(&mut vga, outside, &[1]);
        assert_eq!(peek(&mut vga, outside), 0xFF);
    }
    set(&mut vga, 0x3CE, 6, 0x0A);
    poke(&mut vga, 0xB0000, b"Y");
    assert_eq!(peek(&mut vga, 0xB0000), b'Y');
    assert_eq!(peek(&mut vga, 0xB8000), 0xFF);
    out(&mut vga, 0x3C2, 0x65);
    assert_eq!(peek(&mut vga, 0xB0000), 0xFF, "misc bit 1 hides the memory");
}
