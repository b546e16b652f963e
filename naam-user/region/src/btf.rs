//! BTF of a region's map, so that bpftool shows words instead of bytes: `u32` keys and values of
//! `struct naam_region { unsigned long long words[N]; }`.

use naam_sys::{Btf, LoadError};

use crate::Geometry;

/// Type number of the key.
pub(crate) const KEY_TYPE: u32 = 1;
/// Type number of the value.
pub(crate) const VALUE_TYPE: u32 = 4;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: u32 = 24;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;

pub(crate) fn load(geometry: Geometry) -> Result<Btf, LoadError> {
    Btf::load(&encode(geometry))
}

fn encode(geometry: Geometry) -> Vec<u8> {
    let strings = b"\0unsigned int\0unsigned long long\0naam_region\0words\0";
    let name = |wanted: &str| {
        let place = strings
            .windows(wanted.len() + 1)
            .position(|window| window.starts_with(wanted.as_bytes()) && window.ends_with(b"\0"));
        place.expect("a string of the table") as u32
    };
    let int = |name: u32, bytes: u32| [name, KIND_INT << 24, bytes, bytes * 8];
    let words = (geometry.value_len() / 8) as u32;
    let types: Vec<u32> = [
        &int(name("unsigned int"), 4)[..],
        &int(name("unsigned long long"), 8),
        // array: element type, index type, number of elements
        &[0, KIND_ARRAY << 24, 0, 2, 1, words],
        // struct with one member: name, type, bit offset
        &[name("naam_region"), KIND_STRUCT << 24 | 1, geometry.value_len() as u32, name("words"), 3, 0],
    ]
    .concat();

    let types_len = (types.len() * 4) as u32;
    let mut blob = Vec::new();
    blob.extend(MAGIC.to_ne_bytes());
    blob.extend([1, 0]); // version, flags
    for field in [HEADER_LEN, 0, types_len, types_len, strings.len() as u32] {
        blob.extend(field.to_ne_bytes());
    }
    blob.extend(types.iter().flat_map(|field| field.to_ne_bytes()));
    blob.extend_from_slice(strings);
    blob
}
