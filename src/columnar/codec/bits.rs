//! Words of one width, packed without gaps: LSB first, eight words of width `w` in `w` bytes.
//!
//! Kernels exist for every width as constants, so each is free of branches. Any count of words
//! is allowed: the bytes of the last, partial group are written as far as they hold bits.

use crate::columnar::codec::CodecError;
use crate::columnar::codec::simd;

/// Words that a kernel handles at a time.
const GROUP: usize = 8;

/// Bytes that `count` words of `width` bits take.
pub(crate) fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends the low `width` bits of every word.
pub(crate) fn pack(words: &[u64], width: u32, out: &mut Vec<u8>) {
    macro_rules! dispatch {
        ($($w:literal)*) => {
            match width {
                0 => {}
                $($w => pack_width::<$w>(words, out),)*
                _ => unreachable!("a word has at most 64 bits"),
            }
        };
    }
    dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
        62 63 64);
}

/// Takes `out.len()` words of `width` bits off the front of `input`.
pub(crate) fn unpack(input: &mut &[u8], width: u32, out: &mut [u64]) -> Result<(), CodecError> {
    let len = packed_len(out.len(), width);
    let all = *input;
    // Kernels may look at what follows, so they get all there is.
    *input = all.get(len..).ok_or(CodecError("packed run is cut off"))?;
    macro_rules! dispatch {
        ($($w:literal)*) => {
            match width {
                0 => out.fill(0),
                $($w => simd::widest(|| unpack_width::<$w>(all, len, out)),)*
                _ => return Err(CodecError("width of a packed run is over 64")),
            }
        };
    }
    dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
        62 63 64);
    Ok(())
}

fn pack_width<const W: usize>(words: &[u64], out: &mut Vec<u8>) {
    out.reserve(packed_len(words.len(), width::<W>()) + 8);
    let (groups, rest) = words.as_chunks::<GROUP>();
    for group in groups {
        let packed = pack_group::<W>(group);
        out.extend_from_slice(&packed.as_flattened()[..W]);
    }
    if !rest.is_empty() {
        let mut group = [0; GROUP];
        group[..rest.len()].copy_from_slice(rest);
        let packed = pack_group::<W>(&group);
        out.extend_from_slice(&packed.as_flattened()[..packed_len(rest.len(), width::<W>())]);
    }
}

#[inline(always)]
fn pack_group<const W: usize>(group: &[u64; GROUP]) -> [[u8; 8]; GROUP] {
    let mut packed = [0u64; GROUP];
    for (index, word) in group.iter().enumerate() {
        let word = word & mask::<W>();
        let (at, shift) = (index * W / 64, index * W % 64);
        packed[at] |= word << shift;
        if shift + W > 64 {
            packed[at + 1] |= word >> (64 - shift);
        }
    }
    packed.map(u64::to_le_bytes)
}

#[inline(always)]
fn unpack_width<const W: usize>(input: &[u8], len: usize, out: &mut [u64]) {
    let mut at = 0;
    let mut groups = out.chunks_exact_mut(GROUP);
    for group in &mut groups {
        // A kernel reads up to eight bytes past its own.
        match input.get(at..at + W + 8) {
            Some(bytes) => unpack_group::<W>(bytes, group),
            None => unpack_padded::<W>(&input[at..len.min(at + W)], group),
        }
        at += W;
    }
    let rest = groups.into_remainder();
    if !rest.is_empty() {
        unpack_padded::<W>(&input[at..len], rest);
    }
}

#[inline(always)]
fn unpack_group<const W: usize>(bytes: &[u8], group: &mut [u64]) {
    let bytes = &bytes[..W + 8];
    let load = |at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
    };
    let group = &mut group[..GROUP];
    if W <= 8 {
        // All eight words stand in one load, and shifts of one register vectorise.
        let all = load(0);
        for (index, word) in group.iter_mut().enumerate() {
            *word = all >> (index * W % 64) & mask::<W>();
        }
    } else if W <= 15 {
        let halves = [load(0), load(W / 2) >> (W % 2 * 4)];
        for (index, word) in group.iter_mut().enumerate() {
            *word = halves[index / 4] >> (index % 4 * W % 64) & mask::<W>();
        }
    } else {
        for (index, word) in group.iter_mut().enumerate() {
            let (at, shift) = (index * W / 8, index * W % 8);
            *word = load(at) >> shift;
            if shift + W > 64 {
                *word |= u64::from(bytes[at + 8]) << (64 - shift);
            }
            *word &= mask::<W>();
        }
    }
}

/// For the end of the input: fewer words, or no bytes behind them.
#[inline(never)]
fn unpack_padded<const W: usize>(bytes: &[u8], words: &mut [u64]) {
    let mut padded = [0; 64 + 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    let mut group = [0; GROUP];
    unpack_group::<W>(&padded, &mut group);
    words.copy_from_slice(&group[..words.len()]);
}

const fn mask<const W: usize>() -> u64 {
    if W == 64 { u64::MAX } else { (1 << W) - 1 }
}

#[expect(clippy::cast_possible_truncation, reason = "a width is at most 64")]
const fn width<const W: usize>() -> u32 {
    assert!(W <= 64);
    W as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_count_comes_back() {
        for width in 0..=64u32 {
            for count in [0usize, 1, 7, 8, 9, 31, 64] {
                let words: Vec<u64> = (0..count as u64)
                    .map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::MAX)
                    .map(|word| if width == 64 { word } else { word & ((1 << width) - 1) })
                    .collect();
                for padding in [0, 3, 100] {
                    let mut bytes = Vec::new();
                    pack(&words, width, &mut bytes);
                    assert_eq!(bytes.len(), packed_len(count, width));
                    bytes.resize(bytes.len() + padding, 0xA5);
                    let mut input = &bytes[..];
                    let mut out = vec![0; count];
                    unpack(&mut input, width, &mut out).unwrap();
                    assert_eq!(out, words, "width {width} count {count}");
                    assert_eq!(input.len(), padding);
                }
            }
        }
    }

    #[test]
    fn short_input_and_silly_widths_are_errors() {
        assert!(unpack(&mut &[0; 4][..], 5, &mut [0; 8]).is_err());
        assert!(unpack(&mut &[0; 99][..], 65, &mut [0; 8]).is_err());
    }
}
