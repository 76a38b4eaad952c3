//! The control socket: reads requests, asks the keeper, writes answers. It never touches mysqld itself.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{
    GuardError, SOCKET_PATH_LENGTH_MAX,
    keeper::Event,
    protocol::{LINE_LENGTH_MAX, Reply, Request, Status},
};

/// Events that wait for the keeper, which needs microseconds for most.
pub const EVENTS_MAX: usize = 64;
/// Statuses that wait for one subscriber; one that reads none of so many is cut off and asks again.
pub const PUSHES_MAX: usize = 16;
/// An agent uses two; the rest is for people with a tool.
const CONNECTIONS_MAX: usize = 16;
/// How soon a subscriber that has gone away is noticed, without anything to push.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// A peer that does not read its answer for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the socket and serves it from threads of its own.
pub fn listen(path: &Path, events: SyncSender<Event>) -> Result<(), GuardError> {
    if path.as_os_str().len() > SOCKET_PATH_LENGTH_MAX {
        return Err(GuardError::PathTooLong(path.to_owned()));
    }
    // Whoever holds the lock owns the socket: one that lies there belonged to a guard that is gone.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(GuardError::io("cannot listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(GuardError::io("cannot restrict", path))?;
    thread::spawn(move || accept(&listener, &events));
    Ok(())
}

fn accept(listener: &UnixListener, events: &SyncSender<Event>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors: wait for some to be closed instead of spinning.
            thread::sleep(IDLE_CHECK);
            continue;
        };
        if open.load(Ordering::Acquire) >= CONNECTIONS_MAX {
            continue;
        }
        open.fetch_add(1, Ordering::AcqRel);
        let (open, events) = (Arc::clone(&open), events.clone());
        thread::spawn(move || {
            // A peer that breaks the protocol or goes away loses its connection, and that is all.
            let _ = serve(&stream, &events);
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

fn serve(stream: &UnixStream, events: &SyncSender<Event>) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if lines.by_ref().take(LINE_LENGTH_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        match serde_json::from_str(&line) {
            Ok(Request::Subscribe) => return push(stream, events),
            Ok(request) => write_line(stream, &ask(request, events)?)?,
            Err(error) => {
                let refused = Reply::Refused(format!("not a request: {error}"));
                return write_line(stream, &refused);
            }
        }
    }
}

fn ask(request: Request, events: &SyncSender<Event>) -> io::Result<Reply> {
    let (reply, answer) = mpsc::sync_channel(1);
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    events
        .send(Event::Request { request, reply })
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())
}

fn push(stream: &UnixStream, events: &SyncSender<Event>) -> io::Result<()> {
    let (subscriber, pushes) = mpsc::sync_channel(PUSHES_MAX);
    if events.send(Event::Subscribe(subscriber)).is_err() {
        return Ok(());
    }
    push_all(stream, &pushes)
}

fn push_all(mut stream: &UnixStream, pushes: &Receiver<Status>) -> io::Result<()> {
    loop {
        match pushes.recv_timeout(IDLE_CHECK) {
            Ok(status) => write_line(stream, &Reply::Status(status))?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                stream.set_nonblocking(true)?;
                let read = stream.read(&mut [0; 16]);
                stream.set_nonblocking(false)?;
                if !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                    return Ok(());
                }
            }
        }
    }
}

fn write_line(mut stream: &UnixStream, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)
}
