//! Entity names as file names.

use std::fmt::Write as _;

/// The name with every byte that is not harmless in a file name, and every one
/// that `also` picks, written `\xNN` as systemd-escape(1) does. Distinct names
/// stay distinct, and no result is hidden, empty for a non-empty name, or `..`.
pub(super) fn escape(name: &str, also: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'@' | b':' | b'+')
            || (byte == b'.' && index > 0);
        if plain && !also(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_bytes_stay() {
        for (name, escaped) in [
            ("sshd", "sshd"),
            ("io.pmon", "io.pmon"),
            (".hidden", r"\x2ehidden"),
            ("..", r"\x2e."),
            ("a/b c", r"a\x2fb\x20c"),
            (r"a\x2fb", r"a\x5cx2fb"),
            ("ü", r"\xc3\xbc"),
        ] {
            assert_eq!(escape(name, |_| false), escaped);
        }
    }
}
