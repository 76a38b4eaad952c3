//! Ranges of keyspace ids: a shard owns the ids from `from` (inclusive) to `to` (exclusive); empty means unbounded.

use std::{fmt, str::FromStr};

use crate::ids::KeyspaceName;

/// Longest boundary in bytes; keyspace ids are 8 bytes.
pub const BOUNDARY_LENGTH_MAX: usize = 8;

/// A range of keyspace ids, printed as `-`, `-80`, `80-`, `40-80`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// A text that is no key range, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard '{given}' is not valid: {reason}")]
pub struct KeyRangeError {
    given: String,
    reason: &'static str,
}

impl KeyRange {
    /// The range of an unsharded keyspace: everything.
    pub fn full() -> Self {
        Self::default()
    }

    /// Whether it owns everything.
    pub fn is_full(&self) -> bool {
        self.from.is_empty() && self.to.is_empty()
    }

    /// Whether the id belongs to it.
    pub fn contains(&self, id: &[u8]) -> bool {
        self.from.as_slice() <= id && (self.to.is_empty() || id < self.to.as_slice())
    }

    /// The MySQL schema that holds this shard: the keyspace's name for the full range, else `<keyspace>$<from>_<to>`.
    pub fn schema_name(&self, keyspace: &KeyspaceName) -> String {
        if self.is_full() {
            return keyspace.to_string();
        }
        format!("{keyspace}${}_{}", hex(&self.from), hex(&self.to))
    }
}

/// Whether the ranges, in any order, own every keyspace id exactly once; else what is wrong.
pub fn check_cover<'a>(ranges: impl IntoIterator<Item = &'a KeyRange>) -> Result<(), String> {
    let mut ranges: Vec<&KeyRange> = ranges.into_iter().collect();
    ranges.sort();
    let Some((first, rest)) = ranges.split_first() else {
        return Err("there is no shard".to_owned());
    };
    if !first.from.is_empty() {
        return Err(format!("nothing owns the ids below {}", hex(&first.from)));
    }
    let mut before = first;
    for next in rest {
        if before.to.is_empty() || next.from < before.to {
            return Err(format!("{before} and {next} overlap"));
        }
        if next.from > before.to {
            let (from, to) = (hex(&before.to), hex(&next.from));
            return Err(format!("nothing owns the ids from {from} to {to}"));
        }
        before = next;
    }
    if !before.to.is_empty() {
        return Err(format!("nothing owns the ids from {}", hex(&before.to)));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 2 * BOUNDARY_LENGTH_MAX || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok())
        .collect()
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", hex(&self.from), hex(&self.to)))
    }
}

impl FromStr for KeyRange {
    type Err = KeyRangeError;

    fn from_str(text: &str) -> Result<Self, KeyRangeError> {
        let refuse = |reason| KeyRangeError {
            given: text.to_owned(),
            reason,
        };
        let (from, to) = text
            .split_once('-')
            .ok_or_else(|| refuse("write from-to in hexadecimal, as in 40-80"))?;
        let parse = |part| {
            unhex(part).ok_or_else(|| refuse("bounds are up to 8 bytes in hexadecimal, as in 80"))
        };
        let (from, to) = (parse(from)?, parse(to)?);
        if !to.is_empty() && from >= to {
            return Err(refuse(
                "it is empty: the first bound must be below the second",
            ));
        }
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_print_name_and_contain() {
        let keyspace: KeyspaceName = "customer".parse().unwrap();
        for (text, schema, inside, outside) in [
            ("-", "customer", &[0x00u8][..], None),
            ("-80", "customer$_80", &[0x7f, 0xff], Some(&[0x80u8][..])),
            ("80-", "customer$80_", &[0x80], Some(&[0x7f, 0xff][..])),
            (
                "40-80",
                "customer$40_80",
                &[0x40, 0x00],
                Some(&[0x80, 0x00][..]),
            ),
        ] {
            let range: KeyRange = text.parse().unwrap();
            assert_eq!(range.to_string(), text);
            assert_eq!(range.schema_name(&keyspace), schema);
            assert!(range.contains(inside), "{text}");
            assert!(outside.is_none_or(|id| !range.contains(id)), "{text}");
        }
        for bad in [
            "",
            "80",
            "8-",
            "80-40",
            "80-80",
            "zz-",
            "112233445566778899-",
        ] {
            assert!(bad.parse::<KeyRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_cover_everything_once_or_say_what_is_wrong() {
        let cases = [
            ("-", ""),
            ("-80 80-", ""),
            ("80- -40 40-80", ""),
            ("", "no shard"),
            ("-80", "from 80"),
            ("80-", "below 80"),
            ("-40 80-", "from 40 to 80"),
            ("-80 40-", "-80 and 40- overlap"),
            ("- 80-", "overlap"),
            ("- -", "overlap"),
        ];
        for (texts, wrong) in cases {
            let ranges: Vec<KeyRange> = texts
                .split_whitespace()
                .map(|text| text.parse().unwrap())
                .collect();
            let found = check_cover(&ranges).err().unwrap_or_default();
            assert_eq!(found.is_empty(), wrong.is_empty(), "{texts}: {found}");
            assert!(found.contains(wrong), "{texts}: {found}");
        }
    }
}
