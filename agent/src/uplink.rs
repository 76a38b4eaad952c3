//! The line to the coordinator: reports go up, desired states and routing snapshots come down.
//!
//! It follows the leader and reconnects for ever; with no coordinator there, everything else goes on as it was.

use tokio::sync::watch;
use vt_proto::cluster::{Kinship, kinship};

pub mod desired;
pub mod kept;
pub mod leader;
pub mod report;
pub mod routing;

/// Compares a cluster that a coordinator speaks for with the one that is known, and keeps the newest group of it. At the first contact
/// nothing is known.
fn learn(known: &watch::Sender<String>, theirs: &str) -> Kinship {
    let mut relation = Kinship::Same;
    known.send_if_modified(|ours| {
        relation = match ours.is_empty() {
            true => Kinship::Newer,
            false => kinship(theirs, ours),
        };
        let is_news = relation == Kinship::Newer;
        if is_news {
            theirs.clone_into(ours);
        }
        is_news
    });
    relation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_group_of_ones_own_cluster_is_followed() {
        let known = watch::Sender::new(String::new());
        for (theirs, relation, after) in [
            ("a-1", Kinship::Newer, "a-1"),
            ("b-1.9", Kinship::Foreign, "a-1"),
            ("a-1.9", Kinship::Newer, "a-1.9"),
            ("a-1", Kinship::Older, "a-1.9"),
            ("a-1.9", Kinship::Same, "a-1.9"),
        ] {
            assert_eq!(learn(&known, theirs), relation, "{theirs}");
            assert_eq!(*known.borrow(), after);
        }
    }
}
