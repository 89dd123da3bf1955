//! Records of the ring buffer and values of maps, from bytes to types.

use pmon_common::{Event, LAYOUT_VERSION, Registration, Stats};

/// Reads a record; `None` when its size or its layout is not ours.
#[must_use]
pub fn event(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: the length was checked, every bit pattern is a valid `Event`
    // (integers only), and the read does not assume alignment.
    let event = unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() };
    (event.layout == LAYOUT_VERSION).then_some(event)
}

/// Reads a table entry of our layout; `None` when its size is not ours.
#[must_use]
pub fn registration(bytes: &[u8]) -> Option<Registration> {
    if bytes.len() != size_of::<Registration>() {
        return None;
    }
    // SAFETY: as in `event`.
    Some(unsafe { bytes.as_ptr().cast::<Registration>().read_unaligned() })
}

/// Reads as many counters as there are bytes for; the others are 0.
#[must_use]
pub fn stats(bytes: &[u8]) -> Stats {
    let mut whole = [0_u8; size_of::<Stats>()];
    let length = bytes.len().min(whole.len()) / 8 * 8;
    if let (Some(to), Some(from)) = (whole.get_mut(..length), bytes.get(..length)) {
        to.copy_from_slice(from);
    }
    // SAFETY: as in `event`.
    unsafe { whole.as_ptr().cast::<Stats>().read_unaligned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_size_or_layout_is_refused() {
        let mut bytes = [0_u8; 73];
        bytes[0] = 2;
        assert!(event(&bytes[..72]).is_some());
        assert!(event(&bytes[..71]).is_none());
        assert!(event(&bytes).is_none());
        bytes[0] = 3;
        assert!(event(&bytes[..72]).is_none());
    }

    #[test]
    fn fields_are_where_the_kernel_writes_them() {
        let mut bytes = [0_u8; 72];
        bytes[0] = 2;
        bytes[4] = 8;
        bytes[8] = 1;
        bytes[16] = 2;
        bytes[24] = 7;
        bytes[32] = 3;
        bytes[40] = 4;
        bytes[45] = 1;
        bytes[56] = b'x';
        let expected = Event {
            layout: LAYOUT_VERSION,
            kind: 8,
            start_time: 1,
            generation: 2,
            root_generation: 7,
            at: 3,
            tgid: 4,
            exit_code: 0x100,
            comm: *b"x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ..Event::default()
        };
        assert_eq!(event(&bytes), Some(expected));
    }
}
