//! Where a row is played: who is who, what is held open, and how each step is done. It judges nothing.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use mysql_async::{Conn, prelude::Queryable};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::{
    FRONT, HOSTS, REPLICA_SET, alias,
    bed::{Bed, EVERYTHING, PATIENCE, primary},
    files::MYSQLD_PORT,
    step::{Load, Step, Who},
};
use crate::bed::{
    network::{self, GRPC_PORT},
    shell::run_with,
};

/// A statement of ours at a mysqld that may be hanging.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// A machine's own number, which changes with each start of it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Between two tries of a switchover that is refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// It ends by itself: what the bed has to do meanwhile, with other rows of a soak, gets its share of the processors too.
const BUSY: &str = "while (( SECONDS < 30 )); do :; done";
/// A session that is refused comes again after so long.
const SESSION_PAUSE: Duration = Duration::from_millis(20);

/// A bed on which a row is played.
pub struct Stage<'a> {
    pub bed: &'a mut Bed,
    /// The host that was primary.
    primary: usize,
    /// How the last switchover ended.
    pub switchover: Option<anyhow::Result<String>>,
    held: Vec<Conn>,
    children: Vec<Child>,
    tasks: JoinSet<()>,
}

impl<'a> Stage<'a> {
    pub fn new(bed: &'a mut Bed, primary: usize) -> Self {
        Self {
            bed,
            primary,
            switchover: None,
            held: Vec::new(),
            children: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Which hosts are meant.
    pub async fn hosts(&self, who: Who) -> anyhow::Result<Vec<usize>> {
        let next = |steps| (self.primary + steps) % HOSTS;
        Ok(match who {
            Who::Primary => vec![self.primary],
            Who::First => vec![next(1)],
            Who::Second => vec![next(2)],
            Who::Replicas => vec![next(1), next(2)],
            Who::All => (0..HOSTS).collect(),
            Who::Front => vec![FRONT],
            Who::Leader => vec![self.bed.leader().await?],
            Who::Present => vec![primary(&self.bed.replica_set().await?)?],
        })
    }

    /// The only one that is meant.
    pub async fn host(&self, who: Who) -> anyhow::Result<usize> {
        match self.hosts(who).await?[..] {
            [host] => Ok(host),
            _ => bail!("{who:?} is not one host"),
        }
    }

    /// Does a step that is no expectation.
    pub async fn inject(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Cut(from, to) => return self.pairs(from, to, network::cut).await,
            Step::CutControl(from, to) => {
                let cut = |from, to| network::cut_port(from, to, GRPC_PORT);
                return self.pairs(from, to, cut).await;
            }
            Step::CutData(from, to) => {
                let cut = |from, to| network::cut_port(from, to, MYSQLD_PORT);
                return self.pairs(from, to, cut).await;
            }
            Step::Lose(percent) => return network::lose(percent),
            Step::HealNetwork => return network::heal(FRONT + 1),
            Step::Pause(pause_ms) => {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                return Ok(());
            }
            Step::Switchover(who) => return self.switch_over(who).await,
            Step::SwitchoverWhenFit(who) => return self.switchover_when_fit(who).await,
            Step::BeginSwitchover(who) => {
                let to = alias(self.host(who).await?);
                let words = [
                    "replica-set",
                    "switchover",
                    REPLICA_SET,
                    "--to",
                    &to,
                    "--no-wait",
                ];
                return self.bed.vtctl(&words).await.map(drop);
            }
            Step::Repeat(times, steps) => {
                for step in (0..times).flat_map(|_| steps) {
                    Box::pin(self.inject(*step)).await?;
                }
                return Ok(());
            }
            Step::Flap(who, time_ms, times) => {
                for _ in 0..times {
                    Box::pin(self.inject(Step::Isolate(who))).await?;
                    tokio::time::sleep(Duration::from_millis(time_ms)).await;
                    network::heal(FRONT + 1)?;
                    tokio::time::sleep(Duration::from_millis(time_ms)).await;
                }
                return Ok(());
            }
            _ => {}
        }
        let Some(who) = step.target() else {
            bail!("{step:?} is nothing that is done");
        };
        for host in self.hosts(who).await? {
            self.inject_at(step, host).await?;
        }
        Ok(())
    }

    async fn pairs(
        &self,
        from: Who,
        to: Who,
        cut: impl Fn(usize, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let to = self.hosts(to).await?;
        for from in self.hosts(from).await? {
            let others = to.iter().filter(|to| **to != from);
            others.copied().try_for_each(|to| cut(from, to))?;
        }
        Ok(())
    }

    async fn inject_at(&mut self, step: Step, number: usize) -> anyhow::Result<()> {
        let host = &mut self.bed.hosts[number];
        if matches!(step, Step::Fill(_) | Step::Freeze(_)) {
            let disk = host.disk()?;
            // Whoever writes there would hang, or nobody would.
            ensure!(
                !disk.is_frozen() && !disk.is_broken(),
                "its disk is no more"
            );
        }
        match step {
            Step::Signal(_, programs, signal) => host.signal(programs, signal),
            Step::Start(_) => host.start(),
            Step::Isolate(_) => network::isolate(number, FRONT + 1),
            Step::Freeze(_) => host.disk()?.freeze(),
            Step::Thaw(_) => host.disk()?.thaw(),
            Step::Fill(_) => host.disk()?.fill(),
            Step::TurnReadOnly(_) => host.disk()?.turn_read_only(),
            Step::Break(_) => host.disk()?.forget(),
            Step::FreezeCoordinator(_) => host.coordinator_disk()?.freeze(),
            Step::FillCoordinator(_) => host.coordinator_disk()?.fill(),
            Step::LosePower(_) => self.lose_power(number),
            Step::Sql(_, statements) => self.sql(number, statements).await.map(drop),
            Step::Hold(_, statements) => {
                let session = self.sql(number, statements).await?;
                self.held.push(session);
                Ok(())
            }
            Step::Begin(_, statements) => {
                let options = self.bed.files.admin(number);
                self.tasks.spawn(async move {
                    if let Ok(mut session) = Conn::new(options).await {
                        for statement in statements {
                            drop(session.query_drop(*statement).await);
                        }
                    }
                });
                Ok(())
            }
            Step::BeginAsRoot(_, statement) => {
                let mut client = self.bed.files.root(number)?;
                client.args(["--execute", statement]);
                self.children.push(client.spawn()?);
                Ok(())
            }
            Step::Load(_, load) => self.load(number, load),
            _ => bail!("{step:?} is done to no host"),
        }
    }

    /// The host ends between two moments, and starts again as another boot of it.
    fn lose_power(&mut self, number: usize) -> anyhow::Result<()> {
        let host = &mut self.bed.hosts[number];
        host.signal(EVERYTHING, Signal::SIGKILL)?;
        host.disk()?.forget()?;
        host.start_over()?;
        let file = self.bed.files.directory.join("boot_id");
        let id = format!("{:032x}", rand::random::<u128>());
        let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
        fs::write(&file, parts.join("-") + "\n")?;
        let arguments = ["--bind".as_ref(), file.as_os_str(), BOOT_ID.as_ref()];
        run_with("mount", arguments)?;
        self.bed.hosts[number].start()
    }

    /// A session at a host's mysqld in which these statements were carried out.
    pub async fn sql(&self, host: usize, statements: &[&str]) -> anyhow::Result<Conn> {
        let connecting = Conn::new(self.bed.files.admin(host));
        let mut session = tokio::time::timeout(STATEMENT_TIMEOUT, connecting)
            .await
            .context("wait for a session")??;
        for statement in statements {
            tokio::time::timeout(STATEMENT_TIMEOUT, session.query_drop(*statement))
                .await
                .with_context(|| format!("wait for {statement}"))??;
        }
        Ok(session)
    }

    fn load(&mut self, host: usize, load: Load) -> anyhow::Result<()> {
        match load {
            Load::Sessions(count) => {
                let login = self.bed.files.mysqld(host);
                for _ in 0..count {
                    let login = login.clone();
                    self.tasks.spawn(async move {
                        loop {
                            // Whoever gets one keeps it until it is cut.
                            if let Ok(mut session) = Conn::new(login.options(None)).await {
                                drop(session.query_drop("DO SLEEP(60)").await);
                            }
                            tokio::time::sleep(SESSION_PAUSE).await;
                        }
                    });
                }
            }
            Load::Processors(count) => {
                for _ in 0..count {
                    let mut busy = Command::new("bash");
                    busy.args(["-c", BUSY]);
                    self.children.push(busy.stdin(Stdio::null()).spawn()?);
                }
            }
        }
        Ok(())
    }

    /// Everything that is not the hosts' own ends; the rest is what [`Bed::heal`] does.
    pub async fn clear(&mut self) -> anyhow::Result<()> {
        self.tasks.shutdown().await;
        self.held.clear();
        for mut child in self.children.drain(..) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    async fn switch_over(&mut self, who: Who) -> anyhow::Result<()> {
        let to = alias(self.host(who).await?);
        let words = ["replica-set", "switchover", REPLICA_SET, "--to", &to];
        self.switchover = Some(self.bed.vtctl(&words).await);
        Ok(())
    }

    async fn switchover_when_fit(&mut self, who: Who) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.switch_over(who).await?;
            let has_moved = matches!(self.switchover, Some(Ok(_)));
            if has_moved || Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    /// Whether the last switchover did not take place.
    pub fn refusal(&self) -> anyhow::Result<()> {
        let outcome = self.switchover.as_ref().context("a switchover")?;
        ensure!(outcome.is_err(), "the switchover took place: {outcome:?}");
        Ok(())
    }
}

/// So long after now.
pub fn in_ms(time_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(time_ms)
}
