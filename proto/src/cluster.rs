//! Names of clusters that are unlike any other: `NAME-HEX` for the group that a cluster began with, and `NAME-HEX.NUMBER` for one that
//! went on from a copy of its topology. The number only grows, so that everybody can tell which of two groups is the one before.

/// How the id that was given compares with one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    Same,
    /// The group before: a newer one has taken its place.
    Older,
    /// The group that took the place of one's own.
    Newer,
    Foreign,
}

/// Compares the given id with one's own.
pub fn kinship(theirs: &str, ours: &str) -> Kinship {
    if theirs == ours {
        return Kinship::Same;
    }
    let ((their_cluster, their_number), (our_cluster, our_number)) = (split(theirs), split(ours));
    if their_cluster != our_cluster {
        Kinship::Foreign
    } else if their_number > our_number {
        Kinship::Newer
    } else {
        Kinship::Older
    }
}

/// The id of the group that goes on where the given one ended, at this moment.
pub fn successor(cluster_id: &str, unix_ms: u64) -> String {
    let (cluster, number) = split(cluster_id);
    format!("{cluster}.{}", unix_ms.max(number + 1))
}

/// What never changes, and the number of the group.
fn split(cluster_id: &str) -> (&str, u64) {
    // A name may contain a dot, and ends where the last dash stands.
    let dot = cluster_id
        .rfind('.')
        .filter(|dot| cluster_id.rfind('-').is_none_or(|dash| dash < *dot));
    let number = dot.and_then(|dot| Some((dot, cluster_id[dot + 1..].parse().ok()?)));
    match number {
        Some((dot, number)) => (&cluster_id[..dot], number),
        None => (cluster_id, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_one_cluster_have_an_order() {
        let first = "my.demo-0011223344556677";
        let second = successor(first, 1_000);
        assert_eq!(second, "my.demo-0011223344556677.1000");
        // The clock was set back in between, or two restores follow each other at once.
        let third = successor(&second, 7);
        for (theirs, ours, expected) in [
            (first, first, Kinship::Same),
            (&*second, first, Kinship::Newer),
            (first, &*second, Kinship::Older),
            (&*third, &*second, Kinship::Newer),
            ("my.demo-0011223344556688.5", first, Kinship::Foreign),
            ("my.demo-0011223344556688", &*second, Kinship::Foreign),
            ("my", "my.1", Kinship::Older),
            ("", first, Kinship::Foreign),
        ] {
            assert_eq!(kinship(theirs, ours), expected, "{theirs} {ours}");
        }
    }
}
