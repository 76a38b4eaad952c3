//! What routers and servers use while the soak lasts, and whether it grows.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use mysql_async::{Conn, prelude::Queryable};
use serde::Serialize;
use tokio::time::timeout;

use crate::cluster::local::LocalCluster;

/// A server that is well answers by then.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Early and late are these parts of all looks. What is before early is warming up.
const PARTS: usize = 4;
/// With fewer looks everything is warming up.
const LOOKS_MIN: usize = 24;
const SERVERS: &str = "all servers";

/// One thing that is looked at, and how much it may grow between the early and the late part, in hundredths and in its own unit.
struct Kind {
    what: &'static str,
    unit: &'static str,
    percent: u64,
    more: u64,
}

const RESIDENT: Kind = Kind {
    what: "resident memory",
    unit: "KiB",
    percent: 10,
    more: 8 << 10,
};
const FILES: Kind = Kind {
    what: "open files",
    unit: "",
    percent: 10,
    more: 30,
};
const CONNECTIONS: Kind = Kind {
    what: "connections",
    unit: "",
    percent: 10,
    more: 30,
};
const STATEMENTS: Kind = Kind {
    what: "prepared statements",
    unit: "",
    percent: 10,
    more: 200,
};

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Line {
    pub whose: String,
    pub what: &'static str,
    pub unit: &'static str,
    /// Medians of the second and of the last quarter of all looks.
    pub early: u64,
    pub late: u64,
    pub most: u64,
    pub grows: bool,
}

/// All looks so far.
pub struct Usage<'a> {
    cluster: &'a LocalCluster,
    /// Name and process of each agent.
    agents: Vec<(String, i32)>,
    tablets: Vec<String>,
    seen: BTreeMap<(String, &'static str), (&'static Kind, Vec<u64>)>,
}

impl<'a> Usage<'a> {
    pub async fn of(cluster: &'a LocalCluster) -> anyhow::Result<Self> {
        let overview = cluster.overview().await?;
        let agents = overview.agents().map(|agent| {
            let pid = agent.pid.with_context(|| format!("{} runs", agent.name))?;
            Ok((agent.name.clone(), pid))
        });
        Ok(Self {
            cluster,
            agents: agents.collect::<anyhow::Result<_>>()?,
            tablets: overview
                .agents()
                .filter_map(|agent| agent.tablet.clone())
                .collect(),
            seen: BTreeMap::new(),
        })
    }

    pub async fn look(&mut self) -> anyhow::Result<()> {
        for (name, pid) in self.agents.clone() {
            self.note(&name, &RESIDENT, resident_kib(pid)?);
            let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
            self.note(&name, &FILES, files);
        }
        // Of all servers together: connections go where the primary goes.
        let (mut all_statements, mut all_connections) = (0, 0);
        for tablet in &self.tablets {
            // One that is down is looked at the next time.
            let Ok(Ok((statements, connections))) =
                timeout(ANSWER_TIME_MAX, self.of_server(tablet)).await
            else {
                return Ok(());
            };
            all_statements += statements;
            all_connections += connections;
        }
        self.note(SERVERS, &STATEMENTS, all_statements);
        self.note(SERVERS, &CONNECTIONS, all_connections);
        Ok(())
    }

    /// Prepared statements and connections.
    async fn of_server(&self, tablet: &str) -> anyhow::Result<(u64, u64)> {
        let mut session = Conn::new(self.cluster.admin(tablet, "vitrail")?).await?;
        let query = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                     WHERE VARIABLE_NAME IN ('Threads_connected', 'Prepared_stmt_count') ORDER BY VARIABLE_NAME";
        let values: Vec<u64> = session.query(query).await?;
        session.disconnect().await?;
        match values[..] {
            [statements, connections] => Ok((statements, connections)),
            _ => anyhow::bail!("{tablet} does not say what it has: {values:?}"),
        }
    }

    fn note(&mut self, whose: &str, kind: &'static Kind, value: u64) {
        let key = (whose.to_owned(), kind.what);
        let (_, values) = self.seen.entry(key).or_insert((kind, Vec::new()));
        values.push(value);
    }

    pub fn lines(&self) -> Vec<Line> {
        let line = |((whose, _), (kind, values)): (&(String, _), &(&Kind, Vec<u64>))| {
            let (early, late) = early_and_late(values);
            Line {
                whose: whose.clone(),
                what: kind.what,
                unit: kind.unit,
                early,
                late,
                most: values.iter().copied().max().unwrap_or_default(),
                grows: values.len() >= LOOKS_MIN
                    && late > early + early * kind.percent / 100 + kind.more,
            }
        };
        self.seen.iter().map(line).collect()
    }
}

/// The medians of the second and of the last part.
fn early_and_late(values: &[u64]) -> (u64, u64) {
    let part = values.len() / PARTS;
    let median = |values: &[u64]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    (
        median(&values[part..part * 2]),
        median(&values[values.len() - part..]),
    )
}

fn resident_kib(pid: i32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    let kib = words.context("find VmRSS")?;
    kib.parse().context("read VmRSS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_is_after_warming_up() {
        assert_eq!(early_and_late(&[9, 9, 1, 2, 5, 5, 7, 8]), (2, 8));
        assert_eq!(early_and_late(&[1, 2]), (0, 0));
    }
}
