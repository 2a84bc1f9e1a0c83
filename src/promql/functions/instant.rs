//! Functions of one number at a time.

use std::f64::consts::PI;

use crate::promql::types::FunctionId;

/// The function of one number that a name stands for, if it is one.
pub fn function(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Abs => f64::abs,
        FunctionId::Ceil => f64::ceil,
        FunctionId::Floor => f64::floor,
        FunctionId::Exp => f64::exp,
        FunctionId::Ln => f64::ln,
        FunctionId::Log2 => f64::log2,
        FunctionId::Log10 => f64::log10,
        FunctionId::Sqrt => f64::sqrt,
        FunctionId::Sgn => sgn,
        FunctionId::Sin => f64::sin,
        FunctionId::Cos => f64::cos,
        FunctionId::Tan => f64::tan,
        FunctionId::Asin => f64::asin,
        FunctionId::Acos => f64::acos,
        FunctionId::Atan => f64::atan,
        FunctionId::Sinh => f64::sinh,
        FunctionId::Cosh => f64::cosh,
        FunctionId::Tanh => f64::tanh,
        FunctionId::Asinh => f64::asinh,
        FunctionId::Acosh => f64::acosh,
        FunctionId::Atanh => f64::atanh,
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

/// The value, but not below `min` nor above `max`; nothing at all if there is no such number.
pub fn clamp(value: f64, min: f64, max: f64) -> Option<f64> {
    let is_empty = max < min;
    (!is_empty).then(|| clamp_min(clamp_max(value, max), min))
}

/// The smaller of both; NaN if one is.
pub fn clamp_max(value: f64, max: f64) -> f64 {
    if value.is_nan() || max.is_nan() { f64::NAN } else { value.min(max) }
}

/// The larger of both; NaN if one is.
pub fn clamp_min(value: f64, min: f64) -> f64 {
    if value.is_nan() || min.is_nan() { f64::NAN } else { value.max(min) }
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
    }
}
