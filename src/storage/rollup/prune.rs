//! Which pages of a row group may hold what is wanted, by the statistics in the file's footer.

use std::ops::Range;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;

use crate::model::{Matcher, Span};

/// What must hold of a column's values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need<'a> {
    Text(&'a Matcher),
    Time(Span),
    /// Not null.
    Present,
}

/// Rows of a row group: ascending, disjoint, none empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows(pub(crate) Vec<Range<usize>>);

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_disjoint(&self, other: &Self) -> bool {
        self.intersect(other).is_empty()
    }

    fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (0, 0);
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (self.0.get(left), other.0.get(right)) {
            let range = a.start.max(b.start)..a.end.min(b.end);
            if !range.is_empty() {
                both.push(range);
            }
            if a.end < b.end { left += 1 } else { right += 1 }
        }
        Self(both)
    }

    fn push(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.0.push(range),
        }
    }
}

/// The rows of row group `group` in pages for which all needs may hold.
pub(crate) fn pages_of(
    metadata: &ParquetMetaData,
    group: usize,
    needs: &[(usize, Need<'_>)],
) -> Rows {
    let row_group = metadata.row_group(group);
    let row_count = usize::try_from(row_group.num_rows()).unwrap_or(0);
    let mut rows = Rows(Vec::new());
    rows.push(0..row_count);
    for (column, need) in needs {
        let statistics = row_group.column(*column).statistics();
        if statistics.is_some_and(|statistics| !of_statistics(statistics, row_count, *need)) {
            return Rows(Vec::new());
        }
        if let Some(pages) = of_pages(metadata, group, *column, row_count, *need) {
            rows = rows.intersect(&pages);
        }
    }
    rows
}

fn of_statistics(statistics: &Statistics, row_count: usize, need: Need<'_>) -> bool {
    let nulls = statistics.null_count_opt();
    let all_null = nulls.is_some_and(|nulls| nulls == row_count as u64);
    let has_nulls = nulls.is_none_or(|nulls| nulls > 0);
    match statistics {
        Statistics::Int64(values) => need.may_hold_times(values.min_opt(), values.max_opt()),
        _ => need.may_hold(
            statistics.min_bytes_opt(),
            statistics.max_bytes_opt(),
            all_null,
            has_nulls,
        ),
    }
}

/// `None` if the file has no index of the column's pages.
fn of_pages(
    metadata: &ParquetMetaData,
    group: usize,
    column: usize,
    row_count: usize,
    need: Need<'_>,
) -> Option<Rows> {
    let index = metadata.column_index()?.get(group)?.get(column)?;
    let pages = metadata.offset_index()?.get(group)?.get(column)?.page_locations();
    if index.num_pages() != pages.len() as u64 {
        return None;
    }
    let mut rows = Rows(Vec::new());
    for (number, page) in pages.iter().enumerate() {
        let all_null = index.is_null_page(number);
        let has_nulls = index.null_count(number).is_none_or(|nulls| nulls > 0);
        let keep = match index {
            ColumnIndexMetaData::BYTE_ARRAY(values) => need.may_hold(
                values.min_value(number),
                values.max_value(number),
                all_null,
                has_nulls,
            ),
            ColumnIndexMetaData::INT64(values) => {
                need.may_hold_times(values.min_value(number), values.max_value(number))
            }
            ColumnIndexMetaData::NONE => return None,
            _ => true,
        };
        if keep {
            let first = |number: usize| {
                let page = pages.get(number).map(|page| usize::try_from(page.first_row_index));
                page.map_or(row_count, |row| row.unwrap_or(row_count)).min(row_count)
            };
            let start = usize::try_from(page.first_row_index).unwrap_or(row_count).min(row_count);
            rows.push(start..first(number + 1).max(start));
        }
    }
    Some(rows)
}

impl Need<'_> {
    /// Whether no metric name between the two can match.
    pub(crate) fn excludes_metrics(self, (first, last): (&str, &str)) -> bool {
        !self.may_hold(Some(first.as_bytes()), Some(last.as_bytes()), false, false)
    }

    /// Whether it certainly holds for every row of the file.
    pub(crate) fn holds_for_all(self, metadata: &ParquetMetaData, column: usize) -> bool {
        let Need::Time(span) = self else { return false };
        metadata.row_groups().iter().all(|group| match group.column(column).statistics() {
            Some(Statistics::Int64(values)) => match (values.min_opt(), values.max_opt()) {
                (Some(min), Some(max)) => span.contains(*min) && span.contains(*max),
                _ => false,
            },
            _ => false,
        })
    }

    fn may_hold_times(self, min: Option<&i64>, max: Option<&i64>) -> bool {
        match (self, min, max) {
            (Need::Time(span), Some(min), Some(max)) => span.start < *max && *min <= span.end,
            _ => true,
        }
    }

    /// Bounds may be wider than the values; they are equal only if there is just one value.
    fn may_hold(
        self,
        min: Option<&[u8]>,
        max: Option<&[u8]>,
        all_null: bool,
        has_nulls: bool,
    ) -> bool {
        match self {
            Need::Time(_) => true,
            Need::Present => !all_null,
            Need::Text(matcher) if all_null => matcher.matches_empty(),
            Need::Text(matcher) if has_nulls && matcher.matches_empty() => true,
            Need::Text(matcher) => match (min, max) {
                (Some(min), Some(max)) => may_match(matcher, min, max),
                _ => true,
            },
        }
    }
}

/// Whether a text between the bounds may match.
fn may_match(matcher: &Matcher, min: &[u8], max: &[u8]) -> bool {
    if min == max
        && let Ok(value) = std::str::from_utf8(min)
    {
        return matcher.matches(value);
    }
    if matcher.op().is_negative() {
        return true;
    }
    if let Some(values) = matcher.accepted_set() {
        return values.iter().any(|value| min <= value.as_bytes() && value.as_bytes() <= max);
    }
    let prefix = matcher.accepted_prefix().as_bytes();
    (min < prefix || min.starts_with(prefix)) && prefix <= max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MatchOp;

    fn may(op: MatchOp, value: &str, min: &str, max: &str) -> bool {
        let matcher = Matcher::new(op, "l", value).unwrap();
        may_match(&matcher, min.as_bytes(), max.as_bytes())
    }

    #[test]
    fn bounds_rule_out_what_cannot_lie_between_them() {
        assert!(may(MatchOp::Equal, "b", "a", "c") && !may(MatchOp::Equal, "d", "a", "c"));
        assert!(may(MatchOp::Regex, "x|b", "a", "c") && !may(MatchOp::Regex, "x|y", "a", "c"));
        assert!(may(MatchOp::Regex, "node.*", "a", "node_x"));
        assert!(may(MatchOp::Regex, "node.*", "node_a", "z"));
        assert!(
            !may(MatchOp::Regex, "node.*", "nodf", "z")
                && !may(MatchOp::Regex, "node.*", "a", "nod")
        );
        assert!(!may(MatchOp::NotEqual, "a", "a", "a") && may(MatchOp::NotEqual, "a", "a", "b"));
        assert!(!may(MatchOp::NotRegex, "a.*", "ab", "ab"));
        assert!(may(MatchOp::Regex, ".*", "a", "b"));
    }

    #[test]
    fn rows_intersect() {
        let left = Rows(vec![0..10, 20..30]);
        let right = Rows(vec![5..22, 29..40]);
        assert_eq!(left.intersect(&right), Rows(vec![5..10, 20..22, 29..30]));
        assert!(left.is_disjoint(&Rows(vec![10..15, 16..20])));
    }
}
