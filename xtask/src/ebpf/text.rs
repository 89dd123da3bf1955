//! Makes byte arrays of the object's BTF into text for whoever prints them:
//! bpftool shows an array as a string when its element is a character, and Rust
//! has no type of that name and size.
//!
//! Must stay true: only the encoding of an integer type changes, nothing moves.
//! The layout is that of `include/uapi/linux/btf.h`.

use anyhow::{Context as _, Result, ensure};
use object::build::elf::{Builder, SectionData};

/// `BTF_MAGIC`, as a little-endian object has it.
const MAGIC: [u8; 2] = [0x9f, 0xeb];
/// Of `struct btf_type`, without what follows it.
const TYPE: usize = 12;
/// `BTF_KIND_INT`, and `BTF_INT_CHAR` in the encoding of its further word.
const INT: u32 = 1;
const CHAR: u8 = 1 << 1;

/// Returns the object with its byte arrays as text.
///
/// # Errors
///
/// When it is no ELF object, or its BTF is not understood.
pub(super) fn readable(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the built object isn't ELF")?;
    for section in &mut builder.sections {
        if section.name.as_slice() == b".BTF"
            && let SectionData::Data(data) = &section.data
        {
            let mut btf = data.as_slice().to_vec();
            bytes_are_characters(&mut btf)?;
            section.data = SectionData::Data(btf.into());
        }
    }
    let mut readable = Vec::new();
    builder
        .write(&mut readable)
        .context("can't write the readable object")?;
    Ok(readable)
}

/// Has `u8` be a character.
///
/// # Errors
///
/// When this is no BTF, or one of a later format.
fn bytes_are_characters(btf: &mut [u8]) -> Result<()> {
    ensure!(btf.starts_with(&MAGIC), "no BTF");
    let header = word(btf, 4)?;
    let (types, length) = (header + word(btf, 8)?, word(btf, 12)?);
    let strings = header + word(btf, 16)?;
    let mut at = types;
    while at < types + length {
        let (name, info) = (word(btf, at)?, word(btf, at + 4)?);
        let size = word(btf, at + 8)?;
        let (kind, members) = (u32::try_from(info >> 24 & 0x1f)?, info & 0xffff);
        if kind == INT && size == 1 && is_named(btf, strings + name, b"u8") {
            // The highest byte of the further word holds the encoding.
            let encoding = btf.get_mut(at + TYPE + 3).context("the BTF ends early")?;
            *encoding = CHAR;
        }
        at += TYPE + further(kind, members)?;
    }
    Ok(())
}

/// Bytes that follow a type of this kind.
fn further(kind: u32, members: usize) -> Result<usize> {
    Ok(match kind {
        // Pointers, forward declarations, typedefs, modifiers, functions, floats,
        // type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        INT | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structures, unions, sections, 64 bit enums.
        4 | 5 | 15 | 19 => 12 * members,
        // Enums, function prototypes.
        6 | 13 => 8 * members,
        _ => anyhow::bail!("BTF kind {kind} is unknown"),
    })
}

fn word(btf: &[u8], at: usize) -> Result<usize> {
    let bytes = btf.get(at..at + 4).context("the BTF ends early")?;
    Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
}

fn is_named(btf: &[u8], at: usize, name: &[u8]) -> bool {
    btf.get(at..).is_some_and(|rest| {
        rest.strip_prefix(name)
            .is_some_and(|rest| rest.first() == Some(&0))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// An array, `u8`, `u16`, in this order.
    fn btf() -> Vec<u8> {
        let mut types: Vec<u32> = Vec::new();
        types.extend([0, 3 << 24, 0, 2, 3, 16]);
        types.extend([1, 1 << 24, 1, 8]);
        types.extend([4, 1 << 24, 2, 16]);
        let strings = b"\0u8\0u16\0";
        let length = u32::try_from(types.len() * 4).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, length, length, 8].into_iter().chain(types) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn bytes_alone_become_characters() {
        let before = btf();
        let mut after = before.clone();
        bytes_are_characters(&mut after).unwrap();
        // Behind the header, the array with its twelve bytes, and the type's own.
        let encoding = 24 + (12 + 12) + 12 + 3;
        assert_eq!(after[encoding], CHAR);
        after[encoding] = 0;
        assert_eq!(after, before, "and nothing else");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        bytes_are_characters(&mut []).unwrap_err();
        bytes_are_characters(&mut btf()[..40]).unwrap_err();
        let mut later = btf();
        later[24 + 7] = 31;
        bytes_are_characters(&mut later).unwrap_err();
    }
}
