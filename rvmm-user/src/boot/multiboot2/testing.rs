//! Headers for the tests.

/// A file with a multiboot 2 header of `tags` at `offset`.
pub fn file(offset: usize, tags: &[Vec<u8>]) -> Vec<u8> {
    let tags = tags.concat();
    let len = 16 + tags.len() as u32;
    let mut file = vec![0; offset];
    for word in [0xE852_50D6u32, 0, len, 0u32.wrapping_sub(0xE852_50D6u32.wrapping_add(len))] {
        file.extend(word.to_le_bytes());
    }
    file.extend(tags);
    file
}

/// A tag, filled up to a multiple of 8.
pub fn tag(kind: u16, flags: u16, words: &[u32]) -> Vec<u8> {
    let mut tag = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    tag.extend((8 + 4 * words.len() as u32).to_le_bytes());
    words.iter().for_each(|word| tag.extend(word.to_le_bytes()));
    tag.resize(tag.len().next_multiple_of(8), 0);
    tag
}
