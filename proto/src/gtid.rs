//! GTID sets as algebra: parse, print, union, subtract, contain. Tags (`uuid:tag:1-5`) are part of the source's name.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Longest text that is parsed: bounds the work that a peer can cause.
pub const TEXT_LENGTH_MAX: usize = 1 << 20;

/// A source of transactions: a server's uuid, with its tag if there is one, as in `uuid` or `uuid:tag`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GtidSource(String);

impl GtidSource {
    /// The server's uuid, without the tag.
    pub fn uuid(&self) -> &str {
        self.0.split(':').next().unwrap_or(&self.0)
    }

    /// A source as events of the binary log name it: the 16 bytes of the uuid, and a tag.
    pub fn from_bytes(uuid: [u8; 16], tag: &str) -> Result<Self, GtidError> {
        let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        Self::new(&parts.join("-"), tag)
    }

    /// A source from a uuid and a tag; an empty tag means none.
    pub fn new(uuid: &str, tag: &str) -> Result<Self, GtidError> {
        if !is_uuid(uuid) {
            return Err(GtidError::new(uuid, "a source starts with a server uuid"));
        }
        if !tag.is_empty() && !is_tag(tag) {
            return Err(GtidError::new(
                tag,
                "a tag is a letter or _ and up to 31 more of a-z, 0-9, _",
            ));
        }
        let uuid = uuid.to_ascii_lowercase();
        Ok(Self(if tag.is_empty() {
            uuid
        } else {
            format!("{uuid}:{}", tag.to_ascii_lowercase())
        }))
    }
}

impl fmt::Display for GtidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no GTID set, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{part}' is not part of a GTID set: {reason}")]
pub struct GtidError {
    part: String,
    reason: &'static str,
}

impl GtidError {
    fn new(part: &str, reason: &'static str) -> Self {
        Self {
            part: part.chars().take(80).collect(),
            reason,
        }
    }
}

/// A set of transactions. Intervals are inclusive, sorted, disjoint and never adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GtidSet {
    sources: BTreeMap<GtidSource, Vec<(u64, u64)>>,
}

impl GtidSet {
    /// The set without transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has no transaction.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many transactions it has.
    pub fn count(&self) -> u64 {
        self.sources
            .values()
            .flatten()
            .map(|(from, to)| to - from + 1)
            .sum()
    }

    /// The sources it has transactions of.
    pub fn sources(&self) -> impl Iterator<Item = &GtidSource> {
        self.sources.keys()
    }

    /// Adds the transactions `from..=to` of a source.
    pub fn add(&mut self, source: GtidSource, from: u64, to: u64) {
        assert!(
            from >= 1 && from <= to,
            "GTID interval {from}-{to} is not one"
        );
        let intervals = self.sources.entry(source).or_default();
        intervals.push((from, to));
        normalise(intervals);
    }

    /// Whether it has this transaction.
    pub fn has(&self, source: &GtidSource, number: u64) -> bool {
        let intervals = self
            .sources
            .get(source)
            .map(Vec::as_slice)
            .unwrap_or_default();
        intervals
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&number))
    }

    /// Whether every transaction of `other` is in it.
    pub fn contains(&self, other: &GtidSet) -> bool {
        other.subtract(self).is_empty()
    }

    /// The transactions of either.
    #[must_use]
    pub fn union(&self, other: &GtidSet) -> GtidSet {
        let mut all = self.clone();
        for (source, intervals) in &other.sources {
            let mine = all.sources.entry(source.clone()).or_default();
            mine.extend_from_slice(intervals);
            normalise(mine);
        }
        all
    }

    /// The transactions of it that are not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &GtidSet) -> GtidSet {
        let mut rest = GtidSet::new();
        for (source, intervals) in &self.sources {
            let gone = other
                .sources
                .get(source)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let left: Vec<_> = intervals.iter().flatten_subtract(gone).collect();
            if !left.is_empty() {
                rest.sources.insert(source.clone(), left);
            }
        }
        rest
    }

    /// The transactions of one server, whatever their tags.
    #[must_use]
    pub fn of_server(&self, uuid: &str) -> GtidSet {
        let mine = |(source, _): &(&GtidSource, _)| source.uuid().eq_ignore_ascii_case(uuid);
        let sources = self
            .sources
            .iter()
            .filter(mine)
            .map(|(s, i)| (s.clone(), i.clone()))
            .collect();
        GtidSet { sources }
    }
}

trait FlattenSubtract<'a> {
    fn flatten_subtract(self, gone: &[(u64, u64)]) -> impl Iterator<Item = (u64, u64)>;
}

impl<'a, I: Iterator<Item = &'a (u64, u64)>> FlattenSubtract<'a> for I {
    fn flatten_subtract(self, gone: &[(u64, u64)]) -> impl Iterator<Item = (u64, u64)> {
        self.flat_map(move |interval| subtract_interval(*interval, gone))
    }
}

fn subtract_interval((mut from, to): (u64, u64), gone: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for &(gone_from, gone_to) in gone {
        if gone_to < from || gone_from > to {
            continue;
        }
        if gone_from > from {
            left.push((from, gone_from - 1));
        }
        if gone_to >= to {
            return left;
        }
        from = gone_to + 1;
    }
    left.push((from, to));
    left
}

fn normalise(intervals: &mut Vec<(u64, u64)>) {
    intervals.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for &(from, to) in intervals.iter() {
        match merged.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    *intervals = merged;
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_tag(text: &str) -> bool {
    let start = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    text.len() <= 32
        && text.bytes().next().is_some_and(start)
        && text.bytes().all(|b| start(b) || b.is_ascii_digit())
}

fn parse_interval(part: &str) -> Result<(u64, u64), GtidError> {
    let refuse = || GtidError::new(part, "an interval is n or n-m with 1 <= n <= m");
    let (from, to) = part.split_once('-').unwrap_or((part, part));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from >= 1 && from <= to && to < u64::MAX => Ok((from, to)),
        _ => Err(refuse()),
    }
}

impl FromStr for GtidSet {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        if text.len() > TEXT_LENGTH_MAX {
            return Err(GtidError::new(text, "the text is longer than 1 MiB"));
        }
        let mut sources: BTreeMap<GtidSource, Vec<(u64, u64)>> = BTreeMap::new();
        for group in text
            .split(',')
            .map(str::trim)
            .filter(|group| !group.is_empty())
        {
            let mut parts = group.split(':').map(str::trim);
            let uuid = parts.next().unwrap_or_default();
            let mut source = GtidSource::new(uuid, "")?;
            let mut intervals_seen = false;
            for part in parts {
                if is_tag(part) {
                    source = GtidSource::new(uuid, part)?;
                    intervals_seen = false;
                } else {
                    sources
                        .entry(source.clone())
                        .or_default()
                        .push(parse_interval(part)?);
                    intervals_seen = true;
                }
            }
            if !intervals_seen {
                return Err(GtidError::new(
                    group,
                    "a source is followed by at least one interval",
                ));
            }
        }
        sources.values_mut().for_each(normalise);
        Ok(Self { sources })
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (source, intervals)) in self.sources.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(&source.0)?;
            for (from, to) in intervals {
                if from == to {
                    write!(f, ":{from}")?
                } else {
                    write!(f, ":{from}-{to}")?
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaa-1111-2222-3333-444444444444";
    const B: &str = "bbbbbbbb-1111-2222-3333-444444444444";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    #[test]
    fn texts_are_normalised() {
        for (given, printed) in [
            ("", ""),
            ("A:1", "A:1"),
            ("A:1-3:4-5,\n B:7", "A:1-5,B:7"),
            ("A:5:1-2,A:3", "A:1-3:5"),
            ("A:tag:1-2:3", "A:tag:1-3"),
            ("A:1:tag:1", "A:1,A:tag:1"),
        ] {
            assert_eq!(set(given), set(printed));
            assert_eq!(
                set(given).to_string(),
                printed.replace('A', A).replace('B', B)
            );
        }
        for bad in ["x:1", "A", "A:", "A:0", "A:3-1", "A:1-x", "A:tag"] {
            assert!(bad.replace('A', A).parse::<GtidSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn algebra_by_example() {
        assert_eq!(
            set("A:1-10").subtract(&set("A:3-4:7")),
            set("A:1-2:5-6:8-10")
        );
        assert_eq!(set("A:1-3").union(&set("A:4,B:1")), set("A:1-4,B:1"));
        assert!(set("A:1-10,B:1").contains(&set("A:2-3")));
        assert!(!set("A:1-10").contains(&set("A:tag:1")));
        assert_eq!(set("A:1-3,A:tag:1,B:1").of_server(A).count(), 4);
    }

    fn any_set() -> impl Strategy<Value = GtidSet> {
        let interval = (0..3usize, 1..40u64, 0..8u64);
        prop::collection::vec(interval, 0..12).prop_map(|items| {
            let mut all = GtidSet::new();
            for (source, from, length) in items {
                let (uuid, tag) = [(A, ""), (B, ""), (A, "tag")][source];
                all.add(GtidSource::new(uuid, tag).unwrap(), from, from + length);
            }
            all
        })
    }

    proptest! {
        #[test]
        fn set_laws_hold(a in any_set(), b in any_set()) {
            let both = a.union(&b);
            prop_assert_eq!(&both, &b.union(&a));
            prop_assert!(both.contains(&a) && both.contains(&b));
            let rest = a.subtract(&b);
            prop_assert!(rest.subtract(&a).is_empty());
            prop_assert_eq!(&rest.union(&b), &both);
            prop_assert_eq!(both.count(), rest.count() + b.count());
            prop_assert_eq!(&a.to_string().parse::<GtidSet>().unwrap(), &a);
        }

        #[test]
        fn parsing_never_panics(text in "[a-b0-9:, -]{0,80}") {
            let _ = text.parse::<GtidSet>();
        }
    }
}
