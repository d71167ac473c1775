//! Puts parts of an image where they belong, which must be memory.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{too_small, unexpected, Failure, Payload};
use crate::error::ImageError;
use crate::memory::{GuestMemory, HIGH_START, HOLE_START};

/// How much is filled at a time.
const ZEROS: [u8; 4096] = [0; 4096];

/// Puts `data` at `start`, and zeros behind it up to `size` bytes in all.
pub fn put(memory: &GuestMemory, payload: &Payload<'_>, start: u64, data: &[u8], size: u64) -> Result<(), Failure> {
    let end = start.saturating_add(size);
    if start >= HIGH_START && end > payload.memory_bytes && end <= HOLE_START {
        return Err(too_small(payload, end, "the kernel"));
    }
    let len = usize::try_from(size).map_err(|_| ImageError::Segment { start, end })?;
    if !memory.check_range(GuestAddress(start), len) {
        return Err(ImageError::Segment { start, end }.into());
    }
    memory.write_slice(data, GuestAddress(start)).map_err(unexpected)?;
    let mut at = start.saturating_add(data.len() as u64);
    while at < end {
        let len = (end - at).min(ZEROS.len() as u64);
        let zeros = ZEROS.get(..len as usize).unwrap_or(&ZEROS);
        memory.write_slice(zeros, GuestAddress(at)).map_err(unexpected)?;
        at += len;
    }
    Ok(())
}
