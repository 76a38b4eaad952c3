//! A panic ends the process: it comes back with what is on disk, and nobody goes on beside a part that is gone. Except for sled,
//! which panics on damaged files: there a panic becomes an error that names the file and the way out.

use std::{panic, process, thread};

use tracing::warn;

#[cfg(panic = "abort")]
compile_error!("vt-coordinator contains panics of sled: build it with panic = \"unwind\"");

/// The thread on which we call sled.
pub(crate) const SLED_THREAD: &str = "sled";
/// What sled calls its own threads begins with this.
const SLED_THREADS: &str = "sled-io-";

/// From now on every panic that is not sled's says what happened and aborts the process, in whatever thread or task it is.
pub fn end_at_panics() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        if is_of_sled(name) {
            warn!(thread = name, "sled gives up: {panic}");
            return;
        }
        say(panic);
        process::abort();
    }));
}

fn is_of_sled(thread: &str) -> bool {
    thread == SLED_THREAD || thread.starts_with(SLED_THREADS)
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::process::ExitStatusExt,
        process::{Command, ExitStatus, Stdio},
    };

    use super::*;

    /// In which thread the process that a test starts is to panic.
    const WHERE: &str = "VT_TEST_PANICS_IN";

    #[test]
    #[ignore = "started by the other test, in a process of its own"]
    fn panics() {
        end_at_panics();
        match env::var(WHERE).as_deref() {
            Ok("task") => {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                drop(
                    runtime
                        .unwrap()
                        .block_on(tokio::spawn(async { panic!("on purpose") })),
                );
            }
            thread => {
                let thread = thread.unwrap().to_owned();
                let thread = thread::Builder::new().name(thread);
                drop(thread.spawn(|| panic!("on purpose")).unwrap().join());
            }
        }
    }

    fn ended(thread: &str) -> ExitStatus {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "panics::tests::panics", "--ignored"])
            .env(WHERE, thread)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    }

    #[test]
    fn every_panic_but_those_of_sled_ends_the_process() {
        let aborted = Some(nix::sys::signal::Signal::SIGABRT as i32);
        for thread in ["task", "storage", "tokio-runtime-worker", "sledge"] {
            assert_eq!(ended(thread).signal(), aborted, "{thread}");
        }
        for thread in [SLED_THREAD, "sled-io-3"] {
            assert!(ended(thread).success(), "{thread}");
        }
    }
}
