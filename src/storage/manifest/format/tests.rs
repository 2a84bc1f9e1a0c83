use super::*;
use crate::model::{MatchOp, Matcher, TimeRange};
use crate::storage::manifest::BlockMeta;
use crate::storage::plan::WINDOW_MS;
use crate::storage::tombstone::Tombstone;

const UUID: Uuid = Uuid::from_bytes([7; 16]);

fn block(id: u64) -> BlockMeta {
    BlockMeta {
        id,
        level: 0,
        window: TimeRange::new(0, 7_199_999).unwrap(),
        time_range: TimeRange::new(5, 7_000_000).unwrap(),
        series: 3,
        samples: 300,
        bytes: 4096,
        lsn_first: id * 10,
        lsn_last: id * 10 + 9,
        written: vec![id * 10 + 9],
        cleaned: 0,
    }
}

fn tombstone(id: u64) -> Tombstone {
    let matchers =
        vec![Matcher::equal("__name__", "cpu"), Matcher::new(MatchOp::NotEqual, "é", "").unwrap()];
    Tombstone { id, lsn: 20, range: TimeRange::new(i64::MIN, 77).unwrap(), matchers }
}

fn compacted_block() -> BlockMeta {
    let window = TimeRange::new(-3 * WINDOW_MS, -1).unwrap();
    let time_range = TimeRange::new(-2 * WINDOW_MS, -7).unwrap();
    BlockMeta { level: 1, window, time_range, written: vec![35, 31, 39], cleaned: 4, ..block(3) }
}

fn edits() -> Vec<Vec<Item>> {
    vec![
        vec![Item::AddBlock(block(1)), Item::Flushed { lsn: 20, next_series_id: 3 }],
        vec![Item::AddSeriesFile { id: 2 }, Item::NextFile { id: 9 }],
        vec![Item::QuarantineBlock { id: 1, reason: "page 3: bad checksum".into() }],
        vec![Item::RemoveBlock { id: 1 }, Item::AddBlock(compacted_block())],
        vec![Item::AddTombstone(tombstone(10)), Item::AddTombstone(tombstone(11))],
        vec![Item::RemoveSeriesFile { id: 2 }, Item::RemoveTombstone { id: 10 }],
        vec![Item::RawFloor { before_ms: -3 * WINDOW_MS }, Item::RawFloor { before_ms: WINDOW_MS }],
    ]
}

/// The file and where each of its edits begins.
fn file() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = encode_header(UUID);
    let mut starts = Vec::new();
    for (sequence, items) in (FIRST_SEQUENCE..).zip(edits()) {
        starts.push(bytes.len());
        encode_edit(UUID, sequence, &items, &mut bytes);
    }
    (bytes, starts)
}

fn items(contents: Contents) -> Vec<Vec<Item>> {
    contents.edits.into_iter().map(|edit| edit.items).collect()
}

#[test]
fn edits_come_back() {
    let contents = decode(&file().0).unwrap();
    assert_eq!((contents.uuid, contents.cut), (UUID, None));
    assert_eq!(items(contents), edits());
}

#[test]
fn a_file_cut_at_any_byte_gives_a_prefix_of_the_edits() {
    let (bytes, starts) = file();
    for end in 0..bytes.len() {
        let Ok(contents) = decode(&bytes[..end]) else {
            assert!(end < starts[1], "cut at {end}");
            continue;
        };
        // An edit counts once one of its copies is whole.
        let whole = (starts.iter().skip(1).chain([&bytes.len()]).zip(&starts))
            .filter(|(next, start)| end >= usize::midpoint(**start, **next))
            .count();
        assert_eq!(items(contents), edits()[..whole], "cut at {end}");
    }
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let (bytes, starts) = file();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match decode(&flipped) {
            Err(_) => assert!(bit / 8 < starts[0], "bit {bit}"),
            Ok(contents) => {
                assert!(contents.cut.is_some(), "bit {bit} went unseen");
                assert_eq!(items(contents), edits(), "bit {bit}");
            }
        }
    }
}

#[test]
fn an_edit_lost_in_the_middle_is_damage_not_a_torn_tail() {
    let (bytes, starts) = file();
    for lost in 0..2 {
        let mut damaged = bytes.clone();
        damaged[starts[lost]..starts[lost + 1]].fill(0);
        let damage = decode(&damaged).unwrap_err();
        assert_eq!(damage.offset, starts[lost], "{}", damage.reason);
    }
}

#[test]
fn an_item_of_a_newer_version_ends_the_reading() {
    let mut payload = Vec::new();
    encode_item(&Item::NextFile { id: 1 }, &mut payload);
    payload[0] = 200;
    let damage = decode_items(&payload).unwrap_err();
    assert!(damage.reason.contains("unknown kind 200"), "{}", damage.reason);
}

/// Written before blocks had `written`.
#[test]
fn the_golden_manifest_of_the_first_version_opens() {
    let bytes = include_bytes!("../../../../tests/data/manifest/before-written.manifest");
    let contents = decode(bytes).unwrap();
    assert_eq!((contents.uuid, contents.cut), (UUID, None));
    let wide = BlockMeta { written: vec![39; 3], cleaned: 0, ..compacted_block() };
    let expected = vec![
        vec![Item::AddBlock(block(1)), Item::Flushed { lsn: 20, next_series_id: 3 }],
        vec![Item::AddBlock(wide), Item::NextFile { id: 9 }],
    ];
    assert_eq!(items(contents), expected);
}

#[test]
fn tombstones_keep_their_matchers() {
    let matchers = vec![
        Matcher::new(MatchOp::Regex, "mode", "id.*|user").unwrap(),
        Matcher::new(MatchOp::NotRegex, "mode", ".+").unwrap(),
    ];
    for matchers in [matchers, Vec::new()] {
        let item = Item::AddTombstone(Tombstone { matchers, ..tombstone(3) });
        let mut payload = Vec::new();
        encode_item(&item, &mut payload);
        assert_eq!(decode_items(&payload).unwrap(), [item]);
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let mut bytes = encode_header(UUID);
    let mut state = 1u64;
    for _ in 0..4000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes()[..1]);
        if state >> 60 == 0 {
            bytes.extend_from_slice(&MARK);
        }
    }
    assert!(decode(&bytes).is_err());
}
