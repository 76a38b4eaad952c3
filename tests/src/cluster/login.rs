//! How to log in: read from a MySQL option file, so that no password stands in a command line.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use mysql_async::Conn;
use tokio::time::{Instant, sleep, timeout};

/// A server that is there answers by then.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Sessions that nobody needs any more have ended by then.
const CROWDED_TIME_MAX: Duration = Duration::from_secs(30);
const CROWDED_PAUSE: Duration = Duration::from_millis(200);
const TOO_MANY_CONNECTIONS: u16 = 1040;

/// What the `[client]` group of an option file says.
#[derive(Clone)]
pub struct Login {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

impl Login {
    /// Reads the `[client]` group of an option file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let group = text
            .lines()
            .map(str::trim)
            .skip_while(|line| *line != "[client]")
            .skip(1);
        let value_of = |key: &str| {
            let mut lines = group.clone().take_while(|line| !line.starts_with('['));
            let value = lines.find_map(|line| {
                let (name, value) = line.split_once('=')?;
                (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
            });
            value.with_context(|| format!("find {key} in the group [client] of {}", path.display()))
        };
        let port = value_of("port")?;
        let Ok(port) = port.parse() else {
            bail!("port {port} in {} is not a port", path.display())
        };
        Ok(Self {
            host: value_of("host")?,
            port,
            user: value_of("user")?,
            password: value_of("password")?,
        })
    }

    /// The same login on another port of the same host.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Self {
        Self {
            port,
            ..self.clone()
        }
    }

    /// Options for a connection with this login.
    pub fn options(&self, database: Option<&str>) -> mysql_async::Opts {
        mysql_async::OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .db_name(database.map(str::to_owned))
            .prefer_socket(false)
            .into()
    }

    /// Connects. A server without a free connection is tried again: what a fault has left behind comes to its end.
    pub async fn connect(&self, database: Option<&str>) -> anyhow::Result<Conn> {
        let deadline = Instant::now() + CROWDED_TIME_MAX;
        loop {
            let connecting = timeout(CONNECT_TIME_MAX, Conn::new(self.options(database)));
            let is_last = Instant::now() >= deadline;
            match connecting.await.context("wait for a connection")? {
                Err(mysql_async::Error::Server(error))
                    if error.code == TOO_MANY_CONNECTIONS && !is_last => {}
                result => {
                    return result
                        .with_context(|| format!("connect to {}:{}", self.host, self.port));
                }
            }
            sleep(CROWDED_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.cnf");
        fs::write(&path, "[client]\nuser = app\npassword=\"s=cret\"\nhost=127.0.0.1\nport=15306\n[mysql]\nport=1\n").unwrap();
        let login = Login::read(&path).unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_str(), login.port),
            ("app", "s=cret", 15306)
        );
        fs::write(&path, "[client]\nuser=app\n").unwrap();
        assert!(Login::read(&path).is_err());
    }
}
