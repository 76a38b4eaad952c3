//! The internal accounts and their rights, as statements for mysqld's first start. It talks to no server.
//!
//! Accounts are made once, before there is any replication, on every tablet alike. Later account statements would hold
//! the lock that every login needs while they wait for an acknowledgement; so the rights of `vt_app` name no keyspace:
//! they hold for every schema, and partial revokes take the internal ones away. Only the accounts with which the other
//! tablets replicate are made later (`replication/accounts.rs`), past the binary log, so that they wait for nobody.

use std::fmt;

use super::{ADMIN_USER, APP_USER, CLONE_USER, INTERNAL_SCHEMA};

/// The passwords of the internal accounts. They are never printed.
#[derive(Clone)]
pub struct Passwords {
    pub admin: String,
    pub replication: String,
    pub app: String,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(..)")
    }
}

/// A password that cannot stand in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the password of {0} is empty or holds a control character: set another in the credentials file"
)]
pub struct PasswordError(pub &'static str);

/// Rows and tables of any schema, with everything an application's DDL needs.
const DATA_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, \
    CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER";

/// What the agent does: schema changes and the term row (the data rights), observing (PROCESS, REPLICATION CLIENT),
/// `STOP/CHANGE/START REPLICA` (`REPLICATION_SLAVE_ADMIN`), `super_read_only`, `offline_mode` and semi-sync
/// (`SYSTEM_VARIABLES_ADMIN`), killing sessions and writing while clients cannot (`CONNECTION_ADMIN`), also those of
/// operators with `SYSTEM_USER`, resetting and purging logs (RELOAD, `BINLOG_ADMIN`), receiving a clone (`CLONE_ADMIN`), making
/// accounts for the other tablets (CREATE USER), ending prepared transactions before a copy (`XA_RECOVER_ADMIN`).
const ADMIN_RIGHTS: &str = "PROCESS, RELOAD, REPLICATION CLIENT, SHOW DATABASES, SHUTDOWN, \
    REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, SESSION_VARIABLES_ADMIN, CONNECTION_ADMIN, SYSTEM_USER, \
    BINLOG_ADMIN, CLONE_ADMIN, BACKUP_ADMIN, XA_RECOVER_ADMIN, CREATE USER";

/// A channel. `CONNECTION_ADMIN` because `offline_mode` cuts channels of accounts without it, and because an acker that finds all
/// connections taken would leave the commits waiting that hold them.
pub(crate) const REPLICATION_RIGHTS: &str = "REPLICATION SLAVE, CONNECTION_ADMIN";
/// Being the donor of a clone, also while applications are kept away.
const CLONE_RIGHTS: &str = "BACKUP_ADMIN, CONNECTION_ADMIN";

/// What no application may see, by partial revokes.
const INTERNAL_SCHEMAS: [&str; 3] = ["mysql", "sys", INTERNAL_SCHEMA];

/// The statements of the first start, one a line. The last one ends the server.
pub fn statements(passwords: &Passwords) -> Result<String, PasswordError> {
    let admin = format!("'{ADMIN_USER}'@'localhost'");
    let clone = format!("'{CLONE_USER}'@'%'");
    let app = format!("'{APP_USER}'@'%'");
    let mut lines = vec!["SET SESSION sql_log_bin = 0".to_owned()];
    for (account, name, password) in [
        (&admin, ADMIN_USER, &passwords.admin),
        (&clone, CLONE_USER, &passwords.replication),
        (&app, APP_USER, &passwords.app),
    ] {
        let password = quoted(password).ok_or(PasswordError(name))?;
        lines.push(format!(
            "CREATE USER {account} IDENTIFIED WITH caching_sha2_password BY {password} PASSWORD EXPIRE NEVER"
        ));
    }
    lines.push(format!("GRANT {DATA_RIGHTS} ON *.* TO {admin}"));
    lines.push(format!("GRANT {ADMIN_RIGHTS} ON *.* TO {admin}"));
    // It hands these on to the other tablets' accounts.
    lines.push(format!(
        "GRANT {REPLICATION_RIGHTS} ON *.* TO {admin} WITH GRANT OPTION"
    ));
    lines.push(format!("GRANT {CLONE_RIGHTS} ON *.* TO {clone}"));
    lines.push(format!("GRANT {DATA_RIGHTS} ON *.* TO {app}"));
    for schema in INTERNAL_SCHEMAS {
        lines.push(format!("REVOKE {DATA_RIGHTS} ON `{schema}`.* FROM {app}"));
    }
    // Only the host's root user, over the socket.
    lines.push("ALTER USER 'root'@'localhost' IDENTIFIED WITH auth_socket".to_owned());
    lines.push("SHUTDOWN".to_owned());
    Ok(lines.iter().map(|line| format!("{line};\n")).collect())
}

fn quoted(password: &str) -> Option<String> {
    if password.is_empty() || password.chars().any(char::is_control) {
        return None;
    }
    let escaped = password.replace('\\', "\\\\").replace('\'', "\\'");
    Some(format!("'{escaped}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_quoted_or_refused() {
        let passwords = |admin: &str| Passwords {
            admin: admin.to_owned(),
            replication: "r".to_owned(),
            app: "a".to_owned(),
        };
        let text = statements(&passwords(r"it's \ odd")).unwrap();
        assert!(text.contains(r"BY 'it\'s \\ odd' PASSWORD"), "{text}");
        for bad in ["", "two\nlines"] {
            assert_eq!(statements(&passwords(bad)), Err(PasswordError(ADMIN_USER)));
        }
        assert!(!format!("{:?}", passwords("secret")).contains("secret"));
    }
}
