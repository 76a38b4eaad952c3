//! Changes of the group: the wish is written, then the group is watched until it is as wished.

use std::time::{Duration, Instant};

use serde::Serialize;
use vt_proto::wire::{
    AddCoordinatorRequest, RemoveCoordinatorRequest, ReplaceCoordinatorRequest,
    SetCoordinatorAddressRequest, TransferLeadershipRequest,
};

use super::{Wait, group};
use crate::{
    cli::Global,
    client::{Client, request_id},
    failure::{Failure, Kind},
    output::{self, duration_text, note},
    progress::Progress,
    views::coordinator::Group,
};

/// Somebody has to go and start the new member; a removal alone is a matter of seconds.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);
/// An election and some.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Debug, Default)]
struct Wish {
    joins: Option<u64>,
    leaves: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Changed {
    revision: u64,
    joins: Option<u64>,
    leaves: Option<u64>,
    done: bool,
    duration_ms: u64,
    /// What the new member's configuration must contain.
    configuration: Option<String>,
}

pub async fn add(global: &Global, address: String, wait: &Wait) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let request = AddCoordinatorRequest {
        address,
        request_id: request_id(),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.add_coordinator(request).await
        })
        .await?;
    let wish = Wish {
        joins: Some(answer.id),
        leaves: None,
    };
    follow(global, &mut client, answer.revision, wish, wait).await
}

pub async fn remove(global: &Global, id: u64, wait: &Wait) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let request = RemoveCoordinatorRequest {
        id,
        request_id: request_id(),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.remove_coordinator(request).await
        })
        .await?;
    let wish = Wish {
        joins: None,
        leaves: Some(id),
    };
    follow(global, &mut client, answer.revision, wish, wait).await
}

pub async fn replace(global: &Global, id: u64, address: String, wait: &Wait) -> anyhow::Result<()> {
    let mut client = global.client()?;
    let request = ReplaceCoordinatorRequest {
        id,
        address,
        request_id: request_id(),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.replace_coordinator(request).await
        })
        .await?;
    let wish = Wish {
        joins: Some(answer.id),
        leaves: Some(id),
    };
    follow(global, &mut client, answer.revision, wish, wait).await
}

pub async fn set_address(global: &Global, id: u64, address: String) -> anyhow::Result<()> {
    let request = SetCoordinatorAddressRequest {
        id,
        address,
        request_id: request_id(),
    };
    let answer = global
        .client()?
        .call(request, |mut admin, request| async move {
            admin.set_coordinator_address(request).await
        })
        .await?;
    let written = super::super::Written {
        revision: answer.revision,
    };
    output::print(global.output, &written, |_| {
        format!(
            "the others look for coordinator {id} there now; its own configuration must say so too"
        )
    })
}

/// Hands leadership over and waits until another one leads; returns who.
pub async fn transfer(global: &Global, to: Option<u64>) -> anyhow::Result<u64> {
    let mut client = global.client()?;
    let before = group(&mut client, false).await?.leader_id;
    if to.is_some() && to == before {
        return Ok(before.unwrap_or_default());
    }
    let request = TransferLeadershipRequest {
        to: to.unwrap_or(0),
    };
    let answer = client
        .call(request, |mut admin, request| async move {
            admin.transfer_leadership(request).await
        })
        .await?;
    let deadline = Instant::now() + global.timeout_or(TRANSFER_TIMEOUT);
    loop {
        let leader = group(&mut client, false).await?.leader_id;
        match leader {
            Some(leader) if leader == answer.to || (to.is_none() && Some(leader) != before) => {
                return Ok(leader);
            }
            _ if Instant::now() >= deadline => {
                let message = format!("coordinator {} has not taken over in time", answer.to);
                let failure = Failure::new(Kind::Failed, message);
                return Err(failure
                    .next("`vtctl coordinator status` shows whether it is behind")
                    .into());
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

async fn follow(
    global: &Global,
    client: &mut Client,
    revision: u64,
    wish: Wish,
    wait: &Wait,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let first = group(client, false).await?;
    let configuration = wish.joins.map(|id| first.configuration_of(id));
    if let (Some(id), Some(configuration)) = (wish.joins, &configuration) {
        note(&format!(
            "start vt-coordinator for member {id} with an empty data directory and a configuration that contains:\n\n{configuration}"
        ));
    }
    let done = !wait.no_wait;
    if done {
        let deadline = began + global.timeout_or(CHANGE_TIMEOUT);
        let mut progress = Progress::quietly();
        loop {
            let Some(missing) = missing(&group(client, false).await?, &wish) else {
                break;
            };
            if Instant::now() >= deadline {
                let message = format!("the group is not yet as wished: {missing}");
                return Err(Failure::new(Kind::Failed, message)
                    .next("it goes on by itself: `vtctl coordinator list` says what it waits for")
                    .into());
            }
            progress.step(&missing);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    let changed = Changed {
        revision,
        joins: wish.joins,
        leaves: wish.leaves,
        done,
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        configuration,
    };
    output::print(global.output, &changed, text)
}

fn text(changed: &Changed) -> String {
    let who = match (changed.joins, changed.leaves) {
        (Some(new), Some(old)) => format!("coordinator {new} takes the place of {old}"),
        (Some(new), None) => format!("coordinator {new} joins"),
        (None, Some(old)) => format!("coordinator {old} leaves"),
        (None, None) => "nothing changes".to_owned(),
    };
    match changed.done {
        true => format!("{who}: done after {}", duration_text(changed.duration_ms)),
        false => format!("{who}: `vtctl coordinator list` shows how far it is"),
    }
}

/// What the group still lacks; nothing if it is as wished.
fn missing(group: &Group, wish: &Wish) -> Option<String> {
    let joining = wish.joins.and_then(|id| match group.member(id) {
        None => Some(format!("coordinator {id} is not in the group any more")),
        Some(member) if member.part == "voter" => None,
        Some(member) => Some(format!(
            "coordinator {id} at {} is {}",
            member.address, member.part
        )),
    });
    let leaving = wish
        .leaves
        .filter(|id| group.member(*id).is_some())
        .map(|id| format!("coordinator {id} is still leaving"));
    let missing = joining.or(leaving)?;
    Some(group.waits_for.clone().unwrap_or(missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::coordinator::Member;

    #[test]
    fn a_wish_is_fulfilled_when_the_new_one_votes_and_the_old_one_is_gone() {
        let group = |members: &[(u64, &str)], waits_for: Option<&str>| Group {
            waits_for: waits_for.map(ToOwned::to_owned),
            members: members
                .iter()
                .map(|(id, part)| Member {
                    id: *id,
                    part: (*part).to_owned(),
                    ..Member::default()
                })
                .collect(),
            ..Group::default()
        };
        let wish = Wish {
            joins: Some(4),
            leaves: Some(2),
        };
        let all = [(2, "leaving"), (4, "joining")];
        let cases = [
            (
                group(&all, Some("4 has not joined")),
                Some("4 has not joined"),
            ),
            (
                group(&[(2, "leaving"), (4, "learner")], None),
                Some("coordinator 4 at  is learner"),
            ),
            (
                group(&[(2, "leaving"), (4, "voter")], None),
                Some("coordinator 2 is still leaving"),
            ),
            (group(&[(4, "voter")], None), None),
        ];
        for (group, expected) in cases {
            assert_eq!(missing(&group, &wish).as_deref(), expected);
        }
    }
}
