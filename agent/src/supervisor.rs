//! The owner of this host's mysqld: observes, asks the core for the next safe action, carries it out, reports.
//!
//! One loop, one action at a time, each with a time limit. It decides nothing itself, and its end leaves mysqld as it is.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use vt_agent_core::{
    Action, Memory, Observed, Process, Record, Step, Work, accept, alone, converge, recall, report,
};
use vt_proto::{
    desired::{Candidacy, Desired, Goal},
    ids::TabletAlias,
    topology::Tablet,
};

use crate::{
    metrics::SupervisorMetrics,
    replication::status::Interest,
    state_file::StateFile,
    uplink::{desired::Arrival, kept::KeptOrder, report::Outgoing},
};

use self::{host::Host, probes::Beside};

pub mod host;

mod actions;
mod admin_pool;
mod disk;
mod probes;
mod work;
mod writes;

/// Between two observations while nothing happens.
const OBSERVE_PERIOD: Duration = Duration::from_millis(100);
/// Between two observations while something is awaited here that only looking shows, and others wait for it.
const OBSERVE_PERIOD_AWAITING: Duration = Duration::from_millis(10);
/// Between two observations while something is under way elsewhere. Looks take from the processors what that needs.
const OBSERVE_PERIOD_HOT: Duration = Duration::from_millis(30);
/// Between two looks at a mysqld that is starting: each costs an attempt to log in.
const OBSERVE_PERIOD_STARTING: Duration = Duration::from_millis(30);
/// How long after a change of the desired state, or of mysqld's process, observation stays quick.
const HOT: Duration = Duration::from_secs(3);
/// After an action failed and nothing else is due.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// What was observed is gone by for so long after an action that changed nothing of it.
const OBSERVATION_LASTS: Duration = Duration::from_millis(50);
/// Ends of work that wait to be noted: one runs at a time.
const WORK_ENDS_MAX: usize = 4;

/// What others see of the supervisor.
#[derive(Clone, Debug)]
pub struct Handle {
    pub reports: watch::Receiver<Option<Arc<Outgoing>>>,
}

/// A piece of work and how it ended.
type WorkEnd = (Work, Result<(), String>);

/// The loop's own things.
pub struct Supervisor {
    tablet: Tablet,
    host: Host,
    state: StateFile,
    memory: Memory,
    desired: Option<Desired>,
    order: KeptOrder,
    /// What an earlier life followed last; gone on with until a coordinator says what is desired.
    recalled: Option<Desired>,
    arrivals: watch::Receiver<Option<Arrival>>,
    reports: watch::Sender<Option<Arc<Outgoing>>>,
    work_ends: (mpsc::Sender<WorkEnd>, mpsc::Receiver<WorkEnd>),
    work: Option<JoinHandle<()>>,
    /// The newest push; one before it has nobody to tell.
    push: Option<JoinHandle<()>>,
    started: Instant,
    hot_until: Instant,
    /// What the next look would find, and when the last one was.
    foreseen: Option<(Observed, Instant)>,
    /// The last refusal and the last blocking that were logged, so that each is logged once.
    logged: (Option<String>, Option<String>),
    metrics: SupervisorMetrics,
}

impl Supervisor {
    /// Puts the parts together; `arrivals` are the desired states as they come in.
    pub fn new(
        tablet: Tablet,
        host: Host,
        state: StateFile,
        order: KeptOrder,
        arrivals: watch::Receiver<Option<Arrival>>,
        metrics: SupervisorMetrics,
    ) -> (Self, Handle) {
        let (reports, receiver) = watch::channel(None);
        let now = Instant::now();
        let supervisor = Self {
            tablet,
            host,
            state,
            memory: Memory::default(),
            desired: None,
            order,
            recalled: None,
            arrivals,
            reports,
            work_ends: mpsc::channel(WORK_ENDS_MAX),
            work: None,
            push: None,
            started: now,
            hot_until: now + HOT,
            foreseen: None,
            logged: (None, None),
            metrics,
        };
        (supervisor, Handle { reports: receiver })
    }

    /// Works until cancelled. mysqld goes on.
    pub async fn run(mut self, cancel: CancellationToken) {
        self.recall();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.round() => {}
            }
        }
        self.stop_work();
        end_task(self.push.take());
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Observe, decide, act or wait.
    async fn round(&mut self) {
        self.take_arrival().await;
        self.take_work_ends();
        let foreseen = self.foreseen.take().filter(|(_, seen)| {
            seen.elapsed() < OBSERVATION_LASTS && !self.host.guard_has_spoken()
        });
        let is_new = foreseen.is_none();
        let (observed, seen) = match foreseen {
            Some(foreseen) => foreseen,
            None => (self.look().await, Instant::now()),
        };
        let step = self.next_step(&observed, self.now_ms());
        // What is claimed is what was seen after all that it is claimed of.
        if is_new {
            self.publish(&observed, &step);
        }
        match step.action {
            Some(action) => self.act(action, observed, seen).await,
            None if self.wait(step.blocked.is_some()).await => {
                self.foreseen = Some((observed, seen));
            }
            None => {}
        }
    }

    async fn look(&mut self) -> Observed {
        let interest = self.interest();
        let io_age_ms = self
            .memory
            .io_started_ms
            .map(|at_ms| self.now_ms().saturating_sub(at_ms));
        let observed = self.host.observe(&interest, io_age_ms).await;
        self.memory.look(&observed, self.now_ms());
        observed
    }

    fn next_step(&self, observed: &Observed, now_ms: u64) -> Step {
        let (state, memory) = (self.state.state(), &self.memory);
        match (&self.desired, &self.recalled) {
            (None, Some(kept)) => alone(observed, state, memory, kept, now_ms),
            (desired, _) => converge(observed, state, memory, desired.as_ref(), now_ms),
        }
    }

    /// Takes up what an earlier life followed, if it is what that life followed last.
    fn recall(&mut self) {
        let Some(kept) = self.order.load() else {
            return;
        };
        let desired = kept.desired;
        let verdict = recall(self.state.state(), &self.tablet, &kept.cluster_id, &desired);
        if let Err(reason) = verdict {
            tracing::warn!(%reason, "the kept order is out of date: until a coordinator answers, mysqld is left as it is");
            return;
        }
        tracing::info!(
            generation = %desired.generation,
            epoch = %desired.epoch,
            goal = goal_name(&desired.goal),
            "going on from the kept order until a coordinator answers"
        );
        let now_ms = self.now_ms();
        self.memory.follow(&desired, now_ms);
        self.memory.kept = Some(desired.generation);
        self.recalled = Some(desired);
    }

    /// Keeps what is followed; what it leads to is decided at the next start.
    async fn keep_order(&self) -> Result<(), String> {
        let cluster = self.state.state().cluster_id.clone();
        let (Some(cluster), Some(desired)) = (cluster, self.desired.clone()) else {
            return Err("there is nothing to keep".to_owned());
        };
        let kept = self.order.keep(cluster, desired).await;
        kept.map_err(|error| error.to_string())
    }

    fn goal(&self) -> Option<&Goal> {
        self.desired.as_ref().map(|desired| &desired.goal)
    }

    fn interest(&self) -> Interest {
        match self.goal() {
            Some(Goal::Demote { .. }) => Interest {
                app_transactions: true,
                ..Interest::default()
            },
            Some(Goal::Primary { schemas, .. }) => Interest {
                app_transactions: false,
                ackers: self.memory.is_late(self.now_ms()),
                schemas: Some(schemas.clone()),
            },
            _ => Interest::default(),
        }
    }

    /// Looks at the newest desired state; an older or foreign one is refused and said so.
    async fn take_arrival(&mut self) {
        if !self.arrivals.has_changed().unwrap_or(false) {
            return;
        }
        let Some(arrival) = self.arrivals.borrow_and_update().clone() else {
            return;
        };
        let verdict = accept(
            self.state.state(),
            &self.memory,
            &self.tablet.alias,
            &arrival.cluster_id,
            &arrival.desired,
        );
        match verdict {
            Ok(None) => {}
            Ok(Some(joined)) => {
                if let Err(error) = self.state.persist(&joined).await {
                    tracing::error!(%error, "the cluster cannot be joined");
                    return;
                }
                tracing::info!(cluster = %arrival.cluster_id, "joined the cluster");
            }
            Err(refusal) => {
                self.log_refusal(refusal.to_string());
                return;
            }
        }
        self.follow(arrival.desired);
    }

    fn follow(&mut self, desired: Desired) {
        let is_new = self
            .desired
            .as_ref()
            .is_none_or(|before| *before != desired);
        if is_new {
            tracing::info!(
                generation = %desired.generation,
                epoch = %desired.epoch,
                goal = goal_name(&desired.goal),
                "a new desired state"
            );
            self.hot_until = Instant::now() + HOT;
        }
        let epoch_changes = self
            .desired
            .as_ref()
            .is_some_and(|before| before.epoch != desired.epoch);
        if epoch_changes {
            self.stop_work();
        }
        let now_ms = self.now_ms();
        self.memory.follow(&desired, now_ms);
        self.desired = Some(desired);
        self.recalled = None;
    }

    fn log_refusal(&mut self, text: String) {
        if self.logged.0.as_ref() != Some(&text) {
            tracing::warn!(reason = %text, "a desired state is refused");
            self.logged.0 = Some(text);
        }
    }

    fn publish(&mut self, observed: &Observed, step: &Step) {
        if self.logged.1 != step.blocked {
            match &step.blocked {
                Some(why) => tracing::info!(%why, "waiting"),
                None => tracing::info!("no longer waiting"),
            }
            self.logged.1.clone_from(&step.blocked);
        }
        let report = report(
            &self.tablet,
            observed,
            self.state.state(),
            &self.memory,
            self.desired.as_ref(),
            step,
        );
        let server = observed.server.as_ref();
        let wait_sessions = server.map_or(0, |server| server.wait_sessions);
        self.metrics.observe(&report, wait_sessions);
        self.host
            .probes
            .note_serving(observed, report.serving.is_some());
        let hot = Instant::now() < self.hot_until;
        self.reports
            .send_replace(Some(Arc::new(Outgoing { report, hot })));
    }

    /// Carries out one action within its limit. A newer epoch interrupts what may be interrupted; reports go on.
    async fn act(&mut self, action: Action, mut observed: Observed, seen: Instant) {
        let promised = self.state.state().promised;
        let started = Instant::now();
        tracing::info!(action = action.name(), detail = %detail(&action), "begin");
        let beside = Beside {
            probes: self.host.probes.clone(),
            reports: self.reports.clone(),
            arrivals: self.arrivals.clone(),
            epoch: self.desired.as_ref().map(|desired| desired.epoch),
            may_be_left: matches!(action, Action::Persist(_) | Action::KeepOrder { .. }),
        };
        let outcome = tokio::select! {
            outcome = self.carry_out(&action, &observed) => outcome,
            why = beside.go_on() => Err(why),
        };
        let took_ms = started.elapsed().as_millis();
        match &outcome {
            Ok(()) => tracing::info!(action = action.name(), took_ms, "done"),
            Err(error) => tracing::warn!(action = action.name(), took_ms, %error, "failed"),
        }
        self.metrics.acted(&action, outcome.is_ok());
        let failed = outcome.is_err();
        let now_ms = self.now_ms();
        self.memory
            .note(&action, outcome, promised, observed.incarnation, now_ms);
        if !failed
            && let Some(record) = action.on_success()
            && let Err(error) = self.persist(&record).await
        {
            tracing::error!(%error, "what was done could not be recorded; it is done again");
        }
        if failed {
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        } else if !self.demotes() && action.foresee(&mut observed) {
            self.foreseen = Some((observed, seen));
        }
    }

    async fn carry_out(&mut self, action: &Action, observed: &Observed) -> Result<(), String> {
        match action {
            Action::Persist(record) => self.persist(record).await,
            Action::KeepOrder { .. } => self.keep_order().await,
            Action::StartWork(work) => {
                self.start_work(work.clone());
                Ok(())
            }
            other => self.perform(other, observed).await,
        }
    }

    async fn persist(&mut self, record: &Record) -> Result<(), String> {
        self.state
            .persist(record)
            .await
            .map_err(|error| error.to_string())
    }

    async fn perform(&mut self, action: &Action, observed: &Observed) -> Result<(), String> {
        let limit = Duration::from_millis(action.limit_ms());
        let interruptible = actions::is_interruptible(action);
        let mut guard = self.host.guard_events();
        let mut arrivals = self.arrivals.clone();
        let epoch = self.desired.as_ref().map(|desired| desired.epoch);
        let mut last = observed.clone();
        let reporter = Reporter {
            tablet: &self.tablet,
            state: &self.state,
            memory: &self.memory,
            desired: self.desired.as_ref(),
            reports: &self.reports,
        };
        let acting = timeout(limit, actions::carry_out(&mut self.host, action));
        tokio::pin!(acting);
        loop {
            tokio::select! {
                outcome = &mut acting => {
                    return outcome.unwrap_or_else(|_| {
                        Err(format!("it took longer than {} ms", limit.as_millis()))
                    });
                }
                Ok(()) = guard.changed() => {
                    let status = guard.borrow_and_update().clone();
                    if let Some(status) = status {
                        host::note_process(&mut last, &status);
                        reporter.publish(&last, action);
                    }
                }
                Ok(()) = arrivals.changed() => {
                    let newest = arrivals.borrow_and_update();
                    let newer = newest.as_ref().is_some_and(|arrival| Some(arrival.desired.epoch) > epoch);
                    if newer && interruptible {
                        return Err("given up for the desired state of a newer epoch".to_owned());
                    }
                }
            }
        }
    }

    /// Until there is something to look at. Whether that is the first row of an epoch: its end opens, whatever a look would show.
    async fn wait(&mut self, is_blocked: bool) -> bool {
        let is_hot = Instant::now() < self.hot_until;
        // The end of work is told without a look.
        let awaits = self.is_awaited() || is_blocked && self.memory.work.is_none();
        let period = match self.host.is_answering() {
            false => OBSERVE_PERIOD_STARTING,
            true if !is_hot => OBSERVE_PERIOD,
            true if awaits => OBSERVE_PERIOD_AWAITING,
            true => OBSERVE_PERIOD_HOT,
        };
        let mut guard = self.host.guard_events();
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            Ok(()) = guard.changed() => { self.hot_until = Instant::now() + HOT; }
            Ok(()) = self.arrivals.changed() => { self.arrivals.mark_changed(); }
            Some((work, outcome)) = self.work_ends.1.recv() => {
                let opens = outcome.is_ok() && matches!(work, Work::TermRow { .. });
                self.note_work(&work, outcome);
                return opens;
            }
        }
        false
    }

    /// Statements that reach a primary before their router hears of the hold are to end by themselves: a look gives them time.
    fn demotes(&self) -> bool {
        matches!(self.goal(), Some(Goal::Demote { .. }))
    }

    /// Whether writers wait for what a look may find.
    fn is_awaited(&self) -> bool {
        matches!(self.goal(), Some(Goal::Replica { candidacy, .. }) if *candidacy != Candidacy::None)
    }

    fn start_work(&mut self, work: Work) {
        let is_push = matches!(work, Work::Push { .. });
        if !is_push {
            self.stop_work();
        }
        let ends = self.work_ends.0.clone();
        let doing = self.host.work(work.clone(), self.tablet.alias.clone());
        let task = tokio::spawn(async move {
            let outcome = doing.await;
            // The receiver lives as long as the supervisor.
            let _ = ends.send((work, outcome)).await;
        });
        match is_push {
            true => end_task(self.push.replace(task)),
            false => self.work = Some(task),
        }
    }

    fn stop_work(&mut self) {
        end_task(self.work.take());
        self.memory.work = None;
    }

    fn take_work_ends(&mut self) {
        while let Ok((work, outcome)) = self.work_ends.1.try_recv() {
            self.note_work(&work, outcome);
        }
    }

    fn note_work(&mut self, work: &Work, outcome: Result<(), String>) {
        match &outcome {
            Ok(()) => tracing::info!(work = ?work_name(work), "work is done"),
            Err(error) => tracing::warn!(work = ?work_name(work), %error, "work failed"),
        }
        let now_ms = self.now_ms();
        self.memory.work_ended(work, outcome, now_ms);
        match work {
            Work::Push { .. } => self.push = None,
            _ => self.work = None,
        }
    }
}

/// Reports while an action runs: the process may end under it.
struct Reporter<'a> {
    tablet: &'a Tablet,
    state: &'a StateFile,
    memory: &'a Memory,
    desired: Option<&'a Desired>,
    reports: &'a watch::Sender<Option<Arc<Outgoing>>>,
}

impl Reporter<'_> {
    fn publish(&self, observed: &Observed, action: &Action) {
        let step = Step {
            action: Some(action.clone()),
            blocked: None,
        };
        let report = report(
            self.tablet,
            observed,
            self.state.state(),
            self.memory,
            self.desired,
            &step,
        );
        self.reports
            .send_replace(Some(Arc::new(Outgoing { report, hot: true })));
    }
}

fn goal_name(goal: &Goal) -> &'static str {
    match goal {
        Goal::Standby => "standby",
        Goal::Primary { .. } => "primary",
        Goal::Demote { .. } => "demote",
        Goal::Revoke => "revoke",
        Goal::Fence => "fence",
        Goal::Reveal { .. } => "reveal",
        Goal::Replica { .. } => "replica",
    }
}

fn end_task(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        task.abort();
    }
}

fn work_name(work: &Work) -> String {
    match work {
        Work::RotateBinaryLog { .. } => "a new binary log".to_owned(),
        Work::TermRow { epoch, .. } => format!("first row of epoch {epoch}"),
        Work::Confirm { epoch, .. } => format!("one more row of epoch {epoch}"),
        Work::Push { acker, .. } => format!("a row for the acker of connection {acker}"),
        Work::CreateSchema { name } => format!("schema {name}"),
        Work::SchemaChange(task) => format!("schema change {} of {}", task.id, task.schema),
    }
}

/// What a log line says of an action beyond its name.
fn detail(action: &Action) -> String {
    match action {
        Action::Persist(record) => format!("{record:?}"),
        Action::StartWork(work) => work_name(work),
        Action::ConfigureChannel { source } | Action::RepointChannel { source } => {
            format!("{}:{}", source.host, source.port)
        }
        Action::SettleAccounts { open } => format!("of {}", words(open)),
        Action::LockOut { tablets } => words(tablets),
        Action::CutTail { epoch, .. } => format!("of epoch {epoch}"),
        Action::Clone { donor, .. } => format!("from {}:{}", donor.host, donor.port),
        _ => String::new(),
    }
}

fn words(aliases: &[TabletAlias]) -> String {
    let words: Vec<String> = aliases.iter().map(TabletAlias::to_string).collect();
    words.join(", ")
}

/// Whether mysqld's process runs, by the last word of its guard.
pub(crate) fn is_up(process: &Process) -> bool {
    matches!(process, Process::Up)
}

/// How long ago that was.
fn elapsed_ms(since: std::time::Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
