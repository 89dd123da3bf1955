//! What an entity may be called, whoever names it: names end up in log lines,
//! file names, cgroups and commands.

/// Longest entity name in bytes: names become parts of file names.
const MAX_NAME_BYTES: usize = 200;

/// Why `name` cannot be an entity's name, if it cannot.
#[must_use]
pub fn bad_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME_BYTES {
        Some("is longer than 200 bytes")
    } else if name.contains('/') || name == "." || name == ".." {
        Some("looks like a path")
    } else if name.chars().any(char::is_control) {
        Some("contains control characters")
    } else if name.starts_with('-') {
        Some("begins with `-`")
    } else {
        None
    }
}
