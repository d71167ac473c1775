//! The CRC-32 that Linux's build leaves in a bzImage.
//!
//! The last four bytes of the image proper are chosen so that the CRC-32 over all of it (reflected polynomial EDB88320, register
//! preset to ones, no final inversion) comes out as zero. A signature for secure boot changes three fields of the PE header and appends
//! data; with those fields set back to zero the checksum holds again.

/// Whether the first `len` bytes of `image` carry a checksum that holds. Images of kernels that leave none do not either.
pub fn holds(image: &[u8], len: usize) -> bool {
    let Some(covered) = image.get(..len) else {
        return false;
    };
    let mut copy = covered.to_vec();
    for (offset, size) in signature_fields(covered) {
        if let Some(field) = copy.get_mut(offset..offset + size) {
            field.fill(0);
        }
    }
    crc32(&copy) == 0
}

/// The PE header's checksum and its entry for the certificate table (Microsoft PE format, optional header).
fn signature_fields(image: &[u8]) -> Vec<(usize, usize)> {
    let word = |offset: usize| -> Option<u32> {
        let bytes = image.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let Some(pe) = word(0x3C).map(|offset| offset as usize) else {
        return Vec::new();
    };
    if image.get(pe..pe + 4) != Some(b"PE\0\0") {
        return Vec::new();
    }
    let optional = pe + 24;
    let magic = word(optional).unwrap_or(0) & 0xFFFF;
    // PE32 and PE32+ differ in the width of some fields before the directories.
    let directories = optional + if magic == 0x20B { 112 } else { 96 };
    vec![(optional + 64, 4), (directories + 4 * 8, 8)]
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|index| {
        (0..8).fold(index as u32, |crc, _| crc >> 1 ^ if crc & 1 != 0 { 0xEDB8_8320 } else { 0 })
    });
    bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ table[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(!crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_sealed_image_holds_and_a_changed_one_does_not() {
        let mut image = vec![0x5A; 5000];
        let crc = crc32(&image);
        image.extend_from_slice(&crc.to_le_bytes());
        image.extend_from_slice(b"appended signature");
        assert!(holds(&image, 5004));
        image[1234] ^= 1;
        assert!(!holds(&image, 5004));
        assert!(!holds(&image, 9999));
    }

    #[test]
    fn a_signature_does_not_break_the_checksum() {
        let mut image = vec![0; 1024];
        image[0x3C] = 0x80;
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        let crc = crc32(&image);
        image.extend_from_slice(&crc.to_le_bytes());
        let optional = 0x80 + 24;
        image[optional + 64] = 0x77;
        image[optional + 96 + 32] = 0x88;
        assert!(holds(&image, 1028));
    }
}
