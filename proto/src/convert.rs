//! Wire <-> domain. The only place that knows both; nothing here decides or does I/O.
//!
//! Towards the wire nothing can fail (`From`); from the wire everything is checked (`TryFrom`) and a mistake names its field.

use std::{fmt::Display, str::FromStr};

mod agent;
mod routing;
mod topology;
mod user;

pub use routing::{UpdateError, read_update};
pub use user::{grants, password_hashes};

/// A message that does not say what it must, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field '{field}' of the message is not valid: {reason}")]
pub struct ConvertError {
    /// The path of the field, as in `replication.source.port`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ConvertError {
    /// A mistake in the field.
    pub fn new(field: &str, reason: impl Display) -> Self {
        Self {
            field: field.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The field must be set and is not.
    pub fn missing(field: &str) -> Self {
        Self::new(field, "it is missing")
    }

    /// The same mistake seen from the message that holds the field's message as `parent`.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        Self {
            field: format!("{parent}.{}", self.field),
            reason: self.reason,
        }
    }
}

/// The domain form of a message that must be there.
pub fn required<W, D>(field: &str, value: Option<W>) -> Result<D, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    let value = value.ok_or_else(|| ConvertError::missing(field))?;
    D::try_from(value).map_err(|error| error.within(field))
}

/// The domain form of a message that may be there.
pub fn optional<W, D>(field: &str, value: Option<W>) -> Result<Option<D>, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    value
        .map(|value| D::try_from(value).map_err(|error| error.within(field)))
        .transpose()
}

/// The domain form of each message of a list; the mistake names the position, as in `shards[2].range`.
pub fn list<W, D>(field: &str, values: Vec<W>) -> Result<Vec<D>, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    let convert = |(index, value)| {
        D::try_from(value).map_err(|error: ConvertError| error.within(&format!("{field}[{index}]")))
    };
    values.into_iter().enumerate().map(convert).collect()
}

/// The value that a text field spells.
pub fn parse<D>(field: &str, text: &str) -> Result<D, ConvertError>
where
    D: FromStr,
    D::Err: Display,
{
    text.parse()
        .map_err(|error| ConvertError::new(field, error))
}

/// The value that a text field spells, if it is not empty.
pub fn parse_unless_empty<D>(field: &str, text: &str) -> Result<Option<D>, ConvertError>
where
    D: FromStr,
    D::Err: Display,
{
    if text.is_empty() {
        return Ok(None);
    }
    parse(field, text).map(Some)
}
