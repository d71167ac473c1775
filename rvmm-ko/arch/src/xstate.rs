//! The extended state of a CPU: which components XCR0 may select, and the image that XSAVE and XRSTOR use (SDM vol. 1 chapter 13).

use core::ops::Range;

/// Component bits of XCR0 and XSTATE_BV (SDM vol. 1 §13.1).
pub mod component {
    /// The x87 state.
    pub const X87: u64 = 1 << 0;
    /// XMM registers, and MXCSR.
    pub const SSE: u64 = 1 << 1;
    /// The upper halves of YMM registers.
    pub const AVX: u64 = 1 << 2;
    /// Both components of MPX.
    pub const MPX: u64 = 3 << 3;
    /// The three components of AVX-512.
    pub const AVX512: u64 = 7 << 5;
    /// Both components of AMX.
    pub const AMX: u64 = 3 << 17;
}

/// What guests may be offered. Not PKRU: with its bit in XCR0 an XRSTOR by the guest would load the key that execution views are locked
/// with. Not supervisor state, which only XSAVES reaches, an instruction of ring 0. Not AVX-512 and AMX, which would cost every world
/// switch kilobytes.
pub const OFFERED: u64 = component::X87 | component::SSE | component::AVX;

/// Bytes of the legacy area and the header, which every image has.
pub const MIN_SIZE: u32 = 576;

/// May XCR0 have this value, as far as its bits depend on each other (SDM vol. 2 "XSETBV")?
#[must_use]
pub const fn is_valid(xcr0: u64) -> bool {
    const fn has(value: u64, bits: u64) -> bool {
        value & bits == bits
    }
    const fn all_or_none(value: u64, bits: u64) -> bool {
        value & bits == 0 || has(value, bits)
    }
    has(xcr0, component::X87)
        && (xcr0 & component::AVX == 0 || has(xcr0, component::SSE))
        && (xcr0 & component::AVX512 == 0 || has(xcr0, component::AVX))
        && all_or_none(xcr0, component::MPX)
        && all_or_none(xcr0, component::AVX512)
        && all_or_none(xcr0, component::AMX)
}

/// A component beyond the legacy area, as a subleaf of CPUID leaf 0DH describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Component {
    /// Bytes (EAX).
    pub size: u32,
    /// Where it lies in an image of the standard format (EBX).
    pub offset: u32,
    /// It begins at a multiple of 64 in the compacted format (ECX bit 1).
    pub aligned: bool,
}

impl Component {
    /// From EAX, EBX, ECX, EDX.
    #[must_use]
    pub const fn from_cpuid([size, offset, flags, _]: [u32; 4]) -> Self {
        Self { size, offset, aligned: flags >> 1 & 1 != 0 }
    }
}

/// The components of `bits` that lie beyond the legacy area, by number.
fn extended(bits: u64) -> impl Iterator<Item = u32> {
    (2..63).filter(move |n: &u32| bits.wrapping_shr(*n) & 1 != 0)
}

/// Bytes of an image in the standard format with the components `bits` (SDM vol. 1 §13.4.2).
pub fn standard_size(bits: u64, component: impl Fn(u32) -> Component) -> u32 {
    extended(bits).map(component).map(|c| c.offset.saturating_add(c.size)).fold(MIN_SIZE, u32::max)
}

/// Bytes of an image in the compacted format (SDM vol. 1 §13.4.3).
pub fn compacted_size(bits: u64, component: impl Fn(u32) -> Component) -> u32 {
    extended(bits).map(component).fold(MIN_SIZE, |end, c| {
        let start = if c.aligned { end.checked_next_multiple_of(64).unwrap_or(u32::MAX) } else { end };
        start.saturating_add(c.size)
    })
}

/// Bytes that an image here may have: a page, which is also what KVM_GET_XSAVE copies.
pub const IMAGE_SIZE: usize = 4096;
/// An image in the standard format.
pub type Image = [u8; IMAGE_SIZE];

/// The x87 part of the legacy area: control words and pointers, then the stack. MXCSR, between them, belongs to SSE.
const X87_PARTS: [Range<usize>; 2] = [0..24, 32..160];
const FCW: Range<usize> = 0..2;
const MXCSR: Range<usize> = 24..28;
const XMM: Range<usize> = 160..416;
const XSTATE_BV: Range<usize> = 512..520;
/// XCOMP_BV and what is reserved behind it: 0 in the standard format, or XRSTOR faults (SDM vol. 1 §13.8.1).
const RESERVED_HEADER: Range<usize> = 520..576;
/// Bits of MXCSR that exist on every 64-bit CPU.
const MXCSR_BITS: u32 = 0xffff;

fn part(image: &Image, range: Range<usize>) -> &[u8] {
    image.get(range).unwrap_or(&[])
}

fn part_mut(image: &mut Image, range: Range<usize>) -> &mut [u8] {
    image.get_mut(range).unwrap_or(&mut [])
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn put(image: &mut Image, range: Range<usize>, value: u64) {
    for (to, from) in part_mut(image, range).iter_mut().zip(value.to_le_bytes()) {
        *to = from;
    }
}

/// The state after RESET followed by FNINIT, as KVM's vCPUs start: initial values, those of the legacy area announced, as FXSAVE would never
/// do that.
pub fn reset(image: &mut Image) {
    image.fill(0);
    put(image, FCW, 0x37f);
    put(image, MXCSR, 0x1f80);
    put(image, XSTATE_BV, component::X87 | component::SSE);
}

/// XSTATE_BV: components that are in the image rather than in their initial state.
#[must_use]
pub fn in_use(image: &Image) -> u64 {
    number(part(image, XSTATE_BV))
}

/// Can FXRSTOR and XRSTOR load this image where the components `offered` exist, without a fault (SDM vol. 1 §13.8)?
#[must_use]
pub fn is_loadable(image: &Image, offered: u64) -> bool {
    number(part(image, MXCSR)) as u32 & !MXCSR_BITS == 0
        && in_use(image) & !offered == 0
        && part(image, RESERVED_HEADER).iter().all(|byte| *byte == 0)
}

/// Gives components that XSTATE_BV says are in their initial state that state's bytes, so that the image reads right whoever looks at it, and
/// announces the legacy ones: FXRSTOR knows no XSTATE_BV. `avx`: where that component lies, if there is one.
pub fn normalize(image: &mut Image, avx: Option<Range<usize>>) {
    let present = in_use(image);
    if present & component::X87 == 0 {
        for range in X87_PARTS {
            part_mut(image, range).fill(0);
        }
        put(image, FCW, 0x37f);
    }
    if present & component::SSE == 0 {
        part_mut(image, XMM).fill(0);
    }
    if let Some(range) = avx.filter(|_| present & component::AVX == 0) {
        part_mut(image, range).fill(0);
    }
    put(image, XSTATE_BV, present | component::X87 | component::SSE);
}

/// Replaces the legacy area, as KVM_SET_FPU does. False, and nothing is changed: MXCSR has reserved bits set.
pub fn set_legacy(image: &mut Image, legacy: &[u8; 512]) -> bool {
    if number(legacy.get(MXCSR).unwrap_or(&[])) as u32 & !MXCSR_BITS != 0 {
        return false;
    }
    for (to, from) in image.iter_mut().zip(legacy) {
        *to = *from;
    }
    let present = in_use(image);
    put(image, XSTATE_BV, present | component::X87 | component::SSE);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AVX, the three of AVX-512 and PKRU as on Intel's CPUs, and AMX's tiles, which want alignment.
    fn component(n: u32) -> Component {
        let (size, offset, aligned) = match n {
            2 => (256, 576, false),
            5 => (64, 1088, false),
            6 => (512, 1152, false),
            7 => (1024, 1664, false),
            9 => (8, 2688, false),
            18 => (8192, 2816, true),
            _ => (u32::MAX, u32::MAX, true),
        };
        Component { size, offset, aligned }
    }

    #[test]
    fn sizes() {
        for (bits, standard, compacted) in [
            (1, 576, 576),
            (3, 576, 576),
            (7, 832, 832),
            (0xe7, 2688, 2432),
            (0x207, 2696, 840),
            (0x4_0007, 11_008, 832 + 8192),
            (0x4_0207, 11_008, 896 + 8192),
        ] {
            assert_eq!(standard_size(bits, component), standard, "{bits:#x}");
            assert_eq!(compacted_size(bits, component), compacted, "{bits:#x}");
        }
        // What a client makes up must not overflow.
        let odd = |_| Component { size: u32::MAX, offset: u32::MAX, aligned: true };
        assert_eq!((standard_size(u64::MAX, odd), compacted_size(u64::MAX, odd)), (u32::MAX, u32::MAX));
    }

    #[test]
    fn bits_that_depend_on_each_other() {
        for value in 0..1u64 << 10 {
            let bit = |n: u32| value >> n & 1 != 0;
            let avx512 = [bit(5), bit(6), bit(7)];
            let valid = bit(0)
                && (bit(1) || !bit(2))
                && bit(3) == bit(4)
                && (avx512 == [false; 3] || (avx512 == [true; 3] && bit(2)));
            assert_eq!(is_valid(value), valid, "{value:#x}");
        }
        assert!(is_valid(OFFERED) && OFFERED >> 9 & 1 == 0);
        assert!(!is_valid(1 | 1 << 17) && is_valid(1 | 3 << 17));
    }

    #[test]
    fn images_that_xrstor_refuses() {
        let mut image = [0; IMAGE_SIZE];
        reset(&mut image);
        assert!(is_loadable(&image, OFFERED) && in_use(&image) == 3);
        for (at, value) in [(512, 8), (513, 2), (520, 1), (527, 0x80), (575, 1), (26, 1)] {
            let mut bad = image;
            bad[at] = value;
            assert!(!is_loadable(&bad, OFFERED), "byte {at}");
        }
        image[512] = 7;
        assert!(is_loadable(&image, OFFERED) && !is_loadable(&image, 3));
    }

    #[test]
    fn what_is_not_in_use_has_its_initial_bytes() {
        for present in 0..8u8 {
            let mut image = [0xa5; IMAGE_SIZE];
            put(&mut image, XSTATE_BV, u64::from(present));
            normalize(&mut image, Some(576..832));
            assert_eq!(in_use(&image), u64::from(present) | 3);
            assert_eq!(image[MXCSR], [0xa5; 4], "MXCSR is loaded whatever XSTATE_BV says");
            assert_eq!(image[0..2], if present & 1 != 0 { [0xa5, 0xa5] } else { [0x7f, 3] });
            assert!(image[2..24].iter().chain(&image[32..160]).all(|b| *b == if present & 1 != 0 { 0xa5 } else { 0 }));
            assert!(image[160..416].iter().all(|b| *b == if present & 2 != 0 { 0xa5 } else { 0 }));
            assert!(image[576..832].iter().all(|b| *b == if present & 4 != 0 { 0xa5 } else { 0 }));
        }
    }

    #[test]
    fn the_legacy_area_alone_leaves_the_rest() {
        let mut image = [0x11; IMAGE_SIZE];
        put(&mut image, XSTATE_BV, component::AVX);
        let mut legacy = [0; 512];
        legacy[26] = 1;
        assert!(!set_legacy(&mut image, &legacy) && in_use(&image) == 4);
        legacy[26] = 0;
        assert!(set_legacy(&mut image, &legacy) && in_use(&image) == 7);
        assert!(image[..512].iter().all(|b| *b == 0) && image[600] == 0x11);
    }
}
