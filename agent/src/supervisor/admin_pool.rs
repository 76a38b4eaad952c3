//! Two administrative connections that are logged in already: where an account statement waits for an acknowledgement, no
//! login succeeds any more, and the agent must still be able to act.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    config::Secret,
    mysqld::admin_conn::{AdminConn, AdminError},
};

/// Between two logins for the second connection: a refused one must not cost every round its time.
const SPARE_RETRY: Duration = Duration::from_millis(500);
/// Longest wait for the second connection; it is only kept ready.
const SPARE_LIMIT: Duration = Duration::from_millis(200);

/// The connections.
pub(super) struct AdminPool {
    socket: PathBuf,
    password: Secret,
    main: Option<AdminConn>,
    spare: Option<AdminConn>,
    spare_tried: Option<Instant>,
}

impl AdminPool {
    pub(super) fn new(socket: PathBuf, password: Secret) -> Self {
        Self {
            socket,
            password,
            main: None,
            spare: None,
            spare_tried: None,
        }
    }

    /// The connection in use; the second one takes over where it has ended.
    pub(super) async fn main(&mut self) -> Result<&mut AdminConn, AdminError> {
        if self.main.as_ref().is_none_or(|conn| !conn.is_open()) {
            self.main = self.spare.take().filter(AdminConn::is_open);
        }
        let conn = match self.main.take() {
            Some(conn) => conn,
            None => AdminConn::connect(&self.socket, self.password.expose()).await?,
        };
        Ok(self.main.insert(conn))
    }

    /// Both; for what needs a second one to end the first.
    pub(super) async fn both(&mut self) -> Result<(&mut AdminConn, &mut AdminConn), AdminError> {
        self.main().await?;
        if self.spare.as_ref().is_none_or(|conn| !conn.is_open()) {
            self.spare = Some(AdminConn::connect(&self.socket, self.password.expose()).await?);
        }
        match (&mut self.main, &mut self.spare) {
            (Some(main), Some(spare)) => Ok((main, spare)),
            _ => Err(AdminError::Unreachable("no connection".to_owned())),
        }
    }

    /// Keeps the second one ready, now and then, without waiting long.
    pub(super) async fn keep_spare(&mut self) {
        let due = self
            .spare_tried
            .is_none_or(|tried| tried.elapsed() >= SPARE_RETRY);
        if !due || self.spare.as_ref().is_some_and(AdminConn::is_open) {
            return;
        }
        self.spare_tried = Some(Instant::now());
        let login =
            AdminConn::connect_within(&self.socket, self.password.expose(), SPARE_LIMIT).await;
        self.spare = login.ok();
    }

    /// Forgets both: mysqld has ended.
    pub(super) fn clear(&mut self) {
        self.main = None;
        self.spare = None;
        self.spare_tried = None;
    }
}
