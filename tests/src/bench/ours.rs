//! A client of vt-coordinator's own API. Each client keeps one vschema table record.

use anyhow::{Context, bail};
use tonic::{Code, Streaming, transport::Channel};
use vt_proto::wire::{
    self, admin_client::AdminClient, record_key::Key, record_value::Value,
    records_client::RecordsClient,
};

use super::{
    agents,
    client::{Client, Door, value},
};

const KEYSPACE: &str = "bench";

/// One client of one member.
pub struct Ours {
    door: Door,
    channel: Channel,
    records: RecordsClient<Channel>,
    key: wire::TableKey,
    /// The revision of its record, as it left it.
    revision: u64,
    count: u64,
}

impl Ours {
    /// A table needs its keyspace, a keyspace its replica set, and that a tablet.
    async fn make_keyspace(&mut self) -> anyhow::Result<()> {
        agents::register(self.door.connect_as_agent().await?, 0).await?;
        let mut admin = AdminClient::new(self.channel.clone());
        let request = wire::CreateKeyspaceRequest {
            name: KEYSPACE.to_owned(),
            replica_set: agents::replica_set(0),
            request_id: String::new(),
        };
        match admin.create_keyspace(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(other) => Err(other).context("create the keyspace"),
        }
    }

    fn record_key(&self) -> wire::RecordKey {
        wire::RecordKey {
            key: Some(Key::VschemaTable(self.key.clone())),
        }
    }

    async fn find(&mut self) -> anyhow::Result<Option<wire::Record>> {
        let request = wire::ReadRecordsRequest {
            stale: false,
            keys: vec![self.record_key()],
            kinds: Vec::new(),
        };
        let mut found = self.records.read(request).await?.into_inner().records;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            more => bail!("one record was asked for and {more} came"),
        }
    }
}

impl Client for Ours {
    type Watch = Streaming<wire::RecordsUpdate>;

    fn new(door: &Door, channel: Channel, number: usize) -> Self {
        Self {
            door: door.clone(),
            records: RecordsClient::new(channel.clone()),
            channel,
            key: wire::TableKey {
                keyspace: KEYSPACE.to_owned(),
                table: format!("table-{number}"),
            },
            revision: 0,
            count: 0,
        }
    }

    async fn leads(&mut self) -> anyhow::Result<bool> {
        let mut admin = AdminClient::new(self.channel.clone());
        let view = admin.get_cluster(wire::GetClusterRequest { stale: true });
        let view = view.await?.into_inner();
        if view.leader_id == 0 {
            bail!("there is no leader yet");
        }
        // The others send on to the leader.
        match admin
            .get_cluster(wire::GetClusterRequest { stale: false })
            .await
        {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::FailedPrecondition => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    async fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(record) = self.find().await? {
            self.revision = record.revision;
            return Ok(());
        }
        if self.write().await.is_err() {
            self.make_keyspace().await?;
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        self.count += 1;
        let table = wire::VschemaTable {
            keyspace: self.key.keyspace.clone(),
            table: self.key.table.clone(),
            spec_json: value(self.count),
        };
        let change = wire::RecordChange {
            key: Some(self.record_key()),
            expected_revision: self.revision,
            value: Some(wire::RecordValue {
                value: Some(Value::VschemaTable(table)),
            }),
        };
        let request = wire::WriteRecordsRequest {
            request_id: String::new(),
            changes: vec![change],
        };
        self.revision = self.records.write(request).await?.into_inner().revision;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        match self.find().await? {
            Some(_) => Ok(()),
            None => bail!("the record is not there"),
        }
    }

    async fn watch(&mut self) -> anyhow::Result<Self::Watch> {
        let request = wire::WatchRecordsRequest {
            cluster_id: String::new(),
            after_revision: 0,
            kinds: vec!["vschema".to_owned()],
        };
        let mut updates = self.records.watch(request).await?.into_inner();
        // It begins with everything.
        while next(&mut updates).await?.more {}
        Ok(updates)
    }

    async fn changed(watch: &mut Self::Watch) -> anyhow::Result<()> {
        while next(watch).await?.changes.is_empty() {}
        Ok(())
    }
}

async fn next(updates: &mut Streaming<wire::RecordsUpdate>) -> anyhow::Result<wire::RecordsUpdate> {
    let next = updates.message().await?;
    next.context("the watch has ended")
}
