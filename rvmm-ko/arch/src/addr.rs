//! Newtypes for addresses, so that a guest-physical address is never used where a host-physical one is meant.

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` further on, wrapping at 2^64.
            #[must_use]
            #[inline]
            pub const fn add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// The first address of this address' page.
            #[must_use]
            #[inline]
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// Offset within the page, bytes.
            #[must_use]
            #[inline]
            pub const fn offset(self) -> usize {
                (self.0 & (PAGE_SIZE - 1)) as usize
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

macro_rules! frame {
    ($(#[$doc:meta])* $name:ident, $addr:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Address of the first byte of the frame.
            #[must_use]
            #[inline]
            pub const fn base(self) -> $addr {
                $addr(self.0 << PAGE_SHIFT)
            }
        }

        impl $addr {
            /// The frame that holds this address.
            #[must_use]
            #[inline]
            pub const fn frame(self) -> $name {
                $name(self.0 >> PAGE_SHIFT)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

address! {
    /// Guest linear ("virtual") address, bytes, after segmentation and before paging.
    Gva
}
address! {
    /// Guest-physical address, bytes.
    Gpa
}
address! {
    /// Host-physical address, bytes.
    Hpa
}
frame! {
    /// Guest frame number: a guest-physical address in pages.
    Gfn, Gpa
}
frame! {
    /// Host page frame number: a host-physical address in pages.
    Pfn, Hpa
}
