//! Turns: a flood fills its own line and delays nobody else by more than what runs already.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Router, http::HeaderValue, middleware::from_fn_with_state};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::codegen::Service as _;

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
    for (text, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT_HEADER, HeaderValue::from_static(text));
        let found = timeout_of(&headers).map(|it| it.as_millis());
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(timeout_of(&HeaderMap::new()), None);
}

/// One call of a method over a connection, through the step before the services.
async fn call(router: &Router, method: &str, port: u16) -> Response<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("/vitrail.v1.{method}").parse().unwrap();
    request.extensions_mut().insert(TcpConnectInfo {
        local_addr: None,
        remote_addr: connection(port),
    });
    router.clone().call(request).await.unwrap()
}

/// Services that answer nothing before they are told to.
#[tokio::test]
async fn a_flood_of_one_connection_is_refused_and_others_get_through() {
    let (began, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (count, told) = (began.clone(), answer.clone());
    let service = move || {
        let (count, told) = (count.clone(), told.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            told.acquire().await.unwrap().forget();
        }
    };
    let admitted = from_fn_with_state(Admission::default(), admit);
    let router = Router::new().fallback(service).layer(admitted);

    let most = RUNNING_PER_CONNECTION_MAX + WAITING_PER_CONNECTION_MAX;
    let mut flood = JoinSet::new();
    for _ in 0..most + 10 {
        let router = router.clone();
        flood.spawn(async move { call(&router, "Records/Write", 1).await });
    }
    for _ in 0..10 {
        let refused = flood.join_next().await.unwrap().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
        assert_eq!(refused.headers()[error::RETRYABLE_KEY], "true");
    }
    assert_eq!(began.load(Ordering::SeqCst), RUNNING_PER_CONNECTION_MAX);
    // Another client, a router and an agent stand behind nobody, even of the same address.
    for (method, port) in [
        ("Admin/ListTablets", 2),
        ("Routing/Watch", 1),
        ("AgentUplink/Attach", 1),
    ] {
        let before = began.load(Ordering::SeqCst);
        let router = router.clone();
        flood.spawn(async move { call(&router, method, port).await });
        while began.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }
    answer.add_permits(most + 3);
    let mut answered = 0;
    while let Some(response) = flood.join_next().await {
        assert!(!response.unwrap().headers().contains_key("grpc-status"));
        answered += 1;
    }
    assert_eq!(answered, most + 3, "everybody who waited had a turn");
}
