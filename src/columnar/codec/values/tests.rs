use proptest::prelude::*;

use crate::columnar::codec::values::{Form, ValueEncoder, decode, encode};
use crate::model::{STALE_NAN_BITS, stale_nan};

/// Encodes, decodes, compares bits, and returns the length.
#[track_caller]
fn round_trip(values: &[f64]) -> usize {
    let mut bytes = Vec::new();
    encode(values, &mut bytes);
    let mut out = vec![7.0];
    decode(&bytes, values.len(), &mut out).unwrap();
    assert_eq!(out[0], 7.0);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&out[1..]), bits(values));
    bytes.len()
}

const ODD: [u64; 24] = [
    0,
    1 << 63,
    1,
    (1 << 63) | 1,
    0x000F_FFFF_FFFF_FFFF,
    0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000,
    STALE_NAN_BITS,
    0x7FF8_0000_0000_0000,
    0xFFF8_0000_0000_0000,
    0x7FF0_0000_0000_0001,
    0xFFFF_FFFF_FFFF_FFFF,
    0x7FEF_FFFF_FFFF_FFFF,
    0xFFEF_FFFF_FFFF_FFFF,
    0x3FF0_0000_0000_0000,
    0x4340_0000_0000_0001,
    0x4330_0000_0000_0000,
    0x4320_0000_0000_0000,
    0x431F_FFFF_FFFF_FFFF,
    0xC320_0000_0000_0000,
    0x43EF_FFFF_FFFF_FFFF,
    0x0010_0000_0000_0000,
    0x3FB9_9999_9999_999A,
    0x3FB9_9999_9999_999B,
];

#[test]
fn odd_values_come_back_alone_in_pairs_and_among_others() {
    let odd = ODD.map(f64::from_bits);
    round_trip(&[]);
    for a in odd {
        round_trip(&[a]);
        round_trip(&[a; 480]);
        for b in odd {
            round_trip(&[a, b]);
            round_trip(&[1.5, 2.5, a, 3.5, b, b, 4.25]);
            let mut counter: Vec<f64> = (0..600).map(|i| f64::from(i) * 3.0).collect();
            (counter[0], counter[511], counter[512]) = (a, b, a);
            round_trip(&counter);
        }
    }
    round_trip(&odd);
}

#[test]
fn forms_are_as_short_as_they_should_be() {
    assert_eq!(round_trip(&[3.25; 480]), 9);
    let counter: Vec<f64> = (0..480).map(|i| f64::from(i) * 15.0).collect();
    assert!(round_trip(&counter) < 16);
    let pages: Vec<f64> = (0..480).map(|i| f64::from((i * 7) % 16) * 4096.0 + 1e9).collect();
    assert!(round_trip(&pages) < 480 / 2 + 24);
    let percent: Vec<f64> = (0..480).map(|i| f64::from((i * 37) % 1000) / 10.0).collect();
    assert!(round_trip(&percent) < 480 * 10 / 8 + 24);
    let milli: Vec<f64> = (0..480).map(|i| f64::from(70_000 + (i * 37) % 1000) * 0.001).collect();
    assert!(round_trip(&milli) < 480 * 10 / 8 + 24);
    let stale_end: Vec<f64> =
        (0..480).map(|i| if i == 479 { stale_nan() } else { f64::from(i % 3) }).collect();
    assert!(round_trip(&stale_end) < 480 * 2 / 8 + 32);
    let noise: Vec<f64> =
        (1..=480u64).map(|i| f64::from_bits(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    assert_eq!(round_trip(&noise), 1 + 480 * 8);
}

#[test]
fn the_form_is_told_and_fits_the_values() {
    let mut encoder = ValueEncoder::default();
    let mut out = Vec::new();
    assert_eq!(encoder.encode_varying(&[2.0; 9], &mut out), Form::Constant);
    assert!(out.is_empty());
    let values: Vec<f64> = (0..50).map(|i| f64::from(i * i) / 100.0).collect();
    let Form::Decimal(scale, integers) = encoder.encode_varying(&values, &mut out) else {
        panic!("hundredths are decimals");
    };
    assert!(integers.iter().zip(&values).all(|(i, value)| scale.to_double(*i) == *value));
}

#[test]
fn every_cut_is_an_error_and_every_flip_is_harmless() {
    let values: Vec<f64> =
        (0..40).map(|i| f64::from(i % 7) * 4.5 + 1.0).chain([f64::NAN]).collect();
    let mut bytes = Vec::new();
    encode(&values, &mut bytes);
    let mut out = Vec::new();
    for cut in 0..bytes.len() {
        assert!(decode(&bytes[..cut], values.len(), &mut out).is_err());
        assert!(out.is_empty());
    }
    assert!(decode(&bytes, 1 << 17, &mut out).is_err());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = decode(&flipped, values.len(), &mut out);
        out.clear();
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1_000_000i64..1_000_000, 0i32..6).prop_map(|(i, e)| i as f64 / 10f64.powi(e)),
        2 => (0i64..100).prop_map(|i| i as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => any::<i64>().prop_map(|i| i as f64),
        1 => (-1_000_000i64..1_000_000).prop_map(|i| i as f64 * 0.001),
        1 => proptest::sample::select(ODD.to_vec()).prop_map(f64::from_bits),
    ]
}

/// Columns with some habit, so that every form and transform is met.
fn column() -> impl Strategy<Value = Vec<f64>> {
    let walk = (any::<bool>(), 0u32..12, 0i32..4, proptest::collection::vec(any::<u32>(), 1..700))
        .prop_map(|(counter, bits, e, steps)| {
            let mut at = 0i64;
            steps
                .iter()
                .map(|step| {
                    let step = i64::from(step >> (31 - bits));
                    at += if counter { step } else { step - (1 << bits) };
                    at as f64 / 10f64.powi(e)
                })
                .collect::<Vec<f64>>()
        });
    let spoilt = (walk, proptest::collection::vec((any::<prop::sample::Index>(), value()), 0..6))
        .prop_map(|(mut column, spoils)| {
            for (at, value) in spoils {
                let at = at.index(column.len());
                column[at] = value;
            }
            column
        });
    prop_oneof![3 => spoilt, 1 => proptest::collection::vec(value(), 0..40)]
}

proptest! {
    #![proptest_config(crate::columnar::codec::test_config())]

    #[test]
    fn any_column_comes_back(column in column()) {
        round_trip(&column);
    }

    #[test]
    fn any_bytes_decode_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        head in any::<u8>(),
        count in 0usize..1500,
    ) {
        let mut out = Vec::new();
        let _ = decode(&bytes, count, &mut out);
        let bytes = [&[head & 0x3F], &bytes[..]].concat();
        let _ = decode(&bytes, count, &mut out);
        prop_assert!(out.len() <= 2 * count);
    }
}
