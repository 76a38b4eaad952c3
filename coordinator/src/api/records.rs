//! Records as such, for tools: write, read, watch. What may be written the core says; nothing here knows one kind from another.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use vt_coordinator_core::{
    Core,
    apply::CHANGES_MAX,
    command::{Change, RecordKey},
    intent,
    records::RecordKind,
    state::{State, Versioned},
};
use vt_proto::{
    convert::ConvertError,
    wire::{self, records_server},
};

use super::{
    caller, error, require_cluster,
    write::{self, write},
};
use crate::node::Handle;

mod watch;

use watch::{Fulls, Reader, Updates};

/// The service.
pub struct Records {
    node: Handle,
    fulls: Fulls,
    stop: CancellationToken,
}

impl Records {
    /// The service of this node; `stop` ends its streams.
    pub fn new(node: Handle, stop: CancellationToken) -> Self {
        Self {
            fulls: Fulls::new(node.clone()),
            node,
            stop,
        }
    }
}

#[tonic::async_trait]
impl records_server::Records for Records {
    async fn write(
        &self,
        request: Request<wire::WriteRecordsRequest>,
    ) -> Result<Response<wire::WriteRecordsResponse>, Status> {
        let request = caller::take(request);
        let changes = changes(request.changes)?;
        let make = move |core: &Core, id: &str, now| {
            intent::write_records(core.state(), &changes, id, now)
        };
        let written = write(&self.node, request.request_id, write::ONCE, make).await?;
        let revision = written.revision;
        Ok(Response::new(wire::WriteRecordsResponse { revision }))
    }

    async fn read(
        &self,
        request: Request<wire::ReadRecordsRequest>,
    ) -> Result<Response<wire::ReadRecordsResponse>, Status> {
        let request = caller::take(request);
        let kinds = kinds(&request.kinds)?;
        let keys = keys(request.keys)?;
        let look = move |core: &Core, _: &_| {
            let state = core.state();
            let found = find(state, &keys, &kinds);
            (state.cluster_id.clone(), state.applied, found)
        };
        let read = match request.stale {
            true => self.node.read(false, look).await,
            false => self.node.read_anywhere(look).await,
        };
        let (cluster_id, revision, found) = read.map_err(error::of_read)?;
        Ok(Response::new(wire::ReadRecordsResponse {
            cluster_id,
            revision,
            records: found.into_iter().map(Versioned::into_public_wire).collect(),
        }))
    }

    type WatchStream = Updates;

    async fn watch(
        &self,
        request: Request<wire::WatchRecordsRequest>,
    ) -> Result<Response<Updates>, Status> {
        let request = caller::take(request);
        require_cluster(&self.node.status().borrow(), &request.cluster_id)?;
        let kinds = kinds(&request.kinds)?;
        let reader = Reader::new(self.fulls.clone(), request.after_revision, kinds);
        Ok(Response::new(Updates::new(reader, self.stop.clone())))
    }
}

fn changes(given: Vec<wire::RecordChange>) -> Result<Vec<Change>, Status> {
    // Before the work of converting them all.
    if given.len() > CHANGES_MAX {
        return Err(Status::invalid_argument(format!(
            "a write holds 1 to {CHANGES_MAX} changes and this one has {}: split it",
            given.len()
        )));
    }
    let convert = |(position, change)| {
        Change::from_wire(change).map_err(|error| at("changes", position, error))
    };
    given.into_iter().enumerate().map(convert).collect()
}

fn keys(given: Vec<wire::RecordKey>) -> Result<BTreeSet<RecordKey>, Status> {
    let convert = |(position, key)| {
        RecordKey::from_wire(Some(key)).map_err(|error| at("keys", position, error))
    };
    given.into_iter().enumerate().map(convert).collect()
}

fn at(list: &str, position: usize, error: ConvertError) -> Status {
    error::of_conversion(&error.within(&format!("{list}[{position}]")))
}

fn kinds(words: &[String]) -> Result<BTreeSet<RecordKind>, Status> {
    let parse = |word: &String| word.parse::<RecordKind>();
    let kinds: Result<_, _> = words.iter().map(parse).collect();
    kinds.map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The named records and those of the kinds, in order of their keys; all if nothing is named.
fn find(
    state: &State,
    keys: &BTreeSet<RecordKey>,
    kinds: &BTreeSet<RecordKind>,
) -> Vec<Versioned<vt_coordinator_core::command::RecordValue>> {
    if keys.is_empty() && kinds.is_empty() {
        return state.records().collect();
    }
    let named = keys.iter().filter(|key| !kinds.contains(&key.kind()));
    let named = named.filter_map(|key| {
        Some(Versioned {
            revision: state.revision_of(key),
            value: state.value_of(key)?,
        })
    });
    let mut found: Vec<_> = kinds
        .iter()
        .flat_map(|kind| state.records_of(*kind))
        .chain(named)
        .collect();
    found.sort_by_cached_key(|record| record.value.key());
    found
}
