//! A real mysqld under a real guard, for this crate's tests: in a directory of its own, on a free port, gone afterwards.

use std::{fs, net::TcpListener, path::Path, process::Child, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use vt_proto::ids::TabletAlias;

use super::{
    Layout,
    admin_conn::AdminConn,
    binaries::Binaries,
    init::{Init, InitError, Passwords, Prepared},
    my_cnf::{Settings, default_user},
    service::Service,
};
use crate::guard::{process, protocol::Status, tests::start_guard_process};

/// Longer than anything takes on a machine that still works.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct TestTablet {
    directory: TempDir,
    guard: Option<Child>,
    pub alias: String,
    pub settings: Settings,
    pub binaries: Binaries,
    pub passwords: Passwords,
    pub service: Service,
}

impl TestTablet {
    /// A tablet without data and without guard.
    pub async fn new(alias: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), None);
        let binaries = Binaries::find(None).await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Settings {
            layout: layout.clone(),
            version: binaries.version,
            server_id: alias.parse::<TabletAlias>().unwrap().server_id(),
            host: "127.0.0.1".to_owned(),
            port: free.local_addr().unwrap().port(),
            innodb_buffer_pool_size: Some("32M".to_owned()),
            include: None,
            user: default_user(directory.path()),
        };
        Self {
            directory,
            guard: None,
            alias: alias.to_owned(),
            settings,
            binaries,
            passwords: Passwords {
                admin: "admin's password".to_owned(),
                replication: "replication's password".to_owned(),
                app: "app's password".to_owned(),
            },
            service: Service::new(&layout),
        }
    }

    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    pub fn layout(&self) -> &Layout {
        &self.settings.layout
    }

    pub async fn prepare(&self) -> Result<Prepared, InitError> {
        let init = Init {
            settings: &self.settings,
            binaries: &self.binaries,
            passwords: &self.passwords,
            owner: &self.alias,
        };
        init.prepare().await
    }

    pub async fn start_guard(&mut self) {
        self.guard = Some(start_guard_process(self.dir()));
        until("a guard that answers", async || {
            self.service.status().await.ok()
        })
        .await;
    }

    pub fn kill_guard(&mut self) {
        let mut guard = self.guard.take().unwrap();
        guard.kill().unwrap();
        guard.wait().unwrap();
    }

    /// Data directory, guard and mysqld.
    pub async fn up(alias: &str) -> Self {
        let mut tablet = Self::new(alias).await;
        tablet.prepare().await.unwrap();
        tablet.start_guard().await;
        tablet.start().await;
        tablet
    }

    pub async fn start(&self) -> Status {
        self.service.start(&self.binaries).await.unwrap()
    }

    pub async fn admin(&self) -> AdminConn {
        let (socket, password) = (self.layout().socket(), &self.passwords.admin);
        until("a login", async || {
            let connect = AdminConn::connect_within(&socket, password, PATIENCE);
            connect.await.ok()
        })
        .await
    }

    /// Kills mysqld and waits until the guard has seen it.
    pub async fn kill(&self) {
        self.service.kill().await.unwrap();
        until("the exit", async || {
            let status = self.service.status().await.unwrap();
            status.pid().is_none().then_some(())
        })
        .await;
    }
}

impl Drop for TestTablet {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        while let Some(left) = process::find_in(&self.layout().mysql_dir) {
            process::kill(left).unwrap();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.layout().error_log()).unwrap_or_default();
            eprintln!("{log}");
        }
    }
}

/// Asks again until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The first column of the only row.
pub async fn value(conn: &mut AdminConn, query: &str) -> String {
    let rows: Vec<(String,)> = conn.rows(query).await.unwrap();
    rows.into_iter().next().map(|row| row.0).unwrap_or_default()
}
