//! Variables of a session that only the router has: how old an answer of a replica may be, and how long one waits for own writes.
//!
//! `SET vitrail_NAME = number` and `SELECT @@vitrail_NAME`; a server never hears of them.

use std::time::Duration;

use vt_planner::{Assignment, Scope};

use super::error::RouterError;

/// What the session has set; `None`: as the router is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variables {
    /// Replicas that lag by more do not answer. Nothing is set by 2^64 - 1 as well: any lag will do.
    pub replica_lag_max_ms: Option<u64>,
    /// How long a read waits on a replica for what the session wrote; 0: it does not.
    pub read_wait_ms: Option<u64>,
}

/// How the router is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    pub replica_lag_max_ms: Option<u64>,
    pub read_wait: Duration,
}

/// Longer than any client waits; the server takes no more.
const READ_WAIT_MS_MAX: u64 = 3_600_000;
const REPLICA_LAG: &str = "vitrail_replica_lag_max_ms";
const READ_WAIT: &str = "vitrail_read_wait_ms";
/// Longer texts ask for more than one variable.
const ASKED_LENGTH_MAX: usize = 64;

impl Variables {
    /// Carries out a SET of these variables alone, all of it or nothing.
    pub fn set(&mut self, assignments: &[Assignment], sql: &[u8]) -> Result<(), RouterError> {
        let mut changed = *self;
        for assignment in assignments {
            let name = String::from_utf8_lossy(&assignment.name).into_owned();
            if !vt_planner::is_of_router(assignment) {
                return Err(RouterError::MixedVariables);
            }
            let (field, max) = match name.as_str() {
                REPLICA_LAG => (&mut changed.replica_lag_max_ms, u64::MAX),
                READ_WAIT => (&mut changed.read_wait_ms, READ_WAIT_MS_MAX),
                _ => return Err(RouterError::UnknownVariable(name)),
            };
            if assignment.scope != Scope::Session {
                return Err(RouterError::SessionVariable(name));
            }
            let value = assignment.value.of(sql).trim_ascii();
            *field = match value.eq_ignore_ascii_case(b"default") {
                true => None,
                false => Some(number(value, max).ok_or(RouterError::WrongValue { name, max })?),
            };
        }
        *self = changed;
        Ok(())
    }

    /// The lag that a replica may have; `None`: any.
    #[must_use]
    pub fn replica_lag_max_ms(&self, defaults: &Defaults) -> Option<u64> {
        let own = self.replica_lag_max_ms.or(defaults.replica_lag_max_ms);
        own.filter(|max| *max < u64::MAX)
    }

    #[must_use]
    pub fn read_wait(&self, defaults: &Defaults) -> Duration {
        self.read_wait_ms
            .map_or(defaults.read_wait, Duration::from_millis)
    }

    fn value(&self, variable: Variable, defaults: &Defaults) -> u64 {
        match variable {
            Variable::ReplicaLag => self.replica_lag_max_ms(defaults).unwrap_or(u64::MAX),
            Variable::ReadWait => self.read_wait(defaults).as_millis() as u64,
        }
    }

    /// The title and the value that `SELECT @@name` shows.
    #[must_use]
    pub fn show(&self, variable: Variable, defaults: &Defaults) -> (String, u64) {
        let name = match variable {
            Variable::ReplicaLag => REPLICA_LAG,
            Variable::ReadWait => READ_WAIT,
        };
        (format!("@@{name}"), self.value(variable, defaults))
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    ReplicaLag,
    ReadWait,
}

/// Whether a text is `SELECT @@name` of one of them and nothing else.
#[must_use]
pub fn asked(sql: &[u8]) -> Option<Variable> {
    if sql.len() > ASKED_LENGTH_MAX {
        return None;
    }
    let mut words = sql
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let (select, name) = (words.next()?, words.next()?);
    if !select.eq_ignore_ascii_case(b"select") || words.next().is_some() {
        return None;
    }
    let name = name.strip_prefix(b"@@")?.to_ascii_lowercase();
    let name = name.strip_prefix(b"session.").unwrap_or(&name);
    match name {
        _ if name == REPLICA_LAG.as_bytes() => Some(Variable::ReplicaLag),
        _ if name == READ_WAIT.as_bytes() => Some(Variable::ReadWait),
        _ => None,
    }
}

fn number(text: &[u8], max: u64) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    number.parse().ok().filter(|number| *number <= max)
}

#[cfg(test)]
mod tests {
    use vt_planner::{Kind, LexOptions, classify};

    use super::*;

    const DEFAULTS: Defaults = Defaults {
        replica_lag_max_ms: Some(5_000),
        read_wait: Duration::from_millis(200),
    };

    fn set(variables: &mut Variables, sql: &str) -> Result<(), RouterError> {
        let Kind::Set(assignments) = classify(sql.as_bytes(), &LexOptions::default()).kind else {
            panic!("{sql}");
        };
        variables.set(&assignments, sql.as_bytes())
    }

    #[test]
    fn what_is_set_counts_until_it_is_taken_back() {
        let mut variables = Variables::default();
        let seen = |variables: &Variables| {
            let wait = variables.read_wait(&DEFAULTS).as_millis();
            (variables.replica_lag_max_ms(&DEFAULTS), wait)
        };
        for (sql, lag, wait) in [
            ("SET vitrail_replica_lag_max_ms = 0", Some(0), 200),
            ("SET @@session.Vitrail_Read_Wait_ms := 7", Some(0), 7),
            (
                "SET SESSION vitrail_read_wait_ms = 3600000, @@vitrail_replica_lag_max_ms = 18446744073709551615",
                None,
                3_600_000,
            ),
            (
                "SET vitrail_replica_lag_max_ms = DEFAULT",
                Some(5_000),
                3_600_000,
            ),
            (
                "SET LOCAL vitrail_read_wait_ms = default ;",
                Some(5_000),
                200,
            ),
        ] {
            assert_eq!(set(&mut variables, sql), Ok(()), "{sql}");
            assert_eq!(seen(&variables), (lag, wait), "{sql}");
        }
    }

    #[test]
    fn what_cannot_be_set_changes_nothing() {
        let name = || READ_WAIT.to_owned();
        let wrong = || RouterError::WrongValue {
            name: name(),
            max: READ_WAIT_MS_MAX,
        };
        let unknown = RouterError::UnknownVariable("vitrail_x".to_owned());
        let before = Variables {
            read_wait_ms: Some(3),
            ..Variables::default()
        };
        for (sql, error) in [
            ("SET vitrail_read_wait_ms = 3600001", wrong()),
            ("SET vitrail_read_wait_ms = -1", wrong()),
            ("SET vitrail_read_wait_ms = (SELECT 1)", wrong()),
            ("SET vitrail_read_wait_ms = ", wrong()),
            (
                "SET GLOBAL vitrail_read_wait_ms = 1",
                RouterError::SessionVariable(name()),
            ),
            ("SET vitrail_x = 1", unknown),
            (
                "SET vitrail_read_wait_ms = 1, sql_mode = ''",
                RouterError::MixedVariables,
            ),
        ] {
            let mut variables = before;
            assert_eq!(set(&mut variables, sql), Err(error), "{sql}");
            assert_eq!(variables, before, "{sql}");
        }
    }

    #[test]
    fn one_of_them_alone_is_answered() {
        for (sql, expected) in [
            ("SELECT @@vitrail_read_wait_ms", Some(Variable::ReadWait)),
            (
                " select  @@SESSION.vitrail_replica_lag_max_ms ",
                Some(Variable::ReplicaLag),
            ),
            ("SELECT @@vitrail_read_wait_ms + 1", None),
            ("SELECT vitrail_read_wait_ms", None),
            ("SELECT @@vitrail_x", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(asked(sql.as_bytes()), expected, "{sql}");
        }
        let variables = Variables::default();
        let (title, value) = variables.show(Variable::ReadWait, &DEFAULTS);
        assert_eq!((title.as_str(), value), ("@@vitrail_read_wait_ms", 200));
    }
}
