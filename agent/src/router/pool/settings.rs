//! Session variables as the server reported them, and the statement that sets them anew elsewhere.
//!
//! Values come from the session tracker after the server's OK, never from the text of a SET.

use std::collections::BTreeMap;

/// Name and value of every system variable that the session changed.
pub type Settings = BTreeMap<Vec<u8>, Vec<u8>>;

/// Variables that the server is asked to report when a statement sets them, in order. Not `*`: that
/// reports the number of every statement as well. A session that sets any other keeps its connection.
const TRACKED: [&str; 86] = [
    "auto_increment_increment",
    "auto_increment_offset",
    "autocommit",
    "big_tables",
    "block_encryption_mode",
    "bulk_insert_buffer_size",
    "character_set_client",
    "character_set_connection",
    "character_set_filesystem",
    "character_set_results",
    "collation_connection",
    "completion_type",
    "cte_max_recursion_depth",
    "default_collation_for_utf8mb4",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "default_week_format",
    "div_precision_increment",
    "end_markers_in_json",
    "eq_range_index_dive_limit",
    "explain_format",
    "explain_json_format_version",
    "foreign_key_checks",
    "group_concat_max_len",
    "information_schema_stats_expiry",
    "innodb_lock_wait_timeout",
    "innodb_strict_mode",
    "interactive_timeout",
    "internal_tmp_mem_storage_engine",
    "join_buffer_size",
    "lc_messages",
    "lc_time_names",
    "lock_wait_timeout",
    "long_query_time",
    "low_priority_updates",
    "max_error_count",
    "max_execution_time",
    "max_heap_table_size",
    "max_join_size",
    "max_points_in_geometry",
    "max_seeks_for_key",
    "max_sort_length",
    "min_examined_row_limit",
    "net_read_timeout",
    "net_retry_count",
    "net_write_timeout",
    "old_alter_table",
    "optimizer_prune_level",
    "optimizer_search_depth",
    "optimizer_switch",
    "parser_max_mem_size",
    "print_identified_with_as_hex",
    "range_alloc_block_size",
    "range_optimizer_max_mem_size",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "select_into_buffer_size",
    "select_into_disk_sync",
    "select_into_disk_sync_delay",
    "session_track_gtids",
    "session_track_schema",
    "session_track_transaction_info",
    "set_operations_buffer_size",
    "show_create_table_verbosity",
    "show_gipk_in_create_table_and_information_schema",
    "sort_buffer_size",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_buffer_result",
    "sql_generate_invisible_primary_key",
    "sql_mode",
    "sql_notes",
    "sql_quote_show_create",
    "sql_require_primary_key",
    "sql_safe_updates",
    "sql_select_limit",
    "sql_warnings",
    "time_zone",
    "tmp_table_size",
    "transaction_isolation",
    "transaction_read_only",
    "unique_checks",
    "updatable_views_with_limit",
    "use_secondary_engine",
    "wait_timeout",
    "windowing_use_high_precision",
];

/// Of these a server tells every client that wants to be told anything, until the client chooses others.
const TOLD: [&str; 5] = [
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "time_zone",
];

/// Is a client told of a change of the variable, without having asked for it by name?
#[must_use]
pub fn is_told(name: &[u8]) -> bool {
    TOLD.iter().any(|told| told.as_bytes() == name)
}

/// What a statement sets that the server does not report: nothing but the same connection keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Untracked {
    #[default]
    Nothing,
    Variables,
    /// Which variables are reported, among others perhaps.
    Reports,
}

impl Untracked {
    /// Of a statement that sets this variable.
    #[must_use]
    pub fn by(name: &[u8]) -> Self {
        match name {
            b"session_track_system_variables" => Self::Reports,
            name if is_tracked(name) => Self::Nothing,
            _ => Self::Variables,
        }
    }
}

/// Does the server report a change of the variable, so that it can be set anew elsewhere?
#[must_use]
pub fn is_tracked(name: &[u8]) -> bool {
    TRACKED
        .binary_search_by(|tracked| tracked.as_bytes().cmp(name))
        .is_ok()
}

/// Can the value be written as a literal that every sql_mode reads alike?
#[must_use]
pub fn is_replayable(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte != b'\\' && *byte != b'\0')
}

/// The assignment that asks for the reports, also of what the session writes.
#[must_use]
pub fn track_assignment() -> String {
    format!(
        "@@SESSION.session_track_system_variables='{}',@@SESSION.session_track_gtids=OWN_GTID",
        TRACKED.join(",")
    )
}

/// Appends `@@SESSION.name = value` for each of `wanted` that `present` has not; returns how many.
pub fn put_assignments(out: &mut Vec<u8>, wanted: &Settings, present: Option<&Settings>) -> usize {
    let mut count = 0;
    for (name, value) in wanted {
        if present.and_then(|present| present.get(name)) == Some(value) {
            continue;
        }
        if count > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"@@SESSION.");
        out.extend_from_slice(name);
        out.push(b'=');
        put_value(out, name, value);
        count += 1;
    }
    count
}

fn put_value(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // The tracker writes NULL, which only this variable can have, as an empty value.
    if name == b"character_set_results" && value.is_empty() {
        out.extend_from_slice(b"NULL");
    } else if is_number(value) {
        out.extend_from_slice(value);
    } else {
        out.push(b'\'');
        for byte in value {
            if *byte == b'\'' {
                out.push(b'\'');
            }
            out.push(*byte);
        }
        out.push(b'\'');
    }
}

fn is_number(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &b"0"[..]),
    };
    let all_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all_digits(whole) && all_digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn only_what_differs_is_set() {
        let present = settings(&[("autocommit", "OFF"), ("time_zone", "SYSTEM")]);
        let wanted = settings(&[
            ("autocommit", "OFF"),
            ("character_set_results", ""),
            ("long_query_time", "1.500000"),
            ("max_execution_time", "100"),
            ("sql_mode", ""),
            ("time_zone", "+0'1"),
        ]);
        let mut out = Vec::new();
        assert_eq!(put_assignments(&mut out, &wanted, Some(&present)), 5);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "@@SESSION.character_set_results=NULL,@@SESSION.long_query_time=1.500000,\
             @@SESSION.max_execution_time=100,@@SESSION.sql_mode='',@@SESSION.time_zone='+0''1'"
        );
    }

    #[test]
    fn what_cannot_be_replayed() {
        assert!(TRACKED.is_sorted());
        assert!(is_tracked(b"sql_mode") && !is_tracked(b"timestamp"));
        assert_eq!(Untracked::by(b"time_zone"), Untracked::Nothing);
        assert_eq!(Untracked::by(b"timestamp"), Untracked::Variables);
        let reports = Untracked::by(b"session_track_system_variables");
        assert!(reports == Untracked::Reports && reports > Untracked::Variables);
        assert!(TOLD.iter().all(|name| is_tracked(name.as_bytes())));
        assert!(is_replayable(b"ANSI_QUOTES") && !is_replayable(b"a\\b"));
    }
}
