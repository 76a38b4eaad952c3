//! Goal: run, read-only, without replication. The replica set has no primary yet.

use vt_proto::report::ThreadState;

use super::{Step, View, running, settle_accounts};
use crate::action::Action;

pub(super) fn step(view: &View<'_>) -> Step {
    // Its tail is judged against what was kept, and there is nothing to compare with yet.
    if view.persisted.primaryship.is_some() && view.observed.is_down() {
        return Step::blocked(
            "this tablet was primary; its mysqld stays down until the coordinator tells what was kept",
        );
    }
    let server = match running(view) {
        Ok(server) => server,
        Err(step) => return step,
    };
    if !server.super_read_only {
        return view.attempt(Action::CloseServer);
    }
    match &server.channel {
        Some(channel) if channel.io != ThreadState::Off => view.attempt(Action::StopIoThread),
        _ => settle_accounts(view).unwrap_or_else(Step::rest),
    }
}
