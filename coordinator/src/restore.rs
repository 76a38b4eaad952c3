//! A new group of one, from a backup or from what a survivor has stored. What it begins with is decided in the core.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::{Context, anyhow, bail};
use tokio::sync::{mpsc, oneshot};
use vt_coordinator_core::{
    codec, format,
    peer::Stored,
    restore::{replayed, restored},
    state::State,
};
use vt_proto::{
    backup::Backup,
    topology::{Coordinator, Standing},
};

use crate::{
    config::Config,
    first::is_of,
    node,
    storage::{DiskStorage, Storage as _},
};

/// Restores that may wait for a member: it takes one, and then none any more.
const WANTED_MAX: usize = 1;

/// Somebody wants a member that is in no group to begin one with this topology.
pub struct Wanted {
    pub state: State,
    /// Answered with the log index at which the group goes on, or why it does not begin.
    pub answer: oneshot::Sender<Result<u64, String>>,
}

/// Where wishes are left. Closed as soon as the member is in a group.
pub type Restores = mpsc::Sender<Wanted>;

/// Where they are left, and where they are taken.
pub fn wishes() -> (Restores, mpsc::Receiver<Wanted>) {
    mpsc::channel(WANTED_MAX)
}

/// This member as the only one of a group.
pub fn alone(config: &Config, directory_id: &str) -> Coordinator {
    Coordinator {
        id: config.member_id,
        address: config.members[&config.member_id].clone(),
        directory_id: directory_id.to_owned(),
        standing: Standing::Voter,
        formats: format::NEWEST,
    }
}

/// What this member begins with out of a backup, or why not.
pub fn from_backup(old: State, me: Coordinator, cluster: &str) -> Result<State, String> {
    if !is_of(&old.cluster_id, cluster) {
        return Err(format!(
            "the backup is of cluster {} and this coordinator is to be of {cluster:?}: correct cluster in its configuration",
            old.cluster_id
        ));
    }
    let restored = restored(old, me, "restored from a backup", node::now().unix_ms);
    restored.map_err(|error| error.to_string())
}

/// Lets this member, which does not run and has an empty data directory, begin with a backup.
pub fn restore(config: &Config, backup: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(backup).with_context(|| format!("cannot read {}", backup.display()))?;
    let read = Backup::from_bytes(&bytes).with_context(|| backup.display().to_string())?;
    let old = codec::decode_state(&read.state).with_context(|| backup.display().to_string())?;
    let mut storage = DiskStorage::open(&config.data_dir, config.member_id)?;
    let identity = storage.identity().clone();
    if let Some(cluster_id) = identity.cluster_id {
        bail!(
            "{} is in cluster {cluster_id} and keeps its topology: give this coordinator an empty data_dir",
            config.data_dir.display()
        );
    }
    let me = alone(config, &identity.directory_id);
    let state = from_backup(old, me, &config.cluster).map_err(|why| anyhow!(why))?;
    begin(config, &mut storage, &state)?;
    println!(
        "cluster {} goes on at log index {}: start this coordinator, then add the others with `vtctl coordinator add HOST:PORT`",
        state.cluster_id, state.applied
    );
    Ok(())
}

fn begin(config: &Config, storage: &mut DiskStorage, state: &State) -> anyhow::Result<()> {
    let bytes = codec::encode_state(state);
    let stored = Stored::bootstrap(vec![config.member_id], state.applied, bytes);
    storage.persist(&stored.into_batch())?;
    Ok(storage.bind(&state.cluster_id)?)
}

/// Turns what this member has stored into a group of one, after the others were lost for good. The process must not run.
pub fn recover(config: &Config, yes: bool) -> anyhow::Result<()> {
    let mut storage = DiskStorage::open(&config.data_dir, config.member_id)?;
    let identity = storage.identity().clone();
    let Some(cluster_id) = identity.cluster_id else {
        bail!(
            "{} is in no group yet: there is nothing to recover; restore a backup instead (`vtctl coordinator restore`)",
            config.data_dir.display()
        );
    };
    let stored = storage.load()?;
    let last_term = stored
        .entries
        .last()
        .map_or(stored.start.term, |entry| entry.term);
    println!(
        "coordinator {} of cluster {cluster_id}: last log index {}, of term {last_term}",
        config.member_id,
        stored.last_index()
    );
    println!(
        "Recover only where the majority is lost for good, and only the survivor with the highest term and, within it, the highest index.\n\
         Stop all other coordinators before, and empty their data directories: they join the new group as new members."
    );
    if !yes && !confirmed()? {
        bail!("nothing was changed: answer yes, or give --yes");
    }
    let old = replayed(&stored).context("what this member has stored cannot be read")?;
    let me = alone(config, &identity.directory_id);
    let why = "recovered from the loss of its majority";
    let state = restored(old, me, why, node::now().unix_ms)?;
    begin(config, &mut storage, &state)?;
    println!(
        "done: start this coordinator, then add the others with `vtctl coordinator add HOST:PORT`"
    );
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Recover this one? Write yes: ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}
