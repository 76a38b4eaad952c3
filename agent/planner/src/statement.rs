//! What is known of a statement after one pass over its tokens: its kind, its traits, the schemas it names. Everything
//! points into the text by ranges. Never holds a copy of the statement, never knows tables or columns.

use crate::token::Span;
use crate::traits::Traits;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// From the statement's first meaningful byte up to its `;` or the end of the text.
    pub span: Span,
    pub kind: Kind,
    pub traits: Traits,
    /// The schema names written in front of tables and routines (`shop`.`product`), in the order of the text. Cut from the
    /// text by their ranges, they can be replaced by the schema's real name.
    pub schemas: Vec<Span>,
    /// Where the next statement of the same text begins to be looked for; `None` when nothing but comments follows.
    pub rest: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Nothing to run: the server answers a comment with OK, and a text without even that with error 1065.
    Empty,
    /// SELECT, TABLE, VALUES, WITH ... SELECT, in parentheses or not.
    Select,
    Insert,
    Replace,
    Update,
    Delete,
    Do,
    Call,
    LoadData {
        local: bool,
    },
    /// Statements that change the schema's contents, `CREATE TEMPORARY TABLE` included (see the trait TEMPORARY_TABLE).
    Ddl,
    CreateDatabase {
        name: Span,
        if_not_exists: bool,
    },
    AlterDatabase {
        name: Option<Span>,
    },
    DropDatabase {
        name: Span,
        if_exists: bool,
    },
    /// ANALYZE, OPTIMIZE, REPAIR, CHECK, CHECKSUM TABLE, CACHE INDEX, LOAD INDEX.
    Maintenance,

    Begin(Begin),
    Commit(Completion),
    Rollback(Completion),
    Savepoint {
        name: Span,
    },
    RollbackToSavepoint {
        name: Span,
    },
    ReleaseSavepoint {
        name: Span,
    },
    Xa,
    LockTables,
    UnlockTables,
    /// LOCK INSTANCE FOR BACKUP, UNLOCK INSTANCE
    LockInstance,

    Set(Vec<Assignment>),
    /// SET TRANSACTION without SESSION or GLOBAL counts for the next transaction only.
    SetTransaction {
        scope: Scope,
    },
    Use {
        database: Span,
    },
    Show(Show),
    /// VEXPLAIN: the statement behind it begins there.
    Vexplain {
        from: usize,
    },
    /// EXPLAIN, DESCRIBE, DESC of a table or a statement.
    Explain {
        analyze: bool,
    },
    Prepare {
        name: Span,
    },
    Execute {
        name: Span,
    },
    Deallocate {
        name: Span,
    },
    Handler,
    GetDiagnostics,
    /// SIGNAL, RESIGNAL
    Signal,
    Kill(Kill),
    Flush(Flush),

    /// CREATE USER, GRANT, SET PASSWORD, SET ROLE and their kin.
    Account,
    /// Statements of the server's operator: replication, plugins, shutdown, tablespaces, binary logs.
    Administration,
    /// Not recognised; the server says what it is.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begin {
    /// `READ ONLY` was written.
    pub read_only: bool,
    /// `WITH CONSISTENT SNAPSHOT` was written.
    pub consistent_snapshot: bool,
}

/// What COMMIT and ROLLBACK do besides ending the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Completion {
    /// AND CHAIN: a new transaction begins at once.
    pub chain: bool,
    /// RELEASE: the server closes the connection.
    pub release: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `@name`
    User,
    Session,
    /// `SET @@name = ..` of a transaction characteristic and `SET TRANSACTION ..`: the next transaction only.
    NextTransaction,
    Global,
    Persist,
    PersistOnly,
    /// `SET NAMES`
    Names,
    /// `SET CHARACTER SET`
    CharacterSet,
}

/// One `name = value` of a SET statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub scope: Scope,
    /// Lower case, without quotes, `@` or scope; empty for NAMES and CHARACTER SET.
    pub name: Vec<u8>,
    /// The expression as it was written; for NAMES the character set with its COLLATE clause.
    pub value: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Databases,
    Tables,
    /// SHOW TABLE STATUS, TRIGGERS, EVENTS: like TABLES, they take a schema.
    TableLike,
    Columns,
    Index,
    /// SHOW CREATE DATABASE
    CreateDatabase,
    /// SHOW CREATE of anything else
    Create,
    Warnings,
    Errors,
    Variables,
    Status,
    /// SHOW [FULL] PROCESSLIST
    Processlist {
        full: bool,
    },
    /// SHOW VITRAIL QUERIES
    VitrailQueries,
    /// SHOW VITRAIL SESSIONS
    VitrailSessions,
    /// SHOW GRANTS of the user itself
    Grants,
    Other,
}

/// `KILL [CONNECTION | QUERY] id`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// The whole connection, not only its running statement.
    pub connection: bool,
    /// `None` when an expression stands there.
    pub id: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    Tables,
    /// WITH READ LOCK and FOR EXPORT: held until UNLOCK TABLES.
    TablesWithLock,
    Other,
}

impl Statement {
    /// Whether any replica could answer: nothing is written, nothing locked, no state of the session left behind.
    ///
    /// What the session did before may still forbid it; see [`Traits::DEPENDS_ON_PREVIOUS`]. A view whose definition
    /// calls a function that writes cannot be told from a table.
    pub fn is_read_only(&self) -> bool {
        let is_reading_kind = match &self.kind {
            Kind::Empty | Kind::Select | Kind::Do | Kind::Show(_) | Kind::Explain { .. } => true,
            Kind::Begin(begin) => begin.read_only,
            _ => false,
        };
        is_reading_kind && !self.traits.intersects(Traits::NOT_READ_ONLY)
    }

    /// Whether the backend connection must stay with the session once this statement has run.
    pub fn pins(&self) -> bool {
        self.traits.intersects(Traits::PINS)
    }

    /// Whether the answer depends on the statement before it on the same connection.
    pub fn depends_on_previous(&self) -> bool {
        self.traits.intersects(Traits::DEPENDS_ON_PREVIOUS)
    }
}
