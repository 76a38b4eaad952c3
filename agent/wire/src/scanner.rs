//! Finds where an answer of a server ends, by packet headers and first bytes alone.
//!
//! It is fed the bytes as they come and never decodes a row, never copies, never allocates. Rows and
//! column definitions are passed over in any pieces; packets that say something (OK, EOF, ERR, the
//! first of each result) are looked at only when whole, so the caller keeps what was not consumed.

use crate::error_code::ErrorCode;
use crate::packet::{HEADER_LENGTH, Header, PAYLOAD_LENGTH_MAX};
use crate::prepared::PrepareOk;
use crate::response::{
    EOF_BYTE, ERR_BYTE, EofPacket, ErrPacket, LOCAL_INFILE_BYTE, OK_BYTE, OkPacket,
};
use crate::{Capabilities, Malformed, Reader, ServerStatus};

/// A packet that begins with 0xFE is an EOF only when shorter than this.
const EOF_LENGTH_BELOW: usize = 9;

/// What kind of answer a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One OK, EOF or ERR: PING, INIT_DB, RESET_CONNECTION, SET_OPTION, STMT_RESET.
    Single,
    /// Any number of results: QUERY and STMT_EXECUTE.
    Results,
    /// STMT_PREPARE.
    Prepare,
    /// STMT_FETCH and FIELD_LIST: rows, or what looks like rows, up to their end.
    Rows,
    /// STATISTICS: one packet of text.
    Text,
}

/// A packet that says something, with what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// OK of a statement without rows, or (`DEPRECATE_EOF`) the end of rows.
    Ok {
        ok: OkPacket<'a>,
        ends_rows: bool,
    },
    /// End of rows for clients without `DEPRECATE_EOF`.
    Eof(EofPacket),
    Err(ErrPacket<'a>),
    Prepared(PrepareOk),
    /// The server wants a file of the client. It is not the end of the answer, but nothing more comes until the client has
    /// sent it (`upload`).
    LocalInfile,
}

/// What one call of [`ResponseScanner::feed`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes that were understood and may be sent on. The rest must be fed again, with more.
    pub consumed: usize,
    /// The packet that ends at `consumed`, if it says something.
    pub event: Option<Event<'a>>,
    /// Wire length of that packet, header included.
    pub event_length: usize,
    /// The answer ends at `consumed`; whatever follows does not belong to it.
    pub done: bool,
}

/// What an answer said up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub status: ServerStatus,
    pub warnings: u16,
    pub affected_rows: u64,
    pub last_insert_id: u64,
    pub error: Option<ErrorCode>,
    /// Finished results: sets of rows and OKs.
    pub results: u32,
    /// Did a result have columns?
    pub has_rows: bool,
    /// Rows of all its results.
    pub rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Single,
    First,
    Prepare,
    Text,
    /// So many packets to pass over, then the given state.
    Columns(u64),
    ColumnsEof,
    Definitions(u64),
    Rows,
    Done,
}

/// Follows one answer.
#[derive(Debug, Clone)]
pub struct ResponseScanner {
    state: State,
    /// The server's agreed capabilities: they decide the shape of OK and the ends of rows.
    capabilities: Capabilities,
    /// Bytes of the current packet that are still to come.
    remaining: usize,
    /// The current packet is continued: the next header has no first byte to look at.
    continued: bool,
    /// Sequence id of the packet that would follow the last one seen.
    next_sequence: u8,
    /// The rows are the OUT parameters of a CALL: the EOF behind them does not say that more follows, the one before them does.
    is_out_parameters: bool,
    summary: Summary,
}

impl ResponseScanner {
    #[must_use]
    pub fn new(answer: Answer, capabilities: Capabilities) -> Self {
        let state = match answer {
            Answer::Single => State::Single,
            Answer::Results => State::First,
            Answer::Prepare => State::Prepare,
            Answer::Rows => State::Rows,
            Answer::Text => State::Text,
        };
        Self {
            state,
            capabilities,
            remaining: 0,
            continued: false,
            next_sequence: 1,
            is_out_parameters: false,
            summary: Summary::default(),
        }
    }

    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Where an answer broke off at a packet's end: the sequence id that an error put there must carry.
    #[must_use]
    pub fn boundary(&self) -> Option<u8> {
        (self.remaining == 0 && !self.continued).then_some(self.next_sequence)
    }

    /// Sequence id of the packet that follows the last one seen.
    #[must_use]
    pub fn next_sequence(&self) -> u8 {
        self.next_sequence
    }

    /// The client has sent packets of its own: the next one of the server, or an error in its place, has this sequence id.
    pub fn go_on_at(&mut self, sequence: u8) {
        self.next_sequence = sequence;
    }

    /// Is the whole answer behind us?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done && self.remaining == 0 && !self.continued
    }

    /// Goes on to the next packet that says something, the end of the answer, or the end of `bytes`.
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        let mut position = 0;
        loop {
            if self.remaining > 0 {
                let here = self.remaining.min(bytes.len() - position);
                position += here;
                self.remaining -= here;
                if self.remaining > 0 {
                    return Ok(self.without_event(position));
                }
            }
            if self.is_done() {
                return Ok(self.without_event(position));
            }
            let Some(header) = Header::peek(&bytes[position..]) else {
                return Ok(self.without_event(position));
            };
            let body = position + HEADER_LENGTH;
            if self.continued || header.length == 0 {
                self.pass_over(header);
                position = body;
                continue;
            }
            let Some(first) = bytes.get(body).copied() else {
                return Ok(self.without_event(position));
            };
            if self.is_data(first, header.length) {
                self.begin_data();
                self.pass_over(header);
                position = body;
                continue;
            }
            if header.length == PAYLOAD_LENGTH_MAX {
                return Err(Malformed("a packet of 16 MiB that is not a row"));
            }
            let Some(payload) = bytes.get(body..body + header.length) else {
                return Ok(self.without_event(position));
            };
            position = body + header.length;
            self.next_sequence = header.sequence.wrapping_add(1);
            if let Some(event) = self.understand(first, payload)? {
                let event_length = HEADER_LENGTH + header.length;
                return Ok(Step {
                    consumed: position,
                    event: Some(event),
                    event_length,
                    done: self.is_done(),
                });
            }
        }
    }

    fn without_event<'a>(&self, consumed: usize) -> Step<'a> {
        Step {
            consumed,
            event: None,
            event_length: 0,
            done: self.is_done(),
        }
    }

    fn pass_over(&mut self, header: Header) {
        self.next_sequence = header.sequence.wrapping_add(1);
        self.remaining = header.length;
        self.continued = header.length == PAYLOAD_LENGTH_MAX;
    }

    /// May the packet be passed over unseen?
    fn is_data(&self, first: u8, length: usize) -> bool {
        match self.state {
            State::Rows => match first {
                EOF_BYTE if self.deprecates_eof() => length == PAYLOAD_LENGTH_MAX,
                EOF_BYTE => length >= EOF_LENGTH_BELOW,
                other => other != ERR_BYTE,
            },
            State::Columns(_) | State::Definitions(_) | State::Text => first != ERR_BYTE,
            State::Single | State::First | State::Prepare | State::ColumnsEof | State::Done => {
                false
            }
        }
    }

    fn begin_data(&mut self) {
        self.summary.rows += u64::from(self.state == State::Rows);
        self.state = match self.state {
            State::Columns(left) if left > 1 => State::Columns(left - 1),
            State::Columns(_) if self.deprecates_eof() => State::Rows,
            State::Columns(_) => State::ColumnsEof,
            State::Definitions(left) if left > 1 => State::Definitions(left - 1),
            State::Definitions(_) | State::Text => State::Done,
            other => other,
        };
    }

    fn understand<'a>(
        &mut self,
        first: u8,
        payload: &'a [u8],
    ) -> Result<Option<Event<'a>>, Malformed> {
        if first == ERR_BYTE {
            let error = ErrPacket::parse(payload)?;
            self.summary.error = Some(error.code);
            self.state = State::Done;
            return Ok(Some(Event::Err(error)));
        }
        match (self.state, first) {
            (State::Single | State::First, OK_BYTE) => self.end_by_ok(payload, false).map(Some),
            (State::Single | State::Rows, EOF_BYTE) if self.deprecates_eof() => {
                self.end_by_ok(payload, self.state == State::Rows).map(Some)
            }
            (State::Single | State::Rows, EOF_BYTE) => self.end_by_eof(payload).map(Some),
            (State::ColumnsEof, EOF_BYTE) => {
                let eof = EofPacket::parse(payload)?;
                if eof.status.contains(ServerStatus::CURSOR_EXISTS) {
                    return self.end_by_eof(payload).map(Some);
                }
                self.is_out_parameters = eof.status.contains(ServerStatus::PS_OUT_PARAMS);
                self.state = State::Rows;
                Ok(None)
            }
            (State::First, LOCAL_INFILE_BYTE) => Ok(Some(Event::LocalInfile)),
            (State::First, _) => {
                let count = Reader::new(payload).lenenc()?;
                if count == 0 {
                    return Err(Malformed("a result without columns"));
                }
                self.summary.has_rows = true;
                self.state = State::Columns(count);
                Ok(None)
            }
            (State::Prepare, OK_BYTE) => self.begin_definitions(payload).map(Some),
            _ => Err(Malformed("a packet that its place does not allow")),
        }
    }

    fn begin_definitions<'a>(&mut self, payload: &[u8]) -> Result<Event<'a>, Malformed> {
        let prepared = PrepareOk::parse(payload)?;
        let eof = u64::from(!self.deprecates_eof());
        let packets = [prepared.parameters, prepared.columns]
            .into_iter()
            .filter(|count| *count > 0)
            .map(|count| u64::from(count) + eof)
            .sum();
        self.summary.warnings = prepared.warnings;
        self.state = if packets == 0 {
            State::Done
        } else {
            State::Definitions(packets)
        };
        Ok(Event::Prepared(prepared))
    }

    fn end_by_ok<'a>(
        &mut self,
        payload: &'a [u8],
        ends_rows: bool,
    ) -> Result<Event<'a>, Malformed> {
        let ok = OkPacket::parse(payload, self.capabilities)?;
        self.summary.affected_rows = ok.affected_rows;
        self.summary.last_insert_id = ok.last_insert_id;
        self.end_result(ok.status, ok.warnings);
        Ok(Event::Ok { ok, ends_rows })
    }

    fn end_by_eof<'a>(&mut self, payload: &[u8]) -> Result<Event<'a>, Malformed> {
        let eof = EofPacket::parse(payload)?;
        self.end_result(eof.status, eof.warnings);
        Ok(Event::Eof(eof))
    }

    fn end_result(&mut self, status: ServerStatus, warnings: u16) {
        self.summary.status = status;
        self.summary.warnings = warnings;
        self.summary.results = self.summary.results.saturating_add(1);
        let follows = status.contains(ServerStatus::MORE_RESULTS)
            || std::mem::take(&mut self.is_out_parameters);
        let more = self.state != State::Single && follows;
        self.state = if more { State::First } else { State::Done };
    }

    fn deprecates_eof(&self) -> bool {
        self.capabilities.contains(Capabilities::DEPRECATE_EOF)
    }
}

#[cfg(test)]
mod tests;
