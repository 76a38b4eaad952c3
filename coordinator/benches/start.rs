//! How long a member takes to start with the records of 10,000 tablets in 3,000 replica sets, and the memory it needs for them.
//! `cargo bench -p vt-coordinator --bench start`; asserts nothing. Starts itself again for each measurement: memory is that of
//! a fresh process.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vt_coordinator::{
    logging,
    storage::{DiskStorage, Storage},
};
use vt_coordinator_core::{
    codec,
    member::{Limits, Member, MemberConfig},
    peer::{Batch, Stored},
    state::{State, Versioned},
};
use vt_proto::{
    epoch::{Epoch, Revision},
    ids::TabletAlias,
    topology::{
        AuditEvent, Durability, Endpoint, FinishedEpoch, Phase, ReplicaSet, Tablet, TabletKind,
    },
    wire::RaftEntry,
};

const TABLETS: u32 = 10_000;
const REPLICA_SETS: u32 = 3_000;
const EVENTS: u64 = 10_000;
const TAIL_ENTRIES: u64 = 5_000;
const ENTRY_BYTES: usize = 300;
const INDEX: u64 = 100_000;
const TURNS: u32 = 5;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1).filter(|a| !a.starts_with("--"));
    if let Some(data_dir) = arguments.next() {
        return start(Path::new(&data_dir));
    }
    let data_dir = env::temp_dir().join(format!("start-bench-{}", std::process::id()));
    let outcome = prepare(&data_dir).and_then(|()| {
        for _ in 0..TURNS {
            let program = env::current_exe()?;
            ensure!(Command::new(program).arg(&data_dir).status()?.success());
        }
        Ok(())
    });
    fs::remove_dir_all(&data_dir)?;
    outcome
}

fn prepare(data_dir: &Path) -> Result<()> {
    let state = codec::encode_state(&large_state()?);
    println!(
        "{} tablets, {} replica sets: a snapshot of {} KiB",
        TABLETS,
        REPLICA_SETS,
        state.len() >> 10
    );
    let mut storage = DiskStorage::open(data_dir, 1)?;
    storage.bind("bench-1")?;
    storage.persist(&Stored::bootstrap(vec![1, 2, 3], INDEX, state).into_batch())?;
    let entry = |index| RaftEntry {
        index,
        term: 1,
        data: vec![b'x'; ENTRY_BYTES],
        ..RaftEntry::default()
    };
    let entries = (INDEX + 1..=INDEX + TAIL_ENTRIES).map(entry).collect();
    Ok(storage.persist(&Batch {
        entries,
        ..Batch::default()
    })?)
}

fn large_state() -> Result<State> {
    let mut state = State::new("bench-1".to_owned());
    state.applied = INDEX;
    let alias =
        |number: u32| format!("zone{}-{}", number % 3 + 1, 100 + number).parse::<TabletAlias>();
    for number in 0..TABLETS {
        let tablet = Tablet {
            alias: alias(number)?,
            kind: TabletKind::Replica,
            replica_set: format!("set-{}", number % REPLICA_SETS).parse()?,
            mysql: Endpoint {
                host: format!("db-{number}.zone.example"),
                port: 3306,
            },
            router: None,
        };
        let revision = Revision(u64::from(number) + 1);
        let key = tablet.alias.clone();
        state.tablets.insert(
            key,
            Versioned {
                revision,
                value: tablet,
            },
        );
    }
    for number in 0..REPLICA_SETS {
        let gtid: vt_proto::gtid::GtidSet = format!(
            "{number:08x}-0000-4000-8000-000000000000:1-{}",
            1_000 + number
        )
        .parse()?;
        let set = ReplicaSet {
            name: format!("set-{number}").parse()?,
            epoch: Epoch(3),
            phase: Phase::Stable,
            primary: Some(alias(number)?),
            durability: Durability::SemiSync {
                acks: 1,
                cross_cell: false,
            },
            ackers: [
                alias(number + REPLICA_SETS)?,
                alias(number + 2 * REPLICA_SETS)?,
            ]
            .into(),
            start_gtid: gtid.clone(),
            restart_after: None,
            leaving: None,
            raising: None,
            locked_out: Default::default(),
            history: vec![FinishedEpoch {
                epoch: Epoch(2),
                primary: alias(number)?,
                kept: gtid,
            }],
        };
        let revision = Revision(u64::from(TABLETS + number));
        let key = set.name.clone();
        state.replica_sets.insert(
            key,
            Versioned {
                revision,
                value: set,
            },
        );
    }
    add_events(&mut state);
    Ok(state)
}

fn add_events(state: &mut State) {
    for number in 1..=EVENTS {
        let event = AuditEvent {
            time_unix_ms: number,
            kind: "failover.revoke".to_owned(),
            subject: format!("replica-set/set-{number}"),
            message: "the primary's process ended and two of its ackers say that it is silent"
                .to_owned(),
            evidence: vec![("zone1-100".to_owned(), "silent for 1200 ms".to_owned()); 3],
        };
        state.events.push(number, event);
    }
    state.next_event = EVENTS + 1;
}

/// What a member does before it takes its first tick.
fn start(data_dir: &Path) -> Result<()> {
    let (began, before) = (Instant::now(), memory_kib("VmRSS:")?);
    let mut storage = DiskStorage::open(data_dir, 1)?;
    let opened = began.elapsed();
    let mut stored = storage.load()?;
    let loaded = began.elapsed();
    // Entries of nothing but bytes are no commands: they stay uncommitted, as a real tail is until a leader is heard.
    stored.hard_state.commit = INDEX;
    let config = MemberConfig {
        cluster_id: "bench-1".to_owned(),
        id: 1,
        directory_id: storage.identity().directory_id.clone(),
        contacts: BTreeMap::new(),
        seed: 1,
        limits: Limits::default(),
    };
    let member = Member::new(config, stored, &logging::raft_logger())?;
    let ready = began.elapsed();
    ensure!(member.core().state().tablets.len() == TABLETS as usize);
    let ms = |time: Duration| time.as_millis();
    println!(
        "open {} ms, load {} ms, member {} ms, all {} ms; resident {} MiB, at most {} MiB, {} MiB before",
        ms(opened),
        ms(loaded.saturating_sub(opened)),
        ms(ready.saturating_sub(loaded)),
        ms(ready),
        memory_kib("VmRSS:")? >> 10,
        memory_kib("VmHWM:")? >> 10,
        before >> 10,
    );
    Ok(())
}

fn memory_kib(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .context("/proc/self/status has no such line")?
        .parse()?)
}
