//! Transactions that returning primaries had to give up, as the hosts keep them.

use serde::Serialize;
use vt_proto::wire;

use super::{
    tablet::{Tablet, short_gtid},
    unless_empty,
};
use crate::output::table;

/// What one host keeps, as it reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostTransactions {
    pub epoch: u64,
    pub gtids: String,
    pub transactions: u64,
    pub bytes: u64,
    /// UTC, RFC 3339.
    pub cut_at: Option<String>,
    /// On the host of the tablet.
    pub directory: String,
    pub readable: bool,
}

impl From<wire::LostTransactions> for LostTransactions {
    fn from(lost: wire::LostTransactions) -> Self {
        Self {
            epoch: lost.epoch,
            gtids: lost.gtids,
            transactions: lost.transactions,
            bytes: lost.bytes,
            cut_at: unless_empty(lost.cut_at),
            directory: lost.directory,
            readable: lost.readable,
        }
    }
}

/// The same with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub replica_set: String,
    pub tablet: String,
    /// Where its mysqld listens, as host:port.
    pub mysql: Option<String>,
    #[serde(flatten)]
    pub lost: LostTransactions,
}

/// Everything that is kept, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub kept: Vec<Kept>,
    /// Tablets with more than they report, and how many more.
    pub more: Vec<(String, u32)>,
    /// Tablets that the leader has not heard: what they keep is not known.
    pub unheard: Vec<String>,
}

impl Lost {
    /// What these tablets report, of one replica set or of all.
    pub fn of(tablets: &[Tablet], replica_set: Option<&str>) -> Self {
        let mut all = Self {
            kept: Vec::new(),
            more: Vec::new(),
            unheard: Vec::new(),
        };
        for tablet in tablets {
            if replica_set.is_some_and(|name| name != tablet.replica_set) {
                continue;
            }
            let Some(report) = &tablet.report else {
                all.unheard.push(tablet.alias.clone());
                continue;
            };
            let kept = report.lost.iter().map(|lost| Kept {
                replica_set: tablet.replica_set.clone(),
                tablet: tablet.alias.clone(),
                mysql: tablet.mysql.clone(),
                lost: lost.clone(),
            });
            all.kept.extend(kept);
            if report.lost_left_out > 0 {
                all.more.push((tablet.alias.clone(), report.lost_left_out));
            }
        }
        all
    }
}

/// A table, and under it where each lies: paths are long.
pub fn text(lost: &Lost) -> String {
    let headers = [
        "REPLICA SET",
        "EPOCH",
        "TABLET",
        "TRANSACTIONS",
        "BYTES",
        "CUT",
        "GTIDS",
    ];
    let row = |kept: &Kept| {
        [
            kept.replica_set.clone(),
            kept.lost.epoch.to_string(),
            kept.tablet.clone(),
            kept.lost.transactions.to_string(),
            kept.lost.bytes.to_string(),
            kept.lost.cut_at.clone().unwrap_or_else(|| "-".to_owned()),
            short_gtid(&kept.lost.gtids),
        ]
    };
    let mut text = match lost.kept.is_empty() {
        true => "nothing is kept".to_owned(),
        false => table(headers, lost.kept.iter().map(row)),
    };
    for kept in &lost.kept {
        let what = match kept.lost.readable {
            true => "tail.txt has the rows",
            false => "only the binary copy: use mysqlbinlog --verbose on tail.binlog",
        };
        let (tablet, directory) = (&kept.tablet, &kept.lost.directory);
        text.push_str(&format!(
            "\n  on the host of {tablet}: {directory} ({what})"
        ));
    }
    for (tablet, more) in &lost.more {
        text.push_str(&format!("\n{tablet} keeps {more} more, older ones"));
    }
    for tablet in &lost.unheard {
        text.push_str(&format!(
            "\nwhat {tablet} keeps is not known: its agent was not heard"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::tablet::tests::replica;

    #[test]
    fn what_hosts_keep_is_listed_with_its_place() {
        let mut keeps = replica("zone1-100");
        let report = keeps.report.as_mut().unwrap();
        report.lost = vec![wire::LostTransactions {
            epoch: 3,
            gtids: "aaaaaaaa-1111-2222-3333-444444444444:8-9".to_owned(),
            transactions: 2,
            bytes: 612,
            cut_at: "2026-01-01T00:00:00Z".to_owned(),
            directory: "/var/lib/vitrail/lost/3-aaaaaaaa".to_owned(),
            readable: true,
        }];
        report.lost_left_out = 4;
        let mut unheard = replica("zone1-102");
        unheard.report = None;
        let tablets = [keeps, replica("zone1-101"), unheard].map(Tablet::from);
        let lost = Lost::of(&tablets, Some("main"));
        let shown = text(&lost);
        for words in [
            "main         3      zone1-100  2             612",
            "on the host of zone1-100: /var/lib/vitrail/lost/3-aaaaaaaa (tail.txt has the rows)",
            "zone1-100 keeps 4 more",
            "what zone1-102 keeps is not known",
        ] {
            assert!(shown.contains(words), "{words} in\n{shown}");
        }
        let json = serde_json::to_value(&lost).unwrap();
        assert_eq!(json["kept"][0]["tablet"], "zone1-100");
        assert_eq!(json["kept"][0]["transactions"], 2);
        let others = Lost::of(&tablets, Some("other"));
        assert_eq!(text(&others), "nothing is kept");
    }
}
