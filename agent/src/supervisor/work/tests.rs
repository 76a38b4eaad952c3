//! On real servers: what a replica received before it began to acknowledge, it never acknowledges; a later commit that it does
//! acknowledge releases the earlier ones too, and the core sees when such a commit is needed.

use std::time::Duration;

use vt_agent_core::{Action, Memory, Observed, Persisted, Process, Record, Work, converge};
use vt_proto::{
    desired::{Desired, Goal},
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
    report::ThreadState,
    topology::Endpoint,
};

use super::carry_out;
use crate::{
    config::Secret,
    mysqld::{
        admin_conn::{AdminConn, AdminError},
        testing::{TestTablet, until, value},
    },
    replication::{
        accounts, control, semisync,
        status::{Interest, Stream, observe},
    },
};

const NEVER: Duration = Duration::from_secs(3600);
/// The replica's account at the source.
const USER: &str = "vtr_z-2";
const EPOCH: Epoch = Epoch(4);
const GENERATION: Generation = Generation(7);
const LIFE: Incarnation = Incarnation(1);

type Waiting = tokio::task::JoinHandle<Result<(), AdminError>>;

/// A primary that waits for one acknowledgement, and a replica.
struct Pair {
    source: TestTablet,
    replica: TestTablet,
    ours: AdminConn,
    theirs: AdminConn,
    spare: AdminConn,
}

impl Pair {
    async fn up() -> Self {
        let (source, replica) = (TestTablet::up("z-1").await, TestTablet::up("z-2").await);
        let mut ours = source.admin().await;
        let (mut theirs, spare) = (replica.admin().await, replica.admin().await);
        for statement in [
            "SET GLOBAL super_read_only = OFF",
            "SET GLOBAL read_only = OFF",
            "CREATE DATABASE d",
            "CREATE TABLE d.t (i INT PRIMARY KEY)",
        ] {
            ours.execute(statement).await.unwrap();
        }
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: source.settings.port,
        };
        let password = &source.passwords.replication;
        let mut beside = source.admin().await;
        let others = ["z-2".parse().unwrap()];
        let settled = accounts::settle(source.admin().await, &mut beside, &others, password);
        settled.await.unwrap();
        let configured = control::configure(&mut theirs, &endpoint, USER, password).await;
        configured.unwrap();
        semisync::enable_source(&mut ours, 1).await.unwrap();
        Self {
            source,
            replica,
            ours,
            theirs,
            spare,
        }
    }

    /// Lets the replica connect anew, acknowledging or not, and waits until the source has nothing more to send.
    async fn connect(&mut self, acknowledges: bool) {
        let beats = "SELECT CAST(count_received_heartbeats AS CHAR) FROM performance_schema.replication_connection_status";
        let theirs = &mut self.theirs;
        let stopped = control::stop_io_thread(theirs, &mut self.spare).await;
        stopped.unwrap();
        semisync::set_replica(theirs, acknowledges).await.unwrap();
        let before = value(theirs, beats).await;
        control::start_io_thread(theirs).await.unwrap();
        until("a heartbeat of this connection", async || {
            let seen = observe(
                theirs,
                &Interest::default(),
                USER,
                &mut Stream::default(),
                None,
            )
            .await
            .ok()?;
            let is_on = seen.channel?.io == ThreadState::On;
            (is_on && value(theirs, beats).await != before).then_some(())
        })
        .await;
    }

    /// A commit that waits at the source and lies in the replica's relay log.
    async fn received_commit(&mut self, statement: &'static str) -> Waiting {
        let mut writer = self.source.admin().await;
        let waiting = tokio::spawn(async move { writer.execute_within(statement, NEVER).await });
        let (ours, theirs) = (&mut self.ours, &mut self.theirs);
        until("the waiting commit in the relay log", async || {
            let here = observe(
                ours,
                &Interest::default(),
                USER,
                &mut Stream::default(),
                None,
            )
            .await
            .ok()?;
            let there = observe(
                theirs,
                &Interest::default(),
                USER,
                &mut Stream::default(),
                None,
            )
            .await
            .ok()?;
            let of_source = |set: &GtidSet| set.of_server(&here.server_uuid).count();
            (of_source(&there.received) > of_source(&here.executed)).then_some(())
        })
        .await;
        waiting
    }

    /// What is to be done by the core's word after this many milliseconds.
    async fn next(&mut self, memory: &mut Memory, now_ms: u64) -> Option<Action> {
        let interest = Interest {
            ackers: memory.is_late(now_ms),
            ..Interest::default()
        };
        let server = observe(
            &mut self.ours,
            &interest,
            USER,
            &mut Stream::default(),
            None,
        )
        .await
        .unwrap();
        let (persisted, desired) = orders(&server.server_uuid);
        let observed = Observed {
            boot_id: "boot".to_owned(),
            process: Process::Up,
            incarnation: LIFE,
            fence_marker: None,
            role_marker: true,
            server: Some(server),
            unresponsive_ms: None,
            disk_free_bytes: None,
            write_probe: None,
            disk_probe: None,
            lost: Default::default(),
            stop_asked: false,
        };
        memory.follow(&desired, now_ms);
        memory.look(&observed, now_ms);
        let action = converge(&observed, &persisted, memory, Some(&desired), now_ms).action;
        if let Some(action) = &action {
            memory.note(action, Ok(()), EPOCH, LIFE, now_ms);
        }
        action
    }
}

/// An open primary that has nothing else to do.
fn orders(server_uuid: &str) -> (Persisted, Desired) {
    let mut persisted = Persisted::default();
    let (epoch, generation) = (EPOCH, GENERATION);
    for record in [
        Record::Promise { epoch, generation },
        Record::PrimaryshipBegins {
            epoch,
            server_uuid: server_uuid.to_owned(),
        },
        Record::Opened { incarnation: LIFE },
    ] {
        persisted.apply(&record);
    }
    let desired = Desired {
        alias: "z-1".parse().unwrap(),
        replica_set: "main".parse().unwrap(),
        generation,
        epoch,
        replicas: Vec::new(),
        goal: Goal::Primary {
            start_gtid: GtidSet::new(),
            acks: 1,
            restart_after: None,
            schemas: Vec::new(),
            schema_tasks: Vec::new(),
            confirm: false,
            locked_out: Vec::new(),
        },
    };
    (persisted, desired)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_before_is_acknowledged_with_a_push_only() {
    let mut pair = Pair::up().await;
    let mut memory = Memory {
        kept: Some(GENERATION),
        ..Memory::default()
    };
    let socket = pair.source.layout().socket();
    let password = Secret::new(pair.source.passwords.admin.clone());
    // The first time even the table for a row is among what waits.
    let internal = [
        "CREATE DATABASE vitrail",
        "CREATE TABLE vitrail.epochs (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL, \
         tablet VARCHAR(64) NOT NULL, incarnation BIGINT UNSIGNED NOT NULL, opened_at DATETIME(6) NOT NULL)",
        "CREATE TABLE vitrail.schema_changes (id INT PRIMARY KEY)",
        "INSERT INTO d.t VALUES (1)",
    ];
    for (round, statement) in internal.into_iter().enumerate() {
        let now_ms = 100_000 * (1 + round as u64);
        pair.connect(false).await;
        let waiting = pair.received_commit(statement).await;
        assert_eq!(pair.next(&mut memory, now_ms).await, None);
        assert_eq!(
            pair.next(&mut memory, now_ms + 5_000).await,
            None,
            "nobody acknowledges"
        );
        pair.connect(true).await;
        assert!(
            !waiting.is_finished(),
            "real servers have learned it: {statement}"
        );

        let action = pair.next(&mut memory, now_ms + 5_000).await;
        let Some(Action::StartWork(push @ Work::Push { .. })) = action else {
            panic!("{statement}: {action:?}");
        };
        let alias = "z-1".parse().unwrap();
        let pushed = carry_out(socket.clone(), password.clone(), &push, &alias).await;
        pushed.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(pair.next(&mut memory, now_ms + 9_000).await, None);
    }
    let rows = "SELECT CAST(COUNT(*) AS CHAR) FROM vitrail.epochs";
    assert_eq!(value(&mut pair.ours, rows).await, "1");
    drop(pair.replica);
}
