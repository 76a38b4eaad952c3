//! One run, in namespaces of its own: bed, clients and faults, then the verdict. [`enter`] makes the namespaces, [`run`] expects them.

use std::{
    fs, io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

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
    shell, verdict,
};
use crate::sim::random::Random;

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

/// Why this machine cannot be used.
pub fn check_machine() -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "fire needs root: it makes network namespaces and mounts filesystems, in namespaces of its own"
    );
    let missing = shell::missing_packages().join(" ");
    ensure!(
        missing.is_empty(),
        "fire needs programs that are not here: install {missing}"
    );
    Ok(())
}

/// Runs a program in new namespaces for mounts, network and processes. Everything in them ends with it, and it ends with us.
pub fn enter(program: &Path, arguments: &[String]) -> anyhow::Result<ExitStatus> {
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--net"])
        .args(["--pid", "--mount-proc", "--fork", "--kill-child", "--"])
        .arg(program)
        .args(arguments)
        // Closed by our end: then whoever is inside ends as well.
        .stdin(Stdio::piped())
        .spawn()
        .context("run unshare")?;
    // Waiting closes it otherwise.
    let stdin = child.stdin.take();
    let status = child.wait()?;
    drop(stdin);
    if let Some(signal) = status.signal() {
        bail!("what ran inside was ended by signal {signal}");
    }
    Ok(status)
}

/// Ends this process when the other end of its standard input does.
pub fn end_with_stdin() {
    thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        std::process::exit(3);
    });
}

/// Everything that was found to be wrong, after saying what happened. An error if it could not be tried.
pub async fn run(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let plan = plan(settings.seed, settings.seconds);
    let bed = Bed::make(&settings.program, &settings.directory)?;
    let began = Instant::now();
    let diary = Arc::new(Diary::begin(began));
    let stage = Stage {
        recorder: Arc::new(Recorder::begin(began)),
        diary: diary.clone(),
        stop: Arc::default(),
    };
    let observed = Arc::new(Observed::default());
    let register = Register::new()?;
    for member in 0..MEMBERS {
        let (register, observed) = (register.clone(), observed.clone());
        tokio::spawn(observer::observe(register, member, observed, diary.clone()));
    }
    first::prepare(&register, FIRST_LEADER).await?;
    let mut random = Random::new(settings.seed);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS as u64 {
        let client = Client::new(
            number,
            random.fork("client"),
            Register::new()?,
            stage.clone(),
        );
        clients.spawn(client.run());
    }
    let faults = Faults {
        bed,
        diary: diary.clone(),
        observed,
        random: random.fork("faults"),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let carried_out = tokio::task::spawn_blocking(move || faults.carry_out(&plan)).await?;
    stage.stop.store(true, Ordering::Relaxed);
    let outcome = finish(carried_out, clients, &register, &stage).await;
    tell(settings, &diary, &stage, outcome)
}

async fn finish(
    carried_out: anyhow::Result<Faults>,
    mut clients: tokio::task::JoinSet<()>,
    register: &Register,
    stage: &Stage,
) -> anyhow::Result<Vec<String>> {
    let mut faults = carried_out.context("carry out the plan")?;
    let all = async { while clients.join_next().await.is_some() {} };
    let ended = tokio::time::timeout(LAST_ANSWERS, all).await;
    ended.context("clients do not end")?;
    let mut found = Vec::new();
    found.extend(
        verdict::converge(register)
            .await
            .err()
            .map(|it| it.to_string()),
    );
    let read = verdict::read_everywhere(register, &stage.recorder).await;
    found.extend(read.err().map(|it| it.to_string()));
    faults.wait(Duration::ZERO)?;
    found.extend(stage.diary.findings());
    found.extend(verdict::bad_words(&faults.bed));
    let (history, places) = (stage.recorder.so_far(), stage.recorder.places());
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
    let diary = diary.entries().join("\n");
    fs::write(settings.directory.join("diary"), &diary)?;
    let lines: Vec<_> = history
        .operations()
        .iter()
        .map(ToString::to_string)
        .collect();
    fs::write(settings.directory.join("history"), lines.join("\n"))?;
    outcome
}
