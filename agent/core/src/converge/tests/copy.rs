//! A replica whose data only a copy can make right again.

use super::{
    stuck::no_acker,
    table::{
        Expect::{Do, Rest},
        check_all,
    },
    *,
};

fn begins(reason: &str) -> Record {
    Record::CloneBegins {
        reason: reason.to_owned(),
    }
}

fn written_here() -> String {
    format!("written here and kept nowhere: {}", set("A:11"))
}

fn refused(h: &mut Host) {
    h.channel().io = ThreadState::Off;
    h.channel().io_error = Some((13_114, "purged".into()));
    h.memory.io_fatal_since_ms = Some(h.now_ms - 10_000);
}

/// What it acknowledged may be nowhere else; and where its acknowledgement is missing, commits wait for it, and the copy for them.
#[test]
fn an_acker_is_not_copied() {
    check_all(vec![
        (
            "refused for good",
            Host::replica,
            refused,
            Do(Action::StartIoThread),
        ),
        (
            "written here",
            Host::replica,
            |h| h.server().executed = set("A:1-11,B:1-5"),
            Rest,
        ),
    ]);
}

#[test]
fn a_copy_is_written_down_before_anything_is_replaced() {
    check_all(vec![
        (
            "refused for good",
            Host::replica,
            |h| {
                no_acker(h);
                refused(h);
            },
            Do(Action::Persist(begins(
                "the source refuses this tablet: purged (error 13114)",
            ))),
        ),
        (
            "written here",
            Host::replica,
            |h| {
                no_acker(h);
                h.server().executed = set("A:1-11,B:1-5");
                h.channel().io = ThreadState::Off;
            },
            Do(Action::Persist(begins(&written_here()))),
        ),
        (
            "a copy that broke off took the old data along, and what was wrong with them",
            Host::replica,
            |h| {
                h.persisted.apply(&begins(&written_here()));
                h.server().executed = set("A:1-3");
                h.channel().io = ThreadState::Off;
            },
            Do(Action::Clone {
                donor: endpoint(2),
                may_lose: GtidSet::new(),
                followed: Some(OTHER.into()),
            }),
        ),
        (
            "written here, and the copy has begun",
            Host::replica,
            |h| {
                h.persisted.apply(&begins(&written_here()));
                h.server().executed = set("A:1-11,B:1-5");
                h.channel().io = ThreadState::Off;
            },
            Do(Action::Clone {
                donor: endpoint(2),
                may_lose: set("A:11"),
                followed: Some(OTHER.into()),
            }),
        ),
    ]);
}
