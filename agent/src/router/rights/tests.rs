//! Statements, what they need, and who may run them.

use vt_planner::{LexOptions, classify, statements};
use vt_proto::user::PasswordHashes;

use super::*;
use crate::router::state::Role;

fn user(grants: &[(&str, &str)]) -> User {
    let parsed = |(place, rights): &(&str, &str)| (place.parse().unwrap(), rights.parse().unwrap());
    User {
        name: "app".parse().unwrap(),
        password: PasswordHashes::HIDDEN,
        grants: grants.iter().map(parsed).collect(),
        connections_max: None,
        statements_per_second_max: None,
    }
}

#[test]
fn what_statements_need() {
    for (sql, needed) in [
        ("SELECT 1", ""),
        ("SELECT @@version, NOW()", ""),
        ("SELECT 1 FROM t", "read"),
        ("SELECT (TABLE t)", "read"),
        ("SET @a = (SELECT b FROM t)", "read"),
        ("SELECT * FROM t FOR UPDATE", "read,write"),
        ("SELECT my_function(1)", "write"),
        ("TABLE t", "read"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "read"),
        ("WITH a AS (SELECT 1) DELETE FROM t", "write"),
        ("INSERT INTO t VALUES (1)", "write"),
        ("REPLACE INTO t VALUES (1)", "write"),
        ("UPDATE t SET a = 1", "write"),
        ("DELETE FROM t", "write"),
        ("CALL p()", "write"),
        ("TRUNCATE TABLE t", "ddl"),
        ("CREATE TABLE t (i INT)", "ddl"),
        ("CREATE TEMPORARY TABLE t (i INT)", "write"),
        ("ALTER TABLE t ADD COLUMN j INT", "ddl"),
        ("OPTIMIZE TABLE t", "ddl"),
        ("LOCK TABLES t READ", "read,write"),
        ("EXPLAIN SELECT 1", "read"),
        ("SHOW TABLES", "read"),
        ("SHOW CREATE TABLE t", "read"),
        ("PREPARE s FROM 'SELECT 1'", "read,write,ddl"),
        ("EXECUTE s", "read,write,ddl"),
        ("BEGIN", ""),
        ("COMMIT", ""),
        ("ROLLBACK TO a", ""),
        ("SET @a = 1", ""),
        ("SET NAMES utf8mb4", ""),
        ("SET autocommit = 0", ""),
        ("SHOW VARIABLES LIKE 'a'", ""),
        ("SHOW WARNINGS", ""),
        ("SHOW GRANTS", ""),
        ("USE shop", ""),
        ("KILL 7", ""),
        ("", ""),
        ("/*!99999 DROP TABLE t */ SELECT 1", "read,write,ddl"),
    ] {
        let needs = needs(
            &classify(sql.as_bytes(), &LexOptions::default()),
            sql.as_bytes(),
        );
        assert_eq!(needs.rights.to_string(), needed, "{sql}");
        assert!(!needs.everywhere, "{sql}");
    }
    for sql in [
        "SET GLOBAL max_connections = 1",
        "SET PERSIST max_connections = 1",
        "FLUSH TABLES",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "CREATE USER u",
        "SHUTDOWN",
    ] {
        let needs = needs(
            &classify(sql.as_bytes(), &LexOptions::default()),
            sql.as_bytes(),
        );
        assert!(needs.everywhere, "{sql}");
    }
}

/// Checked as a session does it.
fn run(user: &User, database: &str, sql: &str) -> Result<(), RouterError> {
    let database = match database {
        "" => None,
        "mysql" => Some(Database::System(database.to_owned())),
        name => Some(Database::Keyspace {
            name: name.to_owned(),
            role: Role::Replica,
        }),
    };
    let (sql, mut all, mut schemas) = (sql.as_bytes(), Needs::default(), Vec::new());
    for statement in statements(sql, &LexOptions::default()) {
        all = all.with(needs(&statement, sql));
        let names = statement.schemas.iter().map(|span| span.name_of(sql));
        schemas.extend(names.map(|name| String::from_utf8_lossy(&name).into_owned()));
    }
    check(user, all, database.as_ref(), &schemas)
}

/// User, database, text, and a part of the error it must meet; empty: it must be allowed.
type Case<'a> = (&'a User, &'static str, &'static str, &'static str);

fn check_all(cases: &[Case<'_>]) {
    for (user, database, sql, refused) in cases {
        match (run(user, database, sql), refused.is_empty()) {
            (Ok(()), true) => {}
            (Ok(()), false) => panic!("allowed: {database}: {sql}"),
            (Err(error), is_allowed) => {
                let error = error.to_string();
                assert!(!is_allowed && error.contains(refused), "{sql}: {error}");
            }
        }
    }
}

#[test]
fn who_may_run_what() {
    let reader = user(&[("shop", "read")]);
    let writer = user(&[("shop", "read,write"), ("stock", "read")]);
    check_all(&[
        (&reader, "shop", "SELECT * FROM t", ""),
        (&reader, "shop", "SELECT * FROM t", ""),
        (
            &reader,
            "shop",
            "SELECT * FROM t FOR SHARE",
            "write in shop",
        ),
        (
            &reader,
            "shop",
            "INSERT INTO t VALUES (1)",
            "grant app write shop",
        ),
        (&reader, "shop", "SELECT 1; DELETE FROM t", "write in shop"),
        (&reader, "", "SELECT * FROM shop.t", ""),
        (&reader, "", "SELECT * FROM stock.t", "to database 'stock'"),
        (
            &reader,
            "shop",
            "SELECT * FROM stock.t",
            "to database 'stock'",
        ),
        (
            &reader,
            "shop",
            "SELECT * FROM information_schema.tables",
            "",
        ),
        (&reader, "shop", "SELECT * FROM mysql.user", "admin in '*'"),
        (
            &reader,
            "shop",
            "SELECT * FROM PERFORMANCE_SCHEMA.threads",
            "admin in '*'",
        ),
        (&reader, "shop", "BEGIN", ""),
        (&reader, "", "SELECT 1", ""),
        (&writer, "shop", "UPDATE t SET a = 1", ""),
        (&writer, "shop", "DROP TABLE t", "ddl in shop"),
        (
            &writer,
            "shop",
            "INSERT INTO t SELECT * FROM stock.t",
            "write in stock",
        ),
        (
            &writer,
            "stock",
            "DELETE t FROM t JOIN shop.u",
            "write in stock",
        ),
        (&writer, "stock", "SELECT * FROM t JOIN shop.u", ""),
    ]);
}

#[test]
fn rights_everywhere_and_nowhere() {
    let everywhere = user(&[("*", "read"), ("stock", "ddl")]);
    let admin = user(&[("*", "admin")]);
    let nobody = user(&[]);
    check_all(&[
        (&everywhere, "any", "SELECT * FROM t", ""),
        (&everywhere, "any", "CREATE TABLE t (i INT)", "ddl in any"),
        (&everywhere, "stock", "CREATE TABLE t (i INT)", ""),
        (
            &everywhere,
            "any",
            "SELECT * FROM sys.version",
            "admin in '*'",
        ),
        (&admin, "any", "SELECT * FROM sys.version", ""),
        (&admin, "mysql", "SELECT * FROM user", ""),
        (&nobody, "", "SELECT 1", ""),
        (&nobody, "", "SELECT * FROM shop.t", "to database 'shop'"),
    ]);
}

#[test]
fn who_may_enter_where() {
    let reader = user(&[("shop", "read")]);
    for (database, may) in [
        ("shop", true),
        ("stock", false),
        ("information_schema", true),
        ("mysql", false),
    ] {
        assert_eq!(may_enter(&reader, database), may, "{database}");
    }
    assert!(may_enter(&user(&[("*", "admin")]), "mysql"));
    assert!(!may_enter(&user(&[("*", "read,write,ddl")]), "sys"));
}

#[test]
fn grants_are_shown_as_mysql_shows_them() {
    assert_eq!(grants(&user(&[])), ["GRANT USAGE ON *.* TO `app`@`%`"]);
    assert_eq!(
        grants(&user(&[("shop", "read"), ("stock", "admin")])),
        [
            "GRANT USAGE ON *.* TO `app`@`%`",
            "GRANT SELECT, SHOW VIEW ON `shop`.* TO `app`@`%`",
            "GRANT ALL PRIVILEGES ON `stock`.* TO `app`@`%`",
        ]
    );
}
