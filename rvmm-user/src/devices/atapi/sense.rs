//! Sense data: why a packet command failed (SPC-2, section 7.23; SFF-8020i, section 10.8.20).

/// Sense key, additional sense code and its qualifier; for a bad sector, its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The sense key.
    pub key: u8,
    code: u8,
    qualifier: u8,
    /// The sector that failed, if it is about one.
    lba: Option<u32>,
}

const fn sense(key: u8, code: u8, qualifier: u8) -> Sense {
    Sense { key, code, qualifier, lba: None }
}

impl Sense {
    /// Nothing to tell.
    pub const NONE: Sense = sense(0, 0, 0);
    /// Medium not present, tray closed.
    pub const NO_MEDIUM: Sense = sense(2, 0x3A, 1);
    /// Medium not present, tray open.
    pub const TRAY_OPEN: Sense = sense(2, 0x3A, 2);
    /// The medium cannot be read there.
    pub const UNREADABLE: Sense = sense(3, 0x11, 0);
    /// The drive failed inside.
    pub const INTERNAL: Sense = sense(4, 0x44, 0);
    /// Not a command of this drive's.
    pub const INVALID_COMMAND: Sense = sense(5, 0x20, 0);
    /// No such sector.
    pub const OUT_OF_RANGE: Sense = sense(5, 0x21, 0);
    /// A field of the command is not possible.
    pub const INVALID_FIELD: Sense = sense(5, 0x24, 0);
    /// There are no saved parameters.
    pub const NO_SAVING: Sense = sense(5, 0x39, 0);
    /// The guest forbade taking the medium out.
    pub const REMOVAL_PREVENTED: Sense = sense(5, 0x53, 2);
    /// Not what this track has: it is data.
    pub const ILLEGAL_MODE: Sense = sense(5, 0x64, 0);
    /// Another medium may be in.
    pub const MEDIUM_CHANGED: Sense = sense(6, 0x28, 0);

    /// The same, of sector `lba`.
    pub fn at(self, lba: u64) -> Sense {
        Sense { lba: u32::try_from(lba).ok(), ..self }
    }

    /// The 18 bytes that REQUEST SENSE gives.
    pub fn data(self) -> Vec<u8> {
        let mut data = vec![0; 18];
        let valid = if self.lba.is_some() { 0x80 } else { 0 };
        let head = [0x70 | valid, 0, self.key];
        let lba = self.lba.unwrap_or(0).to_be_bytes();
        for (place, byte) in
            data.iter_mut().zip(head.into_iter().chain(lba).chain([10, 0, 0, 0, 0, self.code, self.qualifier]))
        {
            *place = byte;
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_in_their_places() {
        let data = Sense::UNREADABLE.at(0x1234).data();
        assert_eq!(data[..8], [0xF0, 0, 3, 0, 0, 0x12, 0x34, 10]);
        assert_eq!((data[12], data[13], data.len()), (0x11, 0, 18));
        assert_eq!(Sense::NONE.data()[..3], [0x70, 0, 0]);
    }
}
