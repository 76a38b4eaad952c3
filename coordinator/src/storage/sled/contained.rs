//! Keeps sled on a thread of its own: it may panic or hang on files that are damaged, and that must become an error with a name.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    thread,
    time::Duration,
};

use tracing::warn;

use super::{SledError, Tree};
use crate::panics::SLED_THREAD;

/// How long sled may take for one call; a large snapshot takes a second or two on a slow disk.
const CALL_MAX: Duration = Duration::from_secs(60);
/// How long closing it may delay the end of the process.
const CLOSE_MAX: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Option<Tree>) + Send>;

/// sled on its thread, which ends with this.
pub(in crate::storage) struct Contained {
    path: PathBuf,
    jobs: Option<Sender<Job>>,
    ended: Receiver<()>,
}

/// A call whose answer is not there yet.
pub(in crate::storage) struct Running<R>(Receiver<Result<R, SledError>>);

impl<R> Running<R> {
    /// The answer, if it is there.
    pub(in crate::storage) fn poll(&self) -> Option<Result<R, SledError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    pub(in crate::storage) fn wait(&self) -> Result<R, SledError> {
        match self.0.recv_timeout(CALL_MAX) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => Err(SledError::Damaged(format!(
                "sled has not answered for {} s",
                CALL_MAX.as_secs()
            ))),
        }
    }
}

impl Contained {
    pub(in crate::storage) fn open(path: &Path) -> Result<Self, SledError> {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (end, ended) = mpsc::channel();
        let builder = thread::Builder::new().name(SLED_THREAD.to_owned());
        let thread = builder.spawn(move || {
            let mut tree = None;
            while let Ok(job) = to_do.recv() {
                job(&mut tree);
            }
            drop(tree);
            drop(end);
        });
        drop(thread.map_err(SledError::Io)?);
        let contained = Self {
            path: path.to_owned(),
            jobs: Some(jobs),
            ended,
        };
        contained.call(|_| Ok(()))?;
        Ok(contained)
    }

    /// Begins a call; calls are served one after the other. An error of the disk closes sled, which remembers it for ever
    /// otherwise: the next call opens it anew.
    pub(in crate::storage) fn begin<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Tree) -> Result<R, SledError> + Send + 'static,
    ) -> Running<R> {
        let (answer, running) = mpsc::channel();
        let path = self.path.clone();
        let job = move |tree: &mut Option<Tree>| {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let open = match tree {
                    Some(open) => open,
                    None => tree.insert(Tree::open(&path)?),
                };
                call(open)
            }));
            let outcome = outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            if outcome.is_err() {
                let closed = catch_unwind(AssertUnwindSafe(|| drop(tree.take())));
                drop(closed);
            }
            // Who asked may have gone.
            drop(answer.send(outcome));
        };
        if let Some(jobs) = &self.jobs {
            // A thread that has ended shows in the answer.
            drop(jobs.send(Box::new(job)));
        }
        Running(running)
    }

    pub(in crate::storage) fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Tree) -> Result<R, SledError> + Send + 'static,
    ) -> Result<R, SledError> {
        self.begin(call).wait()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.jobs = None;
        if self.ended.recv_timeout(CLOSE_MAX) == Err(RecvTimeoutError::Timeout) {
            warn!(path = %self.path.display(), "sled does not close");
        }
    }
}

fn gone() -> SledError {
    SledError::Io(io::Error::other("sled's thread has ended"))
}

fn panicked(panic: &(dyn Any + Send)) -> SledError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let first = text
        .and_then(|text| text.lines().next())
        .unwrap_or_default();
    SledError::Damaged(format!("sled gave up: {first}"))
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::{Command, ExitStatus, Stdio},
    };

    use super::*;
    use crate::panics::end_at_panics;

    #[test]
    #[ignore = "started by the other test, in a process of its own"]
    fn panics_in_sled() {
        end_at_panics();
        let directory = tempfile::tempdir().unwrap();
        let sled = Contained::open(directory.path()).unwrap();
        let outcome = sled.call(|_| -> Result<(), SledError> { panic!("on purpose") });
        assert!(
            matches!(&outcome, Err(SledError::Damaged(what)) if what == "sled gave up: on purpose"),
            "{outcome:?}"
        );
        // It is opened anew.
        assert!(sled.call(|tree| tree.label()).is_ok());
    }

    #[test]
    fn a_panic_of_sled_is_an_error_also_where_panics_end_the_process() {
        let name = "storage::sled::contained::tests::panics_in_sled";
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--ignored"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.as_ref().is_ok_and(ExitStatus::success), "{status:?}");
    }
}
