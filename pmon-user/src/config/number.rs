//! Numbers as pmond reads them: C's `atoi`, with a judgement of what it hid.
//!
//! Leading digits count and the rest is dropped, no digits are 0. Both stay so,
//! because files rely on it; what the original lets overflow into a huge
//! unsigned (negative values) or run away does not: the caller gets the default
//! or the maximum and a sentence to say.

use super::finding::Level;

/// A number and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The value in force.
    pub value: u32,
    /// What was wrong with the text, if anything.
    pub remark: Option<(Level, String)>,
}

/// `text` as a number from 0 to `maximum`; a negative one gives `default`.
/// `unit` ("s" or "") is only for the remark.
pub fn judge(text: &[u8], default: u32, maximum: u32, unit: &str) -> Judged {
    let shown = String::from_utf8_lossy(text);
    let Some((number, rest)) = atoi(text) else {
        let message = format!("`{shown}` is not a number; counts as 0{unit}");
        return Judged {
            value: 0,
            remark: Some((Level::Error, message)),
        };
    };
    if number < 0 {
        return Judged {
            value: default,
            remark: Some((
                Level::Error,
                format!("`{shown}` is negative; {default}{unit} assumed"),
            )),
        };
    }
    let value = match u32::try_from(number) {
        Ok(value) if value <= maximum => value,
        Ok(_) | Err(_) => {
            return Judged {
                value: maximum,
                remark: Some((
                    Level::Error,
                    format!("`{shown}` is too large; the maximum of {maximum}{unit} assumed"),
                )),
            };
        }
    };
    let remark = (!rest.is_empty()).then(|| {
        (
            Level::Warning,
            format!("`{shown}` is read as {value}; the rest is ignored"),
        )
    });
    Judged { value, remark }
}

/// Leading white space, a sign, digits; then the unread rest. `None` without
/// digits. Saturates where C's behaviour is undefined.
fn atoi(text: &[u8]) -> Option<(i64, &[u8])> {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let magnitude = digits[..length].iter().fold(0i64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    let number = if negative { -magnitude } else { magnitude };
    Some((number, &digits[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> u32 {
        judge(text.as_bytes(), 7, 1000, "s").value
    }

    fn remark(text: &str) -> String {
        judge(text.as_bytes(), 7, 1000, "s")
            .remark
            .map(|(level, message)| format!("{level}: {message}"))
            .unwrap_or_default()
    }

    #[test]
    fn plain_numbers_pass_without_a_word() {
        for (text, expected) in [("0", 0), ("5", 5), ("+5", 5), ("0020", 20), ("1000", 1000)] {
            assert_eq!((value(text), remark(text)), (expected, String::new()));
        }
    }

    #[test]
    fn trailing_text_is_dropped_and_told() {
        assert_eq!(value("5s"), 5);
        assert_eq!(
            remark("5s"),
            "warning: `5s` is read as 5; the rest is ignored"
        );
        assert_eq!(value("0x10"), 0);
    }

    #[test]
    fn no_digits_are_zero() {
        for text in ["five", "", "' before", "- 5", "s5"] {
            assert_eq!(value(text), 0, "{text}");
            assert!(remark(text).ends_with("is not a number; counts as 0s"));
        }
    }

    #[test]
    fn negative_is_the_default_and_huge_the_maximum() {
        assert_eq!(value("-1"), 7);
        assert_eq!(remark("-1"), "error: `-1` is negative; 7s assumed");
        for text in ["1001", "4294967296", "99999999999999999999999999"] {
            assert_eq!(value(text), 1000, "{text}");
        }
        assert_eq!(value("-99999999999999999999999999"), 7);
    }
}
