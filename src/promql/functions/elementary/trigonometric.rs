//! Circular functions and their inverses.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

use crate::promql::functions::elementary::horner;

/// π/4 in three parts: products of the first two with a count of octants are exact.
const PI_4_PARTS: [f64; 3] =
    [7.853_981_256_484_985e-1, 3.774_894_707_930_798e-8, 2.695_151_429_079_059_5e-15];
/// From here on the three parts are not exact enough.
const REDUCE_BY_PARTS_BELOW: f64 = 536_870_912.0;

const SIN: [f64; 6] = [
    1.589_623_015_765_465_6e-10,
    -2.505_074_776_285_780_7e-8,
    2.755_731_362_138_572_2e-6,
    -1.984_126_982_958_954e-4,
    8.333_333_333_322_118e-3,
    -1.666_666_666_666_663e-1,
];
const COS: [f64; 6] = [
    -1.135_853_652_138_768_2e-11,
    2.087_570_084_197_473e-9,
    -2.755_731_417_929_674e-7,
    2.480_158_728_885_170_4e-5,
    -1.388_888_888_887_305_6e-3,
    4.166_666_666_666_659_5e-2,
];

/// An even octant, modulo 8, and how far a positive `x` lies from it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, below 2^30")]
fn octant(x: f64) -> (u64, f64) {
    if x >= REDUCE_BY_PARTS_BELOW {
        return reduce(x);
    }
    let mut octant = (x * (2.0 * FRAC_2_PI)) as u64;
    octant += octant & 1;
    let count = octant as f64;
    let [high, middle, low] = PI_4_PARTS;
    (octant & 7, ((x - count * high) - count * middle) - count * low)
}

pub(crate) fn sin(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return f64::NAN;
    }
    let (octant, rest) = octant(x.abs());
    let value = if octant & 2 == 2 { cos_near_zero(rest) } else { sin_near_zero(rest) };
    if (x < 0.0) != (octant > 3) { -value } else { value }
}

pub(crate) fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return f64::NAN;
    }
    let (octant, rest) = octant(x.abs());
    let value = if octant & 2 == 2 { sin_near_zero(rest) } else { cos_near_zero(rest) };
    if octant == 2 || octant == 4 { -value } else { value }
}

fn sin_near_zero(z: f64) -> f64 {
    let square = z * z;
    z + z * square * horner(square, &SIN)
}

fn cos_near_zero(z: f64) -> f64 {
    let square = z * z;
    1.0 - 0.5 * square + square * square * horner(square, &COS)
}

pub(crate) fn tan(x: f64) -> f64 {
    const P: [f64; 3] =
        [-1.309_369_391_813_837_3e4, 1.153_516_648_385_874_2e6, -1.795_652_519_764_848_8e7];
    const Q: [f64; 5] = [
        1.0,
        1.368_129_634_706_929_6e4,
        -1.320_892_344_402_109_7e6,
        2.500_838_018_233_579e7,
        -5.386_957_559_294_546_4e7,
    ];
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return f64::NAN;
    }
    let (octant, z) = octant(x.abs());
    let square = z * z;
    let mut value = z;
    if square > 1e-14 {
        value = z + z * (square * horner(square, &P) / horner(square, &Q));
    }
    if octant & 2 == 2 {
        value = -1.0 / value;
    }
    if x < 0.0 { -value } else { value }
}

/// The bits of 4/π: its whole part, then its fraction.
const FRAC_4_PI_BITS: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// The same as [`octant`] for large `x`: the product with as many bits of 4/π as matter.
#[expect(clippy::cast_possible_truncation, reason = "high and low halves of products")]
fn reduce(x: f64) -> (u64, f64) {
    let bits = x.to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    // x is mantissa · 2^exponent; the product's first bit of weight shall stand for 2^2.
    let shift = (bits >> 52) as usize + 61 - 1_023 - 52;
    let (digit, shift) = (shift / 64, shift % 64);
    let digit_at = |place: usize| {
        let pair = u128::from(FRAC_4_PI_BITS[place]) << 64 | u128::from(FRAC_4_PI_BITS[place + 1]);
        (pair << shift >> 64) as u64
    };
    let [first, second, third] = [0, 1, 2].map(|place| digit_at(digit + place));
    let wide = |digit: u64| u128::from(digit) * u128::from(mantissa);
    let product = (u128::from(first.wrapping_mul(mantissa)) << 64)
        .wrapping_add(wide(second))
        .wrapping_add(wide(third) >> 64);
    let mut octant = (product >> 125) as u64;
    // What is behind the three bits of the octant, as a number in [0, 1): 53 bits, cut.
    let fraction = (product << 3 >> 64) as u64;
    let zeros = fraction.leading_zeros();
    // Bits from below come three places too high in Go, and so they do here.
    let below = (product as u64).checked_shr(63 - zeros).unwrap_or_default();
    let mantissa = fraction.checked_shl(zeros + 1).unwrap_or_default() | below;
    let exponent = 1_023 - u64::from(zeros + 1);
    let mut rest = f64::from_bits(exponent << 52 | mantissa >> 12);
    if octant & 1 == 1 {
        octant = (octant + 1) & 7;
        rest -= 1.0;
    }
    (octant, rest * FRAC_PI_4)
}

/// π/2 less what `FRAC_PI_2` lacks of it.
const PI_2_REST: f64 = 6.123_233_995_736_766e-17;
/// tan(3π/8)
const TAN_3_PI_8: f64 = 2.414_213_562_373_095;

/// For arguments in `[0, 0.66]`.
fn atan_near_zero(x: f64) -> f64 {
    const P: [f64; 5] = [
        -8.750_608_600_031_904e-1,
        -1.615_753_718_733_365_2e1,
        -7.500_855_792_314_705e1,
        -1.228_866_684_490_136_1e2,
        -6.485_021_904_942_025e1,
    ];
    const Q: [f64; 6] = [
        1.0,
        2.485_846_490_142_306_2e1,
        1.650_270_098_316_988_5e2,
        4.328_810_604_912_902_7e2,
        4.853_903_996_359_137e2,
        1.945_506_571_482_614e2,
    ];
    let square = x * x;
    x * (square * horner(square, &P) / horner(square, &Q)) + x
}

fn atan_of_positive(x: f64) -> f64 {
    if x <= 0.66 {
        atan_near_zero(x)
    } else if x > TAN_3_PI_8 {
        FRAC_PI_2 - atan_near_zero(1.0 / x) + PI_2_REST
    } else {
        FRAC_PI_4 + atan_near_zero((x - 1.0) / (x + 1.0)) + 0.5 * PI_2_REST
    }
}

pub(crate) fn atan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        x
    } else if x > 0.0 {
        atan_of_positive(x)
    } else {
        -atan_of_positive(-x)
    }
}

pub(crate) fn asin(x: f64) -> f64 {
    let size = x.abs();
    if x == 0.0 {
        return x;
    }
    if size > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    let other = (1.0 - size * size).sqrt();
    let angle = if size > 0.7 {
        FRAC_PI_2 - atan_of_positive(other / size)
    } else {
        atan_of_positive(size / other)
    };
    if x < 0.0 { -angle } else { angle }
}

pub(crate) fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

/// The angle of the point `(x, y)`.
pub(crate) fn atan2(y: f64, x: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    if y == 0.0 {
        return if x.is_sign_negative() { PI } else { 0.0_f64 }.copysign(y);
    }
    if x == 0.0 {
        return FRAC_PI_2.copysign(y);
    }
    if x.is_infinite() {
        let angle = match (x > 0.0, y.is_infinite()) {
            (true, true) => FRAC_PI_4,
            (true, false) => 0.0,
            (false, true) => 3.0 * FRAC_PI_4,
            (false, false) => PI,
        };
        return angle.copysign(y);
    }
    if y.is_infinite() {
        return FRAC_PI_2.copysign(y);
    }
    let angle = atan(y / x);
    match (x < 0.0, angle <= 0.0) {
        (true, true) => angle + PI,
        (true, false) => angle - PI,
        (false, _) => angle,
    }
}
