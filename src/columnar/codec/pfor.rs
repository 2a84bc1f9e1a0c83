//! Patched frame of reference: runs of mostly narrow words with a few wide ones among them.
//!
//! ```text
//! run   := block { block }                    of 512 words each, the last may be shorter
//! block := u8 width | 0x80 if exceptions
//!          [varint count, u8 gap width, u8 high width]      if exceptions
//!          words × width bits                                low parts
//!          [count × gap width bits, count × high width bits] distance from the exception before,
//!                                                            and what is above the low part
//! ```
//!
//! At most 128 words of a block are exceptions. Width 0 with exceptions is the sparse form: rare changes, rare corrections. The width is the
//! one that makes the block smallest, by a histogram of the words' lengths.

use crate::columnar::codec::CodecError;
use crate::columnar::codec::bits;
use crate::columnar::codec::varint;

/// Words that share a width.
pub(crate) const BLOCK: usize = 512;

/// Words of a block that may be exceptions; with more, a greater width is hardly longer.
const EXCEPTIONS_MAX: usize = BLOCK / 4;

const HAS_EXCEPTIONS: u8 = 0x80;

pub(crate) fn encode(words: &[u64], out: &mut Vec<u8>) {
    for block in words.chunks(BLOCK) {
        encode_block(block, out);
    }
}

/// Bits that `words` will take, roughly: headers of exceptions are estimated.
pub(crate) fn cost_bits(words: impl ExactSizeIterator<Item = u64>) -> usize {
    let count = words.len();
    choose_width(&lengths(words), count).1
}

/// Decodes `count` words off the front of `input`; `each` gets them block by block and may
/// overwrite them.
pub(crate) fn decode(
    input: &mut &[u8],
    count: usize,
    mut each: impl FnMut(&mut [u64]),
) -> Result<(), CodecError> {
    let mut block = [0; BLOCK];
    let mut left = count;
    while left > 0 {
        let words = &mut block[..BLOCK.min(left)];
        decode_block(input, words)?;
        left -= words.len();
        each(words);
    }
    Ok(())
}

/// How many words have each length in bits.
type Lengths = [u32; 65];

#[inline(always)]
fn lengths(words: impl Iterator<Item = u64>) -> Lengths {
    // Two tables, so that equal lengths in a row do not wait for each other.
    let (mut even, mut odd): (Lengths, Lengths) = ([0; 65], [0; 65]);
    let mut words = words.map(length);
    while let Some(first) = words.next() {
        even[first] += 1;
        if let Some(second) = words.next() {
            odd[second] += 1;
        }
    }
    for (count, more) in even.iter_mut().zip(odd) {
        *count += more;
    }
    even
}

/// The best width and the bits of a block at that width.
fn choose_width(lengths: &Lengths, count: usize) -> (u32, usize) {
    let widest = lengths.iter().rposition(|count| *count > 0).unwrap_or(0);
    let mut best = (widest, widest * count + 8);
    let mut exceptions = 0;
    for width in (0..widest).rev() {
        exceptions += lengths[width + 1] as usize;
        if exceptions > EXCEPTIONS_MAX.min(count / 2) {
            break;
        }
        // Of gaps spread at random, the widest is about ln(exceptions) times the mean.
        let gap = length((count / exceptions.max(1) * length(exceptions as u64)) as u64);
        let cost = width * count + exceptions * (gap + widest - width) + 8 + 24;
        if exceptions > 0 && cost < best.1 {
            best = (width, cost);
        }
    }
    (low_width(best.0), best.1)
}

fn encode_block(words: &[u64], out: &mut Vec<u8>) {
    let lengths = lengths(words.iter().copied());
    let (width, _) = choose_width(&lengths, words.len());
    let exceptions: u32 = lengths[width as usize + 1..].iter().sum();
    let header = varint::low_byte(u64::from(width));
    if exceptions == 0 {
        out.push(header);
        bits::pack(words, width, out);
        return;
    }
    let (mut gaps, mut highs) = ([0u64; EXCEPTIONS_MAX], [0u64; EXCEPTIONS_MAX]);
    let (mut count, mut next) = (0, 0);
    for (index, word) in words.iter().enumerate() {
        let high = word >> width;
        if high > 0 {
            gaps[count] = (index - next) as u64;
            highs[count] = high;
            next = index + 1;
            count += 1;
        }
    }
    let widest = |words: &[u64]| words.iter().copied().map(length).max().unwrap_or(0);
    let (gap_width, high_width) =
        (low_width(widest(&gaps[..count])), low_width(widest(&highs[..count])));
    out.push(header | HAS_EXCEPTIONS);
    varint::put(count as u64, out);
    out.push(varint::low_byte(u64::from(gap_width)));
    out.push(varint::low_byte(u64::from(high_width)));
    bits::pack(words, width, out);
    bits::pack(&gaps[..count], gap_width, out);
    bits::pack(&highs[..count], high_width, out);
}

fn decode_block(input: &mut &[u8], words: &mut [u64]) -> Result<(), CodecError> {
    let header = varint::take_byte(input)?;
    let width = u32::from(header & !HAS_EXCEPTIONS);
    if header & HAS_EXCEPTIONS == 0 {
        return bits::unpack(input, width, words);
    }
    let count = varint::take_count(input, words.len().min(EXCEPTIONS_MAX))?;
    let gap_width = u32::from(varint::take_byte(input)?);
    let high_width = u32::from(varint::take_byte(input)?);
    if width + high_width > 64 || width == 64 {
        return Err(CodecError("an exception is wider than a word"));
    }
    bits::unpack(input, width, words)?;
    let (mut gaps, mut highs) = ([0; EXCEPTIONS_MAX], [0; EXCEPTIONS_MAX]);
    bits::unpack(input, gap_width, &mut gaps[..count])?;
    bits::unpack(input, high_width, &mut highs[..count])?;
    let mut next = 0usize;
    for (gap, high) in gaps[..count].iter().zip(&highs[..count]) {
        let at = usize::try_from(*gap).ok().and_then(|gap| next.checked_add(gap));
        let word = at.and_then(|at| words.get_mut(at));
        *word.ok_or(CodecError("an exception stands outside its block"))? |= high << width;
        next = at.unwrap_or(next) + 1;
    }
    Ok(())
}

#[inline(always)]
fn length(word: u64) -> usize {
    (u64::BITS - word.leading_zeros()) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "lengths of words are at most 64")]
fn low_width(length: usize) -> u32 {
    length as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(words: &[u64]) -> usize {
        let mut bytes = Vec::new();
        encode(words, &mut bytes);
        let mut out = Vec::new();
        let mut input = &bytes[..];
        decode(&mut input, words.len(), |block| {
            out.extend_from_slice(block);
        })
        .unwrap();
        assert!(input.is_empty());
        assert_eq!(out, words);
        for cut in 0..bytes.len().min(100) {
            assert!(decode(&mut &bytes[..cut], words.len(), |_| ()).is_err());
        }
        bytes.len()
    }

    #[test]
    fn narrow_wide_and_mixed_words_come_back() {
        assert_eq!(round_trip(&[]), 0);
        assert_eq!(round_trip(&[0; 480]), 1);
        assert_eq!(round_trip(&[u64::MAX; 3]), 25);
        assert_eq!(round_trip(&[7; 480]), 181);
        let mut rare = [0; 480];
        (rare[3], rare[479]) = (1 << 40, 5);
        assert!(round_trip(&rare) < 24);
        let mixed: Vec<u64> =
            (0..1500).map(|i| if i % 37 == 0 { u64::MAX >> (i % 50) } else { i % 16 }).collect();
        round_trip(&mixed);
        (0..1100).for_each(|len| {
            round_trip(&mixed[..len]);
        });
    }

    #[test]
    fn exceptions_stay_inside_their_block() {
        // Width 0, one exception at gap 200 of width 8, high 1 bit, in a block of 100 words.
        assert!(decode(&mut &[0x80, 1, 8, 1, 200, 1][..], 100, |_| ()).is_err());
        assert!(decode(&mut &[0x80, 1, 8, 65, 20, 1][..], 100, |_| ()).is_err());
        assert!(
            decode(
                &mut &[0x80, 1, 64, 1, 255, 255, 255, 255, 255, 255, 255, 255, 1][..],
                100,
                |_| ()
            )
            .is_err()
        );
        assert!(decode(&mut &[0x80, 101, 8, 1][..], 100, |_| ()).is_err());
    }
}
