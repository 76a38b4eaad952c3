//! A compressed connection, read and written like any other.
//!
//! It holds nothing between an answer and the next command.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vt_wire::compression::{Algorithm, Compression};

use super::Socket;

/// Read from the socket at once.
const READ_LENGTH: usize = 16 << 10;
/// Taken from a writer at once: what is packed waits in memory until the peer takes it.
const WRITE_LENGTH_MAX: usize = 256 << 10;

/// A socket whose bytes travel in compressed frames.
#[derive(Debug)]
pub struct Packed {
    socket: Socket,
    pub compression: Compression,
    /// Received, up to a frame that is not whole.
    wire: Vec<u8>,
    /// Unpacked and not yet read; the first `read` bytes are.
    plain: Vec<u8>,
    read: usize,
    /// Packed and not yet sent; the first `sent` bytes are.
    out: Vec<u8>,
    sent: usize,
}

impl Packed {
    pub fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    /// `received` came already.
    pub fn new(socket: Socket, algorithm: Algorithm, received: Vec<u8>) -> Self {
        Self {
            socket,
            compression: Compression::new(algorithm),
            wire: received,
            plain: Vec::new(),
            read: 0,
            out: Vec::new(),
            sent: 0,
        }
    }

    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read == self.plain.len() {
            self.plain.clear();
            self.read = 0;
            if self.unpack()? {
                continue;
            }
            let mut chunk = [0; READ_LENGTH];
            let mut chunk = ReadBuf::new(&mut chunk);
            let polled = Pin::new(&mut self.socket).poll_read(cx, &mut chunk);
            if polled.is_pending() && self.wire.is_empty() {
                self.plain = Vec::new();
                self.wire = Vec::new();
            }
            ready!(polled)?;
            if chunk.filled().is_empty() {
                return Poll::Ready(match self.wire.is_empty() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            self.wire.extend_from_slice(chunk.filled());
        }
        let length = buf.remaining().min(self.plain.len() - self.read);
        buf.put_slice(&self.plain[self.read..self.read + length]);
        self.read += length;
        Poll::Ready(Ok(()))
    }

    /// Unpacks the next frame, if it is whole. It may be empty.
    fn unpack(&mut self) -> io::Result<bool> {
        let unpacked = self.compression.decode(&self.wire, &mut self.plain);
        let length = unpacked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(length) = length {
            self.wire.drain(..length);
        }
        Ok(length.is_some())
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let taken = &buf[..buf.len().min(WRITE_LENGTH_MAX)];
        self.compression.encode_packets(taken, &mut self.out);
        // What cannot go now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken.len()))
    }

    /// Sends all that is packed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let rest = &self.out[self.sent..];
            let length = ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += length;
        }
        self.out = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
