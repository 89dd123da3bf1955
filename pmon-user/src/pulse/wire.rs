//! The format of requests and responses, byte for byte that of pmond
//! (spec/pmond.md §4.1): ASCII, one datagram each, no NUL, no newline.
//!
//! | | format of printf(3) | example |
//! |---|---|---|
//! | request | `%s %x %u` | `hbsClient 12345678 1` |
//! | response | `%s %8x %d` | `hbsClient edcba987 1` |

/// What a request carries; a response carries its complement.
pub const MAGIC: u32 = 0x1234_5678;

/// Datagrams are shorter than this on both sides (pmond's and its client
/// library's buffers).
pub const LIMIT: usize = 100;

/// Longest name: with two blanks, the magic and a sequence number of ten digits
/// it makes a request of 99 bytes.
const LONGEST_NAME: usize = LIMIT - 1 - 1 - 8 - 1 - 10;

/// Why a process of this name cannot be asked, if it cannot.
#[must_use]
pub fn unusable_name(name: &str) -> Option<String> {
    if name.len() > LONGEST_NAME {
        Some(format!(
            "its name is longer than {LONGEST_NAME} bytes and does not fit into a request"
        ))
    } else if name.bytes().any(is_blank) {
        Some("its name contains a blank, which ends a name in a request".to_owned())
    } else {
        None
    }
}

/// A request. The name must be a usable one.
#[must_use]
pub fn request(name: &str, sequence: u32) -> String {
    format!("{name} {MAGIC:x} {sequence}")
}

/// A response as it arrived: nothing in it has been believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Who says that it answers.
    pub name: &'a str,
    /// Its magic: [`Response::is_genuine`].
    pub magic: u32,
    /// Its sequence number. Written signed: beyond 2³¹-1 it is negative there.
    pub sequence: u32,
}

impl<'a> Response<'a> {
    /// Reads a response as generously as pmond's sscanf(3) does: any number of
    /// blanks between the words, anything after them. None when it is none.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() >= LIMIT {
            return None;
        }
        // Some clients send the NUL that ends their string.
        let text = datagram.split(|byte| *byte == 0).next()?;
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(|c: char| c.is_ascii() && is_blank(c as u8));
        let mut word = || words.find(|word| !word.is_empty());
        let (name, magic, sequence) = (word()?, word()?, word()?);
        if magic.len() > 8 || !magic.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        Some(Self {
            name,
            magic: u32::from_str_radix(magic, 16).ok()?,
            sequence: match sequence.parse::<i64>().ok()? {
                negative @ -0x8000_0000..0 => i32::try_from(negative).ok()?.cast_unsigned(),
                number => u32::try_from(number).ok()?,
            },
        })
    }

    /// Whether its magic is the answer to ours.
    #[must_use]
    pub const fn is_genuine(&self) -> bool {
        self.magic == !MAGIC
    }
}

/// isspace(3) in the C locale: what ends a word of `%s`.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_request_byte_for_byte() {
        assert_eq!(request("hbsClient", 1).as_bytes(), b"hbsClient 12345678 1");
        assert_eq!(
            request("mtcClient", u32::MAX).as_bytes(),
            b"mtcClient 12345678 4294967295"
        );
    }

    #[test]
    fn the_longest_name_makes_a_request_of_99_bytes() {
        let name = "n".repeat(79);
        assert_eq!(unusable_name(&name), None);
        assert_eq!(request(&name, u32::MAX).len(), 99);
        let why = unusable_name(&"n".repeat(80)).unwrap();
        assert!(why.contains("79 bytes"), "{why}");
        assert!(unusable_name("two words").is_some());
        assert!(unusable_name("tab\there").is_some());
    }

    #[test]
    fn a_response_byte_for_byte() {
        let response = Response::parse(b"hbsClient edcba987 1").unwrap();
        assert_eq!(
            response,
            Response {
                name: "hbsClient",
                magic: 0xedcb_a987,
                sequence: 1
            }
        );
        assert!(response.is_genuine());
        assert!(
            !Response::parse(b"hbsClient 12345678 1")
                .unwrap()
                .is_genuine()
        );
    }

    #[test]
    fn what_sscanf_reads_is_read() {
        for same in [
            &b"  x\tedcba987\n  7"[..],
            b"x edcba987 7\n",
            b"x edcba987 7 and more",
            b"x edcba987 7\0\0\0",
            b"x EDCBA987 +7",
        ] {
            let response = Response::parse(same);
            let response = response.unwrap_or_else(|| panic!("{}", same.escape_ascii()));
            assert_eq!((response.name, response.sequence), ("x", 7));
            assert!(response.is_genuine());
        }
        // `%8x` fills a small number up with blanks.
        assert_eq!(Response::parse(b"x      12a 7").unwrap().magic, 0x12a);
        // `%d` of a sequence number past 2³¹-1.
        let late = Response::parse(b"x edcba987 -1").unwrap();
        assert_eq!(late.sequence, u32::MAX);
        let late = Response::parse(b"x edcba987 4294967295").unwrap();
        assert_eq!(late.sequence, u32::MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_arrive(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
            if let Some(response) = Response::parse(&bytes) {
                assert!(bytes.len() < LIMIT && !response.name.is_empty());
            }
        }

        #[test]
        fn an_answer_to_any_request_is_read(name in "[!-~]{1,79}", sequence in 1..=0x7fff_ffff_u32) {
            let asked = request(&name, sequence);
            let words: Vec<&str> = asked.split(' ').collect();
            let magic = u32::from_str_radix(words[1], 16).unwrap();
            let number: u32 = words[2].parse().unwrap();
            let answer = format!("{} {:8x} {}", words[0], !magic, number.cast_signed());
            let read = Response::parse(answer.as_bytes()).unwrap();
            assert_eq!((read.name, read.sequence), (&*name, sequence));
            assert!(read.is_genuine());
        }
    }

    #[test]
    fn nonsense_is_no_response() {
        let long = [b"x edcba987 7 ", &[b'z'; 87][..]].concat();
        assert_eq!(long.len(), LIMIT);
        assert!(Response::parse(&long[..LIMIT - 1]).is_some());
        for nonsense in [
            &b""[..],
            b"\0",
            b"x",
            b"x edcba987",
            b"x edcba987 seven",
            b"x edcba98g 7",
            b"x edcba9870 7",
            b"x edcba987 4294967296",
            b"x edcba987 -2147483649",
            b"\xff\xfe edcba987 7",
            &long,
        ] {
            assert_eq!(
                Response::parse(nonsense),
                None,
                "{}",
                nonsense.escape_ascii()
            );
        }
    }
}
