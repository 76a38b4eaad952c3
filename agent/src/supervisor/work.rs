//! Work that may wait long: the first row of an epoch, schemas, schema changes. Each on a connection of its own, beside the loop.

use std::{future::Future, path::PathBuf, time::Duration};

use vt_agent_core::Work;
use vt_proto::{
    desired::SchemaTask,
    epoch::{Epoch, Incarnation},
    ids::TabletAlias,
};

use super::host::Host;
use crate::{
    config::Secret,
    mysqld::{
        INTERNAL_SCHEMA,
        admin_conn::{AdminConn, AdminError},
    },
    replication::{identifier, quoted, semisync},
};

#[cfg(test)]
mod tests;

/// A row waits for its acknowledgements as long as the epoch lasts; each new try would be one more waiting commit.
const ACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(3_600);
/// DDL on a large table takes its time; what takes longer belongs to online schema change.
const STATEMENT_LIMIT: Duration = Duration::from_secs(3_600);
/// Stands in the binary log and changes nothing: what waits may be the tables themselves, and then no row can be written.
const EMPTY_COMMIT: &str = "DROP TABLE IF EXISTS `sys`.`vitrail_nothing`";
/// As much of an error as is kept in the table.
const ERROR_LENGTH_MAX: usize = 1_000;

impl Host {
    /// The work as a future that owns all it needs.
    pub(super) fn work(
        &self,
        work: Work,
        alias: TabletAlias,
    ) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let socket = self.layout.socket();
        let password = self.credentials.admin.clone();
        async move {
            carry_out(socket, password, &work, &alias)
                .await
                .map_err(|error| error.to_string())
        }
    }
}

async fn carry_out(
    socket: PathBuf,
    password: Secret,
    work: &Work,
    alias: &TabletAlias,
) -> Result<(), AdminError> {
    let mut conn = AdminConn::connect(&socket, password.expose()).await?;
    match work {
        Work::RotateBinaryLog { .. } => semisync::rotate_binary_log(&mut conn).await,
        Work::TermRow { epoch, incarnation }
        | Work::Confirm {
            epoch, incarnation, ..
        } => {
            let row = epoch_row(*epoch, alias, *incarnation);
            // Writers wait for the first row, and the tables are there in every epoch but the first.
            match conn.execute_within(&row, ACKNOWLEDGED_LIMIT).await {
                Err(error) if is_without_table(&error) => {
                    make_internal_tables(&mut conn).await?;
                    conn.execute_within(&row, ACKNOWLEDGED_LIMIT).await
                }
                outcome => outcome,
            }
        }
        Work::Push {
            epoch, incarnation, ..
        } => {
            let row = match has_internal_tables(&mut conn).await? {
                true => epoch_row(*epoch, alias, *incarnation),
                false => EMPTY_COMMIT.to_owned(),
            };
            conn.execute_within(&row, ACKNOWLEDGED_LIMIT).await
        }
        Work::CreateSchema { name } => {
            let statement = format!("CREATE DATABASE IF NOT EXISTS `{}`", identifier(name));
            conn.execute_within(&statement, ACKNOWLEDGED_LIMIT).await
        }
        Work::SchemaChange(task) => change_schema(&mut conn, task).await,
    }
}

/// Always a row of its own: it never waits for the lock of one that a life before left waiting.
fn epoch_row(epoch: Epoch, alias: &TabletAlias, incarnation: Incarnation) -> String {
    format!(
        "INSERT INTO `{INTERNAL_SCHEMA}`.epochs (epoch, tablet, incarnation, opened_at) \
         VALUES ({epoch}, '{}', {incarnation}, UTC_TIMESTAMP(6))",
        quoted(&alias.to_string())
    )
}

async fn has_internal_tables(conn: &mut AdminConn) -> Result<bool, AdminError> {
    let query = format!(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{INTERNAL_SCHEMA}' \
         AND table_name IN ('epochs', 'schema_changes')"
    );
    let found: Vec<u64> = conn.rows(&query).await?;
    Ok(found.first() == Some(&2))
}

/// ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE.
fn is_without_table(error: &AdminError) -> bool {
    matches!(error.code(), Some(1049 | 1146))
}

/// The agent's own tables, replicated like the data: a new primary knows what was done before it.
async fn make_internal_tables(conn: &mut AdminConn) -> Result<(), AdminError> {
    if has_internal_tables(conn).await? {
        return Ok(());
    }
    for statement in [
        format!("CREATE DATABASE IF NOT EXISTS `{INTERNAL_SCHEMA}`"),
        format!(
            "CREATE TABLE IF NOT EXISTS `{INTERNAL_SCHEMA}`.epochs (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, \
             epoch BIGINT UNSIGNED NOT NULL, tablet VARCHAR(64) NOT NULL, incarnation BIGINT UNSIGNED NOT NULL, \
             opened_at DATETIME(6) NOT NULL) ENGINE = InnoDB"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `{INTERNAL_SCHEMA}`.schema_changes (id BIGINT UNSIGNED NOT NULL, \
             schema_name VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, error VARCHAR(1000) NULL, \
             changed_at DATETIME(6) NOT NULL, PRIMARY KEY (id, schema_name)) ENGINE = InnoDB"
        ),
    ] {
        conn.execute_within(&statement, ACKNOWLEDGED_LIMIT).await?;
    }
    Ok(())
}

/// The start is recorded first and the end after: a crash in between leaves a start without an end, which is never repeated.
async fn change_schema(conn: &mut AdminConn, task: &SchemaTask) -> Result<(), AdminError> {
    let schema = quoted(&task.schema);
    let start = format!(
        "INSERT INTO `{INTERNAL_SCHEMA}`.schema_changes (id, schema_name, state, changed_at) \
         VALUES ({}, '{schema}', 'started', UTC_TIMESTAMP(6))",
        task.id
    );
    conn.execute_within(&start, ACKNOWLEDGED_LIMIT).await?;
    let outcome = run_statements(conn, task).await;
    let (state, error) = match outcome {
        Ok(()) => ("done", "NULL".to_owned()),
        // mysqld refused a statement. Where the connection broke, nobody knows: the record stays as it is.
        Err(error) if error.code().is_some() && !error.ends_connection() => {
            let text: String = error.to_string().chars().take(ERROR_LENGTH_MAX).collect();
            ("failed", format!("'{}'", quoted(&text)))
        }
        Err(error) => return Err(error),
    };
    let end = format!(
        "UPDATE `{INTERNAL_SCHEMA}`.schema_changes SET state = '{state}', error = {error}, \
         changed_at = UTC_TIMESTAMP(6) WHERE id = {} AND schema_name = '{schema}'",
        task.id
    );
    conn.execute_within(&end, ACKNOWLEDGED_LIMIT).await
}

async fn run_statements(conn: &mut AdminConn, task: &SchemaTask) -> Result<(), AdminError> {
    conn.execute(&format!("USE `{}`", identifier(&task.schema)))
        .await?;
    for statement in &task.statements {
        conn.execute_within(statement, STATEMENT_LIMIT).await?;
    }
    Ok(())
}
