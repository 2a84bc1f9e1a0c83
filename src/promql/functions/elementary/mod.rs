//! Elementary functions whose every bit is that of Prometheus on amd64.
//!
//! The last digit of a logarithm or a tangent depends on how it is computed, and Prometheus
//! computes with Go's `math` package: FDLIBM's and Cephes' approximations, and for `exp` a Taylor
//! series. Here are the same approximations, evaluated in the same order. What is exact anyway
//! (roots, remainders, rounding) is left to the hardware.
//!
//! Invariant: no intermediate result is fused or reordered, as that would change last bits.
//!
//! Source of the approximations: FDLIBM 5.3 (`e_log.c`, `s_log1p.c`), Cephes 2.8 (`sin.c`, `tan.c`,
//! `atan.c`, `asin.c`, `tanh.c`), N. Shibata, "Efficient evaluation methods of elementary functions
//! suitable for SIMD computation" (2010), M. Payne and R. Hanek, "Radian reduction for
//! trigonometric functions" (1983).

#[cfg(test)]
mod cases;
mod exponential;
mod hyperbolic;
mod trigonometric;

pub(crate) use exponential::{exp, ln, log2, log10, pow};
pub(crate) use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub(crate) use trigonometric::{acos, asin, atan, atan2, cos, sin, tan};

/// The larger of both as IEEE 754's `maximum`, but that infinity beats NaN.
pub(crate) fn max(one: f64, two: f64) -> f64 {
    if one == f64::INFINITY || two == f64::INFINITY {
        return f64::INFINITY;
    }
    if one.is_nan() || two.is_nan() {
        return f64::NAN;
    }
    if one == 0.0 && two == 0.0 {
        return if one.is_sign_negative() { two } else { one };
    }
    if one > two { one } else { two }
}

/// The smaller of both, likewise.
pub(crate) fn min(one: f64, two: f64) -> f64 {
    -max(-one, -two)
}

/// A polynomial by Horner's rule, its highest coefficient first.
fn horner(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().copied().reduce(|sum, next| sum * x + next).unwrap_or_default()
}

/// `fraction` and `exponent` such that `x` is `fraction · 2^exponent` and the fraction's magnitude
/// is in `[0.5, 1)`. `x` is finite and not zero.
fn split(x: f64) -> (f64, i32) {
    const EXPONENT: u64 = 0x7ff << 52;
    // Numbers below the normal ones have no exponent of their own.
    let (x, shift) = if x.abs() < f64::MIN_POSITIVE { (x * TWO_52, -52) } else { (x, 0) };
    let bits = x.to_bits();
    let exponent = ((bits & EXPONENT) >> 52) as i32 - 1_022;
    (f64::from_bits(bits & !EXPONENT | 1_022 << 52), exponent + shift)
}

/// 2^52
const TWO_52: f64 = 4503599627370496.0;

/// `x · 2^exponent`, rounded once.
fn scale(x: f64, exponent: i32) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let (fraction, own) = split(x);
    match own.saturating_add(exponent) {
        ..=-1_075 => 0.0_f64.copysign(x),
        1_025.. => f64::INFINITY.copysign(x),
        // The first product is exact; the second rounds if the result is below normal numbers.
        small @ ..=-1_022 => fraction * power_of_two(small + 53) * power_of_two(-53),
        normal => fraction * 2.0 * power_of_two(normal - 1),
    }
}

/// `2^exponent` for the exponent of a normal number.
#[expect(clippy::cast_sign_loss, reason = "biased exponents are positive")]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1_023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimum_and_maximum_at_their_edges() {
        let inf = f64::INFINITY;
        assert_eq!(max(f64::NAN, inf), inf);
        assert_eq!(min(-inf, f64::NAN), -inf);
        assert!(max(f64::NAN, -inf).is_nan() && min(inf, f64::NAN).is_nan());
        assert!(max(-0.0, 0.0).is_sign_positive() && max(0.0, -0.0).is_sign_positive());
        assert!(min(-0.0, 0.0).is_sign_negative() && max(-0.0, -0.0).is_sign_negative());
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
    }

    #[test]
    fn numbers_are_taken_apart_and_put_together() {
        for x in [1.0, -0.75, 1e300, f64::MIN_POSITIVE, 5e-324, -1e-310] {
            let (fraction, exponent) = split(x);
            assert!((0.5..1.0).contains(&fraction.abs()), "{x}");
            assert_eq!(scale(fraction, exponent), x);
        }
        assert_eq!(scale(1.0, -1_074), 5e-324);
        assert_eq!(scale(0.75, -1_074), 5e-324);
        assert_eq!(scale(1.0, -1_076), 0.0);
        assert_eq!(scale(1.0, 1_024), f64::INFINITY);
        assert_eq!(scale(-1.5, i32::MAX), f64::NEG_INFINITY);
    }

    /// Bits that Prometheus 2.42 gave: input and output.
    #[test]
    fn last_bits_are_those_of_prometheus() {
        for (name, function, pairs) in cases::CASES {
            for (input, expected) in *pairs {
                let got = function(f64::from_bits(*input)).to_bits();
                let input = f64::from_bits(*input);
                assert_eq!(got, *expected, "{name}({input}) = {}", f64::from_bits(got));
            }
        }
        for (base, exponent, expected) in cases::POWERS {
            let (base, exponent) = (f64::from_bits(*base), f64::from_bits(*exponent));
            assert_eq!(pow(base, exponent).to_bits(), *expected, "{base} ^ {exponent}");
        }
    }
}
