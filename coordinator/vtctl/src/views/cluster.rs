//! The coordinators and what they agree on.

use serde::Serialize;
use vt_proto::wire;

use crate::output::{duration_text, list, or_dash, table};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub cluster_id: String,
    pub revision: u64,
    pub term: u64,
    pub leader_id: u64,
    pub version: String,
    pub cells: Vec<String>,
    pub coordinators: Vec<Coordinator>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coordinator {
    pub id: u64,
    pub address: String,
    pub leader: bool,
    pub last_seen_ms: Option<u64>,
    pub matched_index: u64,
}

impl From<wire::ClusterView> for Cluster {
    fn from(view: wire::ClusterView) -> Self {
        let coordinator = |it: wire::CoordinatorView| Coordinator {
            id: it.id,
            address: it.address,
            leader: it.leader,
            last_seen_ms: it.last_seen_ms,
            matched_index: it.matched_index,
        };
        Self {
            cluster_id: view.cluster_id,
            revision: view.revision,
            term: view.term,
            leader_id: view.leader_id,
            version: view.version,
            cells: view.cells,
            coordinators: view.coordinators.into_iter().map(coordinator).collect(),
        }
    }
}

impl Cluster {
    /// The cluster and its coordinators.
    pub fn text(&self) -> String {
        let items = [
            ("cluster", self.cluster_id.clone()),
            ("version", self.version.clone()),
            ("revision", self.revision.to_string()),
            ("raft term", self.term.to_string()),
            ("cells", or_dash(Some(self.cells.join(", ")))),
        ];
        let rows = self.coordinators.iter().map(|it| {
            [
                it.id.to_string(),
                it.address.clone(),
                if it.leader { "leader" } else { "follower" }.to_owned(),
                or_dash(
                    it.last_seen_ms
                        .map(|age| format!("{} ago", duration_text(age))),
                ),
                it.matched_index.to_string(),
            ]
        });
        let headers = ["COORDINATOR", "ADDRESS", "STATE", "SEEN", "LOG INDEX"];
        format!("{}\n\n{}", list(&items), table(headers, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinators_are_listed() {
        let view = wire::ClusterView {
            cluster_id: "c".to_owned(),
            coordinators: vec![wire::CoordinatorView {
                id: 1,
                address: "a:1".to_owned(),
                leader: true,
                last_seen_ms: Some(30),
                matched_index: 7,
            }],
            ..wire::ClusterView::default()
        };
        let text = Cluster::from(view).text();
        assert!(
            text.ends_with("1            a:1      leader  30 ms ago  7"),
            "{text}"
        );
    }
}
