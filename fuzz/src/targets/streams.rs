//! What comes in streams.

use isthmus_tailbox::fuzzing::{read_records, write_records};
use isthmus_tailnet::fuzzing::{after_checks, after_early, answer_control, read_map_frame};
use isthmus_tailnet_wire::derp::{Decoder, Frame, HEADER};
use isthmus_tailnet_wire::framing::{FrameDecoder, LENGTH_SIZE, encode_frame};
use isthmus_tailnet_wire::noise::{self, Initiation};

/// Frames are the same in whatever pieces they come, their bytes are at most those of the stream, and they are the same
/// when they are written and read again.
pub(super) fn derp_frames(input: &[u8]) {
    let (frames, ended_well) = derp(input, input.len());
    assert_eq!(derp(input, 1).0, frames, "byte by byte");
    assert_eq!(derp(input, 7).0, frames);
    assert!(frames.len() * HEADER <= input.len());
    let mut written = Vec::new();
    for frame in &frames {
        frame.encode(&mut written);
    }
    // Bytes behind a frame's content are not kept; those that replace what is no text are three for one.
    assert!(
        !ended_well || written.len() <= 3 * input.len(),
        "{} of {}",
        written.len(),
        input.len()
    );
    assert_eq!(derp(&written, 64), (frames, true));
}

fn derp(input: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for bytes in input.chunks(piece.max(1)) {
        decoder.push(bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

/// The same of the frames of a map stream; and each is a message or none, compressed or not.
pub(super) fn map_frames(input: &[u8]) {
    let frames = maps(input, input.len());
    assert_eq!(maps(input, 1), frames, "byte by byte");
    let written: Vec<u8> = frames
        .iter()
        .flat_map(|frame| encode_frame(frame).expect("short"))
        .collect();
    assert!(written.len() <= input.len() && frames.len() * LENGTH_SIZE <= input.len());
    assert_eq!(maps(&written, 3), frames);
    for frame in frames.iter().map(Vec::as_slice).chain([input]) {
        if let Some(message) = read_map_frame(frame) {
            let json = serde_json::to_vec(&message).expect("messages serialise");
            assert_eq!(read_map_frame(&json), Some(message));
        }
    }
}

fn maps(input: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut decoder = FrameDecoder::new(1 << 20);
    let mut frames = Vec::new();
    for bytes in input.chunks(piece.max(1)) {
        decoder.push(bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            frames.push(frame);
        }
    }
    frames
}

/// What HTTP/2 gets is a part of what came, the same in whatever pieces, and all of it when there was nothing before.
pub(super) fn early_payload(input: &[u8]) {
    let whole = after_early(input, input.len());
    for piece in [1, 2, 9, 1000] {
        let pieces = after_early(input, piece);
        assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok(), "in pieces of {piece}");
    }
    if let Ok(rest) = &whole {
        assert!(input.ends_with(rest));
    }
    let has_early = input
        .first_chunk()
        .is_some_and(|header| noise::early_payload_length(*header).is_some());
    assert!(has_early || whole.is_ok_and(|rest| rest == input), "nothing is lost");
    let framed = [noise::early_payload(input), b"PRI * HTTP/2.0".to_vec()].concat();
    assert_eq!(after_early(&framed, 5).ok().as_deref(), Some(&b"PRI * HTTP/2.0"[..]));
}

/// A handshake header is the same when it is written again; what a record's header says fits into a record.
pub(super) fn noise(input: &[u8]) {
    if let Ok(initiation) = Initiation::from_header(input) {
        assert_eq!(
            Initiation::from_header(initiation.to_header().as_bytes()),
            Ok(initiation)
        );
    }
    if noise::check_record(input).is_ok() && input.len() >= noise::HEADER_SIZE {
        let length = usize::from(u16::from_be_bytes([input[1], input[2]]));
        assert!(length + noise::HEADER_SIZE <= noise::MAX_RECORD);
        assert!(
            input[0] != 4 || length >= noise::TAG_SIZE,
            "a record has room for its tag"
        );
    }
}

/// The key of the sessions of [`records`].
const RECORDS_KEY: [u8; 32] = [7; 32];

/// Encrypted records with other bytes between them: each piece of the input is a kind, a length, and so many bytes, which
/// are encrypted when the kind is even. What comes out is what went in, up to the first bytes that are no record; whatever
/// pieces it comes in; and nothing that is too short for its tag gets past the check.
pub(super) fn records(input: &[u8]) {
    let (mut pieces, mut rest) = (Vec::new(), input);
    while let [kind, length, more @ ..] = rest {
        let (bytes, after) = more.split_at(more.len().min((*length).into()));
        pieces.push((kind % 2 == 0, bytes));
        rest = after;
    }
    let texts: Vec<&[u8]> = pieces
        .iter()
        .filter(|(is_text, _)| *is_text)
        .map(|(_, bytes)| *bytes)
        .collect();
    let mut records = write_records(RECORDS_KEY, &texts).into_iter();
    let mut stream = Vec::new();
    for (is_text, bytes) in &pieces {
        let record = is_text.then(|| records.next()).flatten();
        stream.extend(record.unwrap_or_else(|| bytes.to_vec()));
    }
    let is_untouched = |(is_text, bytes): &&(bool, &[u8])| *is_text || bytes.is_empty();
    let untouched: usize = pieces
        .iter()
        .take_while(is_untouched)
        .filter(|(is_text, _)| *is_text)
        .map(|(_, bytes)| bytes.len())
        .sum();
    for stream in [stream.as_slice(), input] {
        let whole = read_records(RECORDS_KEY, stream, stream.len());
        for piece in [1, 7, 4096] {
            assert_eq!(read_records(RECORDS_KEY, stream, piece), whole, "in pieces of {piece}");
        }
        let answered = [&[2, 0, 48][..], &[9; 48], stream].concat();
        let checked = after_checks(&answered, answered.len()).ok();
        assert_eq!(after_checks(&answered, 1).ok(), checked, "byte by byte");
        assert!(checked.is_none_or(|bytes| bytes == answered && all_have_room(stream)));
    }
    let (text, _) = read_records(RECORDS_KEY, &stream, stream.len());
    assert!(texts.concat().starts_with(&text), "nothing else comes out");
    assert!(text.len() >= untouched, "{} of {untouched}", text.len());
}

/// Whether every record of a stream has room for its tag.
fn all_have_room(mut stream: &[u8]) -> bool {
    while let [kind, high, low, rest @ ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind == 4 && length < noise::TAG_SIZE {
            return false;
        }
        stream = rest.get(length..).unwrap_or_default();
    }
    true
}

/// Every request gets an answer with as many bytes as it says.
pub(super) fn requests_of_control(input: &[u8]) {
    let answer = answer_control(input);
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("the head of an answer ends");
    let head = std::str::from_utf8(&answer[..end]).expect("the head is text");
    assert!(head.starts_with("HTTP/1.1 "));
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .expect("its length is said");
    assert_eq!(length.parse(), Ok(answer.len() - end - 4));
}
