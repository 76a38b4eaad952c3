//! Answers as data: each is built, cut at every place, and must end where it ends.

use super::*;
use crate::packet::put_packet;
use crate::response::put_rows_end;
use proptest::prelude::*;

const OLD: Capabilities = Capabilities::PROTOCOL_41;
const NEW: Capabilities = Capabilities::PROTOCOL_41
    .with(Capabilities::DEPRECATE_EOF)
    .with(Capabilities::SESSION_TRACK);

/// Builds an answer packet by packet.
#[derive(Default)]
struct Wire(Vec<u8>, u8);

impl Wire {
    fn packet(mut self, payload: &[u8]) -> Self {
        self.1 = put_packet(&mut self.0, self.1.wrapping_add(1), payload).wrapping_sub(1);
        self
    }

    fn ok(self, status: ServerStatus, capabilities: Capabilities) -> Self {
        let mut payload = Vec::new();
        OkPacket {
            affected_rows: 3,
            last_insert_id: 7,
            status,
            warnings: 2,
            ..OkPacket::default()
        }
        .put(&mut payload, OK_BYTE, capabilities);
        self.packet(&payload)
    }

    fn err(self) -> Self {
        self.packet(b"\xff\x0a\x05#HY000no")
    }

    fn eof(self, status: ServerStatus) -> Self {
        let mut payload = Vec::new();
        EofPacket {
            warnings: 0,
            status,
        }
        .put(&mut payload);
        self.packet(&payload)
    }

    fn rows_end(self, status: ServerStatus, capabilities: Capabilities) -> Self {
        let mut payload = Vec::new();
        put_rows_end(&mut payload, status, 0, capabilities);
        self.packet(&payload)
    }

    fn rows(mut self, count: usize, status: ServerStatus, capabilities: Capabilities) -> Self {
        self = self
            .packet(&[2])
            .packet(b"\x03def-one")
            .packet(b"\x03def-two");
        if !capabilities.contains(Capabilities::DEPRECATE_EOF) {
            self = self.eof(status.without(ServerStatus::MORE_RESULTS));
        }
        for _ in 0..count {
            self = self
                .packet(b"\x01a\x00")
                .packet(b"\x00\x00binary")
                .packet(b"\xfb\xfb");
        }
        self.rows_end(status, capabilities)
    }
}

/// Feeds `wire` in pieces of `piece` bytes; returns the events' names and where the answer ended.
fn scan(
    answer: Answer,
    capabilities: Capabilities,
    wire: &[u8],
    piece: usize,
) -> (String, usize, Summary) {
    let mut scanner = ResponseScanner::new(answer, capabilities);
    let (mut events, mut start, mut end) = (String::new(), 0, 0);
    loop {
        let step = scanner.feed(&wire[start..end]).unwrap();
        start += step.consumed;
        match step.event {
            Some(Event::Ok {
                ends_rows: true, ..
            }) => events.push_str("ok-rows "),
            Some(Event::Ok { .. }) => events.push_str("ok "),
            Some(Event::Eof(_)) => events.push_str("eof "),
            Some(Event::Err(_)) => events.push_str("err "),
            Some(Event::Prepared(_)) => events.push_str("prepared "),
            Some(Event::LocalInfile) => events.push_str("infile "),
            None => {}
        }
        if step.done {
            return (events, start, *scanner.summary());
        }
        if step.event.is_none() {
            assert!(end < wire.len(), "not at its end after {events}");
            end = (end + piece).min(wire.len());
        }
    }
}

#[track_caller]
fn check(answer: Answer, capabilities: Capabilities, wire: Wire, expected: &str) -> Summary {
    let mut with_more = wire.0.clone();
    with_more.extend_from_slice(b"\x01\x00\x00\x00\x00 next answer");
    let mut last = None;
    for piece in [1, 2, 3, 5, 7, 64, 1 << 20] {
        let (events, end, summary) = scan(answer, capabilities, &with_more, piece);
        assert_eq!(
            (events.trim_end(), end),
            (expected, wire.0.len()),
            "in pieces of {piece}"
        );
        last = Some(summary);
    }
    last.unwrap()
}

#[test]
fn single_answers() {
    let none = ServerStatus::default();
    let summary = check(
        Answer::Single,
        NEW,
        Wire::default().ok(ServerStatus::IN_TRANSACTION, NEW),
        "ok",
    );
    assert!(summary.status.contains(ServerStatus::IN_TRANSACTION));
    assert_eq!(
        (
            summary.affected_rows,
            summary.last_insert_id,
            summary.warnings
        ),
        (3, 7, 2)
    );
    assert_eq!(
        check(Answer::Single, OLD, Wire::default().err(), "err").error,
        Some(1290)
    );
    check(Answer::Single, OLD, Wire::default().eof(none), "eof");
    check(
        Answer::Single,
        NEW,
        Wire::default().rows_end(none, NEW),
        "ok",
    );
    check(Answer::Text, OLD, Wire::default().packet(b"Uptime: 4"), "");
    check(
        Answer::Rows,
        OLD,
        Wire::default().packet(b"\x03def").rows_end(none, OLD),
        "eof",
    );
}

#[test]
fn results_of_queries() {
    let none = ServerStatus::default();
    for (capabilities, end) in [(OLD, "eof"), (NEW, "ok-rows")] {
        for rows in [0, 1, 50] {
            let summary = check(
                Answer::Results,
                capabilities,
                Wire::default().rows(rows, none, capabilities),
                end,
            );
            assert!(summary.has_rows);
        }
        check(
            Answer::Results,
            capabilities,
            Wire::default().ok(none, capabilities),
            "ok",
        );
        check(Answer::Results, capabilities, Wire::default().err(), "err");
    }
}

#[test]
fn several_results() {
    let more = ServerStatus::MORE_RESULTS;
    let none = ServerStatus::default();
    for (capabilities, expected) in [(OLD, "eof ok eof ok"), (NEW, "ok-rows ok ok-rows ok")] {
        let wire = Wire::default()
            .rows(2, more, capabilities)
            .ok(more, capabilities)
            .rows(0, more, capabilities)
            .ok(none, capabilities);
        assert_eq!(
            check(Answer::Results, capabilities, wire, expected).results,
            4
        );
    }
    check(
        Answer::Results,
        NEW,
        Wire::default().ok(more, NEW).err(),
        "ok err",
    );
}

/// Behind the OUT parameters of a CALL old clients get an EOF without the flag that the OK follows.
#[test]
fn out_parameters_are_not_the_end() {
    let flags = ServerStatus::PS_OUT_PARAMS.with(ServerStatus::MORE_RESULTS);
    let none = ServerStatus::default();
    let wire = Wire::default()
        .packet(&[1])
        .packet(b"\x03def-one")
        .eof(flags)
        .packet(b"\x00\x00binary")
        .eof(none)
        .ok(none, OLD);
    assert_eq!(check(Answer::Results, OLD, wire, "eof ok").results, 2);
    let wire = Wire::default().rows(1, flags, NEW).ok(none, NEW);
    assert_eq!(check(Answer::Results, NEW, wire, "ok-rows ok").results, 2);
}

#[test]
fn an_error_in_the_middle_of_rows_ends_all() {
    let wire = Wire::default()
        .packet(&[1])
        .packet(b"\x03def")
        .packet(b"\x01a")
        .err();
    assert_eq!(check(Answer::Results, NEW, wire, "err").error, Some(1290));
}

#[test]
fn an_answer_that_breaks_off_tells_where() {
    let wire = Wire::default()
        .packet(&[1])
        .packet(b"\x03def")
        .packet(b"\x01a")
        .0;
    let mut scanner = ResponseScanner::new(Answer::Results, NEW);
    scanner.feed(&wire[..wire.len() - 1]).unwrap();
    assert_eq!(scanner.boundary(), None);
    scanner.feed(&wire[wire.len() - 1..]).unwrap();
    assert_eq!(scanner.boundary(), Some(4));
}

#[test]
fn a_cursor_has_no_rows_yet() {
    let cursor = ServerStatus::CURSOR_EXISTS;
    check(
        Answer::Results,
        OLD,
        Wire::default().packet(&[1]).packet(b"\x03def").eof(cursor),
        "eof",
    );
    check(
        Answer::Results,
        NEW,
        Wire::default()
            .packet(&[1])
            .packet(b"\x03def")
            .rows_end(cursor, NEW),
        "ok-rows",
    );
}

#[test]
fn a_row_of_16_mib_that_begins_like_an_end() {
    let mut row = vec![0xFE, 0, 0, 0, 1, 0, 0, 0, 0];
    row.resize(PAYLOAD_LENGTH_MAX + 10, 0xFE);
    let exact = vec![0xFE; PAYLOAD_LENGTH_MAX];
    for (capabilities, end) in [(OLD, "eof"), (NEW, "ok-rows")] {
        let mut wire = Wire::default().packet(&[1]).packet(b"\x03def");
        if capabilities == OLD {
            wire = wire.eof(ServerStatus::default());
        }
        wire = wire
            .packet(&row)
            .packet(&exact)
            .rows_end(ServerStatus::default(), capabilities);
        for piece in [1000, 65_536, 1 << 26] {
            let (events, at, _) = scan(Answer::Results, capabilities, &wire.0, piece);
            assert_eq!((events.trim_end(), at), (end, wire.0.len()));
        }
    }
}

#[test]
fn prepare_with_parameters_and_columns() {
    for (parameters, columns) in [(0u16, 0u16), (2, 0), (0, 1), (2, 3)] {
        for capabilities in [OLD, NEW] {
            let mut payload = Vec::new();
            PrepareOk {
                statement_id: 1,
                columns,
                parameters,
                warnings: 0,
            }
            .put(&mut payload);
            let mut wire = Wire::default().packet(&payload);
            for count in [parameters, columns] {
                for _ in 0..count {
                    wire = wire.packet(b"\x03def");
                }
                if count > 0 && capabilities == OLD {
                    wire = wire.eof(ServerStatus::default());
                }
            }
            check(Answer::Prepare, capabilities, wire, "prepared");
        }
    }
    check(Answer::Prepare, NEW, Wire::default().err(), "err");
}

#[test]
fn local_infile_is_told() {
    let mut scanner = ResponseScanner::new(Answer::Results, NEW);
    let wire = Wire::default().packet(b"\xfb/etc/passwd").0;
    let step = scanner.feed(&wire).unwrap();
    assert_eq!((step.event, step.done), (Some(Event::LocalInfile), false));
    scanner.go_on_at(4);
    assert_eq!(scanner.boundary(), Some(4));
    let wire = Wire::default().ok(ServerStatus::default(), NEW).0;
    assert!(scanner.feed(&wire).unwrap().done);
}

proptest! {
    #[test]
    fn never_panics_and_never_overruns(
        bytes in proptest::collection::vec(any::<u8>(), 0..256), kind in 0usize..5, new: bool,
    ) {
        let answer = [Answer::Single, Answer::Results, Answer::Prepare, Answer::Rows, Answer::Text][kind];
        let mut scanner = ResponseScanner::new(answer, if new { NEW } else { OLD });
        let mut rest = &bytes[..];
        while let Ok(step) = scanner.feed(rest) {
            prop_assert!(step.consumed <= rest.len());
            rest = &rest[step.consumed..];
            if step.done || step.event.is_none() {
                break;
            }
        }
    }
}
