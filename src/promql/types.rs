//! The types of PromQL's values, and the signatures of its functions.

use std::fmt;

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    String,
    /// An instant vector: at most one sample per series.
    Instant,
    /// A range vector: many samples per series.
    Range,
}

impl ValueType {
    /// As Prometheus' API names it: `scalar`, `string`, `vector`, `matrix`.
    pub fn api_name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Instant => "vector",
            ValueType::Range => "matrix",
        }
    }
}

/// As the documentation and error texts name it.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Instant => "instant vector",
            ValueType::Range => "range vector",
        })
    }
}

/// How many arguments a function takes beyond what [`Function::args`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly those listed.
    Exact,
    /// The last listed one may be left out or, from the second on, repeated: at most this many.
    UpTo(usize),
    /// The last listed one may be left out or repeated without end.
    Any,
}

impl Arity {
    /// Prometheus' number for it.
    pub fn variadic(self) -> i64 {
        match self {
            Arity::Exact => 0,
            Arity::UpTo(count) => i64::try_from(count).unwrap_or(i64::MAX),
            Arity::Any => -1,
        }
    }
}

/// A function's signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub id: FunctionId,
    pub name: &'static str,
    pub args: &'static [ValueType],
    pub arity: Arity,
    pub returns: ValueType,
    /// Whether Prometheus calls it experimental; here it works like any other.
    pub is_experimental: bool,
}

impl Function {
    /// Whether the result depends on the time of the step beyond what the arguments do.
    /// Source: prometheus/promql/functions.go, `AtModifierUnsafeFunctions`.
    pub(crate) fn looks_at_steps(&self) -> bool {
        use FunctionId as F;
        matches!(
            self.id,
            F::DaysInMonth
                | F::DayOfMonth
                | F::DayOfWeek
                | F::DayOfYear
                | F::End
                | F::Hour
                | F::Minute
                | F::Month
                | F::PredictLinear
                | F::Range
                | F::Start
                | F::Step
                | F::Time
                | F::Timestamp
                | F::Year
        )
    }

    /// The function of this name.
    pub fn by_name(name: &str) -> Option<&'static Function> {
        let at = FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok()?;
        Some(&FUNCTIONS[at])
    }

    /// Fewest arguments of a call.
    pub fn args_min(&self) -> usize {
        match self.arity {
            Arity::Exact => self.args.len(),
            Arity::UpTo(_) | Arity::Any => self.args.len().saturating_sub(1),
        }
    }

    /// Most arguments of a call, if there is a bound.
    pub fn args_max(&self) -> Option<usize> {
        match self.arity {
            Arity::Exact => Some(self.args.len()),
            Arity::UpTo(count) => Some(self.args_min() + count),
            Arity::Any => None,
        }
    }

    /// The type that argument `index` must have.
    pub fn arg_type(&self, index: usize) -> Option<ValueType> {
        self.args.get(index).or(self.args.last()).copied()
    }
}

macro_rules! functions {
    ($($id:ident $name:literal ($($arg:ident),*) $arity:expr => $returns:ident $($experimental:ident)?;)*) => {
        /// Every function by itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FunctionId { $($id),* }

        /// All functions, sorted by name.
        pub static FUNCTIONS: &[Function] = &[$(Function {
            id: FunctionId::$id,
            name: $name,
            args: &[$(ValueType::$arg),*],
            arity: $arity,
            returns: ValueType::$returns,
            is_experimental: functions!(@experimental $($experimental)?),
        }),*];
    };
    (@experimental experimental) => { true };
    (@experimental) => { false };
}

use Arity::{Any, Exact, UpTo};

functions! {
    Abs "abs" (Instant) Exact => Instant;
    Absent "absent" (Instant) Exact => Instant;
    AbsentOverTime "absent_over_time" (Range) Exact => Instant;
    Acos "acos" (Instant) Exact => Instant;
    Acosh "acosh" (Instant) Exact => Instant;
    Asin "asin" (Instant) Exact => Instant;
    Asinh "asinh" (Instant) Exact => Instant;
    Atan "atan" (Instant) Exact => Instant;
    Atanh "atanh" (Instant) Exact => Instant;
    AvgOverTime "avg_over_time" (Range) Exact => Instant;
    Ceil "ceil" (Instant) Exact => Instant;
    Changes "changes" (Range) Exact => Instant;
    Clamp "clamp" (Instant, Scalar, Scalar) Exact => Instant;
    ClampMax "clamp_max" (Instant, Scalar) Exact => Instant;
    ClampMin "clamp_min" (Instant, Scalar) Exact => Instant;
    Cos "cos" (Instant) Exact => Instant;
    Cosh "cosh" (Instant) Exact => Instant;
    CountOverTime "count_over_time" (Range) Exact => Instant;
    DayOfMonth "day_of_month" (Instant) UpTo(1) => Instant;
    DayOfWeek "day_of_week" (Instant) UpTo(1) => Instant;
    DayOfYear "day_of_year" (Instant) UpTo(1) => Instant;
    DaysInMonth "days_in_month" (Instant) UpTo(1) => Instant;
    Deg "deg" (Instant) Exact => Instant;
    Delta "delta" (Range) Exact => Instant;
    Deriv "deriv" (Range) Exact => Instant;
    DoubleExponentialSmoothing "double_exponential_smoothing" (Range, Scalar, Scalar) Exact => Instant experimental;
    End "end" () Exact => Scalar experimental;
    Exp "exp" (Instant) Exact => Instant;
    FirstOverTime "first_over_time" (Range) Exact => Instant;
    Floor "floor" (Instant) Exact => Instant;
    HistogramAvg "histogram_avg" (Instant) Exact => Instant;
    HistogramCount "histogram_count" (Instant) Exact => Instant;
    HistogramFraction "histogram_fraction" (Scalar, Scalar, Instant) Exact => Instant;
    HistogramQuantile "histogram_quantile" (Scalar, Instant) Exact => Instant;
    HistogramQuantiles "histogram_quantiles" (Instant, String, Scalar, Scalar) UpTo(9) => Instant experimental;
    HistogramStddev "histogram_stddev" (Instant) Exact => Instant;
    HistogramStdvar "histogram_stdvar" (Instant) Exact => Instant;
    HistogramSum "histogram_sum" (Instant) Exact => Instant;
    Hour "hour" (Instant) UpTo(1) => Instant;
    Idelta "idelta" (Range) Exact => Instant;
    Increase "increase" (Range) Exact => Instant;
    Info "info" (Instant, Instant) UpTo(1) => Instant experimental;
    Irate "irate" (Range) Exact => Instant;
    LabelJoin "label_join" (Instant, String, String, String) Any => Instant;
    LabelReplace "label_replace" (Instant, String, String, String, String) Exact => Instant;
    LastOverTime "last_over_time" (Range) Exact => Instant;
    Ln "ln" (Instant) Exact => Instant;
    Log10 "log10" (Instant) Exact => Instant;
    Log2 "log2" (Instant) Exact => Instant;
    MadOverTime "mad_over_time" (Range) Exact => Instant experimental;
    MaxOf "max_of" (Scalar, Scalar) Exact => Scalar experimental;
    MaxOverTime "max_over_time" (Range) Exact => Instant;
    MinOf "min_of" (Scalar, Scalar) Exact => Scalar experimental;
    MinOverTime "min_over_time" (Range) Exact => Instant;
    Minute "minute" (Instant) UpTo(1) => Instant;
    Month "month" (Instant) UpTo(1) => Instant;
    Pi "pi" () Exact => Scalar;
    PredictLinear "predict_linear" (Range, Scalar) Exact => Instant;
    PresentOverTime "present_over_time" (Range) Exact => Instant;
    QuantileOverTime "quantile_over_time" (Scalar, Range) Exact => Instant;
    Rad "rad" (Instant) Exact => Instant;
    Range "range" () Exact => Scalar experimental;
    Rate "rate" (Range) Exact => Instant;
    Resets "resets" (Range) Exact => Instant;
    Round "round" (Instant, Scalar) UpTo(1) => Instant;
    Scalar "scalar" (Instant) Exact => Scalar;
    Sgn "sgn" (Instant) Exact => Instant;
    Sin "sin" (Instant) Exact => Instant;
    Sinh "sinh" (Instant) Exact => Instant;
    Sort "sort" (Instant) Exact => Instant;
    SortByLabel "sort_by_label" (Instant, String) Any => Instant experimental;
    SortByLabelDesc "sort_by_label_desc" (Instant, String) Any => Instant experimental;
    SortDesc "sort_desc" (Instant) Exact => Instant;
    Sqrt "sqrt" (Instant) Exact => Instant;
    Start "start" () Exact => Scalar experimental;
    StartTimestamp "start_timestamp" (Instant) Exact => Instant experimental;
    StddevOverTime "stddev_over_time" (Range) Exact => Instant;
    StdvarOverTime "stdvar_over_time" (Range) Exact => Instant;
    Step "step" () Exact => Scalar experimental;
    SumOverTime "sum_over_time" (Range) Exact => Instant;
    Tan "tan" (Instant) Exact => Instant;
    Tanh "tanh" (Instant) Exact => Instant;
    Time "time" () Exact => Scalar;
    Timestamp "timestamp" (Instant) Exact => Instant;
    TsOfFirstOverTime "ts_of_first_over_time" (Range) Exact => Instant experimental;
    TsOfLastOverTime "ts_of_last_over_time" (Range) Exact => Instant experimental;
    TsOfMaxOverTime "ts_of_max_over_time" (Range) Exact => Instant experimental;
    TsOfMinOverTime "ts_of_min_over_time" (Range) Exact => Instant experimental;
    Vector "vector" (Scalar) Exact => Instant;
    Year "year" (Instant) UpTo(1) => Instant;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found_by_its_name() {
        let experimental = FUNCTIONS.iter().filter(|function| function.is_experimental).count();
        assert_eq!((FUNCTIONS.len() - experimental, experimental), (73, 17));
        for function in FUNCTIONS {
            assert_eq!(Function::by_name(function.name), Some(function));
        }
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
        assert_eq!(Function::by_name("Rate"), None);
    }

    #[test]
    fn optional_and_repeated_arguments_are_counted() {
        let bounds = |name| {
            let function = Function::by_name(name).unwrap();
            (function.args_min(), function.args_max())
        };
        assert_eq!(bounds("rate"), (1, Some(1)));
        assert_eq!(bounds("hour"), (0, Some(1)));
        assert_eq!(bounds("round"), (1, Some(2)));
        assert_eq!(bounds("label_join"), (3, None));
        assert_eq!(bounds("histogram_quantiles"), (3, Some(12)));
    }
}
