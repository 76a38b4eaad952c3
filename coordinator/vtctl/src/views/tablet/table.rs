//! Tablets as tables of 80 columns; what they suffer from follows below, where it has room. JSON has everything whole.

use vt_proto::gtid::GtidSet;

use super::{Report, Tablet};
use crate::output::{self, duration_text, or_dash};

/// GTID sets are cut to this many characters.
const GTID_CHARACTERS_MAX: usize = 28;

/// The tablets of one replica set.
pub fn table(tablets: &[Tablet]) -> String {
    let headers = [
        "TABLET",
        "ROLE",
        "MYSQLD",
        "IO/SQL",
        "LAG",
        "SEMI-SYNC",
        "HEARD",
        "GTID EXECUTED",
    ];
    let row = |tablet: &Tablet| {
        let executed = tablet
            .report
            .as_ref()
            .and_then(|report| report.gtid_executed.as_deref());
        let [alias, role, mysqld, threads, lag, semi_sync, heard] = state(tablet);
        [
            alias,
            role,
            mysqld,
            threads,
            lag,
            semi_sync,
            heard,
            or_dash(executed.map(short_gtid)),
        ]
    };
    with_troubles(output::table(headers, tablets.iter().map(row)), tablets)
}

/// Tablets of several replica sets: which one, in place of the transactions.
pub fn table_across_sets(tablets: &[Tablet]) -> String {
    let headers = [
        "TABLET",
        "ROLE",
        "MYSQLD",
        "IO/SQL",
        "LAG",
        "SEMI-SYNC",
        "HEARD",
        "REPLICA SET",
    ];
    let row = |tablet: &Tablet| {
        let [alias, role, mysqld, threads, lag, semi_sync, heard] = state(tablet);
        [
            alias,
            role,
            mysqld,
            threads,
            lag,
            semi_sync,
            heard,
            tablet.replica_set.clone(),
        ]
    };
    with_troubles(output::table(headers, tablets.iter().map(row)), tablets)
}

fn role(tablet: &Tablet) -> String {
    match tablet.drained {
        true => format!("{} drained", tablet.role),
        false => tablet.role.clone(),
    }
}

fn state(tablet: &Tablet) -> [String; 7] {
    let report = tablet.report.as_ref();
    let replication = report.and_then(|report| report.replication.as_ref());
    [
        tablet.alias.clone(),
        role(tablet),
        or_dash(report.map(|report| report.mysqld)),
        or_dash(replication.map(|it| format!("{}/{}", it.io, it.sql))),
        or_dash(replication.and_then(|it| it.lag_ms).map(duration_text)),
        or_dash(report.map(semi_sync)),
        or_dash(tablet.report_age_ms.map(duration_text)),
    ]
}

fn with_troubles(mut text: String, tablets: &[Tablet]) -> String {
    for tablet in tablets {
        if let Some(trouble) = tablet.trouble() {
            text.push_str(&format!("\n\n{} is blocked: {trouble}", tablet.alias));
        }
    }
    text
}

fn semi_sync(report: &Report) -> String {
    let on = |side: Option<bool>, name| (side == Some(true)).then_some(name);
    let sides = [
        on(report.semi_sync_source, "source"),
        on(report.semi_sync_replica, "replica"),
    ];
    let sides: Vec<_> = sides.into_iter().flatten().collect();
    match (sides.is_empty(), report.semi_sync_source.is_some()) {
        (false, _) => sides.join("+"),
        (true, true) => "off".to_owned(),
        (true, false) => "-".to_owned(),
    }
}

/// A GTID set for a table: each uuid by its first part, the count when it is still too long.
pub fn short_gtid(text: &str) -> String {
    let Ok(set) = text.parse::<GtidSet>() else {
        return "?".to_owned();
    };
    if set.is_empty() {
        return "empty".to_owned();
    }
    let printed = set.to_string();
    let part = |group: &str| match group.split_once('-') {
        Some((first, rest)) => format!("{first}..{}", rest.find(':').map_or("", |at| &rest[at..])),
        None => group.to_owned(),
    };
    let short: Vec<_> = printed.split(',').map(part).collect();
    let short = short.join(",");
    if short.len() <= GTID_CHARACTERS_MAX {
        return short;
    }
    format!(
        "{} transactions of {} sources",
        set.count(),
        set.sources().count()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::tablet::tests::replica;

    #[test]
    fn rows_fit_and_say_what_matters() {
        let mut blocked = Tablet::from(replica("zone1-101"));
        blocked.report.as_mut().unwrap().blocked = Some("disk full".to_owned());
        let silent = Tablet {
            report: None,
            report_age_ms: None,
            ..blocked.clone()
        };
        let tablets = [Tablet::from(replica("zone1-100")), blocked, silent];
        let text = table(&tablets);
        let expected = [
            "TABLET     ROLE     MYSQLD   IO/SQL  LAG   SEMI-SYNC  HEARD   GTID EXECUTED",
            "zone1-100  replica  running  on/on   3 ms  replica    120 ms  aaaaaaaa..:1-7",
            "zone1-101  replica  running  on/on   3 ms  replica    120 ms  aaaaaaaa..:1-7",
            "zone1-101  replica  -        -       -     -          -       -",
            "",
            "zone1-101 is blocked: disk full",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(expected.iter().all(|line| line.len() <= 80));
        assert!(table_across_sets(&tablets).contains("120 ms  main"));
    }

    #[test]
    fn gtid_sets_are_shortened() {
        let a = "aaaaaaaa-1111-2222-3333-444444444444";
        let b = "bbbbbbbb-1111-2222-3333-444444444444";
        for (given, printed) in [
            (String::new(), "empty"),
            ("?".to_owned(), "?"),
            (format!("{a}:1-7"), "aaaaaaaa..:1-7"),
            (format!("{a}:1-7,{b}:1"), "aaaaaaaa..:1-7,bbbbbbbb..:1"),
            (
                format!("{a}:1-7:9-20000,{b}:1-3000000"),
                "3019999 transactions of 2 sources",
            ),
        ] {
            assert_eq!(short_gtid(&given), printed);
        }
    }
}
