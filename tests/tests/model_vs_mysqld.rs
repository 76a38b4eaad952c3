//! One script of steps on the simulator's model of mysqld and on real ones: both must look alike after every step. Each difference is
//! something that the simulator gets wrong, and what is proven with it does not hold.

use std::time::Instant;

use vt_agent_core::Action;
use vt_proto::gtid::GtidSet;
use vt_tests::sim::script::{Models, Step, alias, endpoint};

use self::reals::Reals;

#[path = "model_vs_mysqld/line.rs"]
mod line;
#[path = "model_vs_mysqld/reals.rs"]
mod reals;

const SERVERS: usize = 3;

fn act(server: usize, action: Action) -> Step {
    Step::Do(server, action)
}

/// A replica of `source`, from nothing.
fn follow(server: usize, source: usize, acknowledges: bool) -> [Step; 4] {
    let source = endpoint(source);
    [
        act(server, Action::ConfigureChannel { source }),
        act(
            server,
            Action::SetReplicaSemiSync {
                enabled: acknowledges,
            },
        ),
        act(server, Action::StartIoThread),
        act(server, Action::StartSqlThread),
    ]
}

fn open(server: usize, acks: u32) -> [Step; 3] {
    [
        act(server, Action::EnableSourceSemiSync { acks }),
        act(server, Action::OpenForAgent),
        act(server, Action::OpenForAll),
    ]
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn stop(server: usize) -> Step {
    act(server, Action::StopIoThread)
}

fn start(server: usize) -> Step {
    act(server, Action::StartIoThread)
}

fn apply(server: usize) -> Step {
    act(server, Action::StartSqlThread)
}

fn repoint(server: usize, source: usize) -> Step {
    let source = endpoint(source);
    act(server, Action::RepointChannel { source })
}

fn change(server: usize, source: usize) -> Step {
    let source = endpoint(source);
    act(server, Action::ConfigureChannel { source })
}

fn acknowledge(server: usize, enabled: bool) -> Step {
    act(server, Action::SetReplicaSemiSync { enabled })
}

fn semi_sync(server: usize, acks: u32) -> Step {
    act(server, Action::EnableSourceSemiSync { acks })
}

fn settle(server: usize, open: &[usize]) -> Step {
    let open = open.iter().map(|it| alias(*it)).collect();
    act(server, Action::SettleAccounts { open })
}

/// A is primary and B and C acknowledge; then whatever the failover rests on, each time back to that.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend([settle(A, &[B, C]), settle(B, &[A, C]), settle(C, &[A, B])]);
    steps.extend(open(A, 1));
    steps.extend(follow(B, A, true));
    steps.extend(follow(C, A, true));
    steps.extend([Step::Write(A), Step::Write(A), Step::Write(A)]);
    steps.extend(moves());
    steps.extend(acknowledgements());
    steps.extend(breaks());
    steps.extend(ends());
    steps
}

/// What becomes of a relay log and of the name of the source when a replica is moved.
fn moves() -> Vec<Step> {
    let mut steps = Vec::new();
    // Received and not applied, then a move with the applier running, which keeps it.
    steps.extend([Step::StopApplier(B), Step::Write(A), Step::Write(A)]);
    steps.extend([repoint(B, C), stop(B), apply(B), repoint(B, C), start(B)]);
    // To where it is: the connection is the same, and so is its server.
    steps.extend([stop(B), repoint(B, C), repoint(B, A), start(B)]);
    // With both threads stopped it loses what was not applied.
    steps.extend([Step::StopApplier(B), Step::Write(A), stop(B)]);
    steps.extend([repoint(B, C), repoint(B, A), start(B), apply(B)]);
    // A change of everything wants both threads stopped, and loses it too.
    steps.extend([Step::StopApplier(B), Step::Write(A), change(B, A)]);
    steps.extend([stop(B), apply(B), change(B, A), Step::StopApplier(B)]);
    steps.extend([start(B), Step::Write(A), stop(B), change(B, A)]);
    steps.extend([start(B), apply(B)]);
    steps
}

/// Who acknowledges what, and who waits for it.
fn acknowledgements() -> Vec<Step> {
    let mut steps = Vec::new();
    // Nobody acknowledges: the commit waits, nobody sees it, and whoever wants to close waits too; one acker releases it.
    steps.extend([stop(B), stop(C), Step::Write(A)]);
    steps.extend([act(A, Action::CloseServer), start(C), start(B)]);
    // Received before it acknowledges: it never says so, until something later is acknowledged.
    steps.extend([stop(C), stop(B), acknowledge(B, false), start(B)]);
    steps.extend([Step::Write(A), stop(B), acknowledge(B, true), start(B)]);
    steps.push(Step::Write(A));
    // The setting takes effect when the thread starts.
    steps.extend([acknowledge(B, false), Step::Write(A), acknowledge(B, true)]);
    // Two acknowledgements, one acker, then the second; fewer and more count also for what waits already.
    steps.extend([semi_sync(A, 2), Step::Write(A), start(C)]);
    steps.extend([stop(C), Step::Write(A), semi_sync(A, 1), stop(B)]);
    steps.extend([Step::Write(A), semi_sync(A, 2), start(B), start(C)]);
    steps.push(semi_sync(A, 1));
    // Semi-sync on before the drain: the applier waits for ackers of its own.
    steps.extend([Step::StopApplier(C), Step::Write(A), stop(C)]);
    steps.extend([semi_sync(C, 1), apply(C)]);
    steps.extend([act(C, Action::DisableSourceSemiSync), start(C)]);
    // Locked out, and let in again.
    let tablets = vec![alias(B)];
    steps.extend([act(A, Action::LockOut { tablets }), stop(C)]);
    steps.extend([Step::Write(A), settle(A, &[B]), start(C)]);
    // Applications are cut off, replicas are not.
    steps.extend([act(A, Action::CutSessions), Step::Write(A)]);
    steps.push(act(A, Action::RestoreSessions));
    // Switched off, semi-sync lets what waits go.
    steps.extend([stop(B), stop(C), Step::Write(A)]);
    steps.extend([act(A, Action::DisableSourceSemiSync), semi_sync(A, 1)]);
    steps.extend([start(B), start(C), Step::Write(A)]);
    steps
}

/// What hangs, breaks and dies.
fn breaks() -> Vec<Step> {
    let mut steps = Vec::new();
    // A source that hangs, and wakes.
    steps.extend([Step::Freeze(A), Step::Thaw(A), Step::Write(A)]);
    // A connection that ends in the middle of a transaction, which is not received: not by a source that comes again either.
    steps.extend([stop(C), Step::WriteHalf(A, B), Step::Kill(A)]);
    steps.push(Step::Start(A));
    steps.extend(open(A, 1));
    steps.extend([Step::Mend(A, B), Step::Write(A), start(C)]);
    // A kill with a tail that nobody has: the next start commits it, and whoever comes gets it.
    steps.extend([stop(B), stop(C), Step::Write(A), Step::Kill(A)]);
    steps.extend([Step::Start(A), start(B), Step::Write(A), start(C)]);
    steps.extend(open(A, 1));
    // A replica that is killed with a backlog keeps it, and knows whom it has reached.
    steps.extend([Step::StopApplier(B), Step::Write(A), Step::Kill(B)]);
    steps.extend([Step::Start(B), apply(B), acknowledge(B, true), start(B)]);
    steps.push(Step::Write(A));
    steps
}

/// What is lost with a host, cut, copied and forgotten.
fn ends() -> Vec<Step> {
    let mut steps = Vec::new();
    // Without power it loses a backlog that was not on disk.
    steps.extend([Step::StopApplier(B), Step::Write(A), Step::Write(A)]);
    steps.extend([Step::LosePower(B), Step::Start(B), apply(B)]);
    steps.extend([acknowledge(B, true), start(B), Step::Write(A)]);
    // A tail that nobody has, and that is cut before the next start.
    steps.extend([stop(B), stop(C), Step::Write(A), Step::Kill(A)]);
    steps.extend([Step::CutTail(A, B), Step::Start(A)]);
    steps.extend(open(A, 1));
    steps.extend([start(B), start(C), Step::Write(A)]);
    // A copy has the donor's channel and none of its relay log.
    let copy = |donor| {
        let action = Action::Clone {
            donor: endpoint(donor),
            may_lose: GtidSet::new(),
            followed: None,
        };
        act(C, action)
    };
    steps.extend([stop(C), Step::StopApplier(B), Step::Write(A), apply(B)]);
    steps.extend([copy(B), apply(C), act(C, Action::ResetReplication)]);
    steps.extend(follow(C, A, true));
    steps.push(Step::Write(A));
    // A channel that is forgotten.
    steps.extend([Step::StopApplier(B), Step::Write(A)]);
    steps.extend([
        act(B, Action::ResetReplication),
        act(A, Action::CloseServer),
        Step::Write(A),
    ]);
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_looks_like_mysqld_after_every_step() {
    let mut models = Models::new(SERVERS);
    let mut reals = Reals::new(SERVERS).await;
    let mut differences = Vec::new();
    let began = Instant::now();
    let script = script();
    for (number, step) in script.iter().enumerate() {
        let expected = models.step(step);
        let refused = reals.take(step).await;
        let stops = |step: &Step| matches!(step, Step::Do(_, Action::StopIoThread));
        let follows = |next: &Step| stops(next) || matches!(next, Step::Do(B | C, _));
        if stops(step) && script.get(number + 1).is_some_and(follows) {
            // A source takes a second to notice: what replicas do after that is looked at together with it.
            assert_eq!(refused, expected.refused, "step {number} {step:?}");
            continue;
        }
        let seen = reals.settle(refused, &expected).await;
        println!("{:>6} ms  {number} {step:?}", began.elapsed().as_millis());
        if seen != expected {
            let line = format!("step {number} {step:?}\n  model  {expected:?}\n  mysqld {seen:?}");
            println!("{line}");
            differences.push(line);
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
