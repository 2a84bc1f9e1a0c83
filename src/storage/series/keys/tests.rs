use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ingest::tests::{Random, Registry, Store, cases, options};
use crate::ingest::{KeyFormat, SeriesResolver, ShapeKey, line_protocol};
use crate::model::{Labels, METRIC_NAME, SampleBatch, SeriesRef};

/// Registers `name` as a key and as a metric.
fn register<R: SeriesResolver>(resolver: &mut R, name: &str) -> Vec<SeriesRef> {
    let shape = resolver.shape(&ShapeKey::single(KeyFormat::Line, &[]));
    let labels = Labels::from_pairs([(METRIC_NAME, name)]).unwrap();
    let mut series = Vec::new();
    resolver.register(shape, name.as_bytes(), &[labels], &mut series).unwrap();
    series
}

fn find<R: SeriesResolver>(resolver: &mut R, name: &str) -> Option<SeriesRef> {
    let shape = resolver.shape(&ShapeKey::single(KeyFormat::Line, &[]))?;
    let key = resolver.find(shape, name.as_bytes())?;
    Some(resolver.known(key).series[0])
}

#[test]
fn keys_are_found_beyond_segments_and_growth() {
    let store = Store::with_cache_bytes(64 << 20);
    let mut resolver = store.cache.resolver(&store.registry);
    let names: Vec<String> = (0..10_000).map(|n| format!("metric_{n}")).collect();
    let ids: Vec<_> = names.iter().map(|name| register(&mut resolver, name)[0]).collect();
    let shape = resolver.shape(&ShapeKey::single(KeyFormat::Line, &[])).unwrap();
    let keys: Vec<_> = names.iter().map(|name| (shape, name.as_bytes())).collect();
    let mut found = Vec::new();
    resolver.find_many(&keys, &mut found);
    for ((name, id), key) in names.iter().zip(&ids).zip(&found) {
        assert_eq!(find(&mut resolver, name), Some(*id));
        assert_eq!(resolver.known(key.unwrap()).series, [*id]);
    }
    assert_eq!(find(&mut resolver, "metric_10000"), None);
    resolver.find_many(&[(shape, b"metric_10000"), (shape, b"metric_7")], &mut found);
    assert_eq!((found[0], found[1].is_some()), (None, true));
}

#[test]
fn formats_fields_and_added_labels_have_keys_of_their_own() {
    let store = Store::default();
    let mut resolver = store.cache.resolver(&store.registry);
    let extra = [("a".to_owned(), "b".to_owned())];
    // Lengths keep what belongs together apart from what only looks alike.
    let shifted = [("a\u{1}\0\0\0b".to_owned(), String::new())];
    let mut two_fields = ShapeKey::new(KeyFormat::Line, &[]);
    two_fields.push_field(b"x=", true);
    two_fields.push_field(b"y=", false);
    let mut one_field = ShapeKey::new(KeyFormat::Line, &[]);
    one_field.push_field(b"x=", true);
    let shapes = [
        ShapeKey::single(KeyFormat::Line, &[]),
        ShapeKey::single(KeyFormat::Exposition, &[]),
        ShapeKey::single(KeyFormat::Line, &extra),
        ShapeKey::single(KeyFormat::Line, &shifted),
        two_fields,
        one_field,
    ];
    for (index, shape) in shapes.iter().enumerate() {
        let id = resolver.shape(shape).unwrap();
        assert_eq!(resolver.find(id, b"key"), None, "{index}");
        let labels = Labels::from_pairs([(METRIC_NAME, &*format!("m{index}"))]).unwrap();
        resolver.register(Some(id), b"key", &[labels], &mut Vec::new()).unwrap();
    }
    for (index, shape) in shapes.iter().enumerate() {
        let id = resolver.shape(shape).unwrap();
        let key = resolver.find(id, b"key").unwrap();
        let known = resolver.known(key);
        assert_eq!((known.shape, known.series[0].index()), (&shape.to_shape(), index));
    }
}

#[test]
fn links_do_not_cross_formats() {
    let store = Store::default();
    let mut resolver = store.cache.resolver(&store.registry);
    let mut key_of = |format, text: &[u8]| {
        let shape = resolver.shape(&ShapeKey::single(format, &[]));
        let labels = Labels::from_pairs([(METRIC_NAME, "m")]).unwrap();
        resolver.register(shape, text, &[labels], &mut Vec::new()).unwrap().unwrap()
    };
    let first = key_of(KeyFormat::Line, b"a");
    let second = key_of(KeyFormat::Line, b"b");
    let other = key_of(KeyFormat::Exposition, b"c");
    resolver.advance(first);
    assert!(!resolver.advance(other));
    resolver.advance(first);
    assert!(resolver.predict(b"c 1").is_none());
    assert!(!resolver.advance(second));
    resolver.advance(first);
    assert_eq!(resolver.predict(b"b 1").map(|known| known.key), Some(second));
    assert!(resolver.predict(b"c 1").is_none());
    resolver.start();
    assert!(resolver.predict(b"b 1").is_none());
}

#[test]
fn memory_is_bounded_and_what_is_in_use_stays() {
    let bytes_max = 200_000;
    let store = Store::with_cache_bytes(bytes_max);
    register(&mut store.cache.resolver(&store.registry), "in_use");
    let mut registered = 0;
    for request in 0..500 {
        let mut resolver = store.cache.resolver(&store.registry);
        assert!(find(&mut resolver, "in_use").is_some(), "request {request}");
        for n in 0..20 {
            register(&mut resolver, &format!("passing_{request}_{n}"));
            registered += 1;
        }
        assert!(store.cache.bytes() <= bytes_max + 400, "{}", store.cache.bytes());
    }
    assert_eq!(registered, 10_000);
    let mut resolver = store.cache.resolver(&store.registry);
    assert_eq!(find(&mut resolver, "passing_0_0"), None, "the old are forgotten");
    assert!(find(&mut resolver, "passing_499_19").is_some());
}

/// Workers write overlapping keys in orders of their own while generations turn over. Each line's
/// value says which series it must have.
#[test]
fn workers_never_get_another_keys_series() {
    for (bytes_max, keys) in [(1 << 20, 300), (30_000, 300), (0, 50), (8 << 20, 20_000)] {
        let store = Store::with_cache_bytes(bytes_max);
        let lines = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4u64 {
                let (store, lines) = (&store, &lines);
                scope.spawn(move || {
                    let mut random = Random::new("workers").fork(worker);
                    for _ in 0..cases(30) {
                        let rows = request(&store.registry, store, keys, &mut random);
                        lines.fetch_add(rows, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(store.registry.len() <= 3 * keys);
        let telemetry = &store.telemetry;
        let counted = telemetry.key_cache_hits.get() + telemetry.key_cache_misses.get();
        assert_eq!(counted, lines.into_inner() as u64, "{bytes_max} {keys}");
    }
}

/// Sends some keys, in runs that are in order and in jumps; gives the number of lines.
fn request(registry: &Registry, store: &Store, keys: usize, random: &mut Random) -> usize {
    let (mut body, mut expected) = (String::new(), Vec::new());
    let mut lines = 0;
    for _ in 0..10 {
        let start = random.below(keys);
        for number in start..(start + random.below(30)).min(keys) {
            lines += 1;
            if number % 3 == 0 {
                body.push_str(&format!("m,k={number} a={number},b={number} 1\n"));
                expected.push(format!("m_a{{k=\"{number}\"}}"));
                expected.push(format!("m_b{{k=\"{number}\"}}"));
            } else {
                body.push_str(&format!("m,k={number} {number} 1\n"));
                expected.push(format!("m{{k=\"{number}\"}}"));
            }
        }
    }
    let mut batch = SampleBatch::default();
    let mut resolver = store.cache.resolver(registry);
    line_protocol::parse(body.as_bytes(), &options(), &mut resolver, &mut batch).unwrap();
    let found: Vec<_> =
        batch.series.iter().map(|series| registry.labels(*series).to_string()).collect();
    assert_eq!(found, expected);
    lines
}
