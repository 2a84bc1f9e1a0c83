//! Every setting of the server: flag, environment variable, unit, default, check.
//!
//! Options live beside the code they steer; this file gathers them. A flag `--query-timeout` has
//! the variable `AETHER_QUERY_TIMEOUT`; the flag wins.

mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{CommandFactory, Parser};

pub use self::values::{Bytes, Kept, Period, Switch};
use crate::http::HttpOptions;
use crate::ingest::Limits;
use crate::query::{QueryLimits, QueryOptions, RollupCosts};
use crate::storage::{Levels, Retention, StorageOptions, WalSync};

/// AetherDB, a time-series database for metrics.
///
/// Takes line protocol, Influx line protocol, Prometheus remote write and text exposition;
/// answers PromQL through Prometheus' HTTP API. Runs without any argument: data goes to ./data,
/// the API listens on 127.0.0.1:9090.
#[derive(Debug, Clone, Parser)]
#[command(name = "aetherdb", version, max_term_width = 100)]
pub struct Config {
    /// Directory that holds all data; made if it is missing.
    #[arg(long, env = "AETHER_DATA_DIR", default_value = "./data", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Address to listen on. There is no authentication: say 0.0.0.0 only in a network you trust.
    #[arg(long, env = "AETHER_LISTEN", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    pub listen: IpAddr,

    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "AETHER_PORT", default_value_t = 9090)]
    pub port: u16,

    /// When a write is acknowledged: `always` after it is on disk (survives a power cut), a period
    /// such as `100ms` syncs every so often, `none` leaves it to the system (both survive kill -9).
    #[arg(long, env = "AETHER_WAL_SYNC", default_value_t = WalSync::Always, value_name = "MODE", help_heading = "Storage")]
    pub wal_sync: WalSync,

    /// Memory that samples may take before they are flushed to blocks.
    #[arg(long, env = "AETHER_HEAD_BYTES_MAX", default_value_t = Bytes(StorageOptions::default().head_bytes_max), value_name = "BYTES", help_heading = "Storage")]
    pub head_bytes_max: Bytes,

    /// Log that a restart may have to replay before samples are flushed to blocks.
    #[arg(long, env = "AETHER_WAL_BYTES_MAX", default_value_t = Bytes(StorageOptions::default().wal_bytes_max), value_name = "BYTES", help_heading = "Storage")]
    pub wal_bytes_max: Bytes,

    /// How long after its end a two-hour window is flushed, so that late samples go with it.
    #[arg(long, env = "AETHER_FLUSH_GRACE", default_value_t = Period::from_ms(StorageOptions::default().flush_grace_ms), value_name = "DURATION", help_heading = "Storage")]
    pub flush_grace: Period,

    /// Series in memory; samples of further ones are refused, known ones still taken.
    #[arg(long, env = "AETHER_SERIES_MAX", default_value_t = StorageOptions::default().series_max, value_name = "COUNT", help_heading = "Storage")]
    pub series_max: u32,

    /// Decoded pages of blocks that are kept for the next query.
    #[arg(long, env = "AETHER_BLOCK_CACHE_BYTES_MAX", default_value_t = Bytes(StorageOptions::default().block_cache_bytes_max), value_name = "BYTES", help_heading = "Storage")]
    pub block_cache_bytes_max: Bytes,

    /// Free disk space below which writes are refused until there is twice as much.
    #[arg(long, env = "AETHER_DISK_FREE_BYTES_MIN", default_value_t = Bytes(StorageOptions::default().disk_free_bytes_min), value_name = "BYTES", help_heading = "Storage")]
    pub disk_free_bytes_min: Bytes,

    /// Windows that blocks are merged to, each a multiple of the one before and a divisor of 24h.
    #[arg(long, env = "AETHER_COMPACTION_LEVELS", default_value_t = Levels::default(), value_name = "HOURS", help_heading = "Storage")]
    pub compaction_levels: Levels,

    /// How long data is kept: a duration for samples and all rollups, or one each as in
    /// `raw=15d,1m=90d,5m=1y,1h=forever`; what is not named stays for ever. `1m=none` stores no
    /// rollups of 1 m, which take more space than raw samples; 5 m are made of them all the same.
    /// What is older is out of sight, in steps of two hours, and refused when it is written. Samples
    /// never go before rollups that are kept longer have them.
    #[arg(long, env = "AETHER_RETENTION", default_value_t = Kept(Retention::default()), value_name = "DURATIONS", help_heading = "Storage")]
    pub retention: Kept,

    /// Size of blocks, log and rollup files together beyond which the oldest data go; 0 is no bound.
    #[arg(long, env = "AETHER_RETENTION_BYTES", default_value_t = Bytes(StorageOptions::default().retention_bytes), value_name = "BYTES", help_heading = "Storage")]
    pub retention_bytes: Bytes,

    /// Whether samples are summed up to 1 m, 5 m and 1 h rollups, by themselves.
    #[arg(long, env = "AETHER_ROLLUPS", default_value_t = Switch::On, value_name = "on|off", help_heading = "Rollups")]
    pub rollups: Switch,

    /// Where rollups lie, as Parquet: a directory (by default `rollups` in the data directory), or
    /// `s3://…`, `gs://…`, `az://…`. Credentials, region, endpoint and plain HTTP by the
    /// variables that object_store reads: AWS_…, GOOGLE_…, AZURE_….
    #[arg(long, env = "AETHER_ROLLUP_URL", value_name = "URL", help_heading = "Rollups")]
    pub rollup_url: Option<String>,

    /// Size of a write request's body.
    #[arg(long, env = "AETHER_BODY_BYTES_MAX", default_value_t = Bytes::from_len(Limits::default().body_bytes_max), value_name = "BYTES", help_heading = "Writes")]
    pub body_bytes_max: Bytes,

    /// Size of a write request's body once it is unpacked.
    #[arg(long, env = "AETHER_DECOMPRESSED_BYTES_MAX", default_value_t = Bytes::from_len(Limits::default().decompressed_bytes_max), value_name = "BYTES", help_heading = "Writes")]
    pub decompressed_bytes_max: Bytes,

    /// Bodies held at once, counted as they come and again unpacked; requests beyond wait five
    /// seconds, then get 503.
    #[arg(long, env = "AETHER_WRITE_BYTES_IN_FLIGHT_MAX", default_value_t = Bytes::from_len(HttpOptions::default().write_bytes_in_flight_max), value_name = "BYTES", help_heading = "Writes")]
    pub write_bytes_in_flight_max: Bytes,

    /// Samples of one write request.
    #[arg(long, env = "AETHER_SAMPLES_PER_REQUEST_MAX", default_value_t = Limits::default().samples_per_request_max, value_name = "COUNT", help_heading = "Writes")]
    pub samples_per_request_max: usize,

    /// Labels of one series.
    #[arg(long, env = "AETHER_LABELS_PER_SERIES_MAX", default_value_t = Limits::default().labels_per_series_max, value_name = "COUNT", help_heading = "Writes")]
    pub labels_per_series_max: usize,

    /// How far ahead of the server's clock a sample may lie.
    #[arg(long, env = "AETHER_FUTURE_MAX", default_value_t = Period::from_ms(Limits::default().future_ms_max), value_name = "DURATION", help_heading = "Writes")]
    pub future_max: Period,

    /// Longest run of a query, its wait for a turn included.
    #[arg(long, env = "AETHER_QUERY_TIMEOUT", default_value_t = Period(QueryLimits::default().timeout), value_name = "DURATION", help_heading = "Queries")]
    pub query_timeout: Period,

    /// Samples that one query may read.
    #[arg(long, env = "AETHER_QUERY_SAMPLES_MAX", default_value_t = QueryLimits::default().samples_max, value_name = "COUNT", help_heading = "Queries")]
    pub query_samples_max: u64,

    /// Series that one selector may select.
    #[arg(long, env = "AETHER_QUERY_SERIES_MAX", default_value_t = QueryLimits::default().series_max, value_name = "COUNT", help_heading = "Queries")]
    pub query_series_max: u64,

    /// Steps of one range query.
    #[arg(long, env = "AETHER_QUERY_POINTS_MAX", default_value_t = QueryLimits::default().points_max, value_name = "COUNT", help_heading = "Queries")]
    pub query_points_max: u64,

    /// Memory of one query.
    #[arg(long, env = "AETHER_QUERY_BYTES_MAX", default_value_t = Bytes(QueryLimits::default().bytes_max), value_name = "BYTES", help_heading = "Queries")]
    pub query_bytes_max: Bytes,

    /// Memory of all queries together.
    #[arg(long, env = "AETHER_QUERY_TOTAL_BYTES_MAX", default_value_t = Bytes(QueryOptions::default().bytes_max), value_name = "BYTES", help_heading = "Queries")]
    pub query_total_bytes_max: Bytes,

    /// Queries that run at once.
    #[arg(long, env = "AETHER_QUERY_CONCURRENT_MAX", default_value_t = QueryOptions::default().concurrent_max, value_name = "COUNT", help_heading = "Queries")]
    pub query_concurrent_max: usize,

    /// Queries that wait for a turn; more are turned away.
    #[arg(long, env = "AETHER_QUERY_QUEUED_MAX", default_value_t = QueryOptions::default().queued_max, value_name = "COUNT", help_heading = "Queries")]
    pub query_queued_max: usize,

    /// Threads that run queries.
    #[arg(long, env = "AETHER_QUERY_THREADS", default_value_t = QueryOptions::default().threads, value_name = "COUNT", help_heading = "Queries")]
    pub query_threads: usize,

    /// Whether `rate`, `increase`, `irate` and `resets` look at the start timestamps that samples of
    /// remote write 2.0 may have. `start_timestamp()` tells them in any case.
    #[arg(long, env = "AETHER_USE_START_TIMESTAMPS", default_value_t = Switch::Off, value_name = "on|off", help_heading = "Queries")]
    pub use_start_timestamps: Switch,

    /// Series that a listing without `limit` answers when it is not told which.
    #[arg(long, env = "AETHER_SERIES_LISTED_MAX", default_value_t = HttpOptions::default().series_listed_max, value_name = "COUNT", help_heading = "Queries")]
    pub series_listed_max: usize,

    /// Exports that run at once; more are turned away.
    #[arg(long, env = "AETHER_EXPORTS_MAX", default_value_t = HttpOptions::default().exports_max, value_name = "COUNT", help_heading = "Queries")]
    pub exports_max: usize,

    /// Longest run of an export.
    #[arg(long, env = "AETHER_EXPORT_TIMEOUT", default_value_t = Period(HttpOptions::default().export_timeout), value_name = "DURATION", help_heading = "Queries")]
    pub export_timeout: Period,

    /// What to log: error, warn, info, debug, trace, or a filter such as `aetherdb::storage=debug`.
    #[arg(
        long,
        env = "AETHER_LOG",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Logging"
    )]
    pub log: String,

    /// Log one JSON object a line.
    #[arg(long, env = "AETHER_LOG_JSON", help_heading = "Logging")]
    pub log_json: bool,

    /// Print every setting as it is in force, and exit.
    #[arg(long)]
    pub print_config: bool,
}

impl Config {
    /// What can only be checked once all settings are known; the error names flag and value.
    pub fn check(&self) -> Result<(), String> {
        let at_least_one = [
            ("--query-concurrent-max", self.query_concurrent_max),
            ("--query-threads", self.query_threads),
            ("--samples-per-request-max", self.samples_per_request_max),
        ];
        for (flag, value) in at_least_one {
            if value == 0 {
                return Err(format!("invalid value '{value}' for '{flag}': must be at least 1"));
            }
        }
        let body_max = self.body_bytes_max.max(self.decompressed_bytes_max);
        if self.write_bytes_in_flight_max < body_max {
            return Err(format!(
                "invalid value '{}' for '--write-bytes-in-flight-max': must be at least \
                 '--body-bytes-max' and '--decompressed-bytes-max' ({body_max})",
                self.write_bytes_in_flight_max,
            ));
        }
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.port)
    }

    pub fn storage(&self) -> StorageOptions {
        StorageOptions {
            data_dir: self.data_dir.clone(),
            wal_sync: self.wal_sync,
            head_bytes_max: self.head_bytes_max.0,
            wal_bytes_max: self.wal_bytes_max.0,
            flush_grace_ms: self.flush_grace.ms(),
            series_max: self.series_max,
            block_cache_bytes_max: self.block_cache_bytes_max.0,
            disk_free_bytes_min: self.disk_free_bytes_min.0,
            compaction_levels: self.compaction_levels.clone(),
            retention: self.retention.0,
            retention_bytes: self.retention_bytes.0,
            rollups: self.rollups == Switch::On,
            rollup_url: self.rollup_url.clone(),
            ..StorageOptions::default()
        }
    }

    pub fn query(&self) -> QueryOptions {
        QueryOptions {
            limits: QueryLimits {
                timeout: self.query_timeout.0,
                samples_max: self.query_samples_max,
                series_max: self.query_series_max,
                points_max: self.query_points_max,
                bytes_max: self.query_bytes_max.0,
            },
            concurrent_max: self.query_concurrent_max,
            queued_max: self.query_queued_max,
            bytes_max: self.query_total_bytes_max.0,
            threads: self.query_threads,
            rollup_costs: RollupCosts::default(),
            use_start_timestamps: self.use_start_timestamps == Switch::On,
        }
    }

    pub fn http(&self) -> HttpOptions {
        HttpOptions {
            limits: Limits {
                body_bytes_max: self.body_bytes_max.len(),
                decompressed_bytes_max: self.decompressed_bytes_max.len(),
                samples_per_request_max: self.samples_per_request_max,
                labels_per_series_max: self.labels_per_series_max,
                future_ms_max: self.future_max.ms(),
                past_ms_max: self.retention.0.raw_ms,
                ..Limits::default()
            },
            write_bytes_in_flight_max: self.write_bytes_in_flight_max.len(),
            series_listed_max: self.series_listed_max,
            exports_max: self.exports_max,
            export_timeout: self.export_timeout.0,
            flags: self.flags(),
            ..HttpOptions::default()
        }
    }

    /// Every setting by the name of its flag, as text.
    pub fn flags(&self) -> BTreeMap<String, String> {
        [
            ("data-dir", self.data_dir.display().to_string()),
            ("listen", self.listen.to_string()),
            ("port", self.port.to_string()),
            ("wal-sync", self.wal_sync.to_string()),
            ("head-bytes-max", self.head_bytes_max.to_string()),
            ("wal-bytes-max", self.wal_bytes_max.to_string()),
            ("flush-grace", self.flush_grace.to_string()),
            ("series-max", self.series_max.to_string()),
            ("block-cache-bytes-max", self.block_cache_bytes_max.to_string()),
            ("disk-free-bytes-min", self.disk_free_bytes_min.to_string()),
            ("compaction-levels", self.compaction_levels.to_string()),
            ("retention", self.retention.to_string()),
            ("retention-bytes", self.retention_bytes.to_string()),
            ("rollups", self.rollups.to_string()),
            ("rollup-url", self.rollup_url.clone().unwrap_or_default()),
            ("body-bytes-max", self.body_bytes_max.to_string()),
            ("decompressed-bytes-max", self.decompressed_bytes_max.to_string()),
            ("write-bytes-in-flight-max", self.write_bytes_in_flight_max.to_string()),
            ("samples-per-request-max", self.samples_per_request_max.to_string()),
            ("labels-per-series-max", self.labels_per_series_max.to_string()),
            ("future-max", self.future_max.to_string()),
            ("query-timeout", self.query_timeout.to_string()),
            ("query-samples-max", self.query_samples_max.to_string()),
            ("query-series-max", self.query_series_max.to_string()),
            ("query-points-max", self.query_points_max.to_string()),
            ("query-bytes-max", self.query_bytes_max.to_string()),
            ("query-total-bytes-max", self.query_total_bytes_max.to_string()),
            ("query-concurrent-max", self.query_concurrent_max.to_string()),
            ("query-queued-max", self.query_queued_max.to_string()),
            ("query-threads", self.query_threads.to_string()),
            ("use-start-timestamps", self.use_start_timestamps.to_string()),
            ("series-listed-max", self.series_listed_max.to_string()),
            ("exports-max", self.exports_max.to_string()),
            ("export-timeout", self.export_timeout.to_string()),
            ("log", self.log.clone()),
            ("log-json", self.log_json.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The settings in force, one `flag=value` a line, each below what it means.
    pub fn print(&self) -> String {
        let flags = self.flags();
        let mut text = String::new();
        for argument in Self::command().get_arguments() {
            if let Some((name, value)) =
                argument.get_long().and_then(|long| flags.get_key_value(long))
            {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                text.push_str(&format!("# {help}\n--{name}={value}\n"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        Config::try_parse_from([&["aetherdb"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_folders() {
        let config = config(&[]);
        assert_eq!(config.storage(), StorageOptions::default());
        assert_eq!(config.query(), QueryOptions::default());
        let flags = config.flags();
        assert_eq!(config.http(), HttpOptions { flags, ..HttpOptions::default() });
        assert_eq!(config.address().to_string(), "127.0.0.1:9090");
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn every_flag_is_printed_and_has_a_variable_named_like_it() {
        let flags = config(&[]).flags();
        for argument in Config::command().get_arguments() {
            let Some(long) = argument.get_long() else { continue };
            if matches!(long, "help" | "version" | "print-config") {
                continue;
            }
            let variable = format!("AETHER_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable));
            assert!(flags.contains_key(long), "{long} is missing from Config::flags");
        }
    }

    #[test]
    fn printed_settings_read_back() {
        let config = config(&["--head-bytes-max=100MB", "--flush-grace=90m", "--wal-sync=20ms"]);
        let printed = config.print();
        assert!(printed.contains("\n--head-bytes-max=100MB\n"), "{printed}");
        assert!(printed.contains("\n--flush-grace=1h30m\n"), "{printed}");
        let lines: Vec<_> = printed
            .lines()
            .filter(|line| line.starts_with("--") && *line != "--log-json=false")
            .collect();
        let again = self::config(&lines);
        assert_eq!(again.flags(), config.flags());
    }

    #[test]
    fn errors_name_flag_and_value() {
        let error = |arguments: &[&str]| match Config::try_parse_from(
            [&["aetherdb"], arguments].concat(),
        ) {
            Ok(config) => config.check().unwrap_err(),
            Err(error) => error.to_string(),
        };
        for (argument, flag, value) in [
            ("--port=99999", "--port", "99999"),
            ("--wal-sync=sometimes", "--wal-sync", "sometimes"),
            ("--head-bytes-max=1 parsec", "--head-bytes-max", "1 parsec"),
            ("--query-timeout=soon", "--query-timeout", "soon"),
            ("--compaction-levels=2h,5h", "--compaction-levels", "5h"),
            ("--query-threads=0", "--query-threads", "0"),
            ("--write-bytes-in-flight-max=1MB", "--write-bytes-in-flight-max", "1MB"),
        ] {
            let text = error(&[argument]);
            assert!(text.contains(flag) && text.contains(value), "{argument}: {text}");
        }
    }
}
