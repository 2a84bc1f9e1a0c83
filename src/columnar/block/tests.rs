use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::columnar::block::format::{self, PageEntry, PageKind, Table};
use crate::columnar::block::{
    BlockCache, BlockCursor, BlockHeader, BlockOptions, BlockReader, BlockSummary, BlockWriter,
    ChunkSummary, ChunkView,
};
use crate::columnar::error::{ColumnarError, ErrorKind};
use crate::columnar::schema;
use crate::model::{
    Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Samples, TimeRange, stale_nan,
};

/// Labels, timestamps, bits of the values.
type Content = Vec<(Labels, Vec<i64>, Vec<u64>)>;
/// What a block should hold.
type Model = BTreeMap<Labels, Vec<(i64, f64)>>;

fn cache() -> Arc<BlockCache> {
    Arc::new(BlockCache::new(1 << 20))
}

/// A small generator, so that data sets are the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.next() >> 32).unwrap() % choices.len()]
    }

    /// About normal, mean 0, deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        let sum: u64 = (0..12).map(|_| self.next() >> 40).sum();
        (sum as f64 / (1u64 << 24) as f64) - 6.0
    }
}

fn header() -> BlockHeader {
    let window = TimeRange::new(-1_000_000, 100_000_000).unwrap();
    BlockHeader { level: 1, window, lsn_first: 7, lsn_last: 99 }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// Writes the model in batches of `batch_rows`.
fn write(model: &Model, options: BlockOptions, batch_rows: usize) -> (Bytes, BlockSummary) {
    // Series without samples stand in the list, but must not enter the block.
    let list: Vec<Labels> = model.keys().cloned().collect();
    let mut writer = BlockWriter::new(Vec::new(), header(), &list, options).unwrap();
    let rows: Vec<(u32, i64, f64)> = (0..)
        .zip(model.values())
        .flat_map(|(series, samples)| samples.iter().map(move |(at, value)| (series, *at, *value)))
        .collect();
    for rows in rows.chunks(batch_rows) {
        let batch = schema::batch(
            rows.iter().map(|row| row.0).collect(),
            rows.iter().map(|row| row.1).collect(),
            rows.iter().map(|row| row.2).collect(),
        );
        writer.write(&batch.unwrap()).unwrap();
    }
    let (bytes, summary) = writer.finish().unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    (bytes.into(), summary)
}

fn open(bytes: &Bytes) -> Result<Arc<BlockReader>, ColumnarError> {
    BlockReader::open(Arc::new(bytes.clone()), cache()).map(Arc::new)
}

/// What the directory says of a series' chunks, none of whose samples are read.
fn chunks(
    cursor: &mut BlockCursor,
    local: u32,
) -> Result<Vec<(TimeRange, ChunkSummary)>, ColumnarError> {
    let mut chunks = Vec::new();
    let mut settle = |chunk: &mut ChunkView<'_>| {
        assert!(chunk.is_whole());
        chunks.push((chunk.time_range()?, chunk.summary()?));
        Ok(true)
    };
    let mut samples = Samples::default();
    let stats = cursor.read_unsettled(local, TimeRange::ALL, &[], &mut settle, &mut samples)?;
    assert_eq!((samples.len(), stats.chunks), (0, 0));
    assert_eq!(stats.settled, chunks.len() as u64);
    Ok(chunks)
}

/// Everything a block holds, as bits; summaries are read too.
fn content(reader: &Arc<BlockReader>) -> Result<Content, ColumnarError> {
    let mut cursor = reader.cursor();
    let mut all = Vec::new();
    for (labels, local) in reader.select(&[], TimeRange::ALL)? {
        let mut samples = Samples::default();
        cursor.read(local, TimeRange::ALL, &mut samples)?;
        chunks(&mut cursor, local)?;
        let bits = samples.values.iter().map(|value| value.to_bits()).collect();
        all.push((labels, samples.timestamps, bits));
    }
    Ok(all)
}

fn expected(model: &Model) -> Content {
    model
        .iter()
        .filter(|(_, samples)| !samples.is_empty())
        .map(|(labels, samples)| {
            let times = samples.iter().map(|sample| sample.0).collect();
            (labels.clone(), times, samples.iter().map(|sample| sample.1.to_bits()).collect())
        })
        .collect()
}

/// Series of all kinds: constant, counter, decimal, noise, late, early, with holes, single.
fn varied_model(seed: u64, series: u64) -> Model {
    let mut random = Random(seed);
    let mut model = Model::new();
    for number in 0..series {
        let mut builder = LabelsBuilder::new();
        builder.set(METRIC_NAME, random.pick(&["cpu", "mem", "disk_io", "up"]));
        builder.set("instance", &format!("host-{}", random.below(20)));
        if random.below(3) > 0 {
            builder.set("mode", random.pick(&["user", "system", "idle"]));
        }
        if random.below(5) == 0 {
            builder.set("é unusual", &number.to_string());
        }
        let target = i64::from(random.below(6));
        let count = random.pick(&[1, 2, 30, 200, 700]);
        let (born, hole) = (i64::from(random.below(100)), random.below(40));
        let kind = random.below(6);
        let mut at = f64::from(random.below(1000));
        let samples = (born..born + count)
            .filter(|i| hole > 3 || *i % 40 > 2)
            .map(|i| {
                let time = i * 15_000 + (i * target * 7919) % 5;
                let value = match kind {
                    0 => 42.5,
                    1 => {
                        at += f64::from(random.below(9));
                        at
                    }
                    2 => f64::from(random.below(1000)) / 10.0,
                    3 => f64::from_bits(random.next()),
                    4 if random.below(50) == 0 => stale_nan(),
                    4 => -0.0,
                    _ => random.normal(),
                };
                (time, value)
            })
            .collect();
        model.insert(builder.build(), samples);
    }
    model
}

const SMALL: BlockOptions =
    BlockOptions { chunk_samples: 50, page_bytes: 2_000, compress_values: true };

#[test]
fn what_was_written_is_read_whatever_the_layout() {
    for seed in 0..6 {
        let model = varied_model(seed, 150);
        for (options, batch_rows) in
            [(BlockOptions::FRESH, 65_536), (BlockOptions::COMPACTED, 1000), (SMALL, 7)]
        {
            let (bytes, summary) = write(&model, options, batch_rows);
            let reader = open(&bytes).unwrap();
            assert_eq!(*reader.summary(), summary);
            assert_eq!(content(&reader).unwrap(), expected(&model), "seed {seed}");
            reader.verify().unwrap();
            let samples: usize = model.values().map(Vec::len).sum();
            assert_eq!(summary.samples, samples as u64);
        }
    }
}

#[test]
fn ranges_are_cut_exactly() {
    let model = varied_model(11, 60);
    let (bytes, _) = write(&model, SMALL, 10_000);
    let reader = open(&bytes).unwrap();
    let mut cursor = reader.cursor();
    let mut random = Random(5);
    for (labels, local) in reader.select(&[], TimeRange::ALL).unwrap() {
        for _ in 0..20 {
            let start = i64::from(random.below(12_000_000)) - 100;
            let range = TimeRange::new(start, start + i64::from(random.below(5_000_000))).unwrap();
            let mut samples = Samples::default();
            let stats = cursor.read(local, range, &mut samples).unwrap();
            let kept: Vec<_> =
                model[&labels].iter().filter(|(at, _)| range.contains(*at)).collect();
            assert_eq!(stats.samples, kept.len() as u64);
            assert!(samples.timestamps.iter().eq(kept.iter().map(|(at, _)| at)));
            let bits = samples.values.iter().map(|value| value.to_bits());
            assert!(bits.eq(kept.iter().map(|(_, value)| value.to_bits())));
        }
    }
}

#[test]
fn selection_agrees_with_matching_every_series() {
    let mut model = varied_model(3, 400);
    // More than one series page and more than one dictionary page.
    for number in 0..2_500 {
        let number = format!("{number:05}");
        model.insert(labels(&[(METRIC_NAME, "many"), ("id", &number)]), vec![(5, 1.0)]);
    }
    let (bytes, _) = write(&model, BlockOptions::FRESH, 65_536);
    let reader = open(&bytes).unwrap();
    let all = reader.labels().unwrap();
    let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let selectors = [
        vec![],
        vec![matcher(Equal, METRIC_NAME, "cpu")],
        vec![matcher(Equal, METRIC_NAME, "none")],
        vec![matcher(Equal, METRIC_NAME, "cpu"), matcher(Equal, "mode", "")],
        vec![matcher(Equal, METRIC_NAME, "cpu"), matcher(NotEqual, "mode", "user")],
        vec![matcher(Regex, "instance", "host-1.*"), matcher(NotRegex, METRIC_NAME, "c.*")],
        vec![matcher(Regex, "mode", "user|")],
        vec![matcher(Regex, "mode", "u.+r|sys.*")],
        vec![matcher(Regex, "mode", ".*")],
        vec![matcher(Regex, "mode", ".+")],
        vec![matcher(NotEqual, "mode", "")],
        vec![matcher(Equal, "absent", "")],
        vec![matcher(Equal, "absent", "x")],
        vec![matcher(NotEqual, "absent", "x")],
        vec![matcher(Equal, "id", "01234")],
        vec![matcher(Regex, "id", "0(0511|0512|1023|1024|2499|9999)")],
        vec![matcher(Regex, "id", "00.*[13]"), matcher(NotRegex, "id", ".*51.*")],
        vec![matcher(Regex, "id", "02499.*")],
        vec![matcher(NotEqual, "id", "zzz"), matcher(Equal, METRIC_NAME, "many")],
    ];
    for matchers in selectors {
        let kept: Vec<(Labels, u32)> = all
            .iter()
            .zip(0..)
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
            .map(|(labels, local)| (labels.clone(), local))
            .collect();
        assert_eq!(reader.select(&matchers, TimeRange::ALL).unwrap(), kept, "{matchers:?}");
        let names: BTreeSet<String> = kept
            .iter()
            .flat_map(|(labels, _)| labels.iter())
            .map(|(name, _)| name.into())
            .collect();
        let mut found = BTreeSet::new();
        reader.label_names(&matchers, TimeRange::ALL, &mut found).unwrap();
        assert_eq!(found, names, "{matchers:?}");
        for name in [METRIC_NAME, "mode", "id", "absent"] {
            let values: BTreeSet<String> =
                kept.iter().filter_map(|(labels, _)| labels.get(name)).map(str::to_owned).collect();
            let mut found = BTreeSet::new();
            reader.label_values(name, &matchers, TimeRange::ALL, &mut found).unwrap();
            assert_eq!(found, values, "{matchers:?} {name}");
        }
    }
    assert!(reader.select(&[], TimeRange::at(-900_000)).unwrap().is_empty());
}

#[test]
fn the_directory_tells_what_chunks_come_to() {
    let model = varied_model(8, 80);
    let (bytes, _) = write(&model, SMALL, 10_000);
    let reader = open(&bytes).unwrap();
    let mut cursor = reader.cursor();
    for (labels, local) in reader.select(&[], TimeRange::ALL).unwrap() {
        let chunks = chunks(&mut cursor, local).unwrap();
        let samples = &model[&labels];
        assert_eq!(chunks.len(), samples.len().div_ceil(50));
        for ((time_range, summary), samples) in chunks.iter().zip(samples.chunks(50)) {
            let range = TimeRange::new(samples[0].0, samples[samples.len() - 1].0);
            assert_eq!(Some(*time_range), range);
            let live: Vec<f64> = samples
                .iter()
                .map(|(_, value)| *value)
                .filter(|v| !crate::model::is_stale(*v))
                .collect();
            assert_eq!(summary.count as usize, live.len());
            assert_eq!((summary.count + summary.stale) as usize, samples.len());
            if let [first, .., last] = live[..] {
                assert_eq!(summary.first.to_bits(), first.to_bits());
                assert_eq!(summary.last.to_bits(), last.to_bits());
            }
            let ordered = live.iter().copied().filter(|value| !value.is_nan());
            if live.iter().any(|value| !value.is_nan()) {
                assert_eq!(summary.max, ordered.clone().fold(f64::NEG_INFINITY, f64::max));
                assert_eq!(summary.min, ordered.fold(f64::INFINITY, f64::min));
            }
        }
    }
}

fn small_block() -> (Model, Bytes) {
    let mut model = varied_model(21, 14);
    model.values_mut().for_each(|samples| samples.truncate(25));
    let bytes = write(&model, BlockOptions { page_bytes: 300, ..SMALL }, 10_000).0;
    (model, bytes)
}

#[test]
fn every_bit_flip_is_detected() {
    let (model, bytes) = small_block();
    assert_eq!(content(&open(&bytes).unwrap()).unwrap(), expected(&model));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open(&flipped.into()).and_then(|reader| content(&reader)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "bit {bit}: {error}");
    }
}

/// Damage that checksums cannot see, as a bug or an attacker would make it: every page in turn
/// gets wrong bytes and right checksums. Answers may be wrong then, but nothing panics.
#[test]
fn wrong_pages_with_right_checksums_do_no_harm() {
    let (_, bytes) = small_block();
    let reader = open(&bytes).unwrap();
    let pages: Vec<(PageEntry, Vec<u8>)> = {
        let mut pages: Vec<PageEntry> =
            ALL_KINDS.iter().flat_map(|kind| reader.pages(*kind)).copied().collect();
        pages.sort_by_key(|page| page.offset);
        pages.iter().map(|page| (*page, reader.read(page).unwrap().to_vec())).collect()
    };
    let exercise = |bytes: Vec<u8>| {
        let Ok(reader) = open(&bytes.into()) else { return };
        let _ = content(&reader);
        let _ = reader.verify();
        let regex = Matcher::new(MatchOp::Regex, "instance", "host-1.*").unwrap();
        for matchers in [vec![Matcher::equal("mode", "user")], vec![regex]] {
            let _ = reader.select(&matchers, TimeRange::ALL);
            let _ = reader.label_names(&matchers, TimeRange::ALL, &mut BTreeSet::new());
            let _ = reader.label_values("mode", &matchers, TimeRange::ALL, &mut BTreeSet::new());
        }
    };
    let rounds =
        std::env::var("AETHER_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut random = Random(0xB10C);
    for victim in 0..pages.len() {
        for _ in 0..rounds {
            let mut damaged = pages.clone();
            let (entry, raw) = &mut damaged[victim];
            for _ in 0..=random.below(3) {
                match random.below(8) {
                    0 => entry.count = random.below(2_000),
                    1 => entry.first = u64::from(random.below(2_000)) << random.pick(&[0, 32]),
                    2 => raw.truncate(random.below(300) as usize),
                    3 => raw.push(0x81),
                    _ if raw.is_empty() => {}
                    _ => {
                        let at = random.below(u32::try_from(raw.len()).unwrap()) as usize;
                        raw[at] =
                            random.pick(&[0, 1, 0x7F, 0x80, 0xFF, raw[at] ^ 1, raw[at] ^ 0x40]);
                    }
                }
            }
            exercise(rebuild(*reader.summary(), &damaged));
        }
    }
}

const ALL_KINDS: [PageKind; 7] = [
    PageKind::Times,
    PageKind::Values,
    PageKind::Directory,
    PageKind::Summaries,
    PageKind::Names,
    PageKind::Dictionary,
    PageKind::Series,
];

/// A file of these pages, uncompressed, with checksums that fit.
fn rebuild(summary: BlockSummary, pages: &[(PageEntry, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = format::encode_header(&summary.header).to_vec();
    let mut entries = Vec::new();
    for (entry, raw) in pages {
        let len = u32::try_from(raw.len()).unwrap();
        entries.push(PageEntry {
            offset: bytes.len() as u64,
            stored_len: len,
            raw_len: len,
            crc: crc32fast::hash(raw),
            compressed: false,
            ..*entry
        });
        bytes.extend_from_slice(raw);
    }
    let table_bytes = format::encode_table(&entries);
    let table = Table {
        offset: bytes.len() as u64,
        pages: u32::try_from(entries.len()).unwrap(),
        crc: crc32fast::hash(&table_bytes),
    };
    bytes.extend(table_bytes);
    bytes.extend(format::encode_trailer(&summary, &table));
    bytes
}

#[test]
fn every_cut_is_detected() {
    let (bytes, _) = write(&varied_model(2, 5), SMALL, 10_000);
    for len in 0..bytes.len() {
        assert!(open(&bytes.slice(..len)).is_err());
    }
}

#[test]
fn rows_out_of_order_are_refused() {
    let list = [labels(&[(METRIC_NAME, "a")]), labels(&[(METRIC_NAME, "b")])];
    let refused = |series: Vec<u32>, timestamps: Vec<i64>| {
        let values = vec![1.0; series.len()];
        let mut writer =
            BlockWriter::new(Vec::new(), header(), &list, BlockOptions::FRESH).unwrap();
        let error = writer.write(&schema::batch(series, timestamps, values).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    };
    refused(vec![1, 0], vec![1, 2]);
    refused(vec![0, 0], vec![2, 1]);
    refused(vec![0, 0], vec![2, 2]);
    refused(vec![2], vec![2]);
    refused(vec![0], vec![i64::MAX]);
}

#[test]
fn an_empty_block_is_a_block() {
    let (bytes, summary) = write(&Model::new(), BlockOptions::FRESH, 1);
    assert_eq!((summary.series, summary.time_range), (0, None));
    let reader = open(&bytes).unwrap();
    assert!(reader.select(&[], TimeRange::ALL).unwrap().is_empty());
    reader.verify().unwrap();
}
