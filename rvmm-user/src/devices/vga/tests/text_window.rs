//! Text shown directly, against the same without: nobody can tell.

use proptest::prelude::*;

use super::super::{text_window, Vga, Vram};
use crate::memory::video::{create, Video};

#[derive(Clone, Debug)]
enum Step {
    Port(u16, u8, u8),
    Dispi(bool),
    Read(u32),
    Write(u32, [u8; 4]),
    FrameRead(u32),
    FrameWrite(u32, [u8; 4]),
    Reset,
}

/// Registers that decide whether there is plain text, among them values with which there is. Nothing with which the latches count.
fn registers() -> impl Strategy<Value = Step> {
    let values: [(u16, u8, &[u8]); 9] = [
        (0x3C5, 2, &[3, 3, 3, 0xF, 1]),
        (0x3C5, 4, &[2, 2, 2, 6, 0xA]),
        (0x3CF, 1, &[0, 0, 1, 4]),
        (0x3CF, 3, &[0, 0, 0, 3]),
        (0x3CF, 4, &[0, 0, 1, 2]),
        (0x3CF, 5, &[0x10, 0x10, 0x10, 0, 0x18]),
        (0x3CF, 6, &[0xE, 0xE, 0xE, 4, 8]),
        (0x3C2, 0, &[0x67, 0x67, 0x65]),
        (0x3C3, 0, &[1, 1, 0]),
    ];
    proptest::sample::select(values.to_vec()).prop_flat_map(|(port, index, choices)| {
        proptest::sample::select(choices).prop_map(move |value| Step::Port(port, index, value))
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let window = prop_oneof![4 => 0x18000u32..0x18040, 1 => 0x1FFF0u32..0x1FFFD, 1 => 0u32..0x1FFFD];
    let frame = 0u32..0x200;
    prop_oneof![
        4 => registers(),
        1 => any::<bool>().prop_map(Step::Dispi),
        20 => window.clone().prop_map(Step::Read),
        40 => (window, any::<[u8; 4]>()).prop_map(|(at, data)| Step::Write(at, data)),
        1 => frame.clone().prop_map(Step::FrameRead),
        1 => (frame, any::<[u8; 4]>()).prop_map(|(at, data)| Step::FrameWrite(at, data)),
        1 => Just(Step::Reset),
    ]
}

/// As the guest does it: with its memory, where it is shown some.
fn window(vga: &mut Vga, at: u32, data: &mut [u8], write: bool) {
    let place = at.checked_sub(text_window::OFFSET).filter(|_| vga.is_text_direct());
    match (place, write) {
        (Some(place), true) => vga.vram.write_text(place as usize, data),
        (Some(place), false) => vga.vram.read_text(place as usize, data),
        (None, true) => vga.memory_write(at, data),
        (None, false) => vga.memory_read(at, data),
    }
}

fn apply(vga: &mut Vga, step: &Step) -> [u8; 4] {
    let mut seen = [0; 4];
    match *step {
        Step::Port(port, index, value) => {
            if port & 0xF == 5 || port & 0xF == 0xF {
                vga.port_write(port - 1 - 0x3B0, index);
            }
            vga.port_write(port - 0x3B0, value);
        }
        Step::Dispi(on) => {
            vga.dispi_write(0, 4);
            // Nothing is cleared.
            vga.dispi_write(1, if on { 0x81 } else { 0 });
        }
        Step::Read(at) => window(vga, at, &mut seen, false),
        Step::Write(at, mut data) => window(vga, at, &mut data, true),
        Step::FrameRead(at) => vga.frame_read(at, &mut seen),
        Step::FrameWrite(at, data) => vga.frame_write(at, &data),
        Step::Reset => vga.reset(),
    }
    seen
}

fn in_text_mode(vram: Box<dyn Vram>, patience: u32) -> Vga {
    let mut vga = Vga::new(vram);
    vga.set_text_mode(&[]);
    vga.text.set_patience(patience);
    vga
}

#[test]
fn the_first_accesses_are_exits() {
    let mut vga = in_text_mode(Box::new(Video::new(create().unwrap()).0), text_window::PATIENCE);
    for _ in 1..text_window::PATIENCE {
        vga.memory_write(0x18000, b"x");
    }
    assert!(!vga.is_text_direct() && !vga.take_text_change());
    vga.memory_write(0x18000, b"y");
    assert!(vga.is_text_direct() && vga.take_text_change() && !vga.take_text_change());
    assert_eq!(vga.screen(0).text().unwrap().row(0), "y");
    vga.vram.write_text(2, b"z");
    assert_eq!(vga.screen(0).text().unwrap().row(0), "yz");
}

proptest! {
    #[test]
    fn nobody_can_tell(steps in proptest::collection::vec(steps(), 0..300), patience in 1u32..20) {
        let (mut with, mut without) =
            (in_text_mode(Box::new(Video::new(create().unwrap()).0), patience), in_text_mode(Box::new(vec![0; 16 << 20]), patience));
        for (number, step) in steps.iter().enumerate() {
            prop_assert_eq!(apply(&mut with, step), apply(&mut without, step), "step {} {:?}", number, step);
        }
        prop_assert!(!without.is_text_direct());
        let visible = |vga: &Vga| vga.screen(0).memory;
        prop_assert!(visible(&with) == visible(&without), "the screens differ");
        with.end_direct_text(true);
        let mut planes = [vec![0; 0x40000], vec![0; 0x40000]];
        with.vram.read(0, &mut planes[0]);
        without.vram.read(0, &mut planes[1]);
        prop_assert!(planes[0] == planes[1], "the planes differ");
    }
}
