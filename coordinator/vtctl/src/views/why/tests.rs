//! Events and what they explain. A line is an event: when (ms), kind, message, and after ` | ` its evidence.

use vt_proto::wire;

use super::*;

fn events(lines: &str) -> Vec<wire::EventView> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let event = |(number, line): (usize, &str)| {
        let (said, evidence) = line.split_once(" | ").unwrap_or((line, ""));
        let mut words = said.splitn(3, ' ');
        let mut next = || words.next().unwrap().to_owned();
        let evidence = evidence.split("; ").filter_map(|item| item.split_once('='));
        let event = wire::AuditEvent {
            time_unix_ms: 1_700_000_000_000 + next().parse::<u64>().unwrap(),
            kind: next(),
            subject: "replica-set/main".to_owned(),
            message: next(),
            evidence: evidence
                .map(|(name, value)| wire::Evidence {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
                .collect(),
        };
        wire::EventView {
            sequence: number as u64 + 40,
            event: Some(event),
        }
    };
    lines.enumerate().map(event).collect()
}

/// In epoch 3, after `a`, `b`, and with `c`.
fn set(phase: wire::phase::Phase, blocked: &str) -> ReplicaSet {
    let finished = |epoch: u64, primary: &str| wire::FinishedEpoch {
        epoch,
        primary: primary.to_owned(),
        kept: String::new(),
    };
    ReplicaSet::from(wire::ReplicaSetView {
        replica_set: Some(wire::ReplicaSet {
            name: "main".to_owned(),
            epoch: 3,
            phase: Some(wire::Phase { phase: Some(phase) }),
            primary: "c".to_owned(),
            history: vec![finished(1, "a"), finished(2, "b")],
            ..wire::ReplicaSet::default()
        }),
        serving: true,
        blocked: blocked.to_owned(),
        ..wire::ReplicaSetView::default()
    })
}

fn stable() -> ReplicaSet {
    set(wire::phase::Phase::Stable(wire::Stable {}), "")
}

const FORMED: &str = "
    0 failover.form a becomes the first primary, of epoch 1 | step=Forming -> Establishing; epoch=1; primary_after=a
    300 failover.open a is open as primary of epoch 1 | establishing_ms=290; epoch=1";
const FAILED_OVER: &str = "
    5000 failover.revoke epoch 1 of a is revoked: its mysqld exited | primary a=exited (life 1); acker b=IO thread is On; epoch=2; primary_before=a; detect_ms=20
    5050 failover.establish b becomes primary of epoch 2 | tablet b=received x:1-9; revoking_ms=40; promise_ms=30; drain_ms=10; epoch=2; primary_before=a; primary_after=b
    5250 failover.open b is open as primary of epoch 2 | establishing_ms=190; epoch=2; primary_before=b; primary_after=b
    9000 acker.added a may acknowledge writes of b";
const TAKEN_BACK: &str = "
    20000 switchover.asked b is to hand over to c | epoch=2; primary_before=b; primary_after=b
    22000 switchover.taken_back c did not receive everything | switching_ms=1990; epoch=2; primary_before=b; primary_after=b";
const SWITCHED: &str = "
    30000 switchover.asked b is to hand over to c | epoch=2; primary_before=b; primary_after=b
    30040 switchover.establish c becomes primary of epoch 3 after b | switching_ms=30; epoch=3; primary_before=b; primary_after=c
    30140 failover.open c is open as primary of epoch 3 | establishing_ms=90; epoch=3";

/// Kind, outcome, epoch, from, to, phases, total, later events.
fn short(change: &Change) -> String {
    let phases = change.phases.iter();
    let phases: Vec<String> = phases.map(|it| format!("{} {}", it.name, it.ms)).collect();
    format!(
        "{} {:?} {:?} {}->{} [{}] {} later {}",
        change.kind,
        change.outcome,
        change.epoch.unwrap_or(0),
        change.from.as_deref().unwrap_or("-"),
        change.to.as_deref().unwrap_or("-"),
        phases.join(", "),
        change.total_ms,
        change.later.len()
    )
}

#[test]
fn events_explain_the_last_change_or_that_of_an_epoch() {
    let whole = [FORMED, FAILED_OVER, TAKEN_BACK, SWITCHED].concat();
    let before = [FORMED, FAILED_OVER, TAKEN_BACK].concat();
    let overtaken = [FORMED, "\n5000 failover.revoke epoch 1 of a is revoked: silent | epoch=2; primary_before=a; detect_ms=1100
        5100 failover.establish b becomes primary of epoch 2 | epoch=2; primary_after=b; promise_ms=80; drain_ms=0
        5200 failover.revoke epoch 2 of b is revoked: exited | epoch=3; primary_before=b; detect_ms=5"].concat();
    let first_of_b = "failover Open 2 a->b [detect 20, promise 30, drain 10, open 190] 270 later";
    let cases: [(&str, Option<u64>, String); 9] = [
        (
            &whole,
            None,
            "switchover Open 3 b->c [switch 30, open 90] 140 later 0".to_owned(),
        ),
        (
            &whole,
            Some(3),
            "switchover Open 3 b->c [switch 30, open 90] 140 later 0".to_owned(),
        ),
        (&whole, Some(2), format!("{first_of_b} 6")),
        (
            &whole,
            Some(1),
            "first primary Open 1 -->a [open 290] 300 later 8".to_owned(),
        ),
        (
            &before,
            None,
            "switchover TakenBack 2 b->b [switch 1990] 2000 later 0".to_owned(),
        ),
        (&before, Some(2), format!("{first_of_b} 3")),
        (
            &overtaken,
            None,
            "failover UnderWay 3 b->c [detect 5] 5 later 0".to_owned(),
        ),
        (
            &overtaken,
            Some(2),
            "failover Overtaken 2 a->b [detect 1100, promise 80, drain 0] 1200 later 0".to_owned(),
        ),
        // As versions before wrote them.
        (
            "0 failover.revoke epoch 2 of b is revoked: exited | primary b=exited
             50 failover.establish c becomes primary of epoch 3 from x:1-9 | revoking_ms=40
             90 failover.open c is open as primary of epoch 3 | establishing_ms=30",
            None,
            "failover Open 3 b->c [revoke 40, open 30] 90 later 0".to_owned(),
        ),
    ];
    for (lines, epoch, expected) in cases {
        let why = explain(&stable(), &events(lines), 1, epoch);
        assert_eq!(why.note, None, "{lines}");
        assert_eq!(short(why.change.as_ref().unwrap()), expected, "{lines}");
    }
}

#[test]
fn what_is_not_known_is_said() {
    let cut = "90 failover.open b is open as primary of epoch 2 | establishing_ms=30; epoch=2";
    let cases: [(&str, u64, Option<u64>, &str); 6] = [
        ("", 1, None, "the primary was never changed"),
        (
            "",
            7,
            None,
            "how it came about is forgotten: the log keeps the newest events, from number 7 on",
        ),
        ("", 7, Some(2), "what happened in epoch 2 is forgotten"),
        ("", 7, Some(2), "its primary was b"),
        ("", 1, Some(2), "no event tells of epoch 2"),
        (cut, 40, None, "how it began is forgotten"),
    ];
    for (lines, oldest, epoch, words) in cases {
        let why = explain(&stable(), &events(lines), oldest, epoch);
        let note = why.note.clone().unwrap();
        assert!(note.contains(words), "{note}");
        assert!(why.text().contains(words), "{}", why.text());
    }
}

#[test]
fn texts_say_what_was_seen_decided_and_who_waits() {
    let revoking = wire::phase::Phase::Revoking(wire::Revoking {
        previous: "b".to_owned(),
        reason: "silent".to_owned(),
    });
    let set = set(revoking, "waiting for a");
    let lines = [FORMED, FAILED_OVER].concat();
    let text = explain(&set, &events(&lines), 1, None).text();
    for words in [
        "main: epoch 3, revoking, primary c",
        "failover, epoch 2 from a to b: open after 270 ms",
        "epoch 1 of a is revoked: its mysqld exited",
        "\n  primary a: exited (life 1)\n  acker b: IO thread is On\n  tablet b: received x:1-9",
        "how long",
        "promise  30 ms",
        "rest     20 ms",
        "+50 ms    failover.establish: b becomes primary of epoch 2",
        "since then\n",
        "acker.added: a may acknowledge writes of b",
        "now\n  replica set main: waiting for a",
    ] {
        assert!(text.contains(words), "{words}\nin\n{text}");
    }
    let whole = explain(&stable(), &events(FORMED), 1, None).text();
    assert!(whole.ends_with("nobody waits for anything"), "{whole}");
}

#[test]
fn keys_are_stable() {
    let why = explain(&stable(), &events(FAILED_OVER), 1, None);
    let json = serde_json::to_value(why).unwrap();
    assert_eq!(json["change"]["outcome"], "open");
    assert_eq!(json["change"]["phases"][0]["name"], "detect");
    assert_eq!(json["change"]["decided"][0]["kind"], "failover.revoke");
    assert_eq!(json["note"], serde_json::Value::Null);
}
