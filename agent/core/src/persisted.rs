//! What must survive the agent: written and fsynced by the shell before the action that depends on it is taken.

use vt_proto::{
    cluster::{Kinship, kinship},
    epoch::{Epoch, Generation, Incarnation},
    gtid::GtidSet,
};

/// That this tablet is, or was, the primary of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primaryship {
    pub epoch: Epoch,
    /// Under which uuid it wrote: what it wrote beyond the epoch's end is known by it.
    pub server_uuid: String,
    /// The life of mysqld in which it is open: its first row of the epoch was acknowledged in that life.
    pub opened: Option<Incarnation>,
    /// What it wrote beyond the end of its epoch has been cut from the binary log.
    pub tail_cut: bool,
}

/// Where it acknowledged: tells whether it can have forgotten what it acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acking {
    pub boot_id: String,
    pub server_uuid: String,
}

/// The agent's memory across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persisted {
    /// The cluster it belongs to, set at the first contact, and which of its groups it follows: never an older one.
    pub cluster_id: Option<String>,
    /// The highest epoch it has promised: it takes no part in an older one.
    pub promised: Epoch,
    /// The highest generation of desired state it has acted on, as far as that must be remembered: before the end of a
    /// primaryship is claimed, and otherwise once there is time.
    pub generation: Generation,
    pub primaryship: Option<Primaryship>,
    pub acking: Option<Acking>,
    /// Its data was replaced since it last caught up with a primary, or began to be; or its relay log may be lost.
    pub replaced: bool,
    /// Only a copy of another tablet can make it a replica again, and why.
    pub clone_reason: Option<String>,
}

/// One change of what is persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Joined {
        cluster_id: String,
    },
    Promise {
        epoch: Epoch,
        generation: Generation,
    },
    /// The promise and the beginning of the primaryship at once: a planned switchover waits for each write to disk.
    PromiseAsPrimary {
        epoch: Epoch,
        generation: Generation,
        server_uuid: String,
    },
    /// Before the first own transaction of the epoch is possible.
    PrimaryshipBegins {
        epoch: Epoch,
        server_uuid: String,
    },
    /// After the first own row was acknowledged: an agent that starts anew need not prove it again.
    Opened {
        incarnation: Incarnation,
    },
    TailCut,
    /// Nothing of it stands beyond what was kept.
    PrimaryshipOver,
    /// It has caught up with a primary and acknowledges.
    Acks {
        boot_id: String,
        server_uuid: String,
    },
    /// Before a change of the source, which throws the relay log away where the applier happens to stop on an error.
    RelayLogAtRisk {
        received: GtidSet,
    },
    CloneNeeded {
        reason: String,
    },
    /// Before anything is replaced: a copy that breaks off leaves neither the old data nor what told that they had to go.
    CloneBegins {
        reason: String,
    },
    Cloned,
}

impl Persisted {
    /// Carries out one change. Numbers only grow.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Joined { cluster_id } => {
                let stays = |ours: &String| {
                    matches!(kinship(cluster_id, ours), Kinship::Same | Kinship::Newer)
                };
                assert!(
                    self.cluster_id.as_ref().is_none_or(stays),
                    "a tablet never changes its cluster, and never goes back to an older group of it"
                );
                self.cluster_id = Some(cluster_id.clone());
            }
            Record::Promise { epoch, generation } => self.promise(*epoch, *generation),
            Record::PromiseAsPrimary {
                epoch,
                generation,
                server_uuid,
            } => {
                self.promise(*epoch, *generation);
                self.begin(*epoch, server_uuid);
            }
            Record::PrimaryshipBegins { epoch, server_uuid } => self.begin(*epoch, server_uuid),
            Record::Opened { incarnation } => {
                if let Some(primaryship) = &mut self.primaryship {
                    primaryship.opened = Some(*incarnation);
                }
            }
            Record::TailCut => {
                if let Some(primaryship) = &mut self.primaryship {
                    primaryship.tail_cut = true;
                }
            }
            Record::PrimaryshipOver => self.primaryship = None,
            Record::Acks {
                boot_id,
                server_uuid,
            } => {
                self.replaced = false;
                self.acking = Some(Acking {
                    boot_id: boot_id.clone(),
                    server_uuid: server_uuid.clone(),
                });
            }
            Record::RelayLogAtRisk { .. } => self.replaced = true,
            Record::CloneNeeded { reason } => self.clone_reason = Some(reason.clone()),
            Record::CloneBegins { reason } => {
                self.clone_reason = Some(reason.clone());
                self.replaced = true;
            }
            Record::Cloned => {
                self.clone_reason = None;
                self.primaryship = None;
                self.replaced = true;
            }
        }
    }

    fn promise(&mut self, epoch: Epoch, generation: Generation) {
        assert!(epoch >= self.promised, "a promise is never taken back");
        assert!(generation >= self.generation, "generations only grow");
        self.promised = epoch;
        self.generation = generation;
    }

    fn begin(&mut self, epoch: Epoch, server_uuid: &str) {
        assert!(epoch == self.promised, "primary only of the promised epoch");
        self.primaryship = Some(Primaryship {
            epoch,
            server_uuid: server_uuid.to_owned(),
            opened: None,
            tail_cut: false,
        });
    }

    /// Whether it may have forgotten what it acknowledged: rebooted, or on other data, since it last caught up.
    pub fn is_amnesiac(&self, boot_id: &str, server_uuid: Option<&str>) -> bool {
        let elsewhere = |acking: &Acking| {
            acking.boot_id != boot_id || server_uuid.is_some_and(|uuid| uuid != acking.server_uuid)
        };
        self.replaced || self.acking.as_ref().is_some_and(elsewhere)
    }
}
