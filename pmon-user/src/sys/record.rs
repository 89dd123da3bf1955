//! Records of the ring buffer, from bytes to types.

use pmon_common::ExitEvent;

/// Reads a record; `None` when its size is not ours.
#[must_use]
pub fn exit_event(bytes: &[u8]) -> Option<ExitEvent> {
    if bytes.len() != size_of::<ExitEvent>() {
        return None;
    }
    // SAFETY: the length was checked, every bit pattern is a valid `ExitEvent`
    // (integers only), and the read does not assume alignment.
    Some(unsafe { bytes.as_ptr().cast::<ExitEvent>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_size_is_refused() {
        assert!(exit_event(&[0; 55]).is_none());
        assert!(exit_event(&[0; 57]).is_none());
    }

    #[test]
    fn fields_are_where_the_kernel_writes_them() {
        let mut bytes = [0_u8; 56];
        bytes[0] = 1;
        bytes[8] = 2;
        bytes[16] = 3;
        bytes[24] = 4;
        bytes[29] = 1;
        bytes[40] = b'x';
        let event = exit_event(&bytes);
        assert_eq!(
            event.map(|e| (
                e.start_time,
                e.generation,
                e.died_at,
                e.tgid,
                e.exit_code,
                e.comm[0]
            )),
            Some((1, 2, 3, 4, 0x100, b'x'))
        );
    }
}
