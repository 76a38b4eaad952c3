//! What a session needs to know of a text before it is sent: plan, traits, keyspaces, by the planner.
//!
//! It never looks into the text itself.

use vt_planner::{
    Access, Kind, LexOptions, Plan, Scope, Statement, Traits, Transaction, classify, statements,
};

use crate::router::error::RouterError;
use crate::router::metrics::QueryKind;
use crate::router::pool::settings::Untracked;
use crate::router::rights;
use crate::router::state::TransactionEnd;
use crate::router::users::Needs;

/// A text of one or several statements.
#[derive(Debug)]
pub struct Analysis {
    /// The plan of the only statement, or of the first.
    pub plan: Plan,
    pub is_read_only: bool,
    /// What the user must be allowed.
    pub needs: Needs,
    pub traits: Traits,
    pub untracked: Untracked,
    pub schemas: Vec<String>,
    pub ends_transaction: Option<TransactionEnd>,
    /// LOAD DATA LOCAL stands in it.
    pub uploads: bool,
    /// The first statement, for those that the router answers itself.
    pub first: Statement,
}

/// Analyses `sql`. Fails if the router refuses the text.
pub fn analyse(sql: &[u8], options: &LexOptions) -> Result<Analysis, RouterError> {
    let first = classify(sql, options);
    let plan = plan_of(&first)?;
    let mut analysis = Analysis {
        plan,
        is_read_only: first.is_read_only() && plan == Plan::Forward(Access::Read),
        needs: rights::needs(&first, sql),
        traits: first.traits,
        untracked: untracked(&first),
        schemas: Vec::new(),
        ends_transaction: end_of(plan),
        uploads: uploads(&first),
        first,
    };
    add_schemas(&mut analysis.schemas, &analysis.first, sql);
    if analysis.first.rest.is_some() {
        check_alone(plan)?;
        for statement in statements(sql, options).skip(1) {
            let plan = plan_of(&statement)?;
            check_alone(plan)?;
            analysis.is_read_only &=
                statement.is_read_only() && plan == Plan::Forward(Access::Read);
            analysis.needs = analysis.needs.with(rights::needs(&statement, sql));
            analysis.traits |= statement.traits;
            analysis.untracked = analysis.untracked.max(untracked(&statement));
            analysis.uploads |= uploads(&statement);
            // A commit anywhere in the text makes the outcome of the whole unknown when it is lost.
            analysis.ends_transaction = match (analysis.ends_transaction, end_of(plan)) {
                (Some(TransactionEnd::Commit), _) | (_, Some(TransactionEnd::Commit)) => {
                    Some(TransactionEnd::Commit)
                }
                _ => None,
            };
            add_schemas(&mut analysis.schemas, &statement, sql);
        }
    }
    Ok(analysis)
}

impl Analysis {
    /// Does the router answer it itself, and never a server?
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(self.plan)
    }

    #[must_use]
    pub fn kind(&self) -> QueryKind {
        match self.plan {
            Plan::Transaction(_) => QueryKind::transaction,
            _ if self.is_read_only => QueryKind::read,
            _ => QueryKind::write,
        }
    }
}

fn plan_of(statement: &Statement) -> Result<Plan, RouterError> {
    match Plan::unsharded(statement) {
        Plan::Refuse(reason) => Err(RouterError::Unsupported(reason)),
        plan => Ok(plan),
    }
}

fn check_alone(plan: Plan) -> Result<(), RouterError> {
    match is_local(plan) {
        true => Err(RouterError::NotAmongSeveral),
        false => Ok(()),
    }
}

/// Does the router answer it itself, and never a server?
fn is_local(plan: Plan) -> bool {
    matches!(
        plan,
        Plan::Use
            | Plan::SetOfRouter
            | Plan::ShowKeyspaces
            | Plan::ShowProcesslist { .. }
            | Plan::ShowQueries
            | Plan::ShowSessions
            | Plan::ShowGrants
            | Plan::Vexplain { .. }
            | Plan::Kill(_)
    )
}

fn end_of(plan: Plan) -> Option<TransactionEnd> {
    match plan {
        Plan::Transaction(Transaction::Commit(_)) => Some(TransactionEnd::Commit),
        Plan::Transaction(Transaction::Rollback(_)) => Some(TransactionEnd::Rollback),
        _ => None,
    }
}

fn uploads(statement: &Statement) -> bool {
    statement.kind == Kind::LoadData { local: true }
}

fn untracked(statement: &Statement) -> Untracked {
    let Kind::Set(assignments) = &statement.kind else {
        return Untracked::Nothing;
    };
    let of_session = assignments
        .iter()
        .filter(|assignment| assignment.scope == Scope::Session);
    of_session
        .map(|assignment| Untracked::by(&assignment.name))
        .max()
        .unwrap_or_default()
}

fn add_schemas(schemas: &mut Vec<String>, statement: &Statement, sql: &[u8]) {
    for span in &statement.schemas {
        let name = String::from_utf8_lossy(&span.name_of(sql)).into_owned();
        if !schemas.contains(&name) {
            schemas.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysed(sql: &str) -> Analysis {
        analyse(sql.as_bytes(), &LexOptions::default()).unwrap()
    }

    #[test]
    fn reads_and_writes() {
        assert!(analysed("SELECT 1").is_read_only);
        assert!(analysed("SELECT 1; SELECT 2").is_read_only);
        for sql in [
            "INSERT INTO t VALUES (1)",
            "SELECT 1 FOR UPDATE",
            "SELECT 1; DELETE FROM t",
            "BEGIN",
        ] {
            assert!(!analysed(sql).is_read_only, "{sql}");
        }
    }

    #[test]
    fn ends_of_transactions() {
        assert_eq!(
            analysed("COMMIT").ends_transaction,
            Some(TransactionEnd::Commit)
        );
        assert_eq!(
            analysed("ROLLBACK").ends_transaction,
            Some(TransactionEnd::Rollback)
        );
        assert_eq!(analysed("ROLLBACK TO a").ends_transaction, None);
        assert_eq!(
            analysed("INSERT INTO t VALUES (1); COMMIT").ends_transaction,
            Some(TransactionEnd::Commit)
        );
        assert_eq!(
            analysed("ROLLBACK; INSERT INTO t VALUES (1)").ends_transaction,
            None
        );
    }

    #[test]
    fn keyspaces_are_named_once() {
        assert_eq!(
            analysed("SELECT * FROM a.t JOIN `a`.u JOIN b.v").schemas,
            ["a", "b"]
        );
    }

    #[test]
    fn some_must_stand_alone() {
        let refused = analyse(b"USE a; SELECT 1", &LexOptions::default());
        assert_eq!(refused.unwrap_err(), RouterError::NotAmongSeveral);
        assert!(analyse(b"CREATE DATABASE a", &LexOptions::default()).is_err());
    }
}
