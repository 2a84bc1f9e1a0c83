//! LEB128 variable-length integers and zigzag, for the few numbers outside the packed runs.

use crate::columnar::codec::CodecError;

const TRUNCATED: CodecError = CodecError("bytes end inside a number");

/// Maps small negative and positive numbers to small words.
#[inline(always)]
pub(crate) fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

#[inline(always)]
pub(crate) fn unzigzag(word: u64) -> i64 {
    (word >> 1).cast_signed() ^ -(word & 1).cast_signed()
}

pub(crate) fn put(mut word: u64, out: &mut Vec<u8>) {
    while word >= 0x80 {
        out.push(low_byte(word) | 0x80);
        word >>= 7;
    }
    out.push(low_byte(word));
}

pub(crate) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put(zigzag(value), out);
}

pub(crate) fn take(input: &mut &[u8]) -> Result<u64, CodecError> {
    let mut word = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(input)?;
        word |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            return if shift == 63 && byte > 1 {
                Err(CodecError("number too large"))
            } else {
                Ok(word)
            };
        }
    }
    Err(CodecError("number too long"))
}

pub(crate) fn take_signed(input: &mut &[u8]) -> Result<i64, CodecError> {
    take(input).map(unzigzag)
}

/// A number that counts something, at most `most`.
pub(crate) fn take_count(input: &mut &[u8], most: usize) -> Result<usize, CodecError> {
    let count = usize::try_from(take(input)?).unwrap_or(usize::MAX);
    if count > most { Err(CodecError("count out of bounds")) } else { Ok(count) }
}

pub(crate) fn take_byte(input: &mut &[u8]) -> Result<u8, CodecError> {
    input.split_off_first().copied().ok_or(TRUNCATED)
}

pub(crate) fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8], CodecError> {
    input.split_off(..len).ok_or(TRUNCATED)
}

pub(crate) fn take_u64(input: &mut &[u8]) -> Result<u64, CodecError> {
    let bytes = input.split_off(..8).ok_or(TRUNCATED)?;
    Ok(u64::from_le_bytes(bytes.try_into().expect("split off eight bytes")))
}

#[inline(always)]
pub(crate) fn low_byte(word: u64) -> u8 {
    word.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, 64, -64, -65, 1 << 40, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_signed(value, &mut bytes);
            let mut input = &bytes[..];
            assert_eq!(take_signed(&mut input), Ok(value));
            assert!(input.is_empty());
            assert!(take(&mut &bytes[..bytes.len() - 1]).is_err());
        }
        assert!(take(&mut &[0xFF; 20][..]).is_err());
        let mut too_large = [0xFF; 10];
        too_large[9] = 2;
        assert!(take(&mut &too_large[..]).is_err());
    }
}
