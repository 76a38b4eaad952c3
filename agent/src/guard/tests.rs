//! A real guard process and a stand-in for mysqld: what it starts, refuses, kills, adopts and tells.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal, unistd::Pid};
use tempfile::TempDir;

use super::{
    GuardConfig, SOCKET_FILE, STATE_FILE, lock_alone,
    marker::Marker,
    process,
    protocol::{Reply, Request, Server, StartSpec, Status},
};

const DIRECTORY_VARIABLE: &str = "VT_TEST_GUARD_DIRECTORY";
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test by itself: the process that [`Lab::start_guard`] starts, which is this test program once more.
#[test]
fn guard_process() {
    let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) else {
        return;
    };
    let data_dir = PathBuf::from(directory);
    let config = GuardConfig {
        mysql_dir: data_dir.join("mysql"),
        data_dir,
    };
    if let Err(error) = super::run(&config) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// A guard for `directory`, as a process of its own.
pub fn start_guard_process(directory: &Path) -> Child {
    // The program's first thread blocks these signals; here the test harness has that thread, so it inherits the mask.
    let signals = super::termination_signals();
    let before = signals
        .thread_swap_mask(signal::SigmaskHow::SIG_BLOCK)
        .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "guard::tests::guard_process", "--nocapture"])
        .env(DIRECTORY_VARIABLE, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    before.thread_set_mask().unwrap();
    child.unwrap()
}

struct Lab {
    directory: TempDir,
    guard: Option<Child>,
    program: PathBuf,
}

/// A program named mysqld, so that a guard recognises it.
fn stand_in(directory: &Path, script: &str) -> PathBuf {
    let program = directory.join("mysqld");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Sleeps without a child that would stay behind.
const SLEEPING: &str = "mkfifo pipe 2>/dev/null; read line <>pipe";

impl Lab {
    fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("mysql")).unwrap();
        let program = stand_in(directory.path(), script);
        let mut lab = Self {
            directory,
            guard: None,
            program,
        };
        lab.start_guard();
        lab
    }

    fn dir(&self) -> &Path {
        self.directory.path()
    }

    fn start_guard(&mut self) {
        self.guard = Some(start_guard_process(self.dir()));
        let deadline = Instant::now() + PATIENCE;
        while self.try_ask(&Request::Status).is_none() {
            assert!(Instant::now() < deadline, "no guard answers");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn connect(&self) -> Option<UnixStream> {
        let stream = UnixStream::connect(self.dir().join(SOCKET_FILE)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(stream)
    }

    fn try_ask(&self, request: &Request) -> Option<Reply> {
        let mut stream = self.connect()?;
        writeln!(stream, "{}", serde_json::to_string(request).unwrap()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn ask(&self, request: &Request) -> Status {
        match self.try_ask(request) {
            Some(Reply::Status(status)) => status,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn start(&self) -> Reply {
        let spec = StartSpec {
            program: self.program.clone(),
            arguments: Vec::new(),
            socket: self.dir().join("mysqld.sock"),
            log: self.dir().join("mysqld.log"),
        };
        self.try_ask(&Request::Start(spec)).expect("an answer")
    }

    fn subscribe(&self) -> Pushes {
        let mut stream = self.connect().unwrap();
        writeln!(
            stream,
            "{}",
            serde_json::to_string(&Request::Subscribe).unwrap()
        )
        .unwrap();
        Pushes(BufReader::new(stream))
    }

    fn kill_guard(&mut self) {
        let mut guard = self.guard.take().unwrap();
        guard.kill().unwrap();
        guard.wait().unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        while let Some(left) = process::find_in(&self.dir().join("mysql")) {
            process::kill(left).unwrap();
        }
    }
}

struct Pushes(BufReader<UnixStream>);

impl Pushes {
    fn next(&mut self) -> Status {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a push in time");
        match serde_json::from_str(&line) {
            Ok(Reply::Status(status)) => status,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// The next status that tells of an exit.
    fn exit(&mut self) -> Status {
        loop {
            let status = self.next();
            if status.server == Server::Down && status.last_exit.is_some() {
                return status;
            }
        }
    }
}

fn stop(timeout_ms: u64) -> Request {
    Request::Stop { timeout_ms }
}

#[test]
fn each_life_is_counted_and_its_end_told() {
    let lab = Lab::new(SLEEPING);
    let mut pushes = lab.subscribe();
    let before = pushes.next();
    assert_eq!((before.incarnation, before.server), (0, Server::Down));

    for incarnation in 1..=2 {
        lab.start();
        let running = pushes.next();
        assert_eq!(running.incarnation, incarnation);
        assert!(matches!(
            running.server,
            Server::Running { adopted: false, .. }
        ));
        // A second start changes nothing.
        assert!(matches!(lab.start(), Reply::Status(status) if status.pid() == running.pid()));
        lab.ask(&Request::Kill);
        let exit = pushes.exit().last_exit.unwrap();
        assert_eq!((exit.incarnation, exit.signal), (incarnation, Some(9)));
    }
}

#[test]
fn subscribers_that_went_away_make_room() {
    let lab = Lab::new(SLEEPING);
    for _ in 0..20 {
        assert_eq!(lab.subscribe().next().server, Server::Down);
    }
    // A subscription without a place ends after its first push; the next one is tried, as the agent does.
    let deadline = Instant::now() + PATIENCE;
    let mut pushes = loop {
        let mut pushes = lab.subscribe();
        pushes.next();
        pushes
            .0
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let is_kept = pushes
            .0
            .fill_buf()
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        pushes.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        if is_kept {
            break pushes;
        }
        assert!(Instant::now() < deadline, "no place for a subscriber");
    };
    lab.start();
    assert!(pushes.next().pid().is_some());
}

#[test]
fn a_fence_keeps_mysqld_down() {
    let lab = Lab::new(SLEEPING);
    Marker::Fence.set(lab.dir(), "epoch 7").unwrap();
    match lab.start() {
        Reply::Refused(reason) => assert!(reason.contains("fence"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(lab.ask(&Request::Status).incarnation, 0);
    assert_eq!(
        Marker::Fence.text(lab.dir()).unwrap().as_deref(),
        Some("epoch 7")
    );
    Marker::Fence.clear(lab.dir()).unwrap();
    assert!(matches!(lab.start(), Reply::Status(status) if status.pid().is_some()));
}

#[test]
fn a_stop_is_clean_unless_this_is_an_open_primary() {
    let cases = [(SLEEPING, false, 15), (SLEEPING, true, 9)];
    for (script, is_primary, signal) in cases {
        let lab = Lab::new(script);
        lab.start();
        if is_primary {
            Marker::PrimaryOpen.set(lab.dir(), "epoch 1").unwrap();
        }
        let mut pushes = lab.subscribe();
        lab.ask(&stop(60_000));
        let exit = pushes.exit().last_exit.unwrap();
        assert_eq!(exit.signal, Some(signal), "primary: {is_primary}");
    }
}

#[test]
fn a_stop_that_hangs_turns_into_a_kill() {
    let lab = Lab::new(&format!("trap '' TERM; touch deaf; {SLEEPING}"));
    lab.start();
    let deaf = lab.dir().join("mysql/deaf");
    let deadline = Instant::now() + PATIENCE;
    while !deaf.exists() {
        assert!(Instant::now() < deadline, "the stand-in does not start");
        thread::sleep(Duration::from_millis(5));
    }
    let mut pushes = lab.subscribe();
    let stopping = lab.ask(&stop(50));
    assert!(
        matches!(stopping.server, Server::Stopping { .. }),
        "{stopping:?}"
    );
    assert_eq!(pushes.exit().last_exit.unwrap().signal, Some(9));
}

#[test]
fn the_end_of_the_guard_ends_mysqld_by_the_same_rule() {
    for (is_primary, signal) in [(false, 15), (true, 9)] {
        let mut lab = Lab::new(SLEEPING);
        lab.start();
        if is_primary {
            Marker::PrimaryOpen.set(lab.dir(), "epoch 1").unwrap();
        }
        let mut guard = lab.guard.take().unwrap();
        let pid = Pid::from_raw(guard.id().try_into().unwrap());
        signal::kill(pid, signal::Signal::SIGTERM).unwrap();
        assert!(guard.wait().unwrap().success());
        assert_eq!(process::find_in(&lab.dir().join("mysql")), None);
        let state = fs::read_to_string(lab.dir().join(STATE_FILE)).unwrap();
        assert!(
            state.contains(&format!("killed by signal {signal}")),
            "{state}"
        );
    }
}

/// What becomes of a primary whose guard is told to end while somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    HandsOver,
    ToldAgain,
    NobodyListens,
}

#[test]
fn an_open_primary_may_hand_over_before_its_guard_ends_it() {
    for (then, signal) in [
        (Then::HandsOver, 15),
        (Then::ToldAgain, 9),
        (Then::NobodyListens, 9),
    ] {
        let mut lab = Lab::new(SLEEPING);
        lab.start();
        Marker::PrimaryOpen.set(lab.dir(), "epoch 1").unwrap();
        let mut pushes = lab.subscribe();
        assert!(!pushes.next().stop_asked, "{then:?}");
        let mut guard = lab.guard.take().unwrap();
        let pid = Pid::from_raw(guard.id().try_into().unwrap());
        let terminate = || signal::kill(pid, signal::Signal::SIGTERM).unwrap();
        terminate();
        let asked = pushes.next();
        let still_runs = matches!(asked.server, Server::Running { .. });
        assert!(asked.stop_asked && still_runs, "{then:?}: {asked:?}");
        match then {
            Then::HandsOver => Marker::PrimaryOpen.clear(lab.dir()).unwrap(),
            Then::ToldAgain => terminate(),
            Then::NobodyListens => drop(pushes),
        }
        assert!(guard.wait().unwrap().success(), "{then:?}");
        let state = fs::read_to_string(lab.dir().join(STATE_FILE)).unwrap();
        let wanted = format!("killed by signal {signal}");
        assert!(state.contains(&wanted), "{then:?}: {state}");
    }
}

#[test]
fn mysqld_outlives_a_killed_guard_and_is_adopted() {
    let mut lab = Lab::new(SLEEPING);
    lab.start();
    let before = lab.ask(&Request::Status);
    lab.kill_guard();
    lab.start_guard();
    let after = lab.ask(&Request::Status);
    assert_eq!((after.pid(), after.incarnation), (before.pid(), 1));
    assert!(matches!(
        after.server,
        Server::Running { adopted: true, .. }
    ));
    assert!(matches!(lab.start(), Reply::Status(status) if status.pid() == before.pid()));

    let mut pushes = lab.subscribe();
    lab.ask(&Request::Kill);
    assert_eq!(pushes.exit().last_exit.unwrap().incarnation, 1);

    // And what ended while there was no guard has ended, and is told.
    lab.start();
    lab.kill_guard();
    let orphan = process::find_in(&lab.dir().join("mysql")).unwrap();
    process::kill(orphan).unwrap();
    while process::find_in(&lab.dir().join("mysql")).is_some() {}
    lab.start_guard();
    let status = lab.ask(&Request::Status);
    assert_eq!(status.server, Server::Down);
    assert_eq!(status.last_exit.unwrap().incarnation, 2);
}

#[test]
fn one_guard_works_in_a_directory() {
    let lab = Lab::new(SLEEPING);
    let mut second = start_guard_process(lab.dir());
    assert!(!second.wait().unwrap().success());
    lab.ask(&Request::Status);
}

#[test]
fn what_ends_just_now_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let before = lock_alone(&path).unwrap().unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(before);
    });
    let lock = lock_alone(&path).unwrap();
    assert!(lock.is_some());
    ending.join().unwrap();
    assert!(lock_alone(&path).unwrap().is_none(), "this one goes on");
}

#[test]
fn after_clone_mysqld_is_started_again_but_not_past_a_fence() {
    let script = format!(
        "test \"$MYSQLD_PARENT_PID\" = $PPID && test ! -e cloned && touch cloned && exit 16; {SLEEPING}"
    );
    let lab = Lab::new(&script);
    let mut pushes = lab.subscribe();
    lab.start();
    let exit = pushes.exit();
    assert_eq!(exit.last_exit.unwrap().code, Some(16));
    let running = pushes.next();
    assert_eq!((running.incarnation, running.pid().is_some()), (2, true));

    let lab = Lab::new("mkfifo pipe; read line <>pipe; exit 16");
    lab.start();
    Marker::Fence.set(lab.dir(), "epoch 2").unwrap();
    let pipe = lab.dir().join("mysql/pipe");
    let deadline = Instant::now() + PATIENCE;
    while !pipe.exists() {
        assert!(Instant::now() < deadline, "the stand-in does not start");
        thread::sleep(Duration::from_millis(5));
    }
    let mut pushes = lab.subscribe();
    fs::write(&pipe, "\n").unwrap();
    assert_eq!(pushes.exit().last_exit.unwrap().code, Some(16));
    let status = lab.ask(&Request::Status);
    assert_eq!((status.server, status.incarnation), (Server::Down, 1));
}

#[test]
fn a_killed_mysqld_leaves_no_lock_in_the_way() {
    let lab = Lab::new(SLEEPING);
    let lock = lab.dir().join("mysqld.sock.lock");
    fs::write(&lock, "1\n").unwrap();
    lab.start();
    assert!(!lock.exists());
}

#[test]
fn broken_requests_end_their_connection_and_nothing_else() {
    let lab = Lab::new(SLEEPING);
    let long = "x".repeat(200_000);
    for line in [
        "no json",
        "{\"command\":\"start\"}",
        "{\"command\":\"reboot\"}",
        &long,
    ] {
        let mut stream = lab.connect().unwrap();
        // The guard may close before it has read all.
        let _ = writeln!(stream, "{line}");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.contains("not a request"),
            "{answer}"
        );
    }
    let mode = fs::metadata(lab.dir().join(SOCKET_FILE))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    lab.ask(&Request::Status);
}
