//! Histories that are linearizable and histories that are not, as data.

use super::*;

/// One operation by line: `client called-answered what`, where what is one of
/// `get x = a@3`, `get x y = a@3 -`, `put x 0 a = 3` (expected 0, written at 3), `del x 3 = 4`, `put x 0 a, y 0 b = 3`,
/// `put x 0 a ! x 2` (conflict, x is at 2), `put x 0 a refused`; the end `-?` means that no answer came.
fn history(text: &str) -> History {
    let mut history = History::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (client, rest) = line.split_once(' ').expect("a client");
        let (times, what) = rest.split_once(' ').expect("times");
        let (called, answered) = times.split_once('-').expect("called-answered");
        let (call, answer) = operation(what);
        let id = history.call(
            client.parse().expect("a client's number"),
            called.parse().expect("a time"),
            call,
        );
        if answered != "?" {
            history.answer(id, answered.parse().expect("a time"), answer);
        }
    }
    history
}

fn operation(what: &str) -> (Call, Answer) {
    if let Some(rest) = what.strip_prefix("get ") {
        let (records, found) = rest.split_once(" = ").expect("what was found");
        let found = found.split(' ').map(|found| {
            let (value, revision) = found.split_once('@')?;
            Some((revision.parse().expect("a revision"), value.to_owned()))
        });
        let records = records.split(' ').map(str::to_owned).collect();
        return (
            Call::Read { records },
            Answer::Read {
                found: found.collect(),
            },
        );
    }
    let (changes, answer) = if let Some((changes, at)) = what.split_once(" = ") {
        let revision = at.parse().expect("a revision");
        (changes, Answer::Written { revision })
    } else if let Some((changes, conflict)) = what.split_once(" ! ") {
        let (record, found) = conflict.split_once(' ').expect("a record and a revision");
        let (record, found) = (record.to_owned(), found.parse().expect("a revision"));
        (changes, Answer::Conflict { record, found })
    } else if let Some(changes) = what.strip_suffix(" refused") {
        (changes, Answer::Refused)
    } else {
        (what, Answer::Unknown)
    };
    let deletes = changes.starts_with("del ");
    let changes = changes[4..].split(", ").map(|change| {
        let words: Vec<&str> = change.split(' ').collect();
        Change {
            record: words[0].to_owned(),
            expected: words[1].parse().expect("a revision"),
            value: (!deletes).then(|| words[2].to_owned()),
        }
    });
    let changes = changes.collect();
    (Call::Write { changes }, answer)
}

#[test]
fn linearizable_histories_are_accepted() {
    for (what, text) in [
        ("nothing", ""),
        (
            "one after the other",
            "1 0-1 put x 0 a = 3\n 1 2-3 get x = a@3\n 1 4-5 put x 3 b = 4\n 2 6-7 get x = b@4",
        ),
        (
            "a read beside a write may see it or not",
            "1 0-9 put x 0 a = 3\n 2 1-2 get x = -\n 3 3-4 get x = a@3\n 2 5-6 get x = a@3",
        ),
        (
            "of two writes at once one wins",
            "1 0-9 put x 0 a = 3\n 2 0-9 put x 0 b ! x 3\n 3 10-11 get x = a@3",
        ),
        (
            "a write without an answer never happened",
            "1 0-? put x 0 a\n 2 5-6 get x = -\n 2 7-8 put x 0 b = 9\n 2 9-10 get x = b@9",
        ),
        (
            "a write without an answer happened late",
            "1 0-? put x 0 a\n 2 5-6 get x = -\n 2 7-8 get x = a@4\n 2 9-10 put x 4 b = 5",
        ),
        (
            "two writes without answers, one upon the other's revision",
            "1 0-? put x 0 a\n 2 5-? put x 4 b\n 3 9-10 get x = b@7\n 3 11-12 put x 0 c ! x 7",
        ),
        (
            "a conflict tells the revision of a write without an answer",
            "1 0-? put x 0 a\n 2 5-6 put x 0 b ! x 4\n 2 7-8 get x = a@4",
        ),
        (
            "deleted and made again",
            "1 0-1 put x 0 a = 3\n 1 2-3 del x 3 = 4\n 2 4-5 get x = -\n 2 6-7 put x 0 b = 5\n 3 8-9 get x = b@5",
        ),
        (
            "a batch is seen whole",
            "1 0-9 put x 0 a, y 0 b = 3\n 2 1-2 get x y = - -\n 2 3-4 get x y = a@3 b@3",
        ),
        (
            "reads of different records are not tied to each other's times",
            "1 0-9 put x 0 a = 3\n 1 0-9 put y 0 b = 4\n 2 1-2 get y = b@4\n 2 3-4 get x = -",
        ),
        (
            "what was refused did nothing",
            "1 0-1 put x 0 a refused\n 1 2-3 get x = -",
        ),
    ] {
        assert_eq!(check(&history(text)), Ok(()), "{what}");
    }
}

#[test]
fn histories_that_no_order_explains_are_found() {
    for (what, text) in [
        (
            "stale read",
            "1 0-1 put x 0 a = 3\n 1 2-3 put x 3 b = 4\n 2 4-5 get x = a@3",
        ),
        (
            "two reads see a write and then not",
            "1 0-9 put x 0 a = 3\n 2 1-2 get x = a@3\n 3 3-4 get x = -",
        ),
        ("lost write", "1 0-1 put x 0 a = 3\n 2 2-3 get x = -"),
        (
            "lost update: two writes upon one revision",
            "1 0-9 put x 0 a = 3\n 2 0-9 put x 0 b = 4",
        ),
        (
            "applied twice: a revision moved without a write",
            "1 0-1 put x 0 a = 3\n 2 2-3 get x = a@3\n 3 4-5 get x = a@6",
        ),
        (
            "an unanswered write happens once",
            "1 0-? put x 0 a\n 2 1-2 get x = a@3\n 2 3-4 get x = a@5",
        ),
        (
            "an unanswered write happens not before its call",
            "2 0-1 get x = a@3\n 1 5-? put x 0 a",
        ),
        (
            "an unanswered write does not come back",
            "1 0-? put x 0 a\n 2 1-2 get x = a@3\n 2 3-4 put x 3 b = 5\n 2 5-6 get x = a@7",
        ),
        (
            "a value from nowhere",
            "1 0-1 put x 0 a = 3\n 2 2-3 get x = z@3",
        ),
        (
            "a revision from nowhere",
            "1 0-1 put x 0 a = 3\n 2 2-3 get x = a@4",
        ),
        (
            "reordered: revisions against the order of time",
            "1 0-1 put x 0 a = 9\n 1 2-3 put x 9 b = 4",
        ),
        (
            "a conflict where there was none",
            "1 0-1 put x 0 a = 3\n 2 2-3 put x 3 b ! x 0",
        ),
        (
            "a conflict that saw the future",
            "1 0-1 put x 0 a ! x 5\n 2 2-3 put x 0 b = 5",
        ),
        (
            "half a batch",
            "1 0-? put x 0 a, y 0 b\n 2 1-2 get x = a@3\n 2 3-4 get y = -",
        ),
        (
            "a batch seen in halves at one moment",
            "1 0-9 put x 0 a, y 0 b = 3\n 2 1-2 get x y = a@3 -",
        ),
        (
            "a delete that is undone",
            "1 0-1 put x 0 a = 3\n 1 2-3 del x 3 = 4\n 2 4-5 get x = a@3",
        ),
    ] {
        match check(&history(text)) {
            Err(Failure::NotLinearizable(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn an_explanation_names_the_answer_that_made_it_impossible() {
    let mut text = String::from("1 0-1 put x 0 v0 = 10\n");
    for round in 1..50 {
        let (at, before) = (round * 10, round + 9);
        text += &format!(
            "1 {at}-{} put x {before} v{round} = {}\n",
            at + 5,
            before + 1
        );
    }
    text += "2 305-306 get x = v7@17\n 2 600-601 get x = v49@59";
    let Err(failure) = check(&history(&text)) else {
        panic!("a stale read was accepted");
    };
    let told = failure.to_string();
    let first = "explains the answer of\n    client 2 [305 .. 306] reads x -> v7 at 17";
    assert!(told.contains(first), "{told}");
    assert!(
        !told.contains("v45"),
        "what came much later does not matter: {told}"
    );
    assert!(told.lines().count() < 40, "{told}");
}

#[test]
fn a_search_that_is_given_up_is_a_failure() {
    // Many writes at once, all upon the same state, in no order that the answers tell.
    let mut text = String::new();
    for client in 0..12 {
        text += &format!("{client} 0-? put x{client} 0 a, y 0 b\n");
    }
    text += "99 50-60 get y = z@9\n";
    let outcome = check_within(&history(&text), 5);
    assert!(matches!(outcome, Err(Failure::Undecided(_))), "{outcome:?}");
    let outcome = check(&history(&text));
    assert!(
        matches!(outcome, Err(Failure::NotLinearizable(_))),
        "{outcome:?}"
    );
}

#[test]
fn long_histories_with_many_lost_answers_are_decided() {
    // Four clients on one record for a long time; every fifth answer is lost.
    let (mut history, mut revision, mut at) = (History::default(), 0, 0);
    for round in 0..5_000u64 {
        let write = |expected: u64| Call::Write {
            changes: vec![Change {
                record: "x".to_owned(),
                expected,
                value: Some(format!("v{round}")),
            }],
        };
        at += 10;
        let id = history.call(round % 4, at, write(revision));
        let late = history.call(round % 4 + 4, at + 1, write(revision));
        revision = round + 1;
        if round % 5 != 0 {
            history.answer(id, at + 12, Answer::Written { revision });
            let record = "x".to_owned();
            let found = revision;
            history.answer(late, at + 15, Answer::Conflict { record, found });
        } else {
            let records = vec!["x".to_owned()];
            let read = history.call(9, at + 16, Call::Read { records });
            let found = vec![Some((revision, format!("v{round}")))];
            history.answer(read, at + 19, Answer::Read { found });
        }
    }
    assert_eq!(check(&history), Ok(()));
}

#[test]
fn writes_without_answers_that_are_alike_are_counted_not_tried_in_every_order() {
    // Forty attempts to make x, none answered; again and again it is found there, deleted, and found there once more.
    let mut text = String::new();
    for client in 0..40 {
        text += &format!("{client} {client}-? put x 0 v{client}\n");
    }
    let mut at = 100;
    for round in 0..15 {
        let revision = 10 * (round + 1);
        text += &format!("50 {at}-{} put x 0 w{round} ! x {revision}\n", at + 1);
        text += &format!("51 {}-? del x {revision}\n", at + 2);
        text += &format!("50 {}-{} get x = -\n", at + 3, at + 4);
        at += 10;
    }
    assert_eq!(check(&history(&text)), Ok(()));
    text += &format!("50 {at}-{} get x = v99@900\n", at + 1);
    let outcome = check(&history(&text));
    assert!(
        matches!(outcome, Err(Failure::NotLinearizable(_))),
        "{outcome:?}"
    );
}
