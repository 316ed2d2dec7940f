//! What a message of DNS (RFC 1035, section 4.1) announces, to be looked at before a parser takes it at its word.

/// Bytes of a message's header.
const HEADER: usize = 12;

/// Bytes of a question at least: the name of the root, a type and a class.
const QUESTION: usize = 5;

/// Bytes of a record at least: the same, how long it holds, and the length of its data.
const RECORD: usize = 11;

/// Whether a message has room for the questions and records that it counts. A parser may set aside memory for all that
/// are announced: for twelve bytes more than a megabyte.
pub fn has_room_for_what_it_counts(message: &[u8]) -> bool {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return false;
    };
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let records = count(6) + count(8) + count(10);
    HEADER + count(4) * QUESTION + records * RECORD <= message.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_that_counts_more_than_it_holds_is_recognised() {
        let mut message = vec![0; HEADER];
        assert!(has_room_for_what_it_counts(&message));
        message[5] = 1;
        assert!(!has_room_for_what_it_counts(&message));
        message.extend([0, 0, 1, 0, 1]);
        assert!(has_room_for_what_it_counts(&message));
        message[10] = 0xff;
        assert!(!has_room_for_what_it_counts(&message));
        assert!(!has_room_for_what_it_counts(&message[..HEADER - 1]));
    }
}
