//! The beginning of a connection (RFC 6143, sections 7.1–7.3).

use std::io::{self, Read, Write};

use super::format::PixelFormat;

/// The one security type: none.
const NONE: u8 = 1;

/// Agrees on a version and on no authentication, and tells the screen's size.
pub fn shake(stream: &mut (impl Read + Write), size: (u16, u16), name: &str) -> io::Result<()> {
    stream.write_all(b"RFB 003.008\n")?;
    let mut version = [0; 12];
    stream.read_exact(&mut version)?;
    match &version {
        b"RFB 003.008\n" | b"RFB 003.007\n" => {
            stream.write_all(&[1, NONE])?;
            let mut chosen = [0];
            stream.read_exact(&mut chosen)?;
            if chosen[0] != NONE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown security type was chosen"));
            }
            if &version == b"RFB 003.008\n" {
                stream.write_all(&0u32.to_be_bytes())?;
            }
        }
        // Version 3.3 and, as the RFC says, whatever calls itself something else.
        start if start.starts_with(b"RFB 003.") => stream.write_all(&u32::from(NONE).to_be_bytes())?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no VNC client")),
    }
    // Whether others may stay connected: they may.
    stream.read_exact(&mut [0])?;
    let mut init = Vec::new();
    init.extend(size.0.to_be_bytes());
    init.extend(size.1.to_be_bytes());
    init.extend(PixelFormat::default().to_bytes());
    init.extend((name.len() as u32).to_be_bytes());
    init.extend(name.bytes());
    stream.write_all(&init)
}
