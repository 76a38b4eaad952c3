//! Bytes of one connection: what was read and not yet used, and room to read more.
//!
//! It never holds a buffer while it waits for an idle peer: buffers are lent by the thread.

mod packed;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use vt_wire::compression::Algorithm;

use self::packed::Packed;

/// Room of a fresh buffer: a point query and its answer fit many times over.
const BUFFER_LENGTH: usize = 16 << 10;
/// Room that is made when reads fill the buffer: large results then cost few system calls.
const BUFFER_LENGTH_LARGE: usize = 128 << 10;
/// Buffers that a thread keeps for lending. More are in use only while so many answers are under way.
const BUFFERS_KEPT: usize = 64;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn lend_buffer() -> Vec<u8> {
    BUFFERS
        .with(|buffers| buffers.borrow_mut().pop())
        .unwrap_or_else(|| Vec::with_capacity(BUFFER_LENGTH))
}

/// Gives a buffer back to the thread; one that grew large is freed.
pub fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > BUFFER_LENGTH_LARGE {
        return;
    }
    buffer.clear();
    BUFFERS.with(|buffers| {
        let mut buffers = buffers.borrow_mut();
        if buffers.len() < BUFFERS_KEPT {
            buffers.push(buffer);
        }
    });
}

/// A TCP stream, with TLS on it or not.
#[derive(Debug)]
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Compressed, on one of the others.
    Packed(Box<Packed>),
    /// The stream was taken out; every use fails.
    Closed,
}

impl Socket {
    fn is_encrypted(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Packed(packed) => packed.is_encrypted(),
            Self::Plain(_) | Self::Closed => false,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Packed(stream) => stream.poll_read(cx, buf),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Packed(stream) => stream.poll_write(cx, buf),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Packed(stream) => stream.poll_flush(cx),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Packed(stream) => stream.poll_shutdown(cx),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// A socket with its input.
#[derive(Debug)]
pub struct Channel {
    socket: Socket,
    input: Vec<u8>,
    /// Bytes of `input` that were used already.
    used: usize,
    /// The last read filled all the room there was.
    was_filled: bool,
}

impl Channel {
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            input: Vec::new(),
            used: 0,
            was_filled: false,
        }
    }

    /// The bytes that were read and not used.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.input[self.used..]
    }

    pub fn input_mut(&mut self) -> &mut [u8] {
        &mut self.input[self.used..]
    }

    pub fn consume(&mut self, length: usize) {
        self.used = (self.used + length).min(self.input.len());
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
    }

    /// Takes the first `length` bytes of the input out, in a buffer of its own. Without a copy when
    /// they are all there is. The buffer should be given back.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        if self.used == 0 && self.input.len() == length {
            return std::mem::take(&mut self.input);
        }
        let mut taken = lend_buffer();
        taken.extend_from_slice(&self.input()[..length]);
        self.consume(length);
        taken
    }

    /// Reads more; `0` is the end of the stream. May be dropped at any await: no byte is lost.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.make_room();
        std::future::poll_fn(|cx| {
            if self.input.capacity() == 0 {
                self.input = lend_buffer();
            }
            let polled = pin!(self.socket.read_buf(&mut self.input)).poll(cx);
            match &polled {
                Poll::Pending if self.input.is_empty() => {
                    give_back(std::mem::take(&mut self.input))
                }
                Poll::Ready(Ok(_)) => self.was_filled = self.input.len() == self.input.capacity(),
                _ => {}
            }
            polled
        })
        .await
    }

    /// Returns when the peer has closed the connection. Never, once it has sent something: then nobody can tell before that is
    /// read. May be dropped at any await.
    pub async fn closed(&mut self) {
        if !self.input.is_empty() || matches!(self.fill().await, Ok(1..)) {
            std::future::pending::<()>().await;
        }
    }

    /// Reads at most `limit` bytes, so that what follows stays in the socket: a client may begin with
    /// TLS right behind its request for it.
    pub async fn fill_at_most(&mut self, limit: usize) -> io::Result<usize> {
        (&mut self.socket)
            .take(limit as u64)
            .read_buf(&mut self.input)
            .await
    }

    fn make_room(&mut self) {
        if self.input.is_empty() && !self.was_filled {
            return;
        }
        if self.used > 0 {
            self.input.drain(..self.used);
            self.used = 0;
        }
        if self.input.len() == self.input.capacity() || self.was_filled {
            let room = if self.was_filled {
                BUFFER_LENGTH_LARGE
            } else {
                BUFFER_LENGTH
            };
            self.input
                .reserve(room.saturating_sub(self.input.len()).max(room / 4));
        }
        self.was_filled = false;
    }

    /// Can nobody on the way read what the other side sends?
    pub fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await?;
        if matches!(self.socket, Socket::Tls(_) | Socket::Packed(_)) {
            self.socket.flush().await
        } else {
            Ok(())
        }
    }

    /// Sends the first `length` bytes of the input to `other` and uses them up.
    pub async fn forward(&mut self, length: usize, other: &mut Self) -> io::Result<()> {
        other
            .write(&self.input[self.used..self.used + length])
            .await?;
        self.consume(length);
        Ok(())
    }

    /// Did the peer of an idle connection close it, or send what nobody asked for?
    #[must_use]
    pub fn is_disturbed(&mut self) -> bool {
        let Socket::Plain(stream) = &self.socket else {
            return false;
        };
        let mut byte = [0];
        !self.input.is_empty()
            || !matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Gives the input's buffer back when nothing is in it.
    pub fn rest(&mut self) {
        if self.input.is_empty() {
            give_back(std::mem::take(&mut self.input));
        }
    }

    /// Takes the bare stream out, for the start of TLS. Refused when bytes were read past the request
    /// for TLS: they came in clear text and must not count as if protected.
    pub fn take_plain(&mut self) -> Option<TcpStream> {
        if !self.input.is_empty() || !matches!(self.socket, Socket::Plain(_)) {
            return None;
        }
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Plain(stream) => Some(stream),
            _ => None,
        }
    }

    /// From here on both sides compress.
    pub fn compress(&mut self, algorithm: Algorithm) {
        let socket = std::mem::replace(&mut self.socket, Socket::Closed);
        let received = std::mem::take(&mut self.input).split_off(self.used);
        self.used = 0;
        self.socket = Socket::Packed(Box::new(Packed::new(socket, algorithm, received)));
    }

    /// What is written from here on answers what was read.
    pub fn begin_answer(&mut self) {
        if let Socket::Packed(packed) = &mut self.socket {
            packed.compression.begin_answer();
        }
    }

    /// A result was written, and others follow.
    pub fn end_result(&mut self) {
        if let Socket::Packed(packed) = &mut self.socket {
            packed.compression.end_result();
        }
    }

    /// Does what is written get sequence ids of its own?
    #[must_use]
    pub fn numbers_packets(&self) -> bool {
        matches!(self.socket, Socket::Packed(_))
    }

    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }
}

impl Channel {
    /// Replaces `length` bytes at `start` of the unused input by `bytes`.
    pub fn replace(&mut self, start: usize, length: usize, bytes: &[u8]) {
        let from = self.used + start;
        self.input
            .splice(from..from + length, bytes.iter().copied());
    }
}
