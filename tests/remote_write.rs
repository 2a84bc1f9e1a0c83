//! Remote-write requests as clients build them: protobuf by the published definitions, in
//! snappy's block format.

use prost::Message;

/// A series to write: label pairs in order, and samples.
pub(crate) type Written<'a> = (Vec<(&'a str, &'a str)>, Vec<(i64, f64)>);

pub(crate) const V1_HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub(crate) metric_type: i32,
    #[prost(string, tag = "2")]
    pub(crate) metric: String,
    #[prost(string, tag = "4")]
    pub(crate) help: String,
    #[prost(string, tag = "5")]
    pub(crate) unit: String,
}

/// A request of version 1 that writes these series.
pub(crate) fn v1<'a>(series: impl IntoIterator<Item = Written<'a>>) -> Vec<u8> {
    let timeseries = series
        .into_iter()
        .map(|(labels, samples)| TimeSeries {
            labels: labels
                .into_iter()
                .map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() })
                .collect(),
            samples: samples
                .into_iter()
                .map(|(timestamp, value)| Sample { value, timestamp })
                .collect(),
        })
        .collect();
    packed(&WriteRequest { timeseries, metadata: Vec::new() })
}

/// A message as it goes over the wire.
pub(crate) fn packed(message: &impl Message) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).unwrap()
}

pub(crate) const V2_HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "2.0.0"),
];

/// Version 2: texts stand in one table, series point to them.
pub(crate) mod v2 {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Request {
        #[prost(string, repeated, tag = "4")]
        pub(crate) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(crate) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub(crate) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) histograms: Vec<Histogram>,
        #[prost(message, optional, tag = "5")]
        pub(crate) metadata: Option<Metadata>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Sample {
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
        #[prost(int64, tag = "2")]
        pub(crate) timestamp: i64,
        #[prost(int64, tag = "3")]
        pub(crate) start_timestamp: i64,
    }

    /// Only enough of one to be there.
    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Histogram {
        #[prost(double, tag = "3")]
        pub(crate) sum: f64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(crate) metric_type: i32,
        #[prost(uint32, tag = "3")]
        pub(crate) help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub(crate) unit_ref: u32,
    }

    impl Request {
        /// Adds a series: labels in order, samples, and type, help and unit of its metric.
        pub(crate) fn push(
            &mut self,
            labels: &[(&str, &str)],
            samples: &[(i64, f64)],
            (metric_type, help, unit): (i32, &str, &str),
        ) {
            let labels_refs = labels
                .iter()
                .flat_map(|(name, value)| [*name, *value])
                .map(|text| self.symbol(text));
            let labels_refs = labels_refs.collect();
            let samples = samples.iter();
            let samples = samples.map(|(timestamp, value)| Sample {
                value: *value,
                timestamp: *timestamp,
                start_timestamp: 0,
            });
            let samples = samples.collect();
            let (help_ref, unit_ref) = (self.symbol(help), self.symbol(unit));
            let metadata = Some(Metadata { metric_type, help_ref, unit_ref });
            let histograms = Vec::new();
            self.timeseries.push(TimeSeries { labels_refs, samples, histograms, metadata });
        }

        fn symbol(&mut self, text: &str) -> u32 {
            if self.symbols.is_empty() {
                self.symbols.push(String::new());
            }
            let known = self.symbols.iter().position(|symbol| symbol == text);
            known.unwrap_or_else(|| {
                self.symbols.push(text.to_owned());
                self.symbols.len() - 1
            }) as u32
        }
    }
}
