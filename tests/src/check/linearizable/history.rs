//! What clients asked of the records and what they were told, with times from one clock. Never judges.

use std::fmt;

/// One compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub record: String,
    /// The revision that the record must have; zero: it must not exist.
    pub expected: u64,
    /// None deletes it.
    pub value: Option<String>,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// All of them as they are at one moment.
    Read { records: Vec<String> },
    /// All changes or none.
    Write { changes: Vec<Change> },
}

impl Call {
    pub(super) fn records(&self) -> Vec<&str> {
        match self {
            Call::Read { records } => records.iter().map(String::as_str).collect(),
            Call::Write { changes } => changes.iter().map(|c| c.record.as_str()).collect(),
        }
    }
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Revision and value of each record in the order of the call; nothing where it does not exist.
    Read { found: Vec<Option<(u64, String)>> },
    /// The changes took effect at this revision.
    Written { revision: u64 },
    /// Nothing changed: this record was at another revision than expected.
    Conflict { record: String, found: u64 },
    /// Nothing changed, for a reason that says nothing of the records.
    Refused,
    /// It may have happened, may happen yet, or never will.
    Unknown,
}

/// An operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(usize);

/// One call and, if it came, its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u64,
    pub call: Call,
    pub called: u64,
    pub answer: Option<(u64, Answer)>,
}

impl Operation {
    /// When it was answered with something that is known.
    pub(super) fn answered(&self) -> Option<u64> {
        match &self.answer {
            Some((at, answer)) if *answer != Answer::Unknown => Some(*at),
            _ => None,
        }
    }

    /// Whether an order has to place it, or may.
    pub(super) fn matters(&self) -> bool {
        let answer = self.answer.as_ref().map(|(_, answer)| answer);
        let is_read = matches!(self.call, Call::Read { .. });
        let open = matches!(answer, None | Some(Answer::Unknown));
        answer != Some(&Answer::Refused) && !(is_read && open)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} [{} .. ", self.client, self.called)?;
        match self.answered() {
            Some(at) => write!(f, "{at}] ")?,
            None => write!(f, "?] ")?,
        }
        match &self.call {
            Call::Read { records } => write!(f, "reads {}", records.join(", "))?,
            Call::Write { changes } => {
                for (at, change) in changes.iter().enumerate() {
                    let and = if at > 0 { " and " } else { "" };
                    match &change.value {
                        Some(value) => write!(f, "{and}sets {} to {value}", change.record)?,
                        None => write!(f, "{and}deletes {}", change.record)?,
                    }
                    write!(f, " if at {}", change.expected)?;
                }
            }
        }
        match &self.answer {
            None | Some((_, Answer::Unknown)) => write!(f, " -> unknown"),
            Some((_, Answer::Refused)) => write!(f, " -> refused"),
            Some((_, Answer::Written { revision })) => write!(f, " -> written at {revision}"),
            Some((_, Answer::Conflict { record, found })) => {
                write!(f, " -> conflict, {record} is at {found}")
            }
            Some((_, Answer::Read { found })) => {
                let found = found.iter().map(|found| match found {
                    Some((revision, value)) => format!("{value} at {revision}"),
                    None => "absent".to_owned(),
                });
                write!(f, " -> {}", found.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// All operations, in order of their calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// A client asks. Times may be of any unit; of two events at one time, calls count as earlier than answers.
    pub fn call(&mut self, client: u64, at: u64, call: Call) -> OperationId {
        self.operations.push(Operation {
            client,
            call,
            called: at,
            answer: None,
        });
        OperationId(self.operations.len() - 1)
    }

    /// The client was answered. A retry with the same request id is one operation: it is answered once.
    ///
    /// # Panics
    /// If it was answered before, or if the answer does not fit the call.
    pub fn answer(&mut self, id: OperationId, at: u64, answer: Answer) {
        let operation = &mut self.operations[id.0];
        assert!(operation.answer.is_none(), "answered twice: {operation}");
        let fits = match (&operation.call, &answer) {
            (Call::Read { records }, Answer::Read { found }) => records.len() == found.len(),
            (Call::Read { .. }, Answer::Written { .. } | Answer::Conflict { .. })
            | (Call::Write { .. }, Answer::Read { .. }) => false,
            _ => true,
        };
        assert!(fits, "{answer:?} does not answer {operation}");
        operation.answer = Some((at, answer));
    }

    pub fn operation(&self, id: OperationId) -> &Operation {
        &self.operations[id.0]
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}
