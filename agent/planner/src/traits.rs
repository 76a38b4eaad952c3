//! A set of yes-or-no facts about a statement, in one word of memory. Says what is there, never what to do about it.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Traits(u32);

macro_rules! traits {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $text:literal,)*) => {
        impl Traits {
            $($(#[$doc])* pub const $name: Traits = Traits(1 << $bit);)*
            const NAMES: &'static [(Traits, &'static str)] = &[$((Traits::$name, $text),)*];
        }
    };
}

traits! {
    /// FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE
    LOCKING_READ = 0 "locking_read",
    /// SELECT ... INTO a variable
    INTO_VARIABLE = 1 "into_variable",
    /// SELECT ... INTO OUTFILE or DUMPFILE
    INTO_FILE = 2 "into_file",
    /// A user variable gets a value: SET @x, :=, INTO @x, CALL with @x
    ASSIGNS_USER_VARIABLE = 3 "assigns_user_variable",
    READS_USER_VARIABLE = 4 "reads_user_variable",
    /// CREATE or DROP TEMPORARY TABLE
    TEMPORARY_TABLE = 5 "temporary_table",
    /// GET_LOCK()
    ADVISORY_LOCK = 6 "advisory_lock",
    /// LOCK TABLES, FLUSH TABLES WITH READ LOCK, LOCK INSTANCE
    TABLE_LOCK = 7 "table_lock",
    SQL_CALC_FOUND_ROWS = 8 "sql_calc_found_rows",
    HANDLER = 9 "handler",
    XA = 10 "xa",
    /// PREPARE and EXECUTE as SQL text
    TEXT_PREPARE = 11 "text_prepare",
    /// SET TRANSACTION for the next transaction only
    NEXT_TRANSACTION = 12 "next_transaction",
    /// LAST_INSERT_ID() without an argument, @@identity, @@last_insert_id
    LAST_INSERT_ID = 13 "last_insert_id",
    /// LAST_INSERT_ID(expression)
    SETS_LAST_INSERT_ID = 14 "sets_last_insert_id",
    ROW_COUNT = 15 "row_count",
    /// FOUND_ROWS()
    FOUND_ROWS = 16 "found_rows",
    /// SHOW WARNINGS, SHOW ERRORS, GET DIAGNOSTICS, @@warning_count, @@error_count
    DIAGNOSTICS = 17 "diagnostics",
    IMPLICIT_COMMIT = 18 "implicit_commit",
    /// CONNECTION_ID(): the backend's number, not the client's
    CONNECTION_ID = 19 "connection_id",
    /// `?` stands in the text
    PLACEHOLDER = 20 "placeholder",
    /// EXPLAIN of a statement that writes
    WRITING_INSIDE = 21 "writing_inside",
    /// A function is called that is not MySQL's own: what it does, only its body tells.
    STORED_FUNCTION = 22 "stored_function",
    /// A `/*!NNNNN ... */` that some of the servers run and others do not: what the text does is not known
    OPEN_VERSION_COMMENT = 23 "open_version_comment",
}

impl Traits {
    pub const NONE: Traits = Traits(0);

    /// The session needs the very same backend connection from now on.
    pub const PINS: Traits = Traits(
        Self::INTO_VARIABLE.0
            | Self::ASSIGNS_USER_VARIABLE.0
            | Self::TEMPORARY_TABLE.0
            | Self::ADVISORY_LOCK.0
            | Self::TABLE_LOCK.0
            | Self::SQL_CALC_FOUND_ROWS.0
            | Self::HANDLER.0
            | Self::XA.0
            | Self::TEXT_PREPARE.0
            | Self::NEXT_TRANSACTION.0,
    );

    /// The statement must run on the connection that ran the one before it, or be answered from what the router kept.
    pub const DEPENDS_ON_PREVIOUS: Traits = Traits(
        Self::LAST_INSERT_ID.0 | Self::ROW_COUNT.0 | Self::FOUND_ROWS.0 | Self::DIAGNOSTICS.0,
    );

    /// What makes a SELECT more than a read.
    pub(crate) const NOT_READ_ONLY: Traits = Traits(
        Self::PINS.0
            | Self::LOCKING_READ.0
            | Self::INTO_FILE.0
            | Self::WRITING_INSIDE.0
            | Self::STORED_FUNCTION.0,
    );

    #[inline]
    pub fn contains(self, all: Traits) -> bool {
        self.0 & all.0 == all.0
    }

    #[inline]
    pub fn intersects(self, any: Traits) -> bool {
        self.0 & any.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Traits {
    type Output = Traits;
    fn bitor(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }
}

impl BitOrAssign for Traits {
    #[inline]
    fn bitor_assign(&mut self, other: Traits) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Traits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().filter(|(bit, _)| self.contains(*bit)) {
            write!(formatter, "{separator}{name}")?;
            separator = " ";
        }
        Ok(())
    }
}

impl fmt::Debug for Traits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Traits({self})")
    }
}
