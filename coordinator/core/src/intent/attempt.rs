//! What becomes of one attempt of a request that has a command: answered before, proposed, or refused.

use vt_proto::epoch::Revision;

use super::refused;
use crate::{apply::remembered, command::Command, refusal::Refusal, state::State};

/// One attempt of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub request_id: String,
    /// The caller gave the id, so an earlier message with the same one may still be on its way.
    pub named: bool,
    /// The group confirms that what is known here is the newest. Otherwise another member may have shown more already, and a refusal
    /// must not stand for ever on that.
    pub confirmed: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The same request was answered before.
    Done(Result<Revision, Refusal>),
    /// The command; or a refusal, where it is to stand.
    Propose(Command),
    /// To be confirmed by the group, unless it is already; then to be told.
    Refuse(Refusal),
}

/// Plans it from a leader's state; `make` makes the command from that.
pub fn plan(
    state: &State,
    attempt: &Attempt,
    make: impl FnOnce() -> Result<Command, Refusal>,
) -> Plan {
    if let Some(outcome) = remembered(state, &attempt.request_id) {
        return Plan::Done(outcome);
    }
    let refusal = match make() {
        Ok(command) => return Plan::Propose(command),
        Err(refusal) => refusal,
    };
    let stands = attempt.named && attempt.confirmed;
    let command = stands.then(|| refused(state, &attempt.request_id, &refusal));
    command
        .flatten()
        .map_or(Plan::Refuse(refusal), Plan::Propose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apply::apply, format};

    #[test]
    fn a_refusal_stands_only_if_it_has_a_name_and_is_of_the_newest_state() {
        for (format, named, confirmed, stands) in [
            (format::REFUSALS, true, true, true),
            (format::REFUSALS, true, false, false),
            (format::REFUSALS, false, true, false),
            (format::COORDINATORS, true, true, false),
        ] {
            let state = State {
                format,
                ..State::default()
            };
            let attempt = Attempt {
                request_id: "r".to_owned(),
                named,
                confirmed,
            };
            let no = Refusal::invalid("no");
            let expected = match stands {
                true => Plan::Propose(Command::refusal("r".to_owned(), no.clone())),
                false => Plan::Refuse(no.clone()),
            };
            let planned = plan(&state, &attempt, || Err(no));
            assert_eq!(planned, expected, "{format} {named} {confirmed}");
        }
    }

    #[test]
    fn what_was_answered_is_not_made_again() {
        let mut state = State {
            format: format::REFUSALS,
            ..State::default()
        };
        let no = Refusal::invalid("no");
        let refusal = Command::refusal("r".to_owned(), no.clone());
        assert_eq!(apply(&mut state, 1, &refusal), Err(no.clone()));
        let attempt = Attempt {
            request_id: "r".to_owned(),
            named: true,
            confirmed: false,
        };
        let planned = plan(&state, &attempt, || panic!("it was answered"));
        assert_eq!(planned, Plan::Done(Err(no)));
    }
}
