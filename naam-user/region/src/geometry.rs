//! How a region's bytes are cut into map values.

use naam_abi::limits::{REGION_BYTES_MAX, REGION_BYTES_MIN, REGION_VALUE_MAX, region_value_len};
use thiserror::Error;

const MIB: u64 = 1 << 20;

/// A region's shape: `values` map values of `value_len` bytes.
///
/// Up to 512 MiB a region is one value, so that the kernel side looks its address up once for a
/// whole datagram; the length is a power of two, so that a mask bounds every offset. Larger regions
/// are several values of 512 MiB, because the verifier keeps pointer offsets below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    value_len: u64,
    values: u64,
}

/// A size that no region has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a region cannot have {bytes} bytes: {reason}; nearest: {}", nearest(*.below, *.above))]
pub struct GeometryError {
    /// What was asked for.
    pub bytes: u64,
    /// Why not.
    pub reason: &'static str,
    /// The largest size below, or the smallest there is.
    pub below: u64,
    /// The smallest size above, or the largest there is.
    pub above: u64,
}

fn nearest(below: u64, above: u64) -> String {
    if below == above { size_text(below) } else { format!("{} and {}", size_text(below), size_text(above)) }
}

/// A range that is not an object of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// The range ends after the region.
    #[error("{len} bytes at offset {offset:#x} end after the region's {bytes} bytes")]
    End {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes of the region.
        bytes: u64,
    },
    /// Words stand at multiples of 8.
    #[error("offset {offset:#x} and length {len} are not both multiples of 8")]
    Unaligned {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The range lies in two map values: no handler can reach it in one op.
    #[error("{len} bytes at offset {offset:#x} straddle two map values of {value_len} bytes; split the range there")]
    Straddles {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes of a map value.
        value_len: u64,
    },
}

impl Geometry {
    /// The shape of a region of `bytes` bytes: a power of two from 2 MiB to 512 MiB, or a multiple
    /// of 512 MiB up to 4 GiB.
    pub fn new(bytes: u64) -> Result<Self, GeometryError> {
        if let Some(value_len) = region_value_len(bytes) {
            return Ok(Self { value_len, values: bytes / value_len });
        }
        let reason = match bytes {
            _ if bytes < REGION_BYTES_MIN => "the smallest region has 2 MiB",
            _ if bytes > REGION_BYTES_MAX => "the largest region has 4 GiB",
            ..=REGION_VALUE_MAX => "up to 512 MiB it must be a power of two",
            _ => "above 512 MiB it must be a multiple of 512 MiB",
        };
        Err(GeometryError { bytes, reason, below: size_below(bytes), above: size_above(bytes) })
    }

    /// The shape of an existing map, if it is one that [`Self::new`] makes.
    pub fn of_map(value_len: u32, values: u32) -> Option<Self> {
        let shape = Self { value_len: value_len.into(), values: values.into() };
        (Self::new(shape.value_len.checked_mul(shape.values)?).ok()? == shape).then_some(shape)
    }

    /// Bytes of a map value: a power of two.
    pub fn value_len(self) -> u64 {
        self.value_len
    }

    /// Map values.
    pub fn values(self) -> u64 {
        self.values
    }

    /// Bytes of the region.
    pub fn bytes(self) -> u64 {
        self.value_len * self.values
    }

    /// Checks that `[offset, offset + len)` is an object: whole words, inside the region, inside
    /// one map value. The kernel side applies the same rule to what handlers ask for.
    pub fn check_object(self, offset: u64, len: u64) -> Result<(), AccessError> {
        if !offset.is_multiple_of(8) || !len.is_multiple_of(8) {
            return Err(AccessError::Unaligned { offset, len });
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.bytes() => {}
            _ => return Err(AccessError::End { offset, len, bytes: self.bytes() }),
        }
        if offset % self.value_len + len > self.value_len {
            return Err(AccessError::Straddles { offset, len, value_len: self.value_len });
        }
        Ok(())
    }
}

fn size_below(bytes: u64) -> u64 {
    if bytes > REGION_VALUE_MAX {
        (bytes / REGION_VALUE_MAX * REGION_VALUE_MAX).min(REGION_BYTES_MAX)
    } else {
        (1 << bytes.max(1).ilog2()).max(REGION_BYTES_MIN)
    }
}

fn size_above(bytes: u64) -> u64 {
    if bytes > REGION_VALUE_MAX {
        bytes.min(REGION_BYTES_MAX).next_multiple_of(REGION_VALUE_MAX)
    } else {
        bytes.next_power_of_two().max(REGION_BYTES_MIN)
    }
}

/// `64 MiB`, `3 GiB`, `12 B`: the largest binary unit that divides `bytes`.
pub fn size_text(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_size_class_has_its_shape() {
        for bits in 21..=29 {
            let shape = Geometry::new(1 << bits).unwrap();
            assert_eq!((shape.value_len(), shape.values()), (1 << bits, 1));
        }
        for values in 2..=8 {
            let shape = Geometry::new(values * (512 << 20)).unwrap();
            assert_eq!((shape.value_len(), shape.values()), (512 << 20, values));
        }
    }

    #[test]
    fn other_sizes_are_refused_with_their_neighbours() {
        let cases = [
            (0, 2 * MIB, 2 * MIB),
            (MIB, 2 * MIB, 2 * MIB),
            (3 * MIB, 2 * MIB, 4 * MIB),
            (511 * MIB, 256 * MIB, 512 * MIB),
            (700 * MIB, 512 * MIB, 1024 * MIB),
            (4097 * MIB, 4096 * MIB, 4096 * MIB),
            (u64::MAX, 4096 * MIB, 4096 * MIB),
        ];
        for (bytes, below, above) in cases {
            let error = Geometry::new(bytes).unwrap_err();
            assert_eq!((error.below, error.above), (below, above), "{error}");
        }
        let text = Geometry::new(3 * MIB).unwrap_err().to_string();
        assert!(text.contains("power of two") && text.contains("2 MiB and 4 MiB"), "{text}");
    }

    #[test]
    fn foreign_maps_have_no_shape() {
        assert_eq!(Geometry::of_map(4 << 20, 1), Some(Geometry::new(4 << 20).unwrap()));
        for (value_len, values) in [(2 << 20, 2), (0, 0), (4096, 512), (512 << 20, 9), (u32::MAX, u32::MAX)] {
            assert_eq!(Geometry::of_map(value_len, values), None, "{value_len} x {values}");
        }
    }

    #[test]
    fn objects_end_at_value_ends() {
        let shape = Geometry::new(1 << 30).unwrap();
        let end = shape.value_len();
        assert_eq!(shape.check_object(end - 64, 64), Ok(()));
        assert_eq!(shape.check_object(end, 64), Ok(()));
        assert!(matches!(shape.check_object(end - 8, 16), Err(AccessError::Straddles { .. })));
        assert!(matches!(shape.check_object(2 * end - 8, 16), Err(AccessError::End { .. })));
        assert!(matches!(shape.check_object(u64::MAX - 7, 16), Err(AccessError::End { .. })));
        assert!(matches!(shape.check_object(4, 8), Err(AccessError::Unaligned { .. })));
    }

    proptest! {
        #[test]
        fn refused_sizes_name_sizes_that_are_accepted(bytes: u64) {
            if let Err(error) = Geometry::new(bytes) {
                prop_assert!(Geometry::new(error.below).is_ok(), "{error}");
                prop_assert!(Geometry::new(error.above).is_ok(), "{error}");
            }
        }

        #[test]
        fn accepted_objects_lie_in_one_value(offset in 0u64..5 << 30, len in 0u64..1 << 30) {
            let shape = Geometry::new(3 << 29).unwrap();
            if shape.check_object(offset, len).is_ok() && len > 0 {
                prop_assert!(offset + len <= shape.bytes());
                prop_assert_eq!(offset / shape.value_len(), (offset + len - 1) / shape.value_len());
            }
        }
    }
}
