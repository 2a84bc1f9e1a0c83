//! Checked label sets of new series. Runs once per series, not once per sample.

use std::borrow::Cow;

use crate::ingest::error::LineErrorCode;
use crate::ingest::limits::Limits;
use crate::model::{Labels, LabelsError, METRIC_NAME};

/// Why a label set is refused.
pub(crate) type Refusal = (LineErrorCode, Cow<'static, str>);

/// Builds the label set of `pairs` and `extra_labels`, which replace labels of the same name.
/// Pairs with an empty value are left out, the rest must have a metric name and keep the limits.
pub(crate) fn checked<'a>(
    mut pairs: Vec<(&'a str, &'a str)>,
    extra_labels: &'a [(String, String)],
    limits: &Limits,
) -> Result<Labels, Refusal> {
    if !extra_labels.is_empty() {
        pairs.retain(|(name, _)| extra_labels.iter().all(|(extra, _)| extra != name));
        pairs.extend(extra_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    }
    let over = |what: &str, is: usize, setting: &str, max: usize| {
        Err((LineErrorCode::LimitExceeded, format!("{what} is {is}, {setting} is {max}").into()))
    };
    for (name, value) in &pairs {
        if name.len() > limits.label_name_bytes_max {
            let max = limits.label_name_bytes_max;
            return over("the length of a label name", name.len(), "label_name_bytes_max", max);
        }
        if value.len() > limits.label_value_bytes_max {
            let what = format!("the length of the value of {name:?}");
            let max = limits.label_value_bytes_max;
            return over(&what, value.len(), "label_value_bytes_max", max);
        }
    }
    let labels = Labels::from_pairs(pairs)
        .map_err(|error: LabelsError| (LineErrorCode::BadLabels, Cow::Owned(error.to_string())))?;
    if labels.metric_name().is_empty() {
        let message = format!("no metric name ({METRIC_NAME})");
        return Err((LineErrorCode::BadLabels, message.into()));
    }
    if labels.is_companion() {
        let message =
            "metric names of this ending hold start timestamps, of remote write 2.0 alone";
        return Err((LineErrorCode::BadLabels, message.into()));
    }
    if labels.as_bytes().len() > limits.series_key_bytes_max {
        let max = limits.series_key_bytes_max;
        return over(
            "the length of the series",
            labels.as_bytes().len(),
            "series_key_bytes_max",
            max,
        );
    }
    let count = labels.iter().count() - 1;
    if count > limits.labels_per_series_max {
        let max = limits.labels_per_series_max;
        return over("the number of labels", count, "labels_per_series_max", max);
    }
    Ok(labels)
}
