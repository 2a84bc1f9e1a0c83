//! Which series have which label: name → value → ids.
//!
//! Lists are inline for one id, a sorted vector for few, a roaring bitmap for many: a bitmap per
//! unique value would take some 240 bytes. Values are sorted only when a prefix or an expression
//! has to look through them.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use crate::model::{Labels, Matcher};

/// Ids in a plain vector before it becomes a bitmap.
const LIST_IDS_MAX: usize = 64;

/// The index of all series up to some id.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    names: HashMap<Box<str>, Values>,
    all: RoaringBitmap,
    /// Ids below this have been looked at.
    seen: u32,
    /// Ids below `seen` that had no labels yet when they were looked at: registrations on their
    /// way.
    missing: Vec<u32>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Values {
    /// Number of each value's list.
    numbers: HashMap<Box<str>, u32>,
    lists: Vec<(Box<str>, List)>,
    /// Numbers in order of their values, as far as it has been asked for.
    sorted: Vec<u32>,
    /// The value that came last: neighbours often share it.
    last: u32,
}

#[derive(Debug)]
enum List {
    One(u32),
    Few(Vec<u32>),
    Many(RoaringBitmap),
}

impl Postings {
    /// Whether nothing below `next` is left to be looked at.
    pub(crate) fn is_complete(&self, next: u32) -> bool {
        self.seen >= next && self.missing.is_empty()
    }

    /// Takes in every series below `next` that has labels by now. Of those below `settled` none
    /// is on its way.
    pub(crate) fn catch_up<'a>(
        &mut self,
        next: u32,
        settled: u32,
        labels: impl Fn(u32) -> Option<&'a Labels>,
    ) {
        for id in std::mem::take(&mut self.missing).into_iter().chain(self.seen..next) {
            match labels(id) {
                Some(labels) => self.add(id, labels),
                None if id >= settled => self.missing.push(id),
                None => {}
            }
        }
        self.seen = self.seen.max(next);
        self.names.values_mut().for_each(Values::sort);
    }

    fn add(&mut self, id: u32, labels: &Labels) {
        self.all.insert(id);
        for (name, value) in labels.iter() {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), Values::default());
            }
            let values = self.names.get_mut(name).expect("just put there");
            self.bytes += values.add(id, value);
        }
    }

    pub(crate) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut selected: Option<RoaringBitmap> = None;
        let mut excluded = Vec::new();
        for matcher in matchers {
            if matcher.matches_empty() {
                // Series without the label stay, so what does not match is taken out.
                excluded.push(matcher);
                continue;
            }
            let included = self.union(matcher, true);
            match &mut selected {
                Some(selected) => *selected &= included,
                None => selected = Some(included),
            }
            if selected.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return RoaringBitmap::new();
            }
        }
        let mut selected = selected.unwrap_or_else(|| self.all.clone());
        for matcher in excluded {
            selected -= self.union(matcher, false);
        }
        selected
    }

    /// Series that have the label with a value for which the matcher says `matches`.
    fn union(&self, matcher: &Matcher, matches: bool) -> RoaringBitmap {
        let mut union = RoaringBitmap::new();
        let Some(values) = self.names.get(matcher.name()) else { return union };
        if matches != matcher.op().is_negative() {
            // The values that the positive form accepts, few or by prefix if it says so.
            match matcher.accepted_set() {
                Some(set) => {
                    set.iter()
                        .filter_map(|value| values.get(value))
                        .for_each(|l| l.add_to(&mut union));
                }
                None => values
                    .with_prefix(matcher.accepted_prefix())
                    .filter(|(value, _)| matcher.accepts(value))
                    .for_each(|(_, list)| list.add_to(&mut union)),
            }
        } else {
            values
                .lists
                .iter()
                .filter(|(value, _)| !matcher.accepts(value))
                .for_each(|(_, list)| list.add_to(&mut union));
        }
        union
    }

    pub(crate) fn label_names(&self, ids: &RoaringBitmap, names: &mut BTreeSet<String>) {
        for (name, values) in &self.names {
            if !names.contains(&**name) && values.lists.iter().any(|(_, list)| list.meets(ids)) {
                names.insert(name.to_string());
            }
        }
    }

    pub(crate) fn label_values(
        &self,
        name: &str,
        ids: &RoaringBitmap,
        found: &mut BTreeSet<String>,
    ) {
        let Some(values) = self.names.get(name) else { return };
        for (value, list) in &values.lists {
            if list.meets(ids) && !found.contains(&**value) {
                found.insert(value.to_string());
            }
        }
    }
}

impl Values {
    /// Returns the bytes that were added.
    fn add(&mut self, id: u32, value: &str) -> u64 {
        if self.lists.get(self.last as usize).is_none_or(|(last, _)| **last != *value) {
            match self.numbers.get(value) {
                Some(number) => self.last = *number,
                None => {
                    self.last = u32::try_from(self.lists.len()).expect("fewer values than series");
                    self.numbers.insert(value.into(), self.last);
                    self.lists.push((value.into(), List::One(id)));
                    return 2 * value.len() as u64 + 88;
                }
            }
        }
        self.lists[self.last as usize].1.push(id);
        // What a dense bitmap takes; short vectors take twice that.
        2
    }

    fn get(&self, value: &str) -> Option<&List> {
        self.numbers.get(value).map(|number| &self.lists[*number as usize].1)
    }

    fn sort(&mut self) {
        if self.sorted.len() < self.lists.len() {
            let first = u32::try_from(self.sorted.len()).expect("numbers are of 32 bits");
            let last = u32::try_from(self.lists.len()).expect("numbers are of 32 bits");
            self.sorted.extend(first..last);
            // Mostly sorted already, which this sort makes use of.
            let lists = &self.lists;
            self.sorted
                .sort_by(|left, right| lists[*left as usize].0.cmp(&lists[*right as usize].0));
        }
    }

    fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &List)> {
        let of = |number: &u32| &self.lists[*number as usize];
        let start = self.sorted.partition_point(|number| *of(number).0 < *prefix);
        self.sorted[start..]
            .iter()
            .map(of)
            .map(|(value, list)| (&**value, list))
            .take_while(move |(value, _)| value.starts_with(prefix))
    }
}

impl List {
    /// Ids mostly ascend; a registration that came late is put where it belongs.
    fn push(&mut self, id: u32) {
        match self {
            List::One(first) => *self = List::Few(vec![(*first).min(id), (*first).max(id)]),
            List::Few(ids) if ids.len() < LIST_IDS_MAX => {
                let at = ids.partition_point(|known| *known < id);
                ids.insert(at, id);
            }
            List::Few(ids) => {
                let mut many: RoaringBitmap = ids.iter().copied().collect();
                many.insert(id);
                *self = List::Many(many);
            }
            List::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    fn add_to(&self, union: &mut RoaringBitmap) {
        match self {
            List::One(id) => {
                union.insert(*id);
            }
            List::Few(ids) => union.extend(ids.iter().copied()),
            List::Many(ids) => *union |= ids,
        }
    }

    fn meets(&self, ids: &RoaringBitmap) -> bool {
        match self {
            List::One(id) => ids.contains(*id),
            List::Few(own) => own.iter().any(|id| ids.contains(*id)),
            List::Many(own) => !own.is_disjoint(ids),
        }
    }
}
