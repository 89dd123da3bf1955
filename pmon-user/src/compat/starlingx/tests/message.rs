//! The bytes themselves, written out from the description (spec/pmond.md §7).
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Bytes of hexadecimal digits; blanks are for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

/// 46 zeros: the rest of the header after 17 characters and their NUL.
const HEADER_REST: &str = "00000000 00000000 00000000 00000000 00000000 00000000 \
     00000000 00000000 00000000 00000000 00000000 0000";

#[cfg(target_endian = "little")]
mod little_endian {
    use super::*;

    #[test]
    fn the_pulse_is_100_bytes() {
        let wanted = hex(&format!(
            "706d6f6e6420616c6976652070756c7365 00 {HEADER_REST} \
             0000 0000 00000000 00000000 00000000 \
             00000000 00000000 00000000 00000000 00000000"
        ));
        assert_eq!(wanted.len(), 100);
        assert_eq!(pulse().to_vec(), wanted);
    }

    #[test]
    fn a_healthy_host_pets_with_1060_bytes() {
        let mut wanted = hex(&format!(
            "63677473206d746320636d64207265713a 00 {HEADER_REST} \
             0100 0000 00000000 00000000 00000000 \
             00000000 00000000 00000000 00000000 00000000"
        ));
        assert_eq!(wanted.len(), 100);
        wanted.resize(1060, 0);
        assert_eq!(watchdog(None).to_vec(), wanted);
    }

    #[test]
    fn a_quorum_failure_names_its_process() {
        let mut wanted = hex(&format!(
            "63677473206d746320636d64207265713a 00 {HEADER_REST} \
             0100 0000 00000000 04040404 00000000 \
             00000000 00000000 00000000 00000000 00000000 \
             504d4f4e206465746563746564 20 736d 20 6661696c757265"
        ));
        wanted.resize(1060, 0);
        assert_eq!(watchdog(Some("sm")).to_vec(), wanted);
    }

    #[test]
    fn an_event_is_the_prefix_its_text_and_a_nul() {
        let wanted = hex(&format!(
            "6d746365206576656e74206d736720203a 00 {HEADER_REST} \
             0200 0000 00000000 03030303 01000000 \
             02000000 00000000 00000000 00000000 00000000 \
             7b22686f73746e616d65223a22636f6e74726f6c6c65722d30222c2273657276\
             696365223a22706d6f6e64222c2270726f63657373223a22736d227d 00"
        ));
        let sent = event(EventCommand::Log, 2, "controller-0", Some("sm")).unwrap();
        assert_eq!(sent, wanted);
        let text = r#"{"hostname":"controller-0","service":"pmond","process":"sm"}"#;
        assert_eq!(sent.len(), 100 + text.len() + 1);
        assert_eq!(&sent[100..sent.len() - 1], text.as_bytes());
    }
}

#[test]
fn numbers_stand_at_their_offsets() {
    let bytes = prefix(Kind::Event, 0x0102, 0x0304_0506, 0x0708_090a, 0x0b0c_0d0e);
    assert_eq!(bytes[17..64], [0; 47], "the header's NUL and what follows");
    for (offset, size, wanted) in [
        (64, 2, 0x0102),
        (66, 2, 0),
        (68, 4, 0),
        (72, 4, 0x0304_0506),
        (76, 4, 0x0708_090a),
        (80, 4, 0x0b0c_0d0e),
        (84, 4, 0),
        (88, 4, 0),
        (92, 4, 0),
        (96, 4, 0),
    ] {
        let number = if size == 2 {
            u32::from(u16::from_ne_bytes(
                bytes[offset..offset + 2].try_into().unwrap(),
            ))
        } else {
            u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap())
        };
        assert_eq!(number, wanted, "at {offset}");
    }
    assert_eq!((SIZE, PREFIX, TEXT), (1060, 100, 960));
}

#[test]
fn commands_have_the_numbers_that_mtc_agent_knows() {
    for (command, code) in [
        (EventCommand::Ready, 0xf0f0_f0f0_u32),
        (EventCommand::Clear, 0x0202_0202),
        (EventCommand::Log, 0x0303_0303),
        (EventCommand::Critical, 0x0404_0404),
        (EventCommand::Major, 0x0505_0505),
    ] {
        let sent = event(command, 1, "h", None).unwrap();
        assert_eq!(sent[72..76], code.to_ne_bytes());
        assert_eq!(
            &sent[100..],
            b"{\"hostname\":\"h\",\"service\":\"pmond\"}\0"
        );
    }
}

#[test]
fn long_names_never_leave_the_buffer() {
    let long = "x".repeat(2000);
    let bytes = watchdog(Some(&long));
    assert_eq!(bytes[1059], 0, "the text is a C string");
    assert_eq!(bytes[1058], b'x');
    assert_eq!(event(EventCommand::Log, 1, "h", Some(&long)), None);
}
