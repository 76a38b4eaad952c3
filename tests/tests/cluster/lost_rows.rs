//! What a primary wrote and nobody acknowledged is cut off when it returns: an operator reads it on another host, and removes it.

use anyhow::{Context, bail, ensure};
use mysql_async::{Conn, prelude::Queryable};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vt_tests::cluster::{
    local::{LocalCluster, PATIENCE, kill_now, signal},
    view::Overview,
};

use super::{ASK_AGAIN, KEYSPACE, failed_over, on_a_cluster, primary};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_a_former_primary_is_shown_and_forgotten() -> anyhow::Result<()> {
    on_a_cluster(lose_and_look).await
}

/// One of many types, and one that is compressed.
const LOST: [&str; 2] = [
    "START TRANSACTION; \
     INSERT INTO things VALUES (4, 'vier', 2.50, '2026-01-02 03:04:05.6', X'00FF', '{\"a\": [1, null]}', -7), \
     (5, NULL, NULL, NULL, NULL, NULL, NULL); \
     UPDATE things SET name = 'eins' WHERE id = 1; \
     DELETE FROM things WHERE id = 2; COMMIT",
    "SET SESSION binlog_transaction_compression = ON; \
     UPDATE things SET name = REPEAT('drei', 300) WHERE id = 3",
];

async fn lose_and_look(cluster: &LocalCluster) -> anyhow::Result<()> {
    let before = cluster.overview().await?;
    let (first, epoch) = primary(&before);
    let mut connection = Conn::new(cluster.admin(&first, KEYSPACE)?).await?;
    let table = "CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(2000), price DECIMAL(8, 2), \
         made DATETIME(3), bytes VARBINARY(8), note JSON, small TINYINT)";
    connection.query_drop(table).await?;
    let rows = "INSERT INTO things (id, name) VALUES (1, 'one'), (2, 'two'), (3, 'three')";
    connection.query_drop(rows).await?;
    lose(cluster, &before, &first).await?;

    // Its own agent sleeps until another is primary: it would start mysqld again, and all would be acknowledged.
    let others = before
        .agents()
        .filter(|it| it.tablet.as_ref() != Some(&first));
    for agent in others {
        signal(agent.pid, Signal::SIGCONT)?;
    }
    failed_over(cluster, epoch).await?;
    signal(before.agent(&first).pid, Signal::SIGCONT)?;
    let whole = |overview: &Overview| overview.is_whole();
    cluster.wait("the former primary to return", whole).await?;
    look(cluster, &first).await
}

/// The primary dies with transactions that no other host has, and nobody does anything about it yet.
async fn lose(cluster: &LocalCluster, before: &Overview, first: &str) -> anyhow::Result<()> {
    for agent in before.agents() {
        signal(agent.pid, Signal::SIGSTOP)?;
        let alias = agent.tablet.as_deref().context("a tablet")?;
        if alias != first {
            let mut replica = Conn::new(cluster.admin(alias, KEYSPACE)?).await?;
            replica.query_drop("STOP REPLICA IO_THREAD").await?;
        }
    }
    let mut observer = Conn::new(cluster.admin(first, KEYSPACE)?).await?;
    let mut position = binary_log_end(&mut observer).await?;
    for lost in LOST {
        let mut writer = Conn::new(cluster.admin(first, KEYSPACE)?).await?;
        // It ends with the server.
        tokio::spawn(async move { writer.query_drop(lost).await });
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while binary_log_end(&mut observer).await? == position {
            ensure!(tokio::time::Instant::now() < deadline, "nothing is written");
            tokio::time::sleep(ASK_AGAIN).await;
        }
        position = binary_log_end(&mut observer).await?;
    }
    kill_now(before.agent(first).mysqld_pid)
}

async fn binary_log_end(connection: &mut Conn) -> anyhow::Result<u64> {
    let row: Option<mysql_async::Row> = connection.query_first("SHOW BINARY LOG STATUS").await?;
    row.and_then(|row| row.get("Position"))
        .context("a position in the binary log")
}

/// The changes as they were written, by columns that have no names in the log.
fn expected() -> [Value; 2] {
    let row = |values: [Value; 7]| {
        let named = (1..).zip(values).map(|(at, it)| (format!("@{at}"), it));
        Value::Object(named.collect())
    };
    let only = |id: u32, name: Value| {
        let none = Value::Null;
        row([
            json!(id),
            name,
            none.clone(),
            none.clone(),
            none.clone(),
            none.clone(),
            none,
        ])
    };
    let note = json!({"a": [1, null]});
    let full = row([
        json!(4),
        json!("vier"),
        json!("2.50"),
        json!("2026-01-02 03:04:05.600000"),
        json!({"hex": "00ff"}),
        note,
        json!(-7),
    ]);
    let change = |operation: &str, rows: Value| json!({"operation": operation, "database": KEYSPACE, "table": "things", "rows": rows});
    let update = |id, before: &str, after: String| json!([{"before": only(id, json!(before)), "after": only(id, json!(after))}]);
    [
        json!([
            change("insert", json!([full, only(5, Value::Null)])),
            change("update", update(1, "one", "eins".to_owned())),
            change("delete", json!([only(2, json!("two"))])),
        ]),
        json!([change("update", update(3, "three", "drei".repeat(300)))]),
    ]
}

async fn look(cluster: &LocalCluster, first: &str) -> anyhow::Result<()> {
    let show = ["lost", "show", first];
    let shown = cluster
        .vtctl(&[&show[..], &["-o", "json"]].concat())
        .await?;
    let shown: Value = serde_json::from_str(&shown)?;
    let changes: Vec<&Value> = shown["transactions"]
        .as_array()
        .context("transactions")?
        .iter()
        .map(|transaction| &transaction["changes"])
        .collect();
    let expected = expected();
    ensure!(changes == expected.iter().collect::<Vec<_>>(), "{shown:#}");
    ensure!(
        shown["incomplete"].is_null() && shown["rows_left_out"] == 0,
        "{shown:#}"
    );

    // A part, and what it lacks.
    let part = [&show[..], &["--transactions", "1", "--rows", "1"]].concat();
    let part = cluster.vtctl(&part).await?;
    for words in ["@2 = \"vier\"", "left out: 1 transactions, and 3 rows"] {
        ensure!(part.contains(words) && !part.contains("drei"), "{part}");
    }

    let (gtids, directory) = (text(&shown, "gtids")?, text(&shown, "directory")?);
    let name = directory.rsplit('/').next().unwrap_or_default();
    let forget = |gtids: String| {
        let (first, name) = (first.to_owned(), name.to_owned());
        async move {
            let command = ["lost", "forget", &first, &name, "--gtids", &gtids];
            cluster.vtctl(&command).await
        }
    };
    if let Ok(said) = forget(format!("{gtids}:1000")).await {
        bail!("something else was named: {said}");
    }
    ensure!(std::path::Path::new(&directory).is_dir(), "{directory}");
    forget(gtids.clone()).await?;
    ensure!(!std::path::Path::new(&directory).exists(), "{directory}");
    let events = cluster.vtctl(&["events"]).await?;
    ensure!(
        events.contains("lost.forget") && events.contains(&gtids),
        "{events}"
    );
    // What users wrote stands in no log.
    let logs = std::fs::read_dir(cluster.dir().join("log"))?;
    for log in logs {
        let log = std::fs::read_to_string(log?.path())?;
        ensure!(!log.contains("vier") && !log.contains("drei"), "{log}");
    }
    Ok(())
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    let text = value[key].as_str().with_context(|| key.to_owned())?;
    Ok(text.to_owned())
}
