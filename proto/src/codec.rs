//! How messages become gRPC frames: as tonic does it, with small buffers. A stream keeps its buffers for as long as it lives, and
//! thousands of agents and routers have one that is idle most of the time; a large message makes its buffer grow.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec as TonicCodec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes of a stream's buffer in each direction, at first: a report or a desired state fits. tonic's own default is eight times as much.
const BUFFER_BYTES: usize = 1 << 10;
/// Bytes of messages that wait together before they are handed on: tonic's own default.
const TOGETHER_BYTES_MAX: usize = 32 << 10;

/// Named by the generated code.
#[derive(Clone, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES_MAX)
}

impl<T, U> TonicCodec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}
