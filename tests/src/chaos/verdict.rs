//! What must hold after every row, once all is healed: asked of each mysqld, compared with what clients were promised.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::Queryable;

use super::{KEYSPACE, bed::Bed, reader::STRANGERS};
use crate::{
    check::one_writer::{self, Write},
    cluster::{
        data,
        login::Login,
        view::ReplicaSet,
        writer::{self, Ledger},
    },
};

/// Numbers that a sentence names.
const SHOWN: usize = 5;

/// What clients were promised.
pub struct Promises {
    pub ledger: Ledger,
    /// Rows that somebody has read.
    pub read: BTreeSet<u64>,
    /// The replica set when they began.
    pub before: ReplicaSet,
}

/// What is wrong, in one sentence each. An error if it cannot be found out.
pub async fn check(
    bed: &Bed,
    promises: &Promises,
    after: &ReplicaSet,
) -> anyhow::Result<Vec<String>> {
    let tablets = bed.tablets();
    let holdings = data::wait_until_equal(&tablets, KEYSPACE).await?;
    let open: Vec<_> = holdings.iter().filter(|(_, it)| it.is_open).collect();
    let mut wrong = Vec::new();
    match open[..] {
        [(alias, _)] if after.primary.as_ref() == Some(alias) => {}
        _ => wrong.push(format!(
            "the primary is not the only one that is open: {open:?}"
        )),
    }
    let mut servers = BTreeMap::new();
    for (alias, login) in &tablets {
        let found = writer::found(login, KEYSPACE).await?;
        let rows = found.keys().copied().collect();
        wrong.extend(
            compare(promises, &rows)
                .into_iter()
                .map(|it| format!("{alias} {it}")),
        );
        servers.insert(server_id(login).await?, alias.clone());
    }
    let found = writer::found(&tablets[0].1, KEYSPACE).await?;
    wrong.extend(single_writer(promises, after, &found, &servers));
    Ok(wrong)
}

/// What is wrong with the rows of a tablet.
fn compare(promises: &Promises, rows: &BTreeSet<u64>) -> Vec<String> {
    let ledger = &promises.ledger;
    let mut wrong = Vec::new();
    let mut tell = |what: &str, ids: Vec<u64>| {
        if !ids.is_empty() {
            let some = &ids[..ids.len().min(SHOWN)];
            wrong.push(format!("{what} {} times, as {some:?}", ids.len()));
        }
    };
    let lost = ledger.acknowledged.difference(rows);
    tell("lacks what was acknowledged", lost.copied().collect());
    let unread = promises.read.difference(rows);
    tell("lacks what was read", unread.copied().collect());
    let phantoms = rows.intersection(&ledger.refused_ids);
    tell("has what was refused", phantoms.copied().collect());
    let strangers = rows.range(STRANGERS..);
    tell("has what strangers wrote", strangers.copied().collect());
    wrong
}

fn single_writer(
    promises: &Promises,
    after: &ReplicaSet,
    found: &BTreeMap<u64, String>,
    servers: &BTreeMap<String, String>,
) -> Option<String> {
    let writes = promises
        .ledger
        .times
        .iter()
        .filter_map(|(id, (began, ended))| {
            let server = servers.get(found.get(id)?)?;
            Some(Write {
                server: server.clone(),
                began: *began,
                ended: *ended,
            })
        });
    let finished = after.history.iter();
    let finished = finished.filter(|it| it.epoch >= promises.before.epoch);
    let primaries = finished.map(|it| &it.primary).chain(&after.primary);
    one_writer::check(writes.collect(), &primaries.cloned().collect::<Vec<_>>()).err()
}

async fn server_id(login: &Login) -> anyhow::Result<String> {
    let mut session = login.connect(None).await?;
    let id: Option<String> = session
        .query_first("SELECT CAST(@@server_id AS CHAR)")
        .await?;
    Ok(id.unwrap_or_default())
}
