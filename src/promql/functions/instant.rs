//! Functions of one number at a time.

use std::f64::consts::PI;

use crate::promql::functions::elementary;
use crate::promql::types::FunctionId;

/// The function of one number that a name stands for, if it is one.
pub fn function(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Abs => f64::abs,
        FunctionId::Ceil => f64::ceil,
        FunctionId::Floor => f64::floor,
        FunctionId::Exp => elementary::exp,
        FunctionId::Ln => elementary::ln,
        FunctionId::Log2 => elementary::log2,
        FunctionId::Log10 => elementary::log10,
        FunctionId::Sqrt => f64::sqrt,
        FunctionId::Sgn => sgn,
        FunctionId::Sin => elementary::sin,
        FunctionId::Cos => elementary::cos,
        FunctionId::Tan => elementary::tan,
        FunctionId::Asin => elementary::asin,
        FunctionId::Acos => elementary::acos,
        FunctionId::Atan => elementary::atan,
        FunctionId::Sinh => elementary::sinh,
        FunctionId::Cosh => elementary::cosh,
        FunctionId::Tanh => elementary::tanh,
        FunctionId::Asinh => elementary::asinh,
        FunctionId::Acosh => elementary::acosh,
        FunctionId::Atanh => elementary::atanh,
        FunctionId::Deg => |radians| radians * 180.0 / PI,
        FunctionId::Rad => |degrees| degrees * PI / 180.0,
        _ => return None,
    })
}

/// The sign: −1, 0 or 1; zeros keep theirs, NaN stays.
pub fn sgn(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// The nearest multiple of `to_nearest`, halves up.
pub fn round(value: f64, to_nearest: f64) -> f64 {
    // Inverted first, as in Prometheus: fewer errors for fractions such as 0.1.
    let inverse = 1.0 / to_nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// The value, but not below `min` nor above `max`; nothing at all if there is no such number. NaN
/// stays, unless a bound is the infinity that all values are beyond.
pub fn clamp(value: f64, min: f64, max: f64) -> Option<f64> {
    let is_empty = max < min;
    (!is_empty).then(|| elementary::max(min, elementary::min(max, value)))
}

/// The value, but not above `max`.
pub fn clamp_max(value: f64, max: f64) -> f64 {
    elementary::max(f64::NEG_INFINITY, elementary::min(max, value))
}

/// The value, but not below `min`.
pub fn clamp_min(value: f64, min: f64) -> f64 {
    elementary::max(min, elementary::min(f64::INFINITY, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(id: FunctionId, value: f64) -> f64 {
        function(id).unwrap()(value)
    }

    #[test]
    fn signs_and_roots() {
        assert_eq!(apply(FunctionId::Abs, -1.5), 1.5);
        assert_eq!(apply(FunctionId::Sgn, -3.0), -1.0);
        assert_eq!(apply(FunctionId::Sgn, f64::INFINITY), 1.0);
        assert!(apply(FunctionId::Sgn, -0.0).is_sign_negative());
        assert!(apply(FunctionId::Sgn, f64::NAN).is_nan());
        assert!(apply(FunctionId::Sqrt, -1.0).is_nan());
        assert_eq!(apply(FunctionId::Deg, PI), 180.0);
        assert_eq!(apply(FunctionId::Rad, 180.0), PI);
        assert!(function(FunctionId::Rate).is_none());
    }

    #[test]
    fn logarithms_at_their_edges() {
        assert_eq!(apply(FunctionId::Log10, 1_000.0), 3.0);
        assert_eq!(apply(FunctionId::Log2, 1_024.0), 10.0);
        assert_eq!(apply(FunctionId::Ln, 1.0), 0.0);
        for id in [FunctionId::Ln, FunctionId::Log2, FunctionId::Log10] {
            assert_eq!(apply(id, 0.0), f64::NEG_INFINITY);
            assert_eq!(apply(id, f64::INFINITY), f64::INFINITY);
            assert!(apply(id, -1.0).is_nan() && apply(id, f64::NAN).is_nan());
        }
    }

    #[test]
    fn rounding_takes_halves_up() {
        for (value, to_nearest, expected) in [
            (2.5, 1.0, 3.0),
            (-2.5, 1.0, -2.0),
            (0.5, 1.0, 1.0),
            (7.3, 5.0, 5.0),
            (0.15, 0.1, 0.2),
            (123.0, 0.5, 123.0),
        ] {
            assert_eq!(round(value, to_nearest), expected, "{value} {to_nearest}");
        }
        assert!(round(1.0, 0.0).is_nan());
        assert!(round(f64::NAN, 1.0).is_nan());
    }

    #[test]
    fn clamping_keeps_nan_and_refuses_empty_ranges() {
        assert_eq!(clamp(5.0, 0.0, 3.0), Some(3.0));
        assert_eq!(clamp(-5.0, 0.0, 3.0), Some(0.0));
        assert_eq!(clamp(1.0, 3.0, 0.0), None);
        assert!(clamp(f64::NAN, 0.0, 3.0).is_some_and(f64::is_nan));
        assert!(clamp(1.0, f64::NAN, 3.0).is_some_and(f64::is_nan));
        assert!(clamp_max(1.0, f64::NAN).is_nan());
        assert_eq!(clamp_min(1.0, f64::NEG_INFINITY), 1.0);
        assert_eq!(clamp_min(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(clamp_max(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(clamp_min(f64::NAN, 0.0).is_nan());
    }
}
