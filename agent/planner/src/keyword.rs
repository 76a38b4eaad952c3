//! The words that decide what a statement is. Words that decide nothing are `Keyword::None`; no grammar lives here.

/// Longer words are never keywords of ours.
const LENGTH_MAX: usize = 24;
/// Shorter ones neither.
const LENGTH_MIN: usize = 2;

macro_rules! keywords {
    ($($name:ident $text:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Keyword {
            None,
            $($name,)*
        }

        fn find(upper: &[u8]) -> Keyword {
            match upper {
                $($text => Keyword::$name,)*
                _ => Keyword::None,
            }
        }
    };
}

keywords! {
    All b"ALL", Alter b"ALTER", Analyze b"ANALYZE", And b"AND", As b"AS", Begin b"BEGIN", Binary b"BINARY",
    Binlog b"BINLOG", Cache b"CACHE", Call b"CALL", Case b"CASE", Chain b"CHAIN", Change b"CHANGE",
    Character b"CHARACTER", Charset b"CHARSET", Check b"CHECK", Checksum b"CHECKSUM", Clone b"CLONE",
    Collate b"COLLATE", Columns b"COLUMNS", Commit b"COMMIT", ConnectionWord b"CONNECTION",
    ConnectionId b"CONNECTION_ID", Consistent b"CONSISTENT", Count b"COUNT", Create b"CREATE",
    Database b"DATABASE", Databases b"DATABASES", Deallocate b"DEALLOCATE", Default b"DEFAULT",
    Definer b"DEFINER", Delayed b"DELAYED", Delete b"DELETE", Desc b"DESC", Describe b"DESCRIBE",
    Diagnostics b"DIAGNOSTICS", Do b"DO", Drop b"DROP", Dumpfile b"DUMPFILE", Else b"ELSE", End b"END",
    Errors b"ERRORS", Event b"EVENT", Events b"EVENTS", Execute b"EXECUTE", Exists b"EXISTS",
    Explain b"EXPLAIN", Export b"EXPORT", Extended b"EXTENDED", Fields b"FIELDS", Flush b"FLUSH", For b"FOR",
    Format b"FORMAT", FoundRows b"FOUND_ROWS", From b"FROM", Full b"FULL", Function b"FUNCTION", Get b"GET",
    GetLock b"GET_LOCK", Global b"GLOBAL", Grant b"GRANT", Grants b"GRANTS", Group b"GROUP", Handler b"HANDLER",
    Having b"HAVING", HighPriority b"HIGH_PRIORITY", If b"IF", Ignore b"IGNORE", Import b"IMPORT", In b"IN",
    Index b"INDEX", Indexes b"INDEXES", Infile b"INFILE", Insert b"INSERT", Install b"INSTALL",
    Instance b"INSTANCE", Into b"INTO", Isolation b"ISOLATION", Join b"JOIN", Key b"KEY", Keys b"KEYS",
    Kill b"KILL", LastInsertId b"LAST_INSERT_ID", Library b"LIBRARY", Like b"LIKE", Limit b"LIMIT",
    Load b"LOAD", Local b"LOCAL", Lateral b"LATERAL", Lock b"LOCK", Logfile b"LOGFILE", Loop b"LOOP",
    LowPriority b"LOW_PRIORITY", Mode b"MODE", Names b"NAMES", No b"NO", Not b"NOT", Of b"OF", Oj b"OJ",
    On b"ON", Only b"ONLY", Open b"OPEN", Optimize b"OPTIMIZE", Or b"OR", Order b"ORDER",
    Outfile b"OUTFILE", Partition b"PARTITION", Password b"PASSWORD", Persist b"PERSIST",
    PersistOnly b"PERSIST_ONLY", Prepare b"PREPARE", Procedure b"PROCEDURE", Processlist b"PROCESSLIST",
    Purge b"PURGE", Queries b"QUERIES", Query b"QUERY", Quick b"QUICK", Read b"READ", References b"REFERENCES",
    Release b"RELEASE", Rename b"RENAME", Repair b"REPAIR", Repeat b"REPEAT", Replace b"REPLACE",
    Reset b"RESET", Resignal b"RESIGNAL", Resource b"RESOURCE", Restart b"RESTART", Revoke b"REVOKE",
    Role b"ROLE", Rollback b"ROLLBACK", Row b"ROW", RowCount b"ROW_COUNT", Savepoint b"SAVEPOINT",
    Schema b"SCHEMA", Schemas b"SCHEMAS", Select b"SELECT", Server b"SERVER", Session b"SESSION", Sessions b"SESSIONS", Set b"SET",
    Share b"SHARE", Show b"SHOW", Shutdown b"SHUTDOWN", Signal b"SIGNAL", Snapshot b"SNAPSHOT",
    Spatial b"SPATIAL", SqlCalcFoundRows b"SQL_CALC_FOUND_ROWS", Stacked b"STACKED", Start b"START",
    Status b"STATUS", Stop b"STOP", StraightJoin b"STRAIGHT_JOIN", Table b"TABLE", Tables b"TABLES",
    Tablespace b"TABLESPACE", Temporary b"TEMPORARY", Then b"THEN", To b"TO", Transaction b"TRANSACTION",
    Trigger b"TRIGGER", Triggers b"TRIGGERS", Truncate b"TRUNCATE", Undo b"UNDO", Uninstall b"UNINSTALL",
    Union b"UNION", Unlock b"UNLOCK", Update b"UPDATE", Use b"USE", User b"USER", Using b"USING",
    Values b"VALUES", Variables b"VARIABLES", Vexplain b"VEXPLAIN", View b"VIEW", Vitrail b"VITRAIL", Warnings b"WARNINGS", Where b"WHERE",
    While b"WHILE", Window b"WINDOW", With b"WITH", Work b"WORK", Write b"WRITE", Xa b"XA", Xml b"XML",
}

/// The keyword of a word without quotes, in any case.
#[inline]
pub(crate) fn keyword(word: &[u8]) -> Keyword {
    if word.len() < LENGTH_MIN || word.len() > LENGTH_MAX {
        return Keyword::None;
    }
    let mut upper = [0; LENGTH_MAX];
    let upper = &mut upper[..word.len()];
    for (to, from) in upper.iter_mut().zip(word) {
        *to = from.to_ascii_uppercase();
    }
    find(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_words_in_any_case_and_nothing_else() {
        assert_eq!(keyword(b"Select"), Keyword::Select);
        assert_eq!(keyword(b"SQL_CALC_FOUND_ROWS"), Keyword::SqlCalcFoundRows);
        assert_eq!(keyword(b"selects"), Keyword::None);
        assert_eq!(keyword(b"x"), Keyword::None);
        assert_eq!(keyword(&[b'A'; 100]), Keyword::None);
    }
}
