//! The line between a replica and its source, which can end in the middle of what it carries.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// So many bytes never pass in one test.
const ENDLESS: i64 = i64::MAX / 2;

/// Passes on what comes, until it breaks.
pub struct Line {
    /// Where the replica connects.
    pub port: u16,
    left: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Line {
    /// To a source on this machine.
    pub async fn to(source_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let left = Arc::new(AtomicI64::new(ENDLESS));
        let task = tokio::spawn(serve(listener, source_port, left.clone()));
        Ok(Self { port, left, task })
    }

    /// After so many more bytes to the replica the connection ends, and there is no other until it is mended.
    pub fn break_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.left.store(ENDLESS, Ordering::SeqCst);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, source_port: u16, left: Arc<AtomicI64>) {
    while let Ok((replica, _)) = listener.accept().await {
        if left.load(Ordering::SeqCst) <= 0 {
            continue;
        }
        let left = left.clone();
        tokio::spawn(async move {
            let Ok(source) = TcpStream::connect(("127.0.0.1", source_port)).await else {
                return;
            };
            let (from_source, mut to_source) = source.into_split();
            let (mut from_replica, to_replica) = replica.into_split();
            // Both halves end when one of them does.
            tokio::select! {
                _ = copy(&mut from_replica, &mut to_source) => {}
                _ = pass(from_source, to_replica, &left) => {}
            }
        });
    }
}

async fn pass(
    mut source: OwnedReadHalf,
    mut replica: OwnedWriteHalf,
    left: &AtomicI64,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = source.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let length = i64::try_from(read).unwrap_or(ENDLESS);
        let before = left.fetch_sub(length, Ordering::SeqCst);
        let passes = usize::try_from(before.clamp(0, length)).unwrap_or_default();
        replica.write_all(&bytes[..passes]).await?;
        if passes < read {
            return Ok(());
        }
    }
}
