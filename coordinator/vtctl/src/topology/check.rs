//! Whether a topology keeps the rules: every name that is used exists, every range of ids is owned once, every primary and acker is
//! a tablet of its replica set. All mistakes at once, each with the path of what is wrong. Nothing is asked or changed.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use serde::Serialize;
use vt_proto::{
    gtid::GtidSet,
    ids::{CellName, KeyspaceName, ReplicaSetName, TabletAlias},
    keyrange::{KeyRange, check_cover},
};

use super::{Coordinator, FORMAT, Keyspace, ReplicaSet, SchemaChange, Tablet, Topology};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// As in `replica_sets.main.primary`.
    pub path: String,
    pub what: String,
}

/// Every rule that the topology breaks, in order of the paths.
pub fn check(topology: &Topology) -> Vec<Mistake> {
    let mut checker = Checker {
        topology,
        mistakes: Vec::new(),
    };
    if topology.format != FORMAT {
        let what = format!("'{}' is not known: write {FORMAT}", topology.format);
        checker.add("format", what);
    }
    for name in topology.cells.keys() {
        checker.parse::<CellName>(&format!("cells.{name}"), name);
    }
    for (name, keyspace) in &topology.keyspaces {
        checker.keyspace(&format!("keyspaces.{name}"), name, keyspace);
    }
    for (name, set) in &topology.replica_sets {
        checker.replica_set(&format!("replica_sets.{name}"), name, set);
    }
    for (alias, tablet) in &topology.tablets {
        checker.tablet(&format!("tablets.{alias}"), alias, tablet);
    }
    for (id, change) in &topology.schema_changes {
        checker.schema_change(&format!("schema_changes.{id}"), change);
    }
    for (id, coordinator) in &topology.coordinators {
        checker.coordinator(&format!("coordinators.{id}"), coordinator);
    }
    checker.addresses();
    checker.mistakes.sort();
    checker.mistakes
}

struct Checker<'a> {
    topology: &'a Topology,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    fn add(&mut self, path: &str, what: impl Display) {
        self.mistakes.push(Mistake {
            path: path.to_owned(),
            what: what.to_string(),
        });
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, path: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(path, error);
                None
            }
        }
    }

    fn keyspace(&mut self, path: &str, name: &str, keyspace: &Keyspace) {
        self.parse::<KeyspaceName>(path, name);
        let mut ranges = Vec::new();
        for (range, shard) in &keyspace.shards {
            let path = format!("{path}.shards.{range}");
            ranges.extend(self.parse::<KeyRange>(&path, range));
            self.needs_replica_set(&format!("{path}.replica_set"), &shard.replica_set);
        }
        if ranges.len() == keyspace.shards.len()
            && let Err(what) = check_cover(&ranges)
        {
            self.add(&format!("{path}.shards"), what);
        }
        for (table, vschema) in &keyspace.vschema {
            let spec: Result<serde_json::Value, _> = serde_json::from_str(&vschema.spec);
            if let Err(error) = spec {
                let path = format!("{path}.vschema.{table}.spec");
                self.add(&path, format!("it is not JSON: {error}"));
            }
        }
    }

    fn needs_replica_set(&mut self, path: &str, name: &str) {
        if !self.topology.replica_sets.contains_key(name) {
            self.add(path, format!("there is no replica set '{name}'"));
        }
    }

    fn replica_set(&mut self, path: &str, name: &str, set: &ReplicaSet) {
        self.parse::<ReplicaSetName>(path, name);
        let at = |field: &str| format!("{path}.{field}");
        if set.acks == 0 {
            self.add(&at("acks"), "at least 1 must stand behind each write");
        }
        let (needs_primary, needs_candidate) = match set.phase.as_str() {
            "forming" | "revoking" => (false, false),
            "stable" | "establishing" => (true, false),
            "switching" => (true, true),
            other => {
                let what = format!(
                    "'{other}' is not known: write forming, stable, switching, revoking or establishing"
                );
                self.add(&at("phase"), what);
                (set.primary.is_some(), set.candidate.is_some())
            }
        };
        self.member(&at("primary"), name, set.primary.as_deref(), needs_primary);
        self.member(
            &at("candidate"),
            name,
            set.candidate.as_deref(),
            needs_candidate,
        );
        for (position, acker) in set.ackers.iter().enumerate() {
            let path = at(&format!("ackers[{position}]"));
            self.member(&path, name, Some(acker), true);
            if set.primary.as_ref() == Some(acker) {
                self.add(
                    &path,
                    format!("{acker} is the primary: it cannot acknowledge itself"),
                );
            }
        }
        self.gtid(&at("start_gtid"), &set.start_gtid);
        let mut before = None;
        for (position, finished) in set.history.iter().enumerate() {
            let path = at(&format!("history[{position}]"));
            self.parse::<TabletAlias>(&format!("{path}.primary"), &finished.primary);
            self.gtid(&format!("{path}.kept"), &finished.kept);
            if before.is_some_and(|before| before >= finished.epoch) || finished.epoch >= set.epoch
            {
                let what = format!(
                    "{} must be above the one before and below the set's own, {}",
                    finished.epoch, set.epoch
                );
                self.add(&format!("{path}.epoch"), what);
            }
            before = Some(finished.epoch);
        }
    }

    /// Somebody who plays a part in a replica set: there if `needed`, a tablet of that set, and one that may be promoted.
    fn member(&mut self, path: &str, set: &str, alias: Option<&str>, needed: bool) {
        let Some(alias) = alias else {
            if needed {
                self.add(path, "it is missing in this phase");
            }
            return;
        };
        if !needed {
            self.add(path, format!("{alias} has no part in this phase"));
        }
        match self.topology.tablets.get(alias) {
            None => self.add(path, format!("there is no tablet '{alias}'")),
            Some(tablet) if tablet.replica_set != set => {
                let of = tablet.replica_set.clone();
                self.add(path, format!("{alias} is a tablet of replica set {of}"));
            }
            Some(tablet) if tablet.kind == "rdonly" => {
                self.add(path, format!("{alias} is rdonly"));
            }
            Some(_) => {}
        }
    }

    fn gtid(&mut self, path: &str, text: &str) {
        self.parse::<GtidSet>(path, text);
    }

    fn tablet(&mut self, path: &str, alias: &str, tablet: &Tablet) {
        let at = |field: &str| format!("{path}.{field}");
        if let Some(alias) = self.parse::<TabletAlias>(path, alias)
            && !self.topology.cells.contains_key(alias.cell().as_str())
        {
            self.add(path, format!("there is no cell '{}'", alias.cell()));
        }
        if !["replica", "rdonly"].contains(&tablet.kind.as_str()) {
            let what = format!("'{}' is not known: write replica or rdonly", tablet.kind);
            self.add(&at("kind"), what);
        }
        self.needs_replica_set(&at("replica_set"), &tablet.replica_set);
        self.address(&at("mysql"), &tablet.mysql);
        if let Some(router) = &tablet.router {
            self.address(&at("router"), router);
        }
    }

    fn schema_change(&mut self, path: &str, change: &SchemaChange) {
        let pending = change.status == "pending";
        if pending && !self.topology.keyspaces.contains_key(&change.keyspace) {
            let what = format!("there is no keyspace '{}'", change.keyspace);
            self.add(&format!("{path}.keyspace"), what);
        }
        if !["pending", "done", "failed"].contains(&change.status.as_str()) {
            let what = format!(
                "'{}' is not known: write pending, done or failed",
                change.status
            );
            self.add(&format!("{path}.status"), what);
        }
    }

    fn coordinator(&mut self, path: &str, coordinator: &Coordinator) {
        self.address(&format!("{path}.address"), &coordinator.address);
        if !["voter", "leaving"].contains(&coordinator.standing.as_str()) {
            let what = format!(
                "'{}' is not known: write voter or leaving",
                coordinator.standing
            );
            self.add(&format!("{path}.standing"), what);
        }
    }

    fn address(&mut self, path: &str, text: &str) {
        let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            self.add(path, format!("'{text}' is no host:port"));
        }
    }

    /// No two of them at one place, and somebody who votes.
    fn addresses(&mut self) {
        let topology = self.topology;
        let mysql = topology.tablets.iter();
        let mysql = mysql.map(|(alias, it)| (format!("tablets.{alias}.mysql"), &it.mysql));
        let coordinators = topology.coordinators.iter();
        let coordinators =
            coordinators.map(|(id, it)| (format!("coordinators.{id}.address"), &it.address));
        let mut seen: BTreeMap<&String, String> = BTreeMap::new();
        for (path, address) in mysql.chain(coordinators) {
            if let Some(first) = seen.get(address) {
                let what = format!("{address} is taken by {first}");
                self.add(&path, what);
            } else {
                seen.insert(address, path);
            }
        }
        let mut standings = topology
            .coordinators
            .values()
            .map(|it| it.standing.as_str());
        if !topology.coordinators.is_empty() && !standings.any(|standing| standing == "voter") {
            self.add("coordinators", "nobody votes");
        }
    }
}
