use proptest::prelude::*;

use super::*;

#[test]
fn registers_read_back_their_bits() {
    let mut vga = vga();
    out(&mut vga, 0x3C2, 0x67);
    assert_eq!(input(&mut vga, 0x3CC), 0x67);
    for (port, index, written, read) in
        [(0x3C4, 4, 0xFF, 0x0E), (0x3C4, 9, 0xFF, 0x3D), (0x3CE, 6, 0xFF, 0x0F), (0x3D4, 0x0F, 0xA5, 0xA5)]
    {
        set(&mut vga, port, index, written);
        assert_eq!(input(&mut vga, port + 1), read, "{port:x} {index:x}");
    }
    assert_eq!(input(&mut vga, 0x3B5), 0xFF, "a colour adapter is not at 3Bx");
    out(&mut vga, 0x3C2, 0x66);
    assert_eq!(input(&mut vga, 0x3D5), 0xFF);
    assert_eq!(input(&mut vga, 0x3B5), 0xA5);
}

#[test]
fn the_crtc_s_timing_can_be_protected() {
    let mut vga = vga();
    out(&mut vga, 0x3C2, 1);
    set(&mut vga, 0x3D4, 1, 0x4F);
    set(&mut vga, 0x3D4, 0x11, 0x80);
    set(&mut vga, 0x3D4, 1, 0);
    set(&mut vga, 0x3D4, 7, 0xFF);
    assert_eq!(vga.registers().crtc(1), 0x4F);
    assert_eq!(vga.registers().crtc(7), 0x10);
}

#[test]
fn the_attribute_controller_s_flip_flop_is_reset_by_status_1() {
    let mut vga = vga();
    out(&mut vga, 0x3C2, 1);
    out(&mut vga, 0x3C0, 3);
    input(&mut vga, 0x3DA);
    out(&mut vga, 0x3C0, 5);
    out(&mut vga, 0x3C0, 0x2A);
    assert_eq!(vga.registers().attribute(5), 0x2A);
    assert_eq!(input(&mut vga, 0x3C1), 0x2A);
}

#[test]
fn the_palette_counts_its_parts() {
    let mut vga = vga();
    out(&mut vga, 0x3C8, 254);
    (1..=9).for_each(|value| out(&mut vga, 0x3C9, value));
    assert_eq!(input(&mut vga, 0x3C7), 0);
    out(&mut vga, 0x3C7, 255);
    assert_eq!(input(&mut vga, 0x3C7), 3);
    let read: Vec<u8> = (0..6).map(|_| input(&mut vga, 0x3C9)).collect();
    assert_eq!(read, [4, 5, 6, 7, 8, 9], "and goes on from 255 to 0");
}

#[test]
fn the_beam_goes_round_70_times_a_second() {
    let mut vga = vga();
    vga.set_text_mode(&[]);
    let timing = timing::Timing::new(vga.registers());
    assert_eq!(1_000_000_000 / timing.frame_ns(), 70);
    // Every 10 µs for a second.
    let (mut rises, mut was) = (0, false);
    for step in 0..100_000u64 {
        let is = vga.port_read(0x2A, step * 10_000) & timing::VERTICAL_RETRACE != 0;
        rises += u32::from(is && !was);
        was = is;
    }
    assert_eq!(rises, 70);
}

#[test]
fn a_guest_that_seldom_looks_sees_the_retrace_all_the_same() {
    let mut vga = vga();
    vga.set_text_mode(&[]);
    for step in [1_000_000u64, 5_000_000, 40_000_000] {
        let seen: Vec<u8> = (0..200).map(|look| vga.port_read(0x2A, look * step) & timing::VERTICAL_RETRACE).collect();
        assert!(seen.contains(&0) && seen.contains(&timing::VERTICAL_RETRACE), "{step}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_registers_make_some_picture(
        writes in prop::collection::vec((0u16..0x30, any::<u8>()), 0..300),
        accesses in prop::collection::vec((0u32..0x20000, any::<u8>()), 0..50),
        now in any::<u64>(),
    ) {
        let mut vga = Vga::new(Box::new(vec![0; 0x40000]));
        for (offset, value) in writes {
            vga.port_write(offset, value);
            vga.port_read(offset, now);
        }
        for (offset, value) in accesses {
            vga.memory_write(offset, &[value]);
            vga.memory_read(offset, &mut [0]);
        }
        vga.registers.attribute_index |= 0x20;
        let screen = vga.screen(now);
        let (width, height) = screen.size();
        prop_assert!(width <= 4608 && height <= 1024);
        prop_assert_eq!(screen.render().rgb.len(), width as usize * height as usize * 3);
        if let Some(text) = screen.text() {
            prop_assert_eq!(text.cells.len(), text.columns as usize * text.rows as usize);
        }
    }
}
