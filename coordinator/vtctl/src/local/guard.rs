//! Speaks to the guard of a mysqld on its control socket, one JSON object a line, and ends guard and mysqld.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::process::Mark;

/// Names of the guard's files in the agent's data directory.
const SOCKET_FILE: &str = "guard.sock";
const STATE_FILE: &str = "guard.json";
/// The guard answers from memory; a slow one hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How a guard and its mysqld stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardStatus {
    pub guard: Option<Mark>,
    pub mysqld: Option<Mark>,
    /// What is known of its latest exit, while it is down.
    pub last_exit: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Status(Status),
    Refused(String),
}

#[derive(Deserialize)]
struct Status {
    guard_pid: i32,
    server: Server,
    last_exit: Option<Exit>,
}

#[derive(Deserialize)]
struct Server {
    pid: Option<i32>,
}

#[derive(Deserialize)]
struct Exit {
    how: String,
}

/// What the guard keeps on disk: enough to find a mysqld whose guard is gone.
#[derive(Default, Deserialize)]
struct State {
    process: Option<ProcessMark>,
}

#[derive(Clone, Copy, Deserialize)]
struct ProcessMark {
    pid: i32,
    start_ticks: u64,
}

/// Asks the guard of this agent's data directory; without an answer, what its state file and `/proc` tell.
pub async fn status(data_dir: &Path) -> GuardStatus {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(data_dir)).await;
    match answer {
        Ok(Ok(status)) => status,
        Ok(Err(_)) | Err(_) => GuardStatus {
            mysqld: orphan(data_dir),
            ..GuardStatus::default()
        },
    }
}

async fn ask(data_dir: &Path) -> anyhow::Result<GuardStatus> {
    let mut stream = UnixStream::connect(data_dir.join(SOCKET_FILE)).await?;
    stream.write_all(b"{\"command\":\"status\"}\n").await?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    let status = match serde_json::from_str(&line)? {
        Reply::Status(status) => status,
        Reply::Refused(why) => anyhow::bail!(
            "the guard of {} refuses to say how it stands: {why}",
            data_dir.display()
        ),
    };
    let mysqld = status.server.pid.and_then(Mark::of);
    let last_exit = status
        .last_exit
        .map(|exit| exit.how)
        .filter(|_| mysqld.is_none());
    Ok(GuardStatus {
        guard: Mark::of(status.guard_pid),
        mysqld,
        last_exit,
    })
}

fn orphan(data_dir: &Path) -> Option<Mark> {
    let text = std::fs::read(data_dir.join(STATE_FILE)).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    let process = state.process?;
    Mark::of(process.pid).filter(|mark| mark.start_ticks == process.start_ticks)
}

/// Ends guard and mysqld within the limit: by the guard where there is one, since it knows when a clean shutdown would
/// acknowledge too much. Says whether anything had to be killed.
pub async fn end(data_dir: &Path, limit: Duration) -> anyhow::Result<bool> {
    let status = status(data_dir).await;
    let mut killed = false;
    if let Some(guard) = &status.guard {
        killed |= guard.end(limit).await?;
    }
    if let Some(mysqld) = &status.mysqld {
        killed |= mysqld.end(limit).await?;
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn answer(text: &'static str) -> GuardStatus {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET_FILE)).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "{\"command\":\"status\"}\n");
            stream.write_all(text.as_bytes()).await.unwrap();
        });
        let status = status(dir.path()).await;
        server.await.unwrap();
        status
    }

    #[tokio::test]
    async fn the_guard_says_how_it_stands() {
        let down = r#"{"status":{"guard_pid":1,"incarnation":2,"server":{"state":"down"},"last_exit":{"incarnation":2,"code":null,"signal":9,"how":"killed by signal 9"}}}"#;
        let status = answer(down).await;
        assert_eq!(status.last_exit.as_deref(), Some("killed by signal 9"));
        assert_eq!(status.mysqld, None);
        let running = r#"{"status":{"guard_pid":1,"incarnation":2,"server":{"state":"running","pid":1,"adopted":false},"last_exit":null}}"#;
        assert_eq!(answer(running).await.mysqld.map(|mark| mark.pid), Some(1));
    }

    #[tokio::test]
    async fn without_a_guard_the_state_file_finds_mysqld() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(status(dir.path()).await, GuardStatus::default());
        let own = Mark::of(std::process::id().cast_signed()).unwrap();
        let text = |ticks| {
            format!(
                r#"{{"incarnation":1,"process":{{"pid":{},"start_ticks":{ticks}}}}}"#,
                own.pid
            )
        };
        std::fs::write(dir.path().join(STATE_FILE), text(own.start_ticks)).unwrap();
        assert_eq!(status(dir.path()).await.mysqld, Some(own.clone()));
        std::fs::write(dir.path().join(STATE_FILE), text(own.start_ticks + 1)).unwrap();
        assert_eq!(status(dir.path()).await.mysqld, None);
    }
}
