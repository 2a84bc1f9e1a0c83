//! Parts of a date: functions of a Unix time in seconds, in UTC.

use crate::promql::types::FunctionId;

const SECONDS_PER_DAY: i64 = 86_400;

/// The function of a time that a name stands for, if it is one.
pub fn function(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Minute => |time| part(time, |_, second| second % 3_600 / 60),
        FunctionId::Hour => |time| part(time, |_, second| second / 3_600),
        // The epoch was a Thursday, and Sunday is 0.
        FunctionId::DayOfWeek => |time| part(time, |day, _| (day + 4).rem_euclid(7)),
        FunctionId::DayOfMonth => |time| part(time, |day, _| Date::of(day).day),
        FunctionId::DayOfYear => {
            |time| part(time, |day, _| day - first_day(Date::of(day).year, 1) + 1)
        }
        FunctionId::DaysInMonth => |time| {
            part(time, |day, _| {
                let Date { year, month, .. } = Date::of(day);
                let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                first_day(next_year, next) - first_day(year, month)
            })
        },
        FunctionId::Month => |time| part(time, |day, _| Date::of(day).month),
        FunctionId::Year => |time| part(time, |day, _| Date::of(day).year),
        _ => return None,
    })
}

/// A part of a time, by its day since 1970 and the second of that day.
///
/// Prometheus makes a 64-bit integer of the number, which on amd64 turns NaN and all that does not
/// fit into the lowest one, and its calendar counts in 64 bits without a sign: what lies before
/// its first day is 2^64 seconds later. So NaN is a Sunday in December 292277026596, there and
/// here.
#[expect(clippy::cast_possible_truncation, reason = "cut towards zero, and it fits")]
fn part(time: f64, part: impl Fn(i64, i64) -> i64) -> f64 {
    /// 2^63, the first number of seconds that does not fit.
    const SECONDS_END: f64 = 9_223_372_036_854_775_808.0;
    /// 1 January of the year −292277022399.
    const FIRST_SECOND: i64 = -9_223_372_028_715_321_600;
    let seconds = if time.is_nan() || time.abs() >= SECONDS_END { i64::MIN } else { time as i64 };
    let later = if seconds < FIRST_SECOND { 1_i128 << 64 } else { 0 };
    let seconds = i128::from(seconds) + later;
    let day = seconds.div_euclid(SECONDS_PER_DAY.into()) as i64;
    part(day, seconds.rem_euclid(SECONDS_PER_DAY.into()) as i64) as f64
}

/// A day of the Gregorian calendar.
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

/// Days from 0000-03-01 to the epoch. Counting from March, the leap day is a year's last.
const EPOCH: i64 = 719_468;
const DAYS_PER_ERA: i64 = 146_097;

impl Date {
    /// The date `days` after the epoch. In eras of 400 years, which all have the same length.
    fn of(days: i64) -> Date {
        let days = days + EPOCH;
        let era = days.div_euclid(DAYS_PER_ERA);
        let of_era = days.rem_euclid(DAYS_PER_ERA);
        let year_of_era =
            (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (DAYS_PER_ERA - 1)) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }
}

/// Days from the epoch to the first of a month.
fn first_day(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march_month + 2) / 5;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * DAYS_PER_ERA + of_era - EPOCH
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, Timelike};

    use super::*;

    #[test]
    fn parts_are_those_of_the_calendar() {
        let apply = |id, time: i64| function(id).unwrap()(time as f64);
        // Steps that are no multiple of anything, over leap years and centuries.
        for time in (-80_000_000_000i64..80_000_000_000).step_by(37_777_777) {
            let date = DateTime::from_timestamp(time, 0).unwrap();
            assert_eq!(apply(FunctionId::Minute, time), f64::from(date.minute()), "{date}");
            assert_eq!(apply(FunctionId::Hour, time), f64::from(date.hour()), "{date}");
            let weekday = date.weekday().num_days_from_sunday();
            assert_eq!(apply(FunctionId::DayOfWeek, time), f64::from(weekday), "{date}");
            assert_eq!(apply(FunctionId::DayOfMonth, time), f64::from(date.day()), "{date}");
            assert_eq!(apply(FunctionId::DayOfYear, time), f64::from(date.ordinal()), "{date}");
            assert_eq!(apply(FunctionId::Month, time), f64::from(date.month()), "{date}");
            assert_eq!(apply(FunctionId::Year, time), f64::from(date.year()), "{date}");
            let days = u32::from(date.num_days_in_month());
            assert_eq!(apply(FunctionId::DaysInMonth, time), f64::from(days), "{date}");
        }
    }

    #[test]
    fn fractions_are_cut_and_nonsense_is_the_end_of_time() {
        let apply = |id, time: f64| function(id).unwrap()(time);
        assert_eq!(apply(FunctionId::Minute, 59.999), 0.0);
        assert_eq!(apply(FunctionId::Minute, -0.5), 0.0);
        assert_eq!(apply(FunctionId::DaysInMonth, 951_782_400.0), 29.0);
        for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            for (id, expected) in [
                (FunctionId::Year, 292_277_026_596.0),
                (FunctionId::Month, 12.0),
                (FunctionId::DayOfMonth, 4.0),
                (FunctionId::DayOfYear, 339.0),
                (FunctionId::DaysInMonth, 31.0),
                (FunctionId::DayOfWeek, 0.0),
                (FunctionId::Hour, 15.0),
                (FunctionId::Minute, 30.0),
            ] {
                assert_eq!(apply(id, nonsense), expected, "{id:?} of {nonsense}");
            }
        }
        assert_eq!(apply(FunctionId::Year, -9e18), -285_198_644_592.0);
        assert!(function(FunctionId::Time).is_none());
    }
}
