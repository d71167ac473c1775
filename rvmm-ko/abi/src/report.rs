//! Why a VM stopped, in words.

/// The longest report, in bytes.
pub const MAX_REPORT: usize = 4096;

/// `kvm_run.internal.suberror` of a `KVM_EXIT_INTERNAL_ERROR` at which verification found a difference. KVM's own numbers are small.
pub const INTERNAL_ERROR_VERIFY: u32 = 0x7276_0001;

/// … at which rvmm found itself in a state that its own rules exclude.
pub const INTERNAL_ERROR_BUG: u32 = 0x7276_0002;

/// Argument of [`crate::GET_REPORT`].
///
/// The module writes the first `len` bytes of the last report, or as many as it has, to `text` and sets `len` to the report's
/// length; 0 means that there is none. The text is UTF-8 in lines.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportRequest {
    /// In: room at `text`, in bytes. Out: length of the report.
    pub len: u32,
    /// Must be zero.
    pub reserved: u32,
    /// In: address of a buffer in the client's memory.
    pub text: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(size_of::<ReportRequest>(), 16);
        assert_eq!(offset_of!(ReportRequest, text), 8);
    }
}
