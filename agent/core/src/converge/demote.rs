//! Goal: a planned end. Stay primary in name, let transactions end, become read-only. Never kill, never reopen alone.

use super::{Step, View, answering};
use crate::{action::Action, claims};

pub(super) fn step(view: &View<'_>, grace_ms: u64) -> Step {
    if view.observed.is_down() {
        return Step::blocked("mysqld has ended; the demotion cannot be finished");
    }
    let Some(server) = &view.observed.server else {
        return answering(view);
    };
    if claims::is_closed(view.observed) {
        return Step::rest();
    }
    let ending = server.app_transactions > 0 || server.wait_sessions > 0;
    if ending && view.goal_age_ms() < grace_ms {
        return Step::rest();
    }
    // Behind a commit that waits for its acknowledgement this fails in time and takes no effect: it stays primary.
    view.attempt(Action::CloseForDemotion)
}
