//! The HTTP API as a target: samples go in by remote write, queries through `/api/v1/query` and
//! `/api/v1/query_range`, answers are read from their JSON.

use std::sync::Arc;

use aetherdb::model::Labels;
use aetherdb::promql::{QueryKind, RangeSeries, Value, VectorSample};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use crate::http::Api;
use crate::promqltest::query_options;
use crate::promqltest::store::Store;
use crate::promqltest::target::{Answer, Target};
use crate::remote_write::{self, v2};

/// A server of this process, which is replaced whenever the data change.
pub(crate) struct OverHttp {
    runtime: Runtime,
    api: Option<Arc<Api>>,
}

impl OverHttp {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self { runtime, api: None }
    }
}

impl Target for OverHttp {
    fn load(&mut self, store: &Store) {
        let api = self.runtime.block_on(async {
            let api = Api::start_small(query_options()).await;
            let series: Vec<_> = store.series().collect();
            let mut started = v2::Request::default();
            for (labels, samples) in &series {
                let Some(starts) = store.starts(labels) else { continue };
                let labels: Vec<_> = labels.iter().collect();
                let samples: Vec<_> = samples.iter().map(|(at, value)| (*at, *value)).collect();
                started.push(&labels, &samples, (0, "", ""));
                let written = started.timeseries.last_mut().unwrap();
                for sample in &mut written.samples {
                    let start = starts.get(&sample.timestamp);
                    sample.start_timestamp = start.copied().unwrap_or_default();
                }
            }
            for series in series.chunks(1_000) {
                let body = remote_write::v1(series.iter().map(|(labels, samples)| {
                    let samples = samples.iter().map(|(at, value)| (*at, *value)).collect();
                    (labels.iter().collect(), samples)
                }));
                let answer = api.post("/api/v1/write", remote_write::V1_HEADERS, body).await;
                assert_eq!((answer.status, answer.text()), (204, ""));
            }
            // Start timestamps are added to samples that are there.
            let body = remote_write::packed(&started);
            let answer = api.post("/api/v1/write", remote_write::V2_HEADERS, body).await;
            assert_eq!((answer.status, answer.text()), (204, ""));
            api
        });
        self.api = Some(Arc::new(api));
    }

    fn ask(&self, query: &str, kind: QueryKind) -> Result<Answer, String> {
        let api = self.api.as_ref().expect("data are loaded before the first query");
        let mut form = vec![("query", query.to_owned())];
        let path = match kind {
            QueryKind::Instant { time } => {
                form.push(("time", seconds(time)));
                "/api/v1/query"
            }
            QueryKind::Range { start, end, step_ms } => {
                form.push(("start", seconds(start)));
                form.push(("end", seconds(end)));
                form.push(("step", seconds(step_ms)));
                "/api/v1/query_range"
            }
        };
        let form: Vec<(&str, &str)> = form.iter().map(|(key, value)| (*key, &**value)).collect();
        let answer = self.runtime.block_on(api.post_form(path, &form));
        let json = answer.json();
        if json["status"] == "error" {
            let error = json["error"].as_str().unwrap();
            let about_query = error.strip_prefix("invalid parameter \"query\": ");
            // Evaluation errors are 422, what is wrong with the text is 400.
            let expected = if about_query.is_some() { 400 } else { 422 };
            assert_eq!(answer.status, expected, "{query}: {error}");
            return Err(about_query.unwrap_or(error).to_owned());
        }
        assert_eq!(answer.status, 200, "{query}: {json}");
        let texts = |name: &str| -> Vec<String> {
            let list = json.get(name).and_then(Json::as_array).into_iter().flatten();
            list.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        Ok(Answer {
            value: value(&json["data"]),
            warnings: texts("warnings"),
            infos: texts("infos"),
        })
    }
}

/// Milliseconds as seconds with three decimals, as clients send times.
fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}

fn value(data: &Json) -> Value {
    let result = &data["result"];
    let elements = || result.as_array().unwrap().iter();
    match data["resultType"].as_str().unwrap() {
        "scalar" => {
            let (timestamp, value) = point(result);
            Value::Scalar { timestamp, value }
        }
        "string" => Value::String {
            timestamp: millis(&result[0]),
            text: result[1].as_str().unwrap().to_owned(),
        },
        "vector" => Value::Vector(
            elements()
                .map(|element| {
                    let (timestamp, value) = point(&element["value"]);
                    VectorSample { labels: labels(&element["metric"]), timestamp, value }
                })
                .collect(),
        ),
        "matrix" => Value::Matrix(
            elements()
                .map(|element| {
                    let points = element["values"].as_array().unwrap().iter().map(point);
                    let (timestamps, values) = points.unzip();
                    RangeSeries { labels: labels(&element["metric"]), timestamps, values }
                })
                .collect(),
        ),
        other => panic!("unknown result type {other}"),
    }
}

fn labels(metric: &Json) -> Labels {
    let pairs = metric.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap()))).unwrap()
}

fn point(pair: &Json) -> (i64, f64) {
    (millis(&pair[0]), pair[1].as_str().unwrap().parse().unwrap())
}

fn millis(seconds: &Json) -> i64 {
    (seconds.as_f64().unwrap() * 1_000.0).round() as i64
}
