//! A small client, against the server on a socket.

use std::io::{Read, Write};
use std::net::TcpStream;

use proptest::prelude::*;

use super::changes::{between, fitted, Rectangle};
use super::format::PixelFormat;
use super::*;
use crate::devices::vga::Image;
use crate::monitor::soft::SoftRun;

fn bytes(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn word(stream: &mut TcpStream) -> u32 {
    u32::from_be_bytes(bytes(stream, 4).try_into().unwrap())
}

/// A run, its server and a client that has shaken hands.
fn connected() -> (Arc<SoftRun>, Vnc, TcpStream) {
    let run = SoftRun::new();
    let server = Vnc::start(&"127.0.0.1:0".parse().unwrap(), "a guest", run.clone()).unwrap();
    let Address::Tcp(address) = server.address() else { panic!() };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(bytes(&mut stream, 12), b"RFB 003.008\n");
    stream.write_all(b"RFB 003.008\n").unwrap();
    assert_eq!(bytes(&mut stream, 2), [1, 1]);
    stream.write_all(&[1]).unwrap();
    assert_eq!(word(&mut stream), 0);
    stream.write_all(&[1]).unwrap();
    assert_eq!(bytes(&mut stream, 4), [720u16.to_be_bytes(), 400u16.to_be_bytes()].concat());
    assert_eq!(bytes(&mut stream, 16), PixelFormat::default().to_bytes());
    assert_eq!(word(&mut stream), 7);
    assert_eq!(bytes(&mut stream, 7), b"a guest");
    (run, server, stream)
}

fn request(stream: &mut TcpStream, incremental: bool) {
    stream.write_all(&[3, u8::from(incremental), 0, 0, 0, 0, 2, 0xD0, 1, 0x90]).unwrap();
}

/// The rectangles' headers of an update: x, y, width, height, encoding.
fn header(stream: &mut TcpStream) -> ([u16; 4], i32) {
    let place: Vec<u16> = bytes(stream, 8).chunks(2).map(|pair| u16::from_be_bytes(pair.try_into().unwrap())).collect();
    (place.try_into().unwrap(), word(stream) as i32)
}

fn rectangles(stream: &mut TcpStream) -> u16 {
    let head = bytes(stream, 4);
    assert_eq!(head[..2], [0, 0]);
    u16::from_be_bytes([head[2], head[3]])
}

#[test]
fn a_client_sees_the_screen_and_then_its_changes() {
    let (run, _server, mut stream) = connected();
    run.vga.lock().unwrap().memory_write(0x18000, b" \x17");
    request(&mut stream, false);
    assert_eq!(rectangles(&mut stream), 1);
    assert_eq!(header(&mut stream), ([0, 0, 720, 400], 0));
    let pixels = bytes(&mut stream, 720 * 400 * 4);
    assert_eq!(pixels[..4], [0xAA, 0, 0, 0]);
    assert_eq!(pixels[9 * 4..10 * 4], [0, 0, 0, 0]);
    request(&mut stream, true);
    run.vga.lock().unwrap().memory_write(0x18000 + 24 * 160 + 158, b" \x47");
    assert_eq!(rectangles(&mut stream), 1);
    let (place, encoding) = header(&mut stream);
    assert_eq!((place, encoding), ([704, 384, 16, 16], 0));
    assert_eq!(bytes(&mut stream, 16 * 16 * 4)[15 * 4..16 * 4], [0, 0, 0xAA, 0]);
}

#[test]
fn zlib_and_a_new_size_are_sent_to_who_knows_them() {
    let (run, _server, mut stream) = connected();
    stream.write_all(&[2, 0, 0, 2, 0, 0, 0, 6, 0xFF, 0xFF, 0xFF, 0x21]).unwrap();
    let mut unpack = flate2::Decompress::new(true);
    let mut pixels = |stream: &mut TcpStream, count: usize| {
        let packed = word(stream) as usize;
        let packed = bytes(stream, packed);
        let mut pixels = Vec::with_capacity(count + 64);
        unpack.decompress_vec(&packed, &mut pixels, flate2::FlushDecompress::Sync).unwrap();
        assert_eq!(pixels.len(), count);
        pixels
    };
    request(&mut stream, false);
    assert_eq!(rectangles(&mut stream), 1);
    assert_eq!(header(&mut stream), ([0, 0, 720, 400], 6));
    pixels(&mut stream, 720 * 400 * 4);
    let mut vga = run.vga.lock().unwrap();
    for (index, value) in [(1, 320u16), (2, 200), (3, 32), (4, 0x41)] {
        vga.dispi_write(0, index);
        vga.dispi_write(1, value);
    }
    vga.memory_write(4, &[1, 2, 3, 0]);
    drop(vga);
    request(&mut stream, true);
    assert_eq!(rectangles(&mut stream), 2);
    assert_eq!(header(&mut stream), ([0, 0, 320, 200], -223));
    assert_eq!(header(&mut stream), ([0, 0, 320, 200], 6));
    assert_eq!(pixels(&mut stream, 320 * 200 * 4)[..8], [0, 0, 0, 0, 1, 2, 3, 0]);
}

#[test]
fn keys_and_pointer_reach_the_guest_and_are_let_go() {
    let (run, server, mut stream) = connected();
    let key = |stream: &mut TcpStream, symbol: u32, down: u8| {
        stream.write_all(&[&[4, down, 0, 0][..], &symbol.to_be_bytes()].concat()).unwrap();
    };
    key(&mut stream, 0x41, 1);
    key(&mut stream, 0x41, 0);
    assert_eq!(run.wait_log(4), ["+shift", "+a", "-a", "-shift"]);
    for (symbol, down) in [(0xFFE1, 1), (0x41, 1), (0x41, 1), (0x41, 0), (0xFFE1, 0)] {
        key(&mut stream, symbol, down);
    }
    assert_eq!(run.wait_log(4), ["+shift", "+a", "-a", "-shift"]);
    for (buttons, x, y) in [(0, 100, 100), (0, 110, 95), (4, 110, 95), (0x10, 110, 95), (0, 110, 95)] {
        stream.write_all(&[5, buttons, 0, x, 0, y]).unwrap();
    }
    assert_eq!(run.wait_log(4), ["move 10 5 0", "buttons 2", "move 0 0 1", "buttons 0"]);
    key(&mut stream, 0xFF0D, 1);
    assert_eq!(run.wait_log(1), ["+ret"]);
    drop(stream);
    assert_eq!(run.wait_log(1), ["-ret"]);
    drop(server);
}

#[test]
fn addresses_are_on_this_host_unless_told_otherwise() {
    for (text, meant) in [
        (":1", "127.0.0.1:5901"),
        ("localhost:5950", "127.0.0.1:5950"),
        ("0.0.0.0:5900", "0.0.0.0:5900"),
        ("[::1]:5900", "[::1]:5900"),
        ("unix:/run/x", "unix:/run/x"),
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), meant);
    }
    for text in ["", ":", ":x", ":65000", "unix:", "5900", "host:5900"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[test]
fn a_unix_socket_is_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vnc");
    let server = Vnc::start(&Address::Unix(path.clone()), "", SoftRun::new()).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn formats_scale_their_colours() {
    let mut bytes = PixelFormat::default().to_bytes();
    bytes[..4].copy_from_slice(&[16, 16, 1, 1]);
    bytes[4..13].copy_from_slice(&[0, 31, 0, 63, 0, 31, 11, 5, 0]);
    let format = PixelFormat::from_bytes(&bytes).unwrap();
    assert_eq!(format.to_bytes(), bytes);
    let mut out = Vec::new();
    format.write([0xFF, 0, 0xFF], &mut out);
    assert_eq!(out, [0xF8, 0x1F]);
    bytes[..4].copy_from_slice(&[8, 8, 0, 0]);
    let format = PixelFormat::from_bytes(&bytes).unwrap();
    assert!(format.needs_map());
    assert_eq!(PixelFormat::colour_map().len(), 6 + 256 * 6);
    format.write([0xFF, 0, 0], &mut out);
    assert_eq!(out[2..], [0xE0]);
    bytes[0] = 24;
    assert_eq!(PixelFormat::from_bytes(&bytes), None);
}

#[test]
fn changes_are_found_and_pictures_fitted() {
    let old = Image::filled(200, 100, [1, 2, 3]);
    let mut new = old.clone();
    assert_eq!(between(&old, &new), []);
    let at = (70 * 200 + 130) * 3;
    new.rgb[at] = 9;
    new.rgb[at - 10 * 3] = 9;
    assert_eq!(between(&old, &new), [Rectangle { x: 64, y: 64, width: 128, height: 36 }]);
    let small = fitted(new, (131, 101));
    assert_eq!((small.rgb.len(), small.pixel(130, 70), small.pixel(0, 100)), (131 * 101 * 3, [9, 2, 3], [0; 3]));
}

proptest! {
    #[test]
    fn any_message_is_survived(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut data = data.as_slice();
        while super::messages::read(&mut data).is_ok() {}
    }

    #[test]
    fn any_format_writes_pixels(bytes in any::<[u8; 16]>(), rgb in any::<[u8; 3]>()) {
        if let Some(format) = PixelFormat::from_bytes(&bytes) {
            let mut out = Vec::new();
            format.write(rgb, &mut out);
            prop_assert!(matches!(out.len(), 1 | 2 | 4));
        }
    }
}
