//! Records as tools write, read and watch them: on any member, from any revision, however slow.

use prost::Message as _;
use tonic::Request;
use vt_proto::wire::{
    ReadRecordsRequest, Record, RecordChange, RecordKey, RecordValue, RecordsUpdate, TableKey,
    WatchRecordsRequest, WriteRecordsRequest, record_key::Key, record_value::Value,
    records_client::RecordsClient,
};

use super::*;

/// The register of these tests: a table's vschema in the keyspace `shop`.
fn table_key(table: &str) -> RecordKey {
    let key = TableKey {
        keyspace: "shop".to_owned(),
        table: table.to_owned(),
    };
    RecordKey {
        key: Some(Key::VschemaTable(key)),
    }
}

fn put_table(table: &str, spec: &str, expected_revision: u64) -> RecordChange {
    let value = wire::VschemaTable {
        keyspace: "shop".to_owned(),
        table: table.to_owned(),
        spec_json: spec.to_owned(),
    };
    RecordChange {
        key: Some(table_key(table)),
        expected_revision,
        value: Some(RecordValue {
            value: Some(Value::VschemaTable(value)),
        }),
    }
}

fn put_cell(name: &str) -> RecordChange {
    let key = Some(Key::Cell(name.to_owned()));
    let name = name.to_owned();
    RecordChange {
        key: Some(RecordKey { key }),
        expected_revision: 0,
        value: Some(RecordValue {
            value: Some(Value::Cell(wire::Cell { name })),
        }),
    }
}

impl Group {
    async fn records(&self, id: u64) -> RecordsClient<Channel> {
        let client = RecordsClient::new(self.channel(id).await);
        client.max_decoding_message_size(64 << 20)
    }

    /// A client of the leader, and a keyspace `shop` on a replica set `main`.
    async fn shop(&self) -> RecordsClient<Channel> {
        let leader = self.leader().await;
        let cluster_id = self.members[&leader].1.status().borrow().cluster_id.clone();
        let channel = self.channel(leader).await;
        let mut agent = attach(channel.clone(), &cluster_id, report("zone1-100", 3306))
            .await
            .unwrap();
        timeout(DEADLINE, agent.desired.message())
            .await
            .unwrap()
            .unwrap();
        let request = wire::CreateKeyspaceRequest {
            name: "shop".to_owned(),
            replica_set: "main".to_owned(),
            request_id: "shop".to_owned(),
        };
        let mut admin = AdminClient::new(channel);
        admin.create_keyspace(request).await.unwrap();
        self.records(leader).await
    }
}

async fn write(
    client: &mut RecordsClient<Channel>,
    request_id: &str,
    changes: Vec<RecordChange>,
) -> Result<u64, Status> {
    let request_id = request_id.to_owned();
    let request = WriteRecordsRequest {
        request_id,
        changes,
    };
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    Ok(client.write(request).await?.into_inner().revision)
}

async fn read(client: &mut RecordsClient<Channel>, stale: bool, key: &str) -> Option<Record> {
    let request = ReadRecordsRequest {
        stale,
        keys: vec![table_key(key)],
        kinds: Vec::new(),
    };
    let answer = client.read(request).await.unwrap().into_inner();
    answer.records.into_iter().next()
}

async fn watch(client: &mut RecordsClient<Channel>, after: u64) -> Streaming<RecordsUpdate> {
    let request = WatchRecordsRequest {
        cluster_id: String::new(),
        after_revision: after,
        kinds: Vec::new(),
    };
    client.watch(request).await.unwrap().into_inner()
}

async fn next(updates: &mut Streaming<RecordsUpdate>) -> RecordsUpdate {
    let update = timeout(DEADLINE, updates.message()).await.unwrap();
    update.unwrap().unwrap()
}

fn records(update: &RecordsUpdate) -> Vec<Record> {
    let decode = |bytes: &prost::bytes::Bytes| Record::decode(bytes.clone()).unwrap();
    update.changes.iter().map(decode).collect()
}

fn spec(record: &Record) -> &str {
    match record.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::VschemaTable(table)) => &table.spec_json,
        other => panic!("{other:?} is no table"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_by_compare_and_set_all_or_none() {
    let group = Group::start().await;
    let mut client = group.shop().await;
    let first = write(&mut client, "", vec![put_table("a", "1", 0)])
        .await
        .unwrap();
    let second = write(
        &mut client,
        "",
        vec![put_table("a", "2", first), put_table("b", "2", 0)],
    );
    let second = second.await.unwrap();
    assert!(second > first);

    let cases = [
        (
            vec![put_table("c", "3", 0), put_table("a", "3", first)],
            Code::Aborted,
            "is at revision",
        ),
        (
            vec![put_table("c", "3", 0); 1_025],
            Code::InvalidArgument,
            "1 to 1024 changes",
        ),
        (
            vec![RecordChange {
                key: Some(RecordKey {
                    key: Some(Key::ReplicaSet("main".to_owned())),
                }),
                ..RecordChange::default()
            }],
            Code::FailedPrecondition,
            "vtctl replica-set switchover",
        ),
        (
            vec![RecordChange::default()],
            Code::InvalidArgument,
            "changes[0].key",
        ),
    ];
    for (changes, code, message) in cases {
        let status = write(&mut client, "", changes).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(message), "{status}");
    }
    assert_eq!(read(&mut client, false, "c").await, None, "all or none");
    let found = read(&mut client, false, "a").await.unwrap();
    assert_eq!((spec(&found), found.revision), ("2", second));

    let all = ReadRecordsRequest {
        kinds: vec!["vschema".to_owned()],
        ..ReadRecordsRequest::default()
    };
    let all = client.read(all).await.unwrap().into_inner().records;
    assert_eq!(all.iter().map(spec).collect::<Vec<_>>(), ["2", "2"]);
}

/// Two attempts of one request, the first of which is late: its caller was told a conflict by the second one, and that stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_was_told_stays_when_an_earlier_attempt_arrives_late() {
    let group = Group::start().await;
    let mut client = group.shop().await;
    let first = write(&mut client, "", vec![put_table("a", "1", 0)]);
    let first = first.await.unwrap();
    let attempt = vec![put_table("a", "2", 0)];
    let told = write(&mut client, "late", attempt.clone()).await;
    assert_eq!(told.unwrap_err().code(), Code::Aborted);
    let delete = RecordChange {
        expected_revision: first,
        key: Some(table_key("a")),
        ..RecordChange::default()
    };
    write(&mut client, "", vec![delete]).await.unwrap();
    let told = write(&mut client, "late", attempt).await;
    assert_eq!(told.unwrap_err().code(), Code::Aborted);
    assert_eq!(read(&mut client, false, "a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_retries_of_one_request_at_a_time_are_applied_once() {
    const RETRIES: usize = 64;
    let group = Group::start().await;
    let client = group.shop().await;
    let send = |_| {
        let mut client = client.clone();
        tokio::spawn(async move { write(&mut client, "same", vec![put_cell("zone9")]).await })
    };
    let sent: Vec<_> = (0..RETRIES).map(send).collect();
    let mut revisions = Vec::new();
    for outcome in sent {
        revisions.push(outcome.await.unwrap().unwrap());
    }
    revisions.dedup();
    assert_eq!(revisions.len(), 1, "{revisions:?}");
    let mut client = client.clone();
    let refused = write(&mut client, "another", vec![put_cell("zone9")]).await;
    assert_eq!(refused.unwrap_err().code(), Code::Aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_serves_watches_and_they_go_on_from_a_revision() {
    let group = Group::start().await;
    let mut leader = group.shop().await;
    let first = write(&mut leader, "", vec![put_table("a", "1", 0)])
        .await
        .unwrap();
    for id in 1..=3 {
        let mut client = group.records(id).await;
        let mut updates = watch(&mut client, 0).await;
        // It begins with everything, as this member knows it, and goes on with what changes.
        let begin = next(&mut updates).await;
        assert!(begin.full && !begin.more, "member {id}");
        let mut seen = records(&begin);
        while seen.iter().all(|record| record.key != Some(table_key("a"))) {
            seen = records(&next(&mut updates).await);
        }
    }
    let mut others = Vec::new();
    for id in 1..=3 {
        let mut client = group.records(id).await;
        others.push(watch(&mut client, first).await);
    }
    let second = write(&mut leader, "", vec![put_table("a", "2", first)])
        .await
        .unwrap();
    let third = write(&mut leader, "", vec![put_cell("zone7")])
        .await
        .unwrap();
    for updates in &mut others {
        let mut seen = Vec::new();
        let mut last = 0;
        while last < third {
            let update = next(updates).await;
            assert!(!update.full && update.revision > last);
            last = update.revision;
            seen.extend(records(&update));
        }
        let revisions: Vec<u64> = seen.iter().map(|record| record.revision).collect();
        assert!(revisions.contains(&second) && revisions.contains(&third));
        assert!(revisions.is_sorted() && !revisions.contains(&first));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_one_kind_sees_only_that() {
    let group = Group::start().await;
    let mut client = group.shop().await;
    let request = WatchRecordsRequest {
        kinds: vec!["cell".to_owned()],
        ..WatchRecordsRequest::default()
    };
    let mut updates = client.watch(request.clone()).await.unwrap().into_inner();
    assert_eq!(records(&next(&mut updates).await).len(), 1, "zone1");
    write(&mut client, "", vec![put_table("a", "1", 0)])
        .await
        .unwrap();
    let made = write(&mut client, "", vec![put_cell("zone2")])
        .await
        .unwrap();
    let update = next(&mut updates).await;
    assert_eq!((update.revision, update.changes.len()), (made, 1));

    let mut bad = request;
    bad.kinds = vec!["cells".to_owned()];
    let status = client.watch(bad).await.unwrap_err();
    assert!(status.message().contains("there is: cell"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_skips_to_the_newest_state() {
    /// More bytes than the window and the buffers on the way hold together.
    const WRITES: usize = 160;
    let group = Group::start().await;
    let mut client = group.shop().await;
    let mut revision = write(&mut client, "", vec![put_table("a", "0", 0)])
        .await
        .unwrap();
    let mut other = group.records(group.leader().await).await;
    let mut slow = watch(&mut other, revision).await;
    let resumed_at = revision;
    for number in 1..=WRITES {
        let spec = format!("{number}:{}", "x".repeat(100 << 10));
        let change = put_table("a", &spec, revision);
        revision = write(&mut client, "", vec![change]).await.unwrap();
    }
    for (name, updates) in [
        ("read nothing meanwhile", &mut slow),
        ("came back", &mut watch(&mut other, resumed_at).await),
    ] {
        let (mut last, mut messages, mut fulls) = (0, 0, 0);
        let mut newest = String::new();
        while last < revision {
            let update = next(updates).await;
            assert!(update.revision > last, "{name}: monotone");
            assert!(!update.more, "{name}: the state is small");
            last = update.revision;
            messages += 1;
            fulls += usize::from(update.full);
            for record in records(&update) {
                if record.key == Some(table_key("a")) {
                    newest = spec(&record).split(':').next().unwrap().to_owned();
                }
            }
        }
        assert_eq!(newest, WRITES.to_string(), "{name}");
        assert_eq!(fulls, 1, "{name}: one full state for what fell out");
        assert!(messages < WRITES, "{name}: {messages} messages");
    }
}
