//! The way of messages to one caller's stream.

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::Status;

/// One message under way is enough: what comes after it is looked up when it has left.
pub const OUTGOING_MAX: usize = 1;

/// Boxed, for a channel makes room for 32 items at once, and thousands of agents and routers have one each.
pub type Item<T> = Box<Result<T, Status>>;

/// A way and what the stream takes from it.
pub fn outgoing<T>() -> (mpsc::Sender<Item<T>>, impl Stream<Item = Result<T, Status>>) {
    let (sender, receiver) = mpsc::channel::<Item<T>>(OUTGOING_MAX);
    (sender, ReceiverStream::new(receiver).map(|item| *item))
}
