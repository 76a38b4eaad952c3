//! The one owner of mysqld: takes events one by one, and acts. It never waits for anything but the next event.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use super::{
    GuardConfig, GuardError, STATE_FILE,
    marker::Marker,
    process::{self, Process},
    protocol::{Exit, Reply, Request, Server, StartSpec, Status},
    state::State,
};

/// The code with which mysqld asks to be started again, after CLONE.
const EXIT_CODE_RESTART: i32 = 16;
/// How long mysqld has for a clean shutdown when the guard itself is told to end.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an open primary may take to hand over before the guard ends it: some tries of a switchover.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks whether it has handed over.
const HANDOVER_LOOK: Duration = Duration::from_millis(50);
/// Between two words to subscribers meanwhile: without anybody who listens nothing will be handed over.
const HANDOVER_WORD: Duration = Duration::from_secs(1);
/// Longest time for a clean shutdown that anybody may ask for.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// An agent has one; more are people who watch.
const SUBSCRIBERS_MAX: usize = 8;

/// What happens to a guard.
pub enum Event {
    Request {
        request: Request,
        reply: SyncSender<Reply>,
    },
    Subscribe(SyncSender<Status>),
    Exited(Exit),
    /// SIGTERM or SIGINT came.
    Terminate,
}

/// An open primary that is to hand over.
struct Handover {
    until: Instant,
    told: Instant,
}

/// mysqld, and what is known about it.
pub struct Keeper {
    config: GuardConfig,
    state_path: PathBuf,
    state: State,
    process: Option<Process>,
    /// When a shutdown under way turns into a kill.
    kill_at: Option<Instant>,
    /// The guard ends as soon as mysqld has.
    ending: bool,
    /// Until when an open primary may hand over before it is ended.
    handover: Option<Handover>,
    subscribers: Vec<SyncSender<Status>>,
    events: SyncSender<Event>,
}

impl Keeper {
    /// Reads what earlier guards left, and adopts the mysqld that runs.
    pub fn new(config: &GuardConfig, events: SyncSender<Event>) -> Result<Self, GuardError> {
        let state_path = config.data_dir.join(STATE_FILE);
        let mut keeper = Self {
            state: State::load(&state_path)?,
            config: config.clone(),
            state_path,
            process: None,
            kill_at: None,
            ending: false,
            handover: None,
            subscribers: Vec::new(),
            events,
        };
        keeper
            .adopt()
            .map_err(GuardError::io("cannot write", &keeper.state_path))?;
        Ok(keeper)
    }

    /// Works until told to end.
    pub fn run(&mut self, inbox: &Receiver<Event>) {
        while !(self.ending && self.process.is_none()) {
            match self.next(inbox) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) if self.handover.is_some() => {
                    self.look_at_handover()
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.kill_at = None;
                    self.kill();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn next(&self, inbox: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        if self.handover.is_some() {
            return inbox.recv_timeout(HANDOVER_LOOK);
        }
        match self.kill_at {
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { request, reply } => {
                // A full or closed channel: the asker is gone, and the deed is done all the same.
                let _ = reply.try_send(self.answer(request));
            }
            Event::Subscribe(subscriber) => {
                if self.subscribers.len() >= SUBSCRIBERS_MAX {
                    // Those that have gone away since are found by telling them something.
                    self.publish();
                }
                let current = subscriber.try_send(self.status());
                if current.is_ok() && self.subscribers.len() < SUBSCRIBERS_MAX {
                    self.subscribers.push(subscriber);
                }
            }
            Event::Exited(exit) => self.exited(exit),
            Event::Terminate => self.terminate(),
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Start(spec) => {
                if let Err(reason) = self.start(spec) {
                    return Reply::Refused(reason);
                }
            }
            Request::Kill => self.kill(),
            Request::Stop { timeout_ms } => self.stop(Duration::from_millis(timeout_ms)),
            Request::Status | Request::Subscribe => {}
        }
        Reply::Status(self.status())
    }

    fn status(&self) -> Status {
        let server = match &self.process {
            None => Server::Down,
            Some(Process { pid, adopted, .. }) => {
                let (pid, adopted) = (*pid, *adopted);
                match self.kill_at {
                    None => Server::Running { pid, adopted },
                    Some(_) => Server::Stopping { pid, adopted },
                }
            }
        };
        Status {
            guard_pid: std::process::id(),
            incarnation: self.state.incarnation,
            server,
            last_exit: self.state.last_exit.clone(),
            stop_asked: self.handover.is_some(),
        }
    }

    fn start(&mut self, spec: StartSpec) -> Result<(), String> {
        if self.process.is_some() {
            return Ok(());
        }
        if self.ending {
            return Err("the guard is ending".to_owned());
        }
        let data_dir = &self.config.data_dir;
        if Marker::Fence.is_set(data_dir) {
            let path = Marker::Fence.path(data_dir);
            return Err(format!(
                "fenced: {} lies there, so mysqld must not start; its agent takes the marker away once a coordinator \
                 has said what this tablet is now",
                path.display()
            ));
        }
        self.adopt()
            .map_err(|error| format!("cannot write {}: {error}", self.state_path.display()))?;
        if self.process.is_some() {
            return Ok(());
        }
        self.spawn(spec)
            .map_err(|error| format!("cannot start mysqld: {error}"))
    }

    fn spawn(&mut self, spec: StartSpec) -> io::Result<()> {
        self.state.incarnation += 1;
        self.state.process = None;
        self.state.spec = Some(spec.clone());
        self.state.save(&self.state_path)?;
        let incarnation = self.state.incarnation;
        let process = Process::start(
            &spec,
            &self.config.mysql_dir,
            incarnation,
            self.exit_sender(),
        );
        let process = process.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{} does not run: {error}", spec.program.display()),
            )
        })?;
        // It may have ended already; then the mark would name nobody.
        self.state.process = process::mark(process.pid).ok();
        self.process = Some(process);
        // A lost write here costs nothing: a later guard finds mysqld by its directory.
        let _ = self.state.save(&self.state_path);
        self.publish();
        Ok(())
    }

    /// Takes over the mysqld that works in our data directory, if one does; else notes that the last one has ended.
    fn adopt(&mut self) -> io::Result<()> {
        let Some(mark) = process::find_in(&self.config.mysql_dir) else {
            return self.note_unseen_exit();
        };
        if self.state.process != Some(mark) {
            // Started between two writes of the state, or by somebody else: a life of its own either way.
            self.note_unseen_exit()?;
            self.state.incarnation += 1;
            self.state.process = Some(mark);
            self.state.save(&self.state_path)?;
        }
        self.process = Process::adopt(mark, self.state.incarnation, self.exit_sender()).ok();
        Ok(())
    }

    fn note_unseen_exit(&mut self) -> io::Result<()> {
        if self.state.process.take().is_none() {
            return Ok(());
        }
        self.state.last_exit = Some(Exit::unknown(self.state.incarnation));
        self.state.save(&self.state_path)
    }

    fn exit_sender(&self) -> impl FnOnce(Exit) + Send + 'static {
        let events = self.events.clone();
        move |exit| {
            // Fails only when the guard itself ends.
            let _ = events.send(Event::Exited(exit));
        }
    }

    fn exited(&mut self, exit: Exit) {
        let was_asked = self.kill_at.is_some();
        let wants_restart = exit.code == Some(EXIT_CODE_RESTART) && !was_asked && !self.ending;
        self.process = None;
        self.kill_at = None;
        self.handover = None;
        self.state.process = None;
        self.state.last_exit = Some(exit);
        // First the news, then the disk: the exit is true whether or not it can be written.
        self.publish();
        let _ = self.state.save(&self.state_path);
        if wants_restart
            && let Some(spec) = self.state.spec.clone()
            && let Err(reason) = self.start(spec)
        {
            eprintln!("guard: mysqld asked to be started again after CLONE: {reason}");
        }
    }

    /// An open primary hands over first, if anybody listens who can see to that; told once more, it does not.
    fn terminate(&mut self) {
        let is_first = !std::mem::replace(&mut self.ending, true);
        let is_open = Marker::PrimaryOpen.is_set(&self.config.data_dir);
        if !is_first || !is_open || self.process.is_none() {
            self.handover = None;
            return self.stop(TERMINATE_TIMEOUT);
        }
        let now = Instant::now();
        self.handover = Some(Handover {
            until: now + HANDOVER_TIMEOUT,
            told: now,
        });
        self.publish();
        self.look_at_handover();
    }

    fn look_at_handover(&mut self) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        let now = Instant::now();
        let is_open = Marker::PrimaryOpen.is_set(&self.config.data_dir);
        let is_over = !is_open || now >= handover.until;
        if now.duration_since(handover.told) >= HANDOVER_WORD {
            handover.told = now;
            self.publish();
        }
        if is_over || self.subscribers.is_empty() {
            self.handover = None;
            self.stop(TERMINATE_TIMEOUT);
        }
    }

    fn stop(&mut self, timeout: Duration) {
        let Some(process) = &self.process else { return };
        if Marker::PrimaryOpen.is_set(&self.config.data_dir) {
            return self.kill();
        }
        match process.terminate() {
            Ok(()) => self.kill_at = Some(Instant::now() + timeout.min(STOP_TIMEOUT_MAX)),
            Err(error) => {
                eprintln!("guard: cannot send SIGTERM to mysqld, sending SIGKILL: {error}");
                self.kill();
            }
        }
    }

    fn kill(&mut self) {
        if let Some(process) = &self.process
            && let Err(error) = process.kill()
        {
            eprintln!("guard: cannot kill mysqld: {error}");
        }
    }

    fn publish(&mut self) {
        let status = self.status();
        self.subscribers
            .retain(|subscriber| subscriber.try_send(status.clone()).is_ok());
    }
}
