//! One run, in namespaces of its own: bed, clients and faults, then the verdict. Expects the namespaces: see [`crate::bed::namespaces`].

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::task::JoinSet;
use tonic::transport::ClientTlsConfig;

use super::{
    MEMBERS,
    bed::Bed,
    clients::{CLIENTS, Client, Stage},
    diary::Diary,
    faults::Faults,
    first,
    observer::{self, Observed},
    plan::plan,
    recorder::Recorder,
    register::Register,
    verdict::{self, CONVERGENCE},
    watchers::{Seen, WATCHERS, Watcher},
};
use crate::{
    bed::network,
    check::linearizable::{Answer, History},
    pki,
    sim::random::Random,
};

/// How long the members have until the first of them leads.
const FIRST_LEADER: Duration = Duration::from_secs(30);
/// How long clients may take to bring their last operation to its end: one that insists gives up before.
const LAST_ANSWERS: Duration = Duration::from_secs(45);

/// What a run needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub seconds: u64,
    /// The vt-coordinator that is tried.
    pub program: PathBuf,
    /// Where configuration, disks and logs lie.
    pub directory: PathBuf,
}

/// Everything that was found to be wrong, after saying what happened. An error if it could not be tried.
pub async fn run(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let plan = plan(settings.seed, settings.seconds);
    let hosts: Vec<String> = (0..MEMBERS).map(network::address).collect();
    let shown = pki::make(&settings.directory, &hosts)?;
    let bed = Bed::make(&settings.program, &settings.directory)?;
    let began = Instant::now();
    let diary = Arc::new(Diary::begin(began));
    let stage = Stage {
        recorder: Arc::new(Recorder::begin(began)),
        diary: diary.clone(),
        stop: Arc::default(),
    };
    let observed = Arc::new(Observed::default());
    let register = Register::new(&shown.operator)?;
    for member in 0..MEMBERS {
        let (register, observed) = (register.clone(), observed.clone());
        tokio::spawn(observer::observe(register, member, observed, diary.clone()));
    }
    first::prepare(&Register::new(&shown.agent)?, &register, FIRST_LEADER).await?;
    let mut random = Random::new(settings.seed);
    let crowd = Crowd::gather(&mut random, &shown.operator, &stage)?;
    let faults = Faults {
        bed,
        diary: diary.clone(),
        observed,
        random: random.fork("faults"),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let carried_out = tokio::task::spawn_blocking(move || faults.carry_out(&plan)).await?;
    stage.stop.store(true, Ordering::Relaxed);
    let outcome = finish(carried_out, crowd, &register, &stage).await;
    tell(settings, &diary, &stage, outcome)
}

/// Those who write and read, and those who watch.
struct Crowd {
    clients: JoinSet<()>,
    watchers: JoinSet<(usize, Seen)>,
    /// Up to which revision the watchers watch.
    until: Arc<AtomicU64>,
}

impl Crowd {
    fn gather(random: &mut Random, shown: &ClientTlsConfig, stage: &Stage) -> anyhow::Result<Self> {
        let mut crowd = Self {
            clients: JoinSet::new(),
            watchers: JoinSet::new(),
            until: Arc::new(AtomicU64::new(u64::MAX)),
        };
        for number in 0..CLIENTS as u64 {
            let register = Register::new(shown)?;
            let client = Client::new(number, random.fork("client"), register, stage.clone());
            crowd.clients.spawn(client.run());
        }
        for number in 1..=WATCHERS {
            let (register, until) = (Register::new(shown)?, crowd.until.clone());
            let watcher = Watcher::new(number, random.fork("watcher"), register, until);
            crowd.watchers.spawn(watcher.run());
        }
        Ok(crowd)
    }

    /// Clients bring what they began to its end.
    async fn clients_end(&mut self) -> anyhow::Result<()> {
        let all = async { while self.clients.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(LAST_ANSWERS, all).await;
        ended.context("clients do not end")
    }

    /// What is wrong with what watchers were sent, or that they are not sent the end of it.
    async fn watchers_end(&mut self, history: &History) -> Vec<String> {
        let newest = history
            .operations()
            .iter()
            .filter_map(|it| match it.answer {
                Some((_, Answer::Written { revision })) => Some(revision),
                _ => None,
            });
        let newest = newest.max().unwrap_or(0);
        self.until.store(newest, Ordering::Relaxed);
        let mut found = Vec::new();
        let deadline = tokio::time::Instant::now() + CONVERGENCE;
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(deadline, self.watchers.join_next()).await
        {
            let Ok((number, seen)) = ended else {
                found.push("a watcher panicked".to_owned());
                continue;
            };
            println!("watcher {number} was sent {}", seen.summary());
            let wrong = seen.judge(history).into_iter();
            found.extend(wrong.map(|what| format!("watcher {number}: {what}")));
        }
        if !self.watchers.is_empty() {
            let late = self.watchers.len();
            found.push(format!("{late} watchers are not sent revision {newest}"));
        }
        found
    }
}

async fn finish(
    carried_out: anyhow::Result<Faults>,
    mut crowd: Crowd,
    register: &Register,
    stage: &Stage,
) -> anyhow::Result<Vec<String>> {
    let mut faults = carried_out.context("carry out the plan")?;
    crowd.clients_end().await?;
    let mut found = Vec::new();
    let converged = verdict::converge(register).await;
    found.extend(converged.err().map(|it| it.to_string()));
    let read = verdict::read_everywhere(register, &stage.recorder).await;
    found.extend(read.err().map(|it| it.to_string()));
    if !found.is_empty() {
        for member in &faults.bed.members {
            member.tell_threads()?;
        }
    }
    faults.wait(Duration::ZERO)?;
    found.extend(stage.diary.findings());
    found.extend(verdict::bad_words(&faults.bed));
    let (history, places) = (stage.recorder.so_far(), stage.recorder.places());
    found.extend(crowd.watchers_end(&history).await);
    let judge = move || verdict::judge(&history, &places);
    found.extend(tokio::task::spawn_blocking(judge).await?);
    Ok(found)
}

fn tell(
    settings: &Settings,
    diary: &Diary,
    stage: &Stage,
    outcome: anyhow::Result<Vec<String>>,
) -> anyhow::Result<Vec<String>> {
    let history = stage.recorder.so_far();
    println!("{}", verdict::summary(&history));
    fs::write(settings.directory.join("diary"), diary.entries().join("\n"))?;
    let lines = history.operations().iter().map(ToString::to_string);
    let lines: Vec<_> = lines.collect();
    fs::write(settings.directory.join("history"), lines.join("\n"))?;
    outcome
}
