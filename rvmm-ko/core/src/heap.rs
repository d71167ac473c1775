//! Values on the heap whose allocation may fail: what a virtual CPU consists of is too large to be put together on the host's stack.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use rvmm_arch::host::HostError;

/// A value on the heap. (`Box::new` cannot fail and `Box::try_new` is not stable; but a vector can fail to grow, and one of one element is
/// a box of an array of one.)
#[derive(Debug)]
pub struct Heap<T>(Box<[T; 1]>);

impl<T> Heap<T> {
    /// Makes a value and moves it to the heap. Never inlined: the value is on the stack of this function, and of no other.
    ///
    /// # Errors
    /// What `make` could not do, or no memory.
    #[inline(never)]
    pub fn build<E: From<HostError>>(make: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let mut one = Vec::new();
        one.try_reserve_exact(1).map_err(|_| HostError::NoMemory)?;
        // Within the capacity just reserved.
        one.push(make()?);
        let one: Result<Box<[T; 1]>, _> = one.into_boxed_slice().try_into();
        Ok(Self(one.map_err(|_| HostError::NoMemory)?))
    }
}

impl<T> Deref for Heap<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let [value] = &*self.0;
        value
    }
}

impl<T> DerefMut for Heap<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let [value] = &mut *self.0;
        value
    }
}
