//! Hyperbolic functions and their inverses.

use std::f64::consts::LN_2;

use crate::promql::functions::elementary::exponential::{exp, ln, ln_1p};
use crate::promql::functions::elementary::horner;

/// From here on `√(x² ± 1)` is `x`.
const LARGE: f64 = 268_435_456.0;
/// Below this the functions are the identity.
const NEAR_ZERO: f64 = 1.0 / LARGE;

/// An odd function by what it is for positive numbers.
fn odd(x: f64, positive: impl Fn(f64) -> f64) -> f64 {
    if x < 0.0 { -positive(-x) } else { positive(x) }
}

pub(crate) fn sinh(x: f64) -> f64 {
    const P: [f64; 4] = [
        -2.630_563_213_397_497e1,
        -2.894_211_355_989_564e3,
        -8.991_272_022_039_509e4,
        -6.307_673_640_497_717e5,
    ];
    const Q: [f64; 4] =
        [1.0, -1.736_789_535_582_337e2, 1.521_517_378_790_019e4, -6.307_673_640_497_717e5];
    odd(x, |x| {
        if x > 21.0 {
            exp(x) * 0.5
        } else if x > 0.5 {
            let grown = exp(x);
            (grown - 1.0 / grown) * 0.5
        } else {
            let square = x * x;
            let above = horner(square, &P) * x;
            above / horner(square, &Q)
        }
    })
}

pub(crate) fn cosh(x: f64) -> f64 {
    let grown = exp(x.abs());
    if x.abs() > 21.0 { grown * 0.5 } else { (grown + 1.0 / grown) * 0.5 }
}

pub(crate) fn tanh(x: f64) -> f64 {
    const P: [f64; 3] =
        [-9.643_991_794_250_523e-1, -9.928_772_310_019_185e1, -1.614_687_684_417_084_5e3];
    const Q: [f64; 4] =
        [1.0, 1.128_116_784_916_329_3e2, 2.235_488_390_601_004_5e3, 4.844_063_053_251_255e3];
    /// ln 2^127, half of it.
    const ONE_FROM: f64 = 0.5 * 8.802_969_193_111_305e1;
    let size = x.abs();
    if size > ONE_FROM {
        1.0_f64.copysign(x)
    } else if size >= 0.625 {
        let square = exp(2.0 * size);
        (1.0 - 2.0 / (square + 1.0)).copysign(x)
    } else if x == 0.0 {
        x
    } else {
        let s = x * x;
        x + x * s * horner(s, &P) / horner(s, &Q)
    }
}

pub(crate) fn asinh(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    odd(x, |x| {
        if x > LARGE {
            ln(x) + LN_2
        } else if x > 2.0 {
            ln(2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x))
        } else if x < NEAR_ZERO {
            x
        } else {
            ln_1p(x + x * x / (1.0 + (1.0 + x * x).sqrt()))
        }
    })
}

pub(crate) fn acosh(x: f64) -> f64 {
    if x < 1.0 || x.is_nan() {
        f64::NAN
    } else if x == 1.0 {
        0.0
    } else if x >= LARGE {
        ln(x) + LN_2
    } else if x > 2.0 {
        ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()))
    } else {
        let above = x - 1.0;
        ln_1p(above + (2.0 * above + above * above).sqrt())
    }
}

pub(crate) fn atanh(x: f64) -> f64 {
    if x.abs() > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    if x.abs() == 1.0 {
        return f64::INFINITY.copysign(x);
    }
    odd(x, |x| {
        if x < NEAR_ZERO {
            x
        } else if x < 0.5 {
            let twice = x + x;
            0.5 * ln_1p(twice + twice * x / (1.0 - x))
        } else {
            0.5 * ln_1p((x + x) / (1.0 - x))
        }
    })
}
