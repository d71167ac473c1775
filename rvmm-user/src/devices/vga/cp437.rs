//! What the characters of the PC's font look like, as Unicode.

/// Codes 00–1F and 7F–FF; those between are ASCII.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const HIGH: &str = "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}";

/// The Unicode character for `code`.
pub fn to_char(code: u8) -> char {
    match code {
        0x00..=0x1F => LOW.chars().nth(code.into()),
        0x20..=0x7E => Some(code.into()),
        0x7F..=0xFF => HIGH.chars().nth(usize::from(code) - 0x7F),
    }
    .unwrap_or(' ')
}
