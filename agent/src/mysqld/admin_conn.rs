//! The administrative connection: vt_admin over the unix socket, with a time limit on every step.
//!
//! A statement that is late is given up with its connection, since nobody knows what it still does; the caller opens
//! another. It never retries.

use std::{path::Path, time::Duration};

use mysql_async::{
    Conn, OptsBuilder, Params, Row, TxOpts,
    prelude::{FromRow, Queryable},
};
use tokio::time::timeout;

use super::ADMIN_USER;

/// A login over the unix socket takes a millisecond; it waits where an account statement holds the accounts' lock.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For statements that only read memory.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("mysqld does not answer on its socket: {0}")]
    Unreachable(String),
    #[error("{what} took longer than {limit_ms} ms")]
    Late { what: String, limit_ms: u128 },
    /// The connection broke under the statement: it may or may not have been carried out.
    #[error("the connection broke during {what}: {reason}")]
    Broken { what: String, reason: String },
    /// mysqld's own answer; the connection is as good as before.
    #[error("{what}: error {code}: {message}")]
    Refused {
        what: String,
        code: u16,
        message: String,
    },
}

impl AdminError {
    /// mysqld's error number, where it gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the connection cannot be used any more.
    pub fn ends_connection(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// One connection. After an error that ends it, every call fails.
#[derive(Debug)]
pub struct AdminConn {
    conn: Option<Conn>,
}

impl AdminConn {
    /// Logs in.
    pub async fn connect(socket: &Path, password: &str) -> Result<Self, AdminError> {
        Self::connect_within(socket, password, CONNECT_TIMEOUT).await
    }

    /// Logs in, with a limit of the caller's.
    pub async fn connect_within(
        socket: &Path,
        password: &str,
        limit: Duration,
    ) -> Result<Self, AdminError> {
        let options = OptsBuilder::default()
            .socket(socket.to_str())
            .user(Some(ADMIN_USER))
            .pass(Some(password))
            .prefer_socket(false)
            // Statements are few and differ; nothing is to be kept on the server for them.
            .stmt_cache_size(0);
        let what = "the login".to_owned();
        match timeout(limit, Conn::new(options)).await {
            Ok(Ok(conn)) => Ok(Self { conn: Some(conn) }),
            Ok(Err(error)) => Err(match error {
                mysql_async::Error::Server(error) => refused(what, error),
                other => AdminError::Unreachable(other.to_string()),
            }),
            Err(_) => Err(late(what, limit)),
        }
    }

    /// Carries out a statement.
    pub async fn execute(&mut self, statement: &str) -> Result<(), AdminError> {
        self.execute_within(statement, QUERY_TIMEOUT).await
    }

    /// Carries out a statement that may take longer.
    pub async fn execute_within(
        &mut self,
        statement: &str,
        limit: Duration,
    ) -> Result<(), AdminError> {
        self.limited(statement, limit, async |conn| {
            conn.query_drop(statement).await
        })
        .await
    }

    /// Carries out a statement with parameters, which never appear in errors.
    pub async fn execute_with(
        &mut self,
        statement: &str,
        parameters: impl Into<Params> + Send,
        limit: Duration,
    ) -> Result<(), AdminError> {
        let parameters = parameters.into();
        self.limited(statement, limit, async |conn| {
            conn.exec_drop(statement, parameters).await
        })
        .await
    }

    /// Carries out a statement whose text holds a secret; errors say `what` instead, and leave out mysqld's own words.
    pub async fn execute_secret(
        &mut self,
        what: &str,
        statement: &str,
        limit: Duration,
    ) -> Result<(), AdminError> {
        let done = self
            .limited(what, limit, async |conn| conn.query_drop(statement).await)
            .await;
        done.map_err(|error| match error {
            AdminError::Refused {
                what,
                code,
                message,
            } if message.contains("near '") => {
                let message = "the statement is not understood".to_owned();
                AdminError::Refused {
                    what,
                    code,
                    message,
                }
            }
            other => other,
        })
    }

    /// The rows of a query, as tuples of the caller's choice.
    pub async fn rows<T: FromRow + Send + 'static>(
        &mut self,
        query: &str,
    ) -> Result<Vec<T>, AdminError> {
        self.limited(query, QUERY_TIMEOUT, async |conn| conn.query(query).await)
            .await
    }

    /// The first row of a query, by column names: for SHOW statements.
    pub async fn row(&mut self, query: &str) -> Result<Option<Row>, AdminError> {
        self.row_within(query, QUERY_TIMEOUT).await
    }

    /// The first row of a query that may take longer.
    pub async fn row_within(
        &mut self,
        query: &str,
        limit: Duration,
    ) -> Result<Option<Row>, AdminError> {
        self.limited(query, limit, async |conn| conn.query_first(query).await)
            .await
    }

    /// The rows of several queries that travel together, in their order.
    pub async fn row_sets(&mut self, queries: &str) -> Result<Vec<Vec<Row>>, AdminError> {
        self.limited(queries, QUERY_TIMEOUT, async |conn| {
            let mut result = conn.query_iter(queries).await?;
            let mut sets = Vec::new();
            while !result.is_empty() {
                sets.push(result.collect().await?);
            }
            Ok(sets)
        })
        .await
    }

    /// Several statements as one transaction.
    pub async fn transaction(
        &mut self,
        statements: &[String],
        limit: Duration,
    ) -> Result<(), AdminError> {
        self.limited("a transaction", limit, async |conn| {
            let mut transaction = conn.start_transaction(TxOpts::default()).await?;
            for statement in statements {
                transaction.query_drop(statement).await?;
            }
            transaction.commit().await
        })
        .await
    }

    /// Number of this session in mysqld's process list; `None` once the connection has ended.
    pub fn id(&self) -> Option<u32> {
        self.conn.as_ref().map(Conn::id)
    }

    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        self.conn.is_some()
    }

    async fn limited<T>(
        &mut self,
        what: &str,
        limit: Duration,
        call: impl AsyncFnOnce(&mut Conn) -> Result<T, mysql_async::Error>,
    ) -> Result<T, AdminError> {
        let what = shortened(what);
        let Some(mut conn) = self.conn.take() else {
            return Err(AdminError::Unreachable(
                "this connection has ended".to_owned(),
            ));
        };
        match timeout(limit, call(&mut conn)).await {
            // The connection is dropped with its late statement.
            Err(_) => Err(late(what, limit)),
            Ok(Ok(value)) => {
                self.conn = Some(conn);
                Ok(value)
            }
            Ok(Err(mysql_async::Error::Server(error))) => {
                // Being shut down and killed are told by an error too, as the connection's last words.
                if !matches!(error.code, 1053 | 1927 | 3169) {
                    self.conn = Some(conn);
                }
                Err(refused(what, error))
            }
            Ok(Err(error)) => Err(AdminError::Broken {
                what,
                reason: error.to_string(),
            }),
        }
    }
}

fn refused(what: String, error: mysql_async::ServerError) -> AdminError {
    AdminError::Refused {
        what,
        code: error.code,
        message: error.message,
    }
}

fn late(what: String, limit: Duration) -> AdminError {
    AdminError::Late {
        what,
        limit_ms: limit.as_millis(),
    }
}

/// Enough of a statement to recognise it in a log.
fn shortened(statement: &str) -> String {
    const LENGTH_MAX: usize = 120;
    statement.chars().take(LENGTH_MAX).collect()
}
