//! The arithmetic of acknowledgements: which answers make a revocation complete, which reveal every acknowledged write.
//! Pure numbers and sets; it knows neither phases nor reports.

use vt_proto::gtid::GtidSet;

/// Durability of a replica set that registers itself: one acknowledgement behind each OK.
pub const ACKS_DEFAULT: u32 = 1;

/// How many of `ackers` must answer: so many that each group of `acks` ackers has a member among them.
///
/// An OK needs `acks` of the ackers. With this many stopped, at most `acks - 1` could still acknowledge (revocation), and
/// every group that ever acknowledged has met them (discovery).
pub fn answers_needed(ackers: usize, acks: u32) -> usize {
    let acks = acks as usize;
    assert!(
        acks >= 1,
        "a durability policy asks for at least one acknowledgement"
    );
    (ackers + 1).saturating_sub(acks).max(1)
}

/// How many ackers are good: each above `acks` keeps writes going when one is lost, and each makes failover ask one more.
pub fn ackers_wanted(acks: u32) -> usize {
    2 * acks as usize
}

/// Two GTID sets of which neither contains the other, although one history should have made both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    pub one: GtidSet,
    pub other: GtidSet,
}

/// The largest of sets that must be prefixes of one history; of no sets, the empty one.
pub fn maximum<'a>(sets: impl IntoIterator<Item = &'a GtidSet>) -> Result<GtidSet, Diverged> {
    let mut largest = GtidSet::new();
    for set in sets {
        if set.contains(&largest) {
            largest = set.clone();
        } else if !largest.contains(set) {
            return Err(Diverged {
                one: largest,
                other: set.clone(),
            });
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_follow_the_table_of_quorums() {
        // ackers, acks, needed, acknowledgements survive the loss of this many ackers beside the primary
        for (ackers, acks, needed) in [
            (1, 1, 1),
            (2, 1, 2),
            (2, 2, 1),
            (3, 1, 3),
            (3, 2, 2),
            (4, 2, 3),
            (4, 3, 2),
        ] {
            assert_eq!(
                answers_needed(ackers, acks),
                needed,
                "{ackers} ackers, {acks} acks"
            );
            assert!(
                needed + acks as usize > ackers,
                "every group of {acks} is met"
            );
        }
    }

    #[test]
    fn the_maximum_is_found_or_divergence_is_named() {
        const A: &str = "aaaaaaaa-1111-2222-3333-444444444444";
        let set = |text: &str| text.replace('A', A).parse::<GtidSet>().unwrap();
        let (short, long, tagged) = (set("A:1-3"), set("A:1-5"), set("A:1-2,A:tag:1"));
        assert_eq!(maximum([&short, &long, &short]), Ok(long.clone()));
        assert_eq!(maximum([]), Ok(GtidSet::new()));
        assert!(maximum([&long, &tagged]).is_err());
    }
}
