//! The coordinators' group: who is in it and who should be, and what each member says of itself.

use std::collections::BTreeMap;

use serde::Serialize;
use vt_proto::wire;

use super::unless_empty;
use crate::output::{duration_text, list, or_dash, table};

/// The group as one member, the leader unless it was asked otherwise, knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    pub cluster_id: String,
    pub term: u64,
    pub commit_index: u64,
    pub leader_id: Option<u64>,
    pub waits_for: Option<String>,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Member {
    pub id: u64,
    pub address: String,
    /// `joining`, `learner`, `voter` or `leaving`.
    pub part: String,
    pub leader: bool,
    pub matched_index: u64,
    pub last_heard_ms: Option<u64>,
    pub directory_id: Option<String>,
    pub formats: u32,
}

impl From<wire::ListCoordinatorsResponse> for Group {
    fn from(view: wire::ListCoordinatorsResponse) -> Self {
        let member = |it: wire::MemberView| {
            let record = it.coordinator.unwrap_or_default();
            Member {
                id: record.id,
                address: record.address,
                part: it.part,
                leader: it.leader,
                matched_index: it.matched_index,
                last_heard_ms: it.last_heard_ms,
                directory_id: unless_empty(record.directory_id),
                formats: record.formats,
            }
        };
        Self {
            cluster_id: view.cluster_id,
            term: view.term,
            commit_index: view.commit_index,
            leader_id: (view.leader_id != 0).then_some(view.leader_id),
            waits_for: unless_empty(view.waits_for),
            members: view.members.into_iter().map(member).collect(),
        }
    }
}

impl Group {
    /// The member of that id.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The group for people.
    pub fn text(&self) -> String {
        let items = [
            ("cluster", self.cluster_id.clone()),
            ("term", self.term.to_string()),
            ("committed", self.commit_index.to_string()),
        ];
        let rows = self.members.iter().map(|it| {
            let part = if it.leader { "leader" } else { &it.part };
            [
                it.id.to_string(),
                it.address.clone(),
                part.to_owned(),
                or_dash((it.matched_index > 0).then_some(it.matched_index)),
                or_dash(
                    it.last_heard_ms
                        .map(|age| format!("{} ago", duration_text(age))),
                ),
            ]
        });
        let headers = ["COORDINATOR", "ADDRESS", "PART", "LOG INDEX", "HEARD"];
        let mut text = format!("{}\n\n{}", list(&items), table(headers, rows));
        if let Some(waits_for) = &self.waits_for {
            text.push_str(&format!("\n\nwaits: {waits_for}"));
        }
        text
    }

    /// What the configuration file of a member must contain beside its own ports and directories.
    pub fn configuration_of(&self, id: u64) -> String {
        // The name, in front of what makes it unlike others of that name.
        let name = self
            .cluster_id
            .rsplit_once('-')
            .map_or(&*self.cluster_id, |(name, _)| name);
        let address = self.member(id).map_or("", |member| &member.address);
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let listen = match host.parse::<std::net::IpAddr>() {
            Ok(_) => address.to_owned(),
            Err(_) => format!("0.0.0.0:{port}"),
        };
        let mut text =
            format!("cluster = \"{name}\"\nmember_id = {id}\nlisten = \"{listen}\"\n[members]\n");
        for member in self
            .members
            .iter()
            .filter(|member| member.part != "leaving")
        {
            text.push_str(&format!("{} = \"{}\"\n", member.id, member.address));
        }
        text
    }
}

/// What each member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statuses {
    pub members: Vec<Status>,
    /// Log indexes at which members hold different states, with the members by their hashes: never, unless there is a mistake.
    pub different_at: BTreeMap<u64, BTreeMap<String, Vec<u64>>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    pub address: String,
    pub id: Option<u64>,
    /// Why it did not answer; everything below is empty then.
    pub unreachable: Option<String>,
    pub cluster_id: String,
    pub version: String,
    pub role: String,
    pub term: u64,
    pub applied_index: u64,
    pub commit_index: u64,
    pub snapshot_index: u64,
    pub log_bytes: u64,
    pub state_hash: String,
    pub disk_full: bool,
    pub disk_stalled: bool,
    pub waits_for: Option<String>,
    pub uptime_ms: u64,
    pub resident_bytes: u64,
    pub directory_id: Option<String>,
}

impl Status {
    /// What the member at this address answered.
    pub fn of(address: &str, answer: wire::CoordinatorStatusResponse) -> Self {
        Self {
            address: address.to_owned(),
            id: Some(answer.id),
            unreachable: None,
            cluster_id: answer.cluster_id,
            version: answer.version,
            role: answer.role,
            term: answer.term,
            applied_index: answer.applied_index,
            commit_index: answer.commit_index,
            snapshot_index: answer.snapshot_index,
            log_bytes: answer.log_bytes,
            state_hash: format!("{:016x}", answer.state_hash),
            disk_full: answer.disk_full,
            disk_stalled: answer.disk_stalled,
            waits_for: unless_empty(answer.waits_for),
            uptime_ms: answer.uptime_ms,
            resident_bytes: answer.resident_bytes,
            directory_id: unless_empty(answer.directory_id),
        }
    }
}

impl Statuses {
    /// All of them, compared.
    pub fn new(mut members: Vec<Status>) -> Self {
        members.sort_by(|a, b| {
            (a.id.unwrap_or(u64::MAX), &a.address).cmp(&(b.id.unwrap_or(u64::MAX), &b.address))
        });
        let mut at: BTreeMap<u64, BTreeMap<String, Vec<u64>>> = BTreeMap::new();
        for member in members
            .iter()
            .filter(|it| it.unreachable.is_none() && it.role != "waiting")
        {
            let hashes = at.entry(member.applied_index).or_default();
            let ids = hashes.entry(member.state_hash.clone()).or_default();
            ids.extend(member.id);
        }
        at.retain(|_, hashes| hashes.len() > 1);
        Self {
            members,
            different_at: at,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
        let rows = self.members.iter().map(|it| {
            let answered = it.unreachable.is_none();
            let role = if answered { &*it.role } else { "unreachable" };
            let number = |number: u64| or_dash(answered.then_some(number));
            [
                or_dash(it.id),
                it.address.clone(),
                role.to_owned(),
                number(it.term),
                number(it.applied_index),
                number(it.snapshot_index),
                or_dash(answered.then(|| mib(it.log_bytes))),
                or_dash(answered.then(|| mib(it.resident_bytes))),
                or_dash(answered.then(|| duration_text(it.uptime_ms))),
            ]
        });
        let headers = [
            "ID", "ADDRESS", "ROLE", "TERM", "APPLIED", "SNAPSHOT", "LOG", "MEMORY", "UP",
        ];
        let mut text = table(headers, rows);
        for it in &self.members {
            let mut say = |what: &str| text.push_str(&format!("\n\n{}: {what}", it.address));
            if let Some(why) = &it.unreachable {
                say(why);
            }
            if it.disk_full {
                say("its disk is full: free space in its data directory");
            }
            if it.disk_stalled {
                say("its disk does not answer: another member leads meanwhile; look at the device");
            }
            if let Some(waits_for) = &it.waits_for {
                say(waits_for);
            }
        }
        for (index, hashes) in &self.different_at {
            text.push_str(&format!(
                "\n\nDIFFERENT STATES at log index {index}: {hashes:?}"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        let member = |id: u64, part: &str| wire::MemberView {
            coordinator: Some(wire::Coordinator {
                id,
                address: format!("db{id}.example:15100"),
                ..wire::Coordinator::default()
            }),
            part: part.to_owned(),
            leader: id == 1,
            matched_index: if id == 4 { 0 } else { 1_234 },
            last_heard_ms: (id != 4).then_some(40),
            ..wire::MemberView::default()
        };
        Group::from(wire::ListCoordinatorsResponse {
            cluster_id: "my-demo-0011223344556677".to_owned(),
            term: 3,
            commit_index: 1_234,
            leader_id: 1,
            waits_for: "coordinator 4 has not joined".to_owned(),
            members: vec![
                member(1, "voter"),
                member(2, "leaving"),
                member(4, "joining"),
            ],
            ..wire::ListCoordinatorsResponse::default()
        })
    }

    #[test]
    fn a_group_fits_a_terminal() {
        let text = group().text();
        let expected = [
            "COORDINATOR  ADDRESS            PART     LOG INDEX  HEARD",
            "1            db1.example:15100  leader   1234       40 ms ago",
            "2            db2.example:15100  leaving  1234       40 ms ago",
            "4            db4.example:15100  joining  -          -",
            "",
            "waits: coordinator 4 has not joined",
        ];
        let lines: Vec<_> = text.lines().skip(4).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_newcomer_is_told_what_to_write() {
        let expected = "cluster = \"my-demo\"\nmember_id = 4\nlisten = \"0.0.0.0:15100\"\n[members]\n\
            1 = \"db1.example:15100\"\n4 = \"db4.example:15100\"\n";
        assert_eq!(group().configuration_of(4), expected);
    }

    #[test]
    fn different_states_at_one_index_are_told() {
        let status = |id: u64, index: u64, hash: u64| {
            let answer = wire::CoordinatorStatusResponse {
                id,
                role: "follower".to_owned(),
                applied_index: index,
                state_hash: hash,
                ..wire::CoordinatorStatusResponse::default()
            };
            Status::of(&format!("db{id}:1"), answer)
        };
        let silent = Status {
            address: "db4:1".to_owned(),
            unreachable: Some("no connection in time".to_owned()),
            ..Status::default()
        };
        let all = vec![
            status(2, 7, 1),
            status(1, 7, 1),
            status(3, 8, 2),
            silent.clone(),
        ];
        let same = Statuses::new(all);
        assert!(same.different_at.is_empty());
        assert!(
            same.text().contains("unreachable  -     -"),
            "{}",
            same.text()
        );
        let different = Statuses::new(vec![status(1, 7, 1), status(2, 7, 2), silent]);
        assert_eq!(different.different_at[&7].len(), 2);
        assert!(different.text().contains("DIFFERENT STATES at log index 7"));
    }
}
