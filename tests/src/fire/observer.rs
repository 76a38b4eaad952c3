//! Looks at every member all the time, without asking it to agree with others: who leads, and how far each has come.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use vt_proto::wire;

use super::{diary::Diary, register::Register};

/// Between two looks at one member.
const INTERVAL: Duration = Duration::from_millis(100);
/// A member that does not answer is dead, paused or cut off.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// What was seen last.
#[derive(Debug, Default)]
pub struct Observed {
    leader: AtomicUsize,
    term: AtomicU64,
}

impl Observed {
    /// The member that last said that it leads.
    pub fn leader(&self) -> usize {
        self.leader.load(Ordering::Relaxed)
    }
}

/// What a member says of itself and of its group.
pub async fn look(register: &Register, member: usize) -> Option<wire::ClusterView> {
    let request = wire::GetClusterRequest { stale: true };
    let mut admin = register.admin(member);
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, admin.get_cluster(request)).await;
    Some(answer.ok()?.ok()?.into_inner())
}

/// Looks at one member for ever; a change of leaders is noted.
pub async fn observe(
    register: Register,
    member: usize,
    observed: Arc<Observed>,
    diary: Arc<Diary>,
) {
    loop {
        if let Some(view) = look(&register, member).await {
            let leads = view.leader_id == member as u64 + 1;
            if leads && observed.term.fetch_max(view.term, Ordering::Relaxed) < view.term {
                observed.leader.store(member, Ordering::Relaxed);
                diary.note(&format!(
                    "member {} leads in term {}",
                    member + 1,
                    view.term
                ));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
