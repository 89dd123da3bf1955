//! The format, byte for byte: a request is `%s %x %u` of printf(3), a response
//! `%s %8x %d`, both ASCII without NUL or newline.

use crate::LIMIT;

/// A request: `web 12345678 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who is asked.
    pub name: &'a str,
    /// What the answer must carry the complement of.
    pub magic: u32,
    /// What the answer must repeat.
    pub sequence: u32,
}

impl<'a> Request<'a> {
    /// Reads a request; none when it is none.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() >= LIMIT {
            return None;
        }
        let text = datagram.split(|byte| *byte == 0).next()?;
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text
            .split(|c: char| u8::try_from(c).is_ok_and(is_blank))
            .filter(|word| !word.is_empty());
        Some(Self {
            name: words.next()?,
            magic: u32::from_str_radix(words.next()?, 16).ok()?,
            sequence: words.next()?.parse().ok()?,
        })
    }

    /// Its answer: `web edcba987 1`.
    #[must_use]
    pub fn response(&self) -> String {
        let Self {
            name,
            magic,
            sequence,
        } = self;
        format!("{name} {:8x} {}", !magic, sequence.cast_signed())
    }
}

/// isspace(3) in the C locale: what ends a word of `%s`.
pub(crate) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}
