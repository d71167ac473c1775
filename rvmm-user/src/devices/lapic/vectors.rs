//! A bit for each of the 256 vectors: IRR, ISR and TMR (Intel SDM volume 3, section 11.8.4).

/// The bits, 32 a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors([u32; 8]);

impl Vectors {
    /// Sets or clears the bit of `vector`.
    pub fn set(&mut self, vector: u8, value: bool) {
        let bit = 1u32 << (vector & 31);
        if let Some(word) = self.0.get_mut(usize::from(vector >> 5)) {
            *word = if value { *word | bit } else { *word & !bit };
        }
    }

    /// The bit of `vector`.
    pub fn has(&self, vector: u8) -> bool {
        self.word(usize::from(vector >> 5)) >> (vector & 31) & 1 != 0
    }

    /// The highest vector whose bit is set: the most urgent one.
    pub fn highest(&self) -> Option<u8> {
        let (index, word) = (0u8..8).zip(self.0).rfind(|(_, word)| *word != 0)?;
        Some(index << 5 | word.ilog2() as u8)
    }

    /// Register `index` (0–7), of vectors 32 × `index` and up.
    pub fn word(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_vectors(changes in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..50)) {
            let mut vectors = Vectors::default();
            let mut model = std::collections::BTreeSet::new();
            for (vector, value) in changes {
                vectors.set(vector, value);
                if value { model.insert(vector); } else { model.remove(&vector); }
                prop_assert_eq!(vectors.highest(), model.last().copied());
                prop_assert!((0..=255).all(|v| vectors.has(v) == model.contains(&v)));
            }
        }
    }

    #[test]
    fn registers_hold_32_vectors_each() {
        let mut vectors = Vectors::default();
        vectors.set(0x41, true);
        assert_eq!((vectors.word(2), vectors.word(1), vectors.word(8)), (2, 0, 0));
    }
}
