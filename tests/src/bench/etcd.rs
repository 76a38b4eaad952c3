//! A client of etcd's published v3 API: the few messages that are needed, with the field numbers that etcd documents.

use anyhow::{Context, bail};
use prost::Message;
use tokio::task::JoinSet;
use tonic::{
    Request, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

use super::client::{Client, Door, value};

/// Keys that are put at one time.
const FILLING: usize = 64;

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create: Option<WatchCreate>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreate {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchEvent {
    #[prost(message, optional, tag = "2")]
    kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchResponse {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<WatchEvent>,
}

/// One client of one member.
pub struct Etcd {
    grpc: Grpc<Channel>,
    key: Vec<u8>,
    count: u64,
}

impl Etcd {
    /// Puts as many keys, several at one time.
    pub async fn fill(leader: &Door, keys: usize) -> anyhow::Result<()> {
        let mut workers = JoinSet::new();
        for worker in 0..FILLING {
            let mut client = Self::new(leader, leader.connect().await?, 0);
            workers.spawn(async move {
                for number in (worker..keys).step_by(FILLING) {
                    client.key = format!("many/{number}").into_bytes();
                    client.write().await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.context("a worker has panicked")??;
        }
        Ok(())
    }

    async fn ask<Q, A>(&mut self, path: &'static str, request: Q) -> anyhow::Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc.unary(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }
}

/// Changes of one key; the sender keeps the stream open.
pub struct Watch {
    responses: Streaming<WatchResponse>,
    _requests: tokio::sync::mpsc::Sender<WatchRequest>,
}

impl Client for Etcd {
    type Watch = Watch;

    fn new(_door: &Door, channel: Channel, number: usize) -> Self {
        Self {
            grpc: Grpc::new(channel),
            key: format!("bench/table-{number}").into_bytes(),
            count: 0,
        }
    }

    async fn leads(&mut self) -> anyhow::Result<bool> {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: StatusResponse = self.ask(path, StatusRequest {}).await?;
        let me = status
            .header
            .context("a status without a header")?
            .member_id;
        if status.leader == 0 {
            bail!("there is no leader yet");
        }
        Ok(status.leader == me)
    }

    async fn prepare(&mut self) -> anyhow::Result<()> {
        self.write().await
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        self.count += 1;
        let request = PutRequest {
            key: self.key.clone(),
            value: value(self.count).into_bytes(),
        };
        let _: PutResponse = self.ask("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let key = self.key.clone();
        let path = "/etcdserverpb.KV/Range";
        let found: RangeResponse = self.ask(path, RangeRequest { key }).await?;
        match found.kvs.as_slice() {
            [one] if !one.value.is_empty() => Ok(()),
            other => bail!("one record was asked for and {} came", other.len()),
        }
    }

    async fn watch(&mut self) -> anyhow::Result<Watch> {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let create = WatchCreate {
            key: self.key.clone(),
        };
        let request = WatchRequest {
            create: Some(create),
        };
        requests.send(request).await?;
        self.grpc.ready().await?;
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let answer = self.grpc.streaming(Request::new(stream), path, codec);
        let mut responses = answer.await?.into_inner();
        match responses.message().await? {
            Some(first) if first.created => Ok(Watch {
                responses,
                _requests: requests,
            }),
            other => bail!("the watch was not begun: {other:?}"),
        }
    }

    async fn changed(watch: &mut Watch) -> anyhow::Result<()> {
        loop {
            let next = watch.responses.message().await?;
            let next = next.context("the watch has ended")?;
            if next.canceled {
                bail!("the watch was cancelled");
            }
            if !next.events.is_empty() {
                return Ok(());
            }
        }
    }
}
