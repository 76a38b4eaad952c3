//! Users by `vtctl user`: they log in at every router, what they may do changes under their open sessions, and no hash is shown.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use mysql_async::{Conn, prelude::Queryable};
use vt_tests::cluster::{
    local::{LocalCluster, PATIENCE},
    login::Login,
};

use super::{KEYSPACE, on_a_cluster};

const USER: &str = "app-2";
const PASSWORD: &str = "correct horse";
const PAUSE: Duration = Duration::from_millis(20);
const TABLE_ACCESS_DENIED: u16 = 1142;
const ACCESS_DENIED: u16 = 1045;

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_changed_and_dropped_under_their_sessions() -> anyhow::Result<()> {
    on_a_cluster(come_and_go).await
}

async fn come_and_go(cluster: &LocalCluster) -> anyhow::Result<()> {
    let sql = "CREATE TABLE product (id BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100))";
    let apply = ["schema", "apply", "--keyspace", KEYSPACE, "--sql", sql];
    cluster.vtctl(&apply).await?;
    let file = secret_file(cluster, "password-of-app", PASSWORD)?;
    let file = file.to_str().context("a path of ASCII")?;
    let grant = format!("read:{KEYSPACE}");
    let create = [
        "user",
        "create",
        USER,
        "--grant",
        &grant,
        "--password-file",
        file,
    ];
    cluster.vtctl(&create).await?;

    let mut sessions = Vec::new();
    for router in cluster.routers().await? {
        sessions.push(until(async || connect(&router).await).await?);
    }
    for session in &mut sessions {
        ensure!(insert(session).await == Some(TABLE_ACCESS_DENIED));
    }
    cluster
        .vtctl(&["user", "grant", USER, "write", KEYSPACE])
        .await?;
    for session in &mut sessions {
        until(async || match insert(session).await {
            None => Ok(()),
            Some(code) => bail!("error {code}"),
        })
        .await?;
    }
    cluster
        .vtctl(&["user", "revoke", USER, "write", KEYSPACE])
        .await?;
    for session in &mut sessions {
        until(async || match insert(session).await {
            Some(TABLE_ACCESS_DENIED) => Ok(()),
            other => bail!("{other:?}"),
        })
        .await?;
    }
    hidden(cluster).await?;
    what_they_ran(cluster, sessions.len() as u64).await?;
    drop_it(cluster, sessions).await
}

async fn drop_it(cluster: &LocalCluster, sessions: Vec<Conn>) -> anyhow::Result<()> {
    cluster.vtctl(&["user", "drop", USER]).await?;
    for mut session in sessions {
        until(async || match session.query_drop("DO 1").await {
            Ok(()) => bail!("a session of nobody goes on"),
            Err(_) => Ok(()),
        })
        .await?;
    }
    for router in cluster.routers().await? {
        match connect(&router).await {
            Ok(_) => bail!("nobody logged in"),
            Err(error) => ensure!(code(&error) == Some(ACCESS_DENIED), "{error}"),
        }
    }
    let events = cluster
        .vtctl(&["events", "--subject", &format!("user/{USER}")])
        .await?;
    for word in ["user.created", "user.changed", "user.dropped"] {
        ensure!(events.contains(word), "{word} in {events}");
    }
    Ok(())
}

/// One line for what the same sessions ran at several routers.
async fn what_they_ran(cluster: &LocalCluster, routers: u64) -> anyhow::Result<()> {
    let client = format!("[client]\nuser = {USER}\npassword = {PASSWORD}");
    let file = secret_file(cluster, "client-of-app", &client)?;
    let file = file.to_str().context("a path of ASCII")?;
    let top = ["queries", "top", "--defaults-file", file];
    let found = cluster.vtctl(&[&top[..], &["-o", "json"]].concat()).await?;
    let found: serde_json::Value = serde_json::from_str(&found)?;
    let asked = found["routers"].as_array().context("routers")?;
    ensure!(asked.len() as u64 == routers, "{found}");
    let queries = found["queries"].as_array().context("queries")?;
    let inserts: Vec<_> = queries
        .iter()
        .filter(|it| it["query"].as_str().is_some_and(|it| it.contains("INSERT")))
        .collect();
    let [insert] = inserts.as_slice() else {
        bail!("{found}");
    };
    ensure!(insert["user"] == USER && insert["affected_rows"].as_u64() >= Some(routers));
    let table = cluster.vtctl(&top).await?;
    ensure!(table.contains("INSERT") && table.contains("P99"), "{table}");
    who_is_there(cluster, file).await
}

/// Sessions of several routers in one list, and one of them ended.
async fn who_is_there(cluster: &LocalCluster, file: &str) -> anyhow::Result<()> {
    let login = ["--defaults-file", file];
    let list = [&["session", "list", "--of", USER, "-o", "json"][..], &login].concat();
    let sessions = async || {
        let found: serde_json::Value = serde_json::from_str(&cluster.vtctl(&list).await?)?;
        let sessions = found["sessions"].as_array().context("sessions")?.clone();
        anyhow::Ok(sessions)
    };
    let routers = cluster.routers().await?;
    let mut open = connect(routers.last().context("a router")?).await?;
    open.query_drop("BEGIN").await?;
    let all = sessions().await?;
    let [first, ..] = all.as_slice() else {
        bail!("nobody is there");
    };
    ensure!(
        first["id"] == open.id() && first["kept_for"] == "an open transaction",
        "{first}"
    );
    let (router, id) = (
        first["router"].as_str().context("router")?,
        open.id().to_string(),
    );
    let kill = [&["session", "kill", router, &id][..], &login].concat();
    cluster.vtctl(&kill).await?;
    ensure!(open.query_drop("SELECT 1").await.is_err());
    let left = sessions().await?;
    ensure!(
        left.iter()
            .all(|it| it["id"] != open.id() || it["router"] != router),
        "{left:?}"
    );
    let again = cluster.vtctl(&kill).await;
    ensure!(again.is_err_and(|error| format!("{error:#}").contains("Unknown thread id")));
    Ok(())
}

/// A file that others cannot read.
fn secret_file(cluster: &LocalCluster, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = cluster.dir().join(name);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    writeln!(file, "{text}")?;
    Ok(path)
}

/// What tools are shown has the rights and nothing of the password.
async fn hidden(cluster: &LocalCluster) -> anyhow::Result<()> {
    let shown = cluster.vtctl(&["user", "show", USER]).await?;
    ensure!(shown.contains(&format!("read in {KEYSPACE}")), "{shown}");
    for command in [["topology", "export"], ["user", "list"]] {
        let shown = cluster.vtctl(&command).await?;
        ensure!(shown.contains(USER) && !shown.contains("hash"), "{shown}");
    }
    Ok(())
}

async fn connect(router: &Login) -> Result<Conn, mysql_async::Error> {
    let login = Login {
        user: USER.to_owned(),
        password: PASSWORD.to_owned(),
        ..router.clone()
    };
    Conn::new(login.options(Some(KEYSPACE))).await
}

fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// The error that a write meets.
async fn insert(session: &mut Conn) -> Option<u16> {
    let written = session.query_drop("INSERT INTO product (name) VALUES ('a')");
    written.await.err().map(|error| code(&error).unwrap_or(0))
}

/// Tries again: routers hear of it within a second, and a busy machine takes its time.
async fn until<T, E: std::fmt::Display>(
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => ensure!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
