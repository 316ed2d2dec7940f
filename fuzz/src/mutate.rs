//! Changes inputs.

use std::collections::BTreeSet;

use isthmus_testkit::chance::Random;

/// Bytes of an input at most: what is read has its own limits, and short inputs are fast.
pub(crate) const LONGEST: usize = 4096;

/// Numbers at which readers go wrong.
const NUMBERS: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"1",
    b"65535",
    b"65536",
    b"4294967295",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1e400",
    b"null",
    b"\"\"",
    b"[]",
];

/// The words of a corpus: what letters and digits in a row spell, and pieces between quotes.
pub(crate) fn words(corpus: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut words = BTreeSet::new();
    for input in corpus {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b":-./_".contains(byte);
        let pieces = input.split(|byte| !is_word(byte));
        let quoted = input.split(|byte| *byte == b'"');
        words.extend(
            pieces
                .chain(quoted)
                .filter(|word| (1..80).contains(&word.len()))
                .map(<[u8]>::to_vec),
        );
    }
    words.into_iter().collect()
}

/// One to six changes to `input`, some of which take from `other` or from `words`.
pub(crate) fn mutate(input: &[u8], other: &[u8], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.index(6) {
        change(&mut out, other, words, random);
    }
    out.truncate(LONGEST);
    out
}

fn change(out: &mut Vec<u8>, other: &[u8], words: &[Vec<u8>], random: &mut Random) {
    let at = random.index(out.len() + 1);
    match random.index(12) {
        0 => set(out, at, |byte| byte ^ (1 << random.index(8))),
        1 => set(out, at, |_| random.byte()),
        2 => set(out, at, |byte| {
            byte.wrapping_add([1, 0xff, 0x10, 0x80][random.index(4)])
        }),
        3 => out.truncate(at),
        4 => drop(out.drain(at..(at + random.index(16)).min(out.len()))),
        5 => insert(out, at, &vec![random.byte(); random.index(9)]),
        6 => {
            let piece = piece(out, random);
            insert(out, at, &piece.repeat(1 + random.index(4)));
        }
        7 => {
            let piece = piece(other, random);
            insert(out, at, &piece);
        }
        8 => {
            let piece = piece(other, random);
            overwrite(out, at, &piece);
        }
        9 => replace_word(out, at, words, random),
        10 => {
            let number = NUMBERS[random.index(NUMBERS.len())];
            replace_at_word(out, at, number);
        }
        _ => length_field(out, at, random),
    }
}

fn set(out: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = out.get_mut(at) {
        *byte = change(*byte);
    }
}

fn insert(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    out.splice(at..at, bytes.iter().copied());
}

fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    out.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}

fn piece(from: &[u8], random: &mut Random) -> Vec<u8> {
    let start = random.index(from.len() + 1);
    let most = [4, 16, 64, from.len()][random.index(4)];
    from[start..(start + random.index(most + 1)).min(from.len())].to_vec()
}

fn replace_word(out: &mut Vec<u8>, at: usize, words: &[Vec<u8>], random: &mut Random) {
    if let Some(word) = words.get(random.index(words.len())) {
        if random.index(2) == 0 {
            insert(out, at, word);
        } else {
            replace_at_word(out, at, word);
        }
    }
}

/// Puts `word` where one begins at or before `at`, and takes that one away.
fn replace_at_word(out: &mut Vec<u8>, at: usize, word: &[u8]) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b":-./".contains(byte);
    let start = out[..at]
        .iter()
        .rposition(|byte| !is_word(byte))
        .map_or(0, |before| before + 1);
    let end = out[start..]
        .iter()
        .position(|byte| !is_word(byte))
        .map_or(out.len(), |length| start + length);
    out.splice(start..end, word.iter().copied());
}

/// Writes a number of two or four bytes that is near the length of the input, or far off.
fn length_field(out: &mut [u8], at: usize, random: &mut Random) {
    let near = out.len().wrapping_sub(at).wrapping_sub(random.index(8));
    let value = [near, out.len(), random.index(64), usize::MAX][random.index(4)];
    let bytes = u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    match random.index(3) {
        0 => overwrite(out, at, &bytes),
        1 => overwrite(out, at, &bytes[2..]),
        _ => overwrite(out, at, &[bytes[3], bytes[2], bytes[1], bytes[0]]),
    }
}
