//! Real servers, each with a directory of its own, that take the steps of a script.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use vt_agent::{
    mysqld::{
        Layout,
        admin_conn::{AdminConn, AdminError},
        binaries::Binaries,
        clone::clone_from,
        init::{Init, OWNER_FILE, Passwords},
        my_cnf::{Settings, default_user},
        rewind::rewind,
    },
    replication::{
        accounts::{self, replication_user},
        control, fence, semisync,
        status::{Interest, Stream, observe},
    },
};
use vt_agent_core::{Action, Server};
use vt_proto::{epoch::Epoch, gtid::GtidSet, topology::Endpoint};
use vt_tests::sim::script::{Answer, FIRST_ROW, Looks, Seen, Sight, Step, alias, endpoint, name};

use super::line::Line;

/// A slow machine starts a server within this; everything else is faster.
const PATIENCE: Duration = Duration::from_secs(60);
/// Looks that must agree, one after another, before a step counts as done: what waits for nothing has happened by then.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(20);
/// Of a transaction that is to be received in part: more rows than one event holds.
const PARTS: usize = 10;
/// The line ends after some of them, and after more than all heartbeats until then.
const HALF_BYTES: i64 = 40_000;
/// A piece of an event.
const TORN_BYTES: u64 = 30;

/// A real server.
struct Real {
    index: usize,
    directory: TempDir,
    settings: Settings,
    binaries: Binaries,
    process: Option<Child>,
    frozen: bool,
    admin: Option<(AdminConn, AdminConn)>,
    /// All that it ever had, the newest last.
    uuids: Vec<String>,
}

/// The servers, the lines between them by replica and source, and the writes of their clients.
pub struct Reals {
    servers: Vec<Real>,
    lines: Vec<Vec<Line>>,
    writes: Vec<Option<JoinHandle<Answer>>>,
    answers: Vec<Answer>,
}

fn passwords() -> Passwords {
    let password = |whose: &str| format!("{whose}'s password");
    Passwords {
        admin: password("admin"),
        replication: password("replication"),
        app: password("app"),
    }
}

impl Real {
    /// Data are made once and copied: that takes a tenth of the time.
    async fn new(index: usize, template: Option<&Layout>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let binaries = Binaries::find(None).await.expect("mysqld");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let settings = Settings {
            layout: Layout::new(directory.path(), None),
            version: binaries.version,
            server_id: alias(index).server_id(),
            host: "127.0.0.1".to_owned(),
            port: free.local_addr().expect("an address").port(),
            innodb_buffer_pool_size: Some("32M".to_owned()),
            include: None,
            user: default_user(directory.path()),
        };
        if let Some(template) = template {
            copy_data(template, &settings.layout, index);
        }
        let init = Init {
            settings: &settings,
            binaries: &binaries,
            passwords: &passwords(),
            owner: &alias(index).to_string(),
        };
        init.prepare().await.expect("a data directory");
        Self {
            index,
            directory,
            settings,
            binaries,
            process: None,
            frozen: false,
            admin: None,
            uuids: Vec::new(),
        }
    }

    fn layout(&self) -> &Layout {
        &self.settings.layout
    }

    async fn start(&mut self) {
        let started = Command::new(&self.binaries.mysqld)
            .arg(format!(
                "--defaults-file={}",
                self.layout().my_cnf().display()
            ))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(started.expect("mysqld starts"));
        self.log_in().await;
        let (conn, _) = self.admin.as_mut().expect("it runs");
        let row: Vec<(String,)> = conn.rows("SELECT @@server_uuid").await.expect("a uuid");
        let uuid = row[0].0.clone();
        if self.uuids.last() != Some(&uuid) {
            self.uuids.push(uuid);
        }
    }

    async fn log_in(&mut self) {
        self.admin = Some((self.login().await, self.login().await));
    }

    async fn login(&self) -> AdminConn {
        login(&self.layout().socket()).await
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().expect("it runs").id();
        kill(Pid::from_raw(pid.cast_signed()), signal).expect("a signal");
    }

    fn kill(&mut self) {
        self.admin = None;
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    async fn act(&mut self, action: &Action, source: Endpoint) -> bool {
        let password = passwords().replication;
        let user = replication_user(&alias(self.index));
        let own = self.login().await;
        let (conn, spare) = self.admin.as_mut().expect("it runs");
        let done = match action {
            Action::ConfigureChannel { .. } => {
                control::configure(conn, &source, &user, &password).await
            }
            Action::RepointChannel { .. } => control::repoint(conn, &source).await,
            Action::ResetReplication => control::reset(conn, spare).await,
            Action::StopIoThread => control::stop_io_thread(conn, spare).await,
            Action::StartIoThread => control::start_io_thread(conn).await,
            Action::StartSqlThread => control::start_sql_thread(conn).await,
            Action::EnableSourceSemiSync { acks } => semisync::enable_source(conn, *acks).await,
            Action::DisableSourceSemiSync => semisync::disable_source(conn).await,
            Action::SetReplicaSemiSync { enabled } => semisync::set_replica(conn, *enabled).await,
            Action::OpenForAgent => fence::open_for_agent(conn).await,
            Action::OpenForAll => fence::open_for_all(conn).await,
            Action::CutSessions => fence::cut_sessions(conn).await,
            Action::RestoreSessions => fence::restore_sessions(conn).await,
            Action::CloseServer => return fence::close(conn, spare).await.is_ok(),
            Action::SettleAccounts { open } => {
                let settled = accounts::settle(own, spare, open, &password).await;
                return settled.is_ok();
            }
            Action::LockOut { tablets } => return accounts::lock_out(own, tablets).await.is_ok(),
            Action::Clone { .. } => return self.copy(own, &source).await,
            other => panic!("{} is not in this script", other.name()),
        };
        done.is_ok()
    }

    /// Without a guard it ends when it has the data.
    async fn copy(&mut self, own: AdminConn, donor: &Endpoint) -> bool {
        let observer = self.login().await;
        let (conn, _) = self.admin.as_mut().expect("it runs");
        // As the agent does: mysqld refuses to clone where nothing at all may be written.
        let opened = fence::open_for_agent(conn).await;
        opened.expect("a server that the agent may write to");
        let password = passwords().replication;
        let cloned = clone_from(own, observer, donor, &password, PATIENCE, |_| {}).await;
        if let Err(error) = cloned {
            println!("no copy: {error}");
            return false;
        }
        self.admin = None;
        if let Some(mut process) = self.process.take() {
            process.wait().expect("its end");
        }
        self.start().await;
        true
    }

    /// Nothing of a relay log need be on disk before it is applied: what follows that place is cut off in the middle of an event.
    async fn lose_power(&mut self) {
        let (conn, _) = self.admin.as_mut().expect("it runs");
        let row = conn.row("SHOW REPLICA STATUS").await.expect("an answer");
        let row = row.expect("a channel");
        let file: String = row.get("Relay_Log_File").expect("a file");
        let applied: u64 = row.get("Relay_Log_Pos").expect("a place");
        self.kill();
        let directory = &self.settings.layout.mysql_dir;
        let index = directory.join("relay.index");
        let files = fs::read_to_string(&index).expect("the index");
        let is_later = |name: &str| name.trim_start_matches("./") > file.as_str();
        let (later, kept): (Vec<&str>, Vec<&str>) = files.lines().partition(|name| is_later(name));
        for name in later {
            fs::remove_file(directory.join(name)).expect("a relay log");
        }
        fs::write(&index, kept.join("\n") + "\n").expect("the index");
        let torn = fs::File::options().write(true).open(directory.join(&file));
        let torn = torn.expect("the relay log");
        let length = torn.metadata().expect("its length").len();
        torn.set_len(length.min(applied + TORN_BYTES))
            .expect("a shorter one");
    }

    async fn observe(&mut self) -> Result<(Server, usize, Vec<u64>), String> {
        let user = replication_user(&alias(self.index));
        let (conn, _) = self.admin.as_mut().ok_or("it does not run")?;
        let interest = Interest {
            ackers: true,
            ..Interest::default()
        };
        let server = observe(conn, &interest, &user, &mut Stream::default(), None).await;
        let server = server.map_err(|error| error.to_string())?;
        let clients = "SELECT variable_value FROM performance_schema.global_status \
             WHERE variable_name = 'Rpl_semi_sync_source_clients'";
        let clients: Vec<String> = words(conn.rows(clients).await)?;
        let clients = clients.first().and_then(|text| text.parse().ok());
        let rows = "SELECT DISTINCT id FROM script.t ORDER BY id";
        let rows: Vec<u64> = match conn.rows(rows).await {
            // There is no such table yet.
            Err(error) if error.code().is_some() && !error.ends_connection() => Vec::new(),
            rows => words(rows)?,
        };
        Ok((server, clients.unwrap_or(usize::MAX), rows))
    }
}

fn words<T>(result: Result<T, AdminError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

impl Drop for Real {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_data(from: &Layout, to: &Layout, index: usize) {
    let copied = Command::new("cp")
        .arg("-a")
        .args([&from.mysql_dir, &to.mysql_dir])
        .status();
    assert!(copied.expect("cp").success(), "the data are copied");
    fs::remove_file(to.mysql_dir.join("auto.cnf")).expect("a uuid to forget");
    fs::write(to.mysql_dir.join(OWNER_FILE), alias(index).to_string()).expect("an owner");
}

async fn login(socket: &Path) -> AdminConn {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match AdminConn::connect_within(socket, &passwords().admin, PATIENCE).await {
            Ok(conn) => return conn,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Reals {
    /// So many that run.
    pub async fn new(count: usize) -> Self {
        let mut servers: Vec<Real> = Vec::new();
        for index in 0..count {
            let template = servers.first().map(Real::layout);
            servers.push(Real::new(index, template).await);
        }
        let mut lines = Vec::new();
        for _ in 0..count {
            let mut of_replica = Vec::new();
            for source in &servers {
                let line = Line::to(source.settings.port).await;
                of_replica.push(line.expect("a line"));
            }
            lines.push(of_replica);
        }
        let starting = servers.into_iter().map(|mut real| {
            tokio::spawn(async move {
                real.start().await;
                real
            })
        });
        let mut started = Vec::new();
        for starts in starting.collect::<Vec<_>>() {
            started.push(starts.await.expect("a server that runs"));
        }
        Self {
            servers: started,
            lines,
            writes: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Where a replica finds the server that stands for this one of the model.
    fn address(&self, replica: usize, action: &Action) -> Endpoint {
        let index_of = |modelled: &Endpoint| {
            let mut all = 0..self.servers.len();
            all.find(|index| endpoint(*index) == *modelled)
                .expect("a server of the script")
        };
        let port = match action {
            Action::ConfigureChannel { source } | Action::RepointChannel { source } => {
                self.lines[replica][index_of(source)].port
            }
            Action::Clone { donor, .. } => self.servers[index_of(donor)].settings.port,
            _ => 0,
        };
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    /// Whether it was refused.
    pub async fn take(&mut self, step: &Step) -> bool {
        match *step {
            Step::Do(server, ref action) => {
                let source = self.address(server, action);
                return !self.servers[server].act(action, source).await;
            }
            Step::StopApplier(server) => {
                let (conn, _) = self.servers[server].admin.as_mut().expect("it runs");
                let stop = conn.execute_within("STOP REPLICA SQL_THREAD", PATIENCE);
                return stop.await.is_err();
            }
            Step::Write(server) => self.write(server, 1).await,
            Step::WriteHalf(server, replica) => {
                self.lines[replica][server].break_after(HALF_BYTES);
                self.write(server, PARTS).await;
            }
            Step::Mend(server, replica) => self.lines[replica][server].mend(),
            Step::Kill(server) => self.servers[server].kill(),
            Step::LosePower(server) => self.servers[server].lose_power().await,
            Step::CutTail(server, keeper) => {
                let kept = self.servers[keeper].observe().await;
                let kept: GtidSet = kept.expect("an answer").0.received;
                let real = &self.servers[server];
                let cut = rewind(real.layout(), &real.binaries, &kept, Epoch(1)).await;
                return cut.is_err();
            }
            Step::Start(server) => self.servers[server].start().await,
            Step::Freeze(server) | Step::Thaw(server) => {
                let real = &mut self.servers[server];
                real.frozen = matches!(step, Step::Freeze(_));
                real.signal(match real.frozen {
                    true => Signal::SIGSTOP,
                    false => Signal::SIGCONT,
                });
            }
        }
        false
    }

    async fn write(&mut self, server: usize, parts: usize) {
        let mut conn = self.servers[server].login().await;
        let statement = match self.writes.len() {
            0 => "CREATE DATABASE script".to_owned(),
            1 => "CREATE TABLE script.t (id INT, part INT, payload VARBINARY(8000), \
                 PRIMARY KEY (id, part))"
                .to_owned(),
            number => {
                let rows = (0..parts).map(|part| format!("({number}, {part}, REPEAT('x', 8000))"));
                let rows: Vec<String> = rows.collect();
                format!("INSERT INTO script.t VALUES {}", rows.join(", "))
            }
        };
        assert_eq!(FIRST_ROW, 2, "the two before make the table");
        let write = async move {
            match conn.execute_within(&statement, 10 * PATIENCE).await {
                Ok(()) => Answer::Ok,
                Err(error) if error.ends_connection() => Answer::Lost,
                Err(_) => Answer::Refused,
            }
        };
        self.writes.push(Some(tokio::spawn(write)));
        self.answers.push(Answer::Waits);
    }

    async fn look(&mut self, refused: bool) -> Sight {
        for (write, answer) in self.writes.iter_mut().zip(&mut self.answers) {
            if let Some(ended) = write.take_if(|write| write.is_finished()) {
                *answer = ended.await.expect("a write does not panic");
            }
        }
        let mut servers = Vec::new();
        for index in 0..self.servers.len() {
            let real = &mut self.servers[index];
            let seen = match &real.admin {
                None => Seen::Down,
                Some(_) if real.frozen => Seen::Frozen,
                Some(_) => match real.observe().await {
                    Ok(observed) => self.describe(observed),
                    Err(error) => {
                        println!("{}: {error}", name(index, 1));
                        real.log_in().await;
                        Seen::Down
                    }
                },
            };
            servers.push(seen);
        }
        Sight {
            refused,
            servers,
            answers: self.answers.clone(),
        }
    }

    fn describe(&self, (server, clients, rows): (Server, usize, Vec<u64>)) -> Seen {
        let named = |mut text: String| {
            for real in &self.servers {
                for (generation, uuid) in (1..).zip(&real.uuids) {
                    text = text.replace(uuid, &name(real.index, generation));
                }
            }
            text
        };
        let mut looks = Looks::of(&server, clients, rows, named);
        if let Some(link) = &mut looks.link {
            let mut lines = self.lines.iter();
            let source = lines.find_map(|lines| {
                let mut sources = lines.iter();
                sources.position(|line| line.port == link.source_port)
            });
            link.source_port = endpoint(source.expect("a source of this script")).port;
        }
        Seen::Up(Box::new(looks))
    }

    /// Looks until it sees what is expected, several times in a row; or returns what it sees at last.
    pub async fn settle(&mut self, refused: bool, expected: &Sight) -> Sight {
        let deadline = Instant::now() + PATIENCE / 4;
        let mut agreeing = 0;
        loop {
            let seen = self.look(refused).await;
            agreeing = if seen == *expected { agreeing + 1 } else { 0 };
            if agreeing == LOOKS || Instant::now() > deadline {
                return seen;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
