//! What IDENTIFY commands are answered with: 256 words.

/// The words, in the making.
pub struct Words([u16; 256]);

impl Words {
    /// Zeros.
    pub fn new() -> Self {
        Words([0; 256])
    }

    /// Sets one word.
    pub fn set(&mut self, index: usize, value: u16) {
        if let Some(word) = self.0.get_mut(index) {
            *word = value;
        }
    }

    /// Sets two words, the low one first.
    pub fn set_long(&mut self, index: usize, value: u32) {
        self.set(index, value as u16);
        self.set(index + 1, (value >> 16) as u16);
    }

    /// Sets `count` words to a text filled with spaces. The first letter of each word is in the high byte.
    pub fn set_text(&mut self, index: usize, count: usize, text: &str) {
        let mut letters = text.bytes().chain(std::iter::repeat(b' '));
        for word in index..index + count {
            let pair = [letters.next(), letters.next()].map(|letter| letter.unwrap_or(b' '));
            self.set(word, u16::from_be_bytes(pair));
        }
    }

    /// The words as they are transferred.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_iter().flat_map(u16::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_letters_swapped() {
        let mut words = Words::new();
        words.set_text(2, 2, "ABC");
        assert_eq!(words.into_bytes()[4..8], *b"BA C");
    }
}
