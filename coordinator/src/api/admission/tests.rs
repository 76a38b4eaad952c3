//! Turns: a flood fills its own line and delays nobody else by more than what runs already.

use std::collections::BTreeSet;

use axum::http::HeaderValue;

use super::*;

fn connection(port: u16) -> Connection {
    Some(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Whose turn has come, without waiting.
fn came(turn: &mut Turn) -> bool {
    let came = turn.receiver.try_recv().is_ok();
    if came {
        // It was taken out; as `come` would, this test gives it back by hand.
        turn.receiver.close();
    }
    came
}

/// As many connections as fill the coordinator, each with all the calls that it may have.
fn flood(admission: &Admission) -> Vec<Turn> {
    let mut turns = Vec::new();
    for port in 1..=(RUNNING_MAX / RUNNING_PER_CONNECTION_MAX) as u16 {
        while let Ok(turn) = admission.enter(connection(port)) {
            turns.push(turn);
        }
    }
    turns
}

#[test]
fn one_connection_fills_its_own_line_and_no_other() {
    let admission = Admission::default();
    let mut turns = Vec::new();
    let refused = loop {
        match admission.enter(connection(1)) {
            Ok(turn) => turns.push(turn),
            Err(status) => break status,
        }
    };
    assert_eq!(
        turns.len(),
        RUNNING_PER_CONNECTION_MAX + WAITING_PER_CONNECTION_MAX
    );
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let retryable = refused.metadata().get(error::RETRYABLE_KEY);
    assert_eq!(retryable.and_then(|it| it.to_str().ok()), Some("true"));
    let running = turns
        .iter_mut()
        .filter_map(|turn| came(turn).then_some(()))
        .count();
    assert_eq!(running, RUNNING_PER_CONNECTION_MAX);
    let mut other = admission.enter(connection(2)).unwrap();
    assert!(came(&mut other), "another connection does not wait at all");
}

/// Without turns it would come after all those that wait already: hundreds.
#[test]
fn in_a_full_coordinator_a_newcomer_comes_within_one_round() {
    let admission = Admission::default();
    let mut flood = flood(&admission);
    let connections = RUNNING_MAX / RUNNING_PER_CONNECTION_MAX;
    let mut newcomer = admission.enter(connection(9_999)).unwrap();
    assert!(!came(&mut newcomer), "every place is taken");
    let mut finished = 0;
    for turn in &mut flood {
        if came(turn) {
            admission.leave(turn.connection);
            finished += 1;
            if came(&mut newcomer) {
                break;
            }
        }
    }
    let waiting = connections * WAITING_PER_CONNECTION_MAX;
    assert!(
        finished <= connections + 1,
        "{finished} calls of {waiting} went before it"
    );
}

#[test]
fn places_of_callers_that_went_away_are_given_on_and_nothing_is_kept_of_them() {
    let admission = Admission::default();
    let mut turns: Vec<Turn> = Vec::new();
    for _ in 0..RUNNING_PER_CONNECTION_MAX + 3 {
        turns.push(admission.enter(connection(1)).unwrap());
    }
    // Two that wait give up, then one whose turn has come and who does not know it yet.
    turns.drain(RUNNING_PER_CONNECTION_MAX..RUNNING_PER_CONNECTION_MAX + 2);
    turns.remove(0);
    assert!(
        came(turns.last_mut().unwrap()),
        "the last one takes its place"
    );
    admission.leave(connection(1));
    turns.pop();
    turns.clear();
    let left = admission.lock();
    assert_eq!((left.running, left.lines.len()), (0, 0));
}

#[tokio::test]
async fn a_place_ends_with_its_call() {
    let admission = Admission::default();
    let place = admission.enter(connection(1)).unwrap().come().await;
    assert_eq!(admission.lock().running, 1);
    drop(place);
    assert_eq!(admission.lock().running, 0);
}

#[test]
fn callers_say_how_long_they_wait() {
    let cases = [
        ("5S", Some(5_000)),
        ("250m", Some(250)),
        ("2M", Some(120_000)),
        ("1H", Some(3_600_000)),
        ("1000u", Some(1)),
        ("5000000n", Some(5)),
        ("", None),
        ("S", None),
        ("5", None),
        ("-1S", None),
        ("5x", None),
    ];
    let mut seen = BTreeSet::new();
    for (text, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT_HEADER, HeaderValue::from_static(text));
        let found = timeout_of(&headers).map(|it| it.as_millis());
        assert_eq!(found, expected, "{text}");
        seen.insert(found);
    }
    assert_eq!(timeout_of(&HeaderMap::new()), None);
}
