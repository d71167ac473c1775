//! What a client says (RFC 6143, section 7.5).

use std::io::{self, Read};

use super::format::PixelFormat;

/// A message from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    SetPixelFormat(PixelFormat),
    SetEncodings(Vec<i32>),
    /// The client wants to know what changed, or everything.
    UpdateRequest {
        incremental: bool,
    },
    Key {
        symbol: u32,
        down: bool,
    },
    Pointer {
        buttons: u8,
        x: u16,
        y: u16,
    },
    /// The client's clipboard, for which there is no use.
    CutText,
}

/// The longest clipboard.
const CUT_TEXT_LIMIT: u64 = 1 << 20;

/// Reads a message.
pub fn read(stream: &mut impl Read) -> io::Result<Message> {
    let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    Ok(match bytes::<1>(stream)? {
        [0] => {
            bytes::<3>(stream)?;
            let format = PixelFormat::from_bytes(&bytes(stream)?);
            Message::SetPixelFormat(format.ok_or_else(|| wrong("an impossible pixel format"))?)
        }
        [2] => {
            let [_, high, low] = bytes(stream)?;
            let count = u16::from_be_bytes([high, low]);
            let encodings = (0..count).map(|_| bytes(stream).map(i32::from_be_bytes));
            Message::SetEncodings(encodings.collect::<io::Result<_>>()?)
        }
        [3] => {
            // The rectangle is not looked at: the whole screen is what everyone asks for.
            let [incremental, ..] = bytes::<9>(stream)?;
            Message::UpdateRequest { incremental: incremental != 0 }
        }
        [4] => {
            let [down, _, _, a, b, c, d] = bytes(stream)?;
            Message::Key { symbol: u32::from_be_bytes([a, b, c, d]), down: down != 0 }
        }
        [5] => {
            let [buttons, x1, x0, y1, y0] = bytes(stream)?;
            Message::Pointer { buttons, x: u16::from_be_bytes([x1, x0]), y: u16::from_be_bytes([y1, y0]) }
        }
        [6] => {
            let [_, _, _, a, b, c, d] = bytes(stream)?;
            let length = u64::from(u32::from_be_bytes([a, b, c, d]));
            if length > CUT_TEXT_LIMIT {
                return Err(wrong("a clipboard that is too long"));
            }
            if io::copy(&mut stream.take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Message::CutText
        }
        _ => return Err(wrong("an unknown message")),
    })
}

fn bytes<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
