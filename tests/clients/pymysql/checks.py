"""What an application may expect of a MySQL server, asked through PyMySQL. Every check makes and drops its own tables."""

import tempfile
import threading
import time

import pymysql
import pymysql.cursors
from pymysql.constants import CLIENT, ER

from harness import (
    KEYSPACE, PASSWORD, check, connect, equal, fails_with, main, rows, run, until,
)

READ_ONLY = 1290
READ_ONLY_TRANSACTION = 1792
NOT_SUPPORTED_YET = 1235
ACCESS_DENIED = 1227
QUERY_INTERRUPTED = 1317
LOCAL_FILES_DISABLED = 3948
BAD_DATABASE = 1049
MIB = 1024 * 1024


def table(connection, name, columns):
    run(connection, f"DROP TABLE IF EXISTS {name}")
    run(connection, f"CREATE TABLE {name} ({columns})")
    return name


@check("connects and tells a version")
def _(db):
    equal(rows(db, "SELECT 1 + 1"), [(2,)])
    assert db.get_server_info()[0] in "89", db.get_server_info()
    equal(rows(db, "SELECT DATABASE()"), [(KEYSPACE,)])
    db.ping(reconnect=False)


@check("refuses a wrong password and an unknown user")
def _(db):
    with fails_with(ER.ACCESS_DENIED_ERROR):
        connect(password=PASSWORD + "x")
    with fails_with(ER.ACCESS_DENIED_ERROR):
        connect(user="nobody_by_this_name")
    with fails_with(ER.ACCESS_DENIED_ERROR):
        connect(password="")


@check("refuses an unknown keyspace")
def _(db):
    with fails_with(BAD_DATABASE):
        connect(database="no_such_keyspace")
    with fails_with(BAD_DATABASE):
        db.select_db("no_such_keyspace")
    equal(rows(db, "SELECT DATABASE()"), [(KEYSPACE,)])


@check("works without a keyspace until one is chosen")
def _(db):
    other = connect(database=None)
    equal(rows(other, "SELECT 1"), [(1,)])
    other.select_db(KEYSPACE)
    equal(rows(other, "SELECT DATABASE()"), [(KEYSPACE,)])
    other.close()


@check("defines tables")
def _(db):
    table(db, "py_ddl", "id INT PRIMARY KEY, name VARCHAR(20)")
    run(db, "ALTER TABLE py_ddl ADD COLUMN price DECIMAL(10,2) NOT NULL DEFAULT 1.50")
    run(db, "CREATE INDEX py_ddl_name ON py_ddl (name)")
    equal(rows(db, "SHOW TABLES LIKE 'py_ddl'"), [("py_ddl",)])
    assert "py_ddl_name" in rows(db, "SHOW CREATE TABLE py_ddl")[0][1]
    equal([row[0] for row in rows(db, "DESCRIBE py_ddl")], ["id", "name", "price"])
    run(db, "TRUNCATE TABLE py_ddl")
    run(db, "RENAME TABLE py_ddl TO py_ddl2")
    run(db, "DROP TABLE py_ddl2")
    equal(rows(db, "SHOW TABLES LIKE 'py\\_ddl%'"), [])


@check("inserts, updates, deletes and counts the rows")
def _(db):
    table(db, "py_dml", "id INT PRIMARY KEY, v INT")
    equal(run(db, "INSERT INTO py_dml VALUES (1, 1), (2, 2), (3, 3)"), 3)
    equal(run(db, "UPDATE py_dml SET v = v + 1 WHERE id > 1"), 2)
    equal(run(db, "UPDATE py_dml SET v = v WHERE id > 1"), 0)
    equal(run(db, "REPLACE INTO py_dml VALUES (1, 9)"), 2)
    equal(run(db, "INSERT INTO py_dml VALUES (1, 1) ON DUPLICATE KEY UPDATE v = 10"), 2)
    equal(run(db, "DELETE FROM py_dml WHERE id = 3"), 1)
    equal(rows(db, "SELECT id, v FROM py_dml ORDER BY id"), [(1, 10), (2, 3)])
    with db.cursor() as cursor:
        equal(cursor.executemany("INSERT INTO py_dml VALUES (%s, %s)", [(n, n) for n in range(10, 60)]), 50)
    run(db, "DROP TABLE py_dml")


@check("counts found rows when the client asks for it")
def _(db):
    table(db, "py_found", "id INT PRIMARY KEY, v INT")
    run(db, "INSERT INTO py_found VALUES (1, 1), (2, 2)")
    finder = connect(client_flag=CLIENT.FOUND_ROWS)
    equal(run(finder, "UPDATE py_found SET v = 1"), 2)
    equal(run(db, "UPDATE py_found SET v = 1"), 0)
    finder.close()
    run(db, "DROP TABLE py_found")


@check("keeps LAST_INSERT_ID, ROW_COUNT and FOUND_ROWS for the session")
def _(db):
    table(db, "py_id", "id INT PRIMARY KEY AUTO_INCREMENT, v INT")
    with db.cursor() as cursor:
        cursor.execute("INSERT INTO py_id (v) VALUES (1), (2)")
        equal(cursor.lastrowid, 1)
    equal(rows(db, "SELECT ROW_COUNT()"), [(2,)])
    other = connect()
    run(other, "INSERT INTO py_id (v) VALUES (3)")
    equal(rows(db, "SELECT LAST_INSERT_ID()"), [(1,)])
    rows(db, "SELECT * FROM py_id")
    equal(rows(db, "SELECT LAST_INSERT_ID(), @@identity"), [(1, 1)])
    run(db, "UPDATE py_id SET v = LAST_INSERT_ID(v + 40) WHERE id = 2")
    equal(rows(db, "SELECT LAST_INSERT_ID()"), [(42,)])
    run(db, "INSERT INTO py_id (v) VALUES (LAST_INSERT_ID())")
    equal(rows(db, "SELECT v FROM py_id ORDER BY id DESC LIMIT 1"), [(42,)])
    rows(db, "SELECT SQL_CALC_FOUND_ROWS id FROM py_id LIMIT 1")
    equal(rows(db, "SELECT FOUND_ROWS()"), [(4,)])
    other.close()
    run(db, "DROP TABLE py_id")


@check("commits, rolls back and isolates transactions")
def _(db):
    table(db, "py_tx", "id INT PRIMARY KEY")
    other = connect()
    db.begin()
    run(db, "INSERT INTO py_tx VALUES (1)")
    equal(rows(db, "SELECT COUNT(*) FROM py_tx"), [(1,)])
    equal(rows(other, "SELECT COUNT(*) FROM py_tx"), [(0,)])
    db.commit()
    equal(rows(other, "SELECT COUNT(*) FROM py_tx"), [(1,)])
    db.begin()
    run(db, "INSERT INTO py_tx VALUES (2)")
    run(db, "SAVEPOINT here")
    run(db, "INSERT INTO py_tx VALUES (3)")
    run(db, "ROLLBACK TO SAVEPOINT here")
    run(db, "RELEASE SAVEPOINT here")
    db.commit()
    equal(rows(other, "SELECT id FROM py_tx ORDER BY id"), [(1,), (2,)])
    run(db, "START TRANSACTION READ ONLY")
    with fails_with(READ_ONLY_TRANSACTION):
        run(db, "INSERT INTO py_tx VALUES (4)")
    db.rollback()
    other.close()
    run(db, "DROP TABLE py_tx")


@check("honours autocommit=0")
def _(db):
    table(db, "py_auto", "id INT PRIMARY KEY")
    other = connect(autocommit=False)
    run(other, "INSERT INTO py_auto VALUES (1)")
    equal(rows(db, "SELECT COUNT(*) FROM py_auto"), [(0,)])
    other.rollback()
    run(other, "INSERT INTO py_auto VALUES (2)")
    other.commit()
    equal(rows(db, "SELECT id FROM py_auto"), [(2,)])
    run(other, "INSERT INTO py_auto VALUES (3)")
    other.autocommit(True)
    equal(rows(db, "SELECT COUNT(*) FROM py_auto"), [(2,)])
    other.close()
    run(db, "DROP TABLE py_auto")


@check("undoes the transaction of a client that went away")
def _(db):
    table(db, "py_gone", "id INT PRIMARY KEY")
    other = connect()
    other.begin()
    run(other, "INSERT INTO py_gone VALUES (1)")
    other._force_close()
    # The row's lock goes away with the transaction.
    run(db, "SET SESSION innodb_lock_wait_timeout = 10")
    run(db, "INSERT INTO py_gone VALUES (1)")
    run(db, "DROP TABLE py_gone")


@check("carries packets of and around 16 MiB")
def _(db):
    limit = rows(db, "SELECT @@max_allowed_packet")[0][0]
    # A row of one string has a prefix of four bytes, then nine from 16 MiB on.
    lengths = [0xFFFFFF - 5, 0xFFFFFF - 4, 0xFFFFFF - 3, 0xFFFFFF, 17 * MIB, 2 * 0xFFFFFF - 9]
    for length in [length for length in lengths if length + 64 < limit]:
        equal(rows(db, f"SELECT LENGTH(x), x = REPEAT('x', {length}), x FROM (SELECT REPEAT('x', {length}) x) d")[0][:2], (length, 1))
        found = rows(db, f"SELECT REPEAT('x', {length})")[0][0]
        equal(len(found), length)
    equal(rows(db, "SELECT 1"), [(1,)])


@check("stores and finds a large blob")
def _(db):
    if rows(db, "SELECT @@max_allowed_packet")[0][0] < 40 * MIB:
        return
    table(db, "py_blob", "id INT PRIMARY KEY, b LONGBLOB")
    blob = bytes(range(256)) * (17 * MIB // 256)
    run(db, "INSERT INTO py_blob VALUES (1, _binary %s)", blob)
    equal(rows(db, "SELECT LENGTH(b) FROM py_blob"), [(len(blob),)])
    equal(rows(db, "SELECT b FROM py_blob")[0][0] == blob, True)
    run(db, "DROP TABLE py_blob")


@check("streams many rows, and stops in the middle")
def _(db):
    numbers = "WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i, REPEAT('r', 50) FROM n"
    run(db, "SET SESSION cte_max_recursion_depth = 100000")
    equal(sum(row[0] for row in rows(db, numbers)), 50000 * 50001 // 2)
    with db.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(numbers)
        equal(cursor.fetchone()[0], 1)
    equal(rows(db, "SELECT 1"), [(1,)])
    other = connect(cursorclass=pymysql.cursors.SSCursor)
    cursor = other.cursor()
    cursor.execute("SET SESSION cte_max_recursion_depth = 100000")
    cursor.execute(numbers)
    cursor.fetchone()
    # Without a word to the server, and without the cursor's own reading on.
    other._sock.close()
    cursor._result.unbuffered_active = False
    equal(rows(db, "SELECT 2"), [(2,)])


@check("keeps characters whole in every character set")
def _(db):
    table(db, "py_text", "id INT PRIMARY KEY, t TEXT CHARACTER SET utf8mb4")
    text = "Grüße, 誠に, \U0001F600, \\ ' \" ` \0 \n"
    run(db, "INSERT INTO py_text VALUES (1, %s)", text)
    equal(rows(db, "SELECT t FROM py_text WHERE id = 1"), [(text,)])
    for charset, sample in [("gbk", "誠乗漢"), ("sjis", "表十ソ"), ("big5", "功許蓋"), ("latin1", "äöü\u00a0"), ("utf8mb4", "\U0001F600")]:
        other = connect(charset=charset)
        run(other, "REPLACE INTO py_text VALUES (2, %s)", sample)
        equal(rows(other, "SELECT t FROM py_text WHERE id = 2"), [(sample,)])
        equal(rows(db, "SELECT t FROM py_text WHERE id = 2"), [(sample,)])
        equal(rows(other, "SELECT @@character_set_client"), [(charset,)])
        other.close()
    db.set_character_set("latin1")
    equal(rows(db, "SELECT t FROM py_text WHERE id = 2"), [("?",)])
    db.set_character_set("utf8mb4")
    equal(rows(db, "SELECT t FROM py_text WHERE id = 1"), [(text,)])
    run(db, "DROP TABLE py_text")


@check("takes trail bytes of gbk and sjis for what they are")
def _(db):
    # The second byte of each is a backslash; read byte by byte, the string would not end where it does.
    for charset, character in [("gbk", b"\x81\\"), ("sjis", b"\x95\\"), ("big5", b"\xa5\\")]:
        other = connect(charset=charset)
        equal(rows(other, b"SELECT LENGTH('" + character + b"'), 'end'"), [(2, "end")])
        other.close()


@check("follows sql_mode in the reading of quotes")
def _(db):
    run(db, "SET SESSION sql_mode = 'ANSI_QUOTES'")
    equal(rows(db, 'SELECT "a" FROM (SELECT 1 AS "a") d'), [(1,)])
    run(db, "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
    equal(rows(db, b"SELECT 'a\\', 'b'"), [("a\\", "b")])
    run(db, "SET SESSION sql_mode = DEFAULT")
    equal(rows(db, b"SELECT 'a\\'', ''"), [("a'", "")])


@check("keeps session variables over many statements")
def _(db):
    run(db, "SET SESSION time_zone = '+05:00', sql_select_limit = 7, @@session.lc_time_names = 'de_DE'")
    run(db, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    for _ in range(20):
        equal(
            rows(db, "SELECT @@time_zone, @@sql_select_limit, @@lc_time_names, @@transaction_isolation"),
            [("+05:00", 7, "de_DE", "READ-COMMITTED")],
        )
    other = connect()
    equal(rows(other, "SELECT @@sql_select_limit = 7, @@lc_time_names"), [(0, "en_US")])
    other.close()


@check("keeps user variables, temporary tables and named locks")
def _(db):
    run(db, "SET @a = 5, @b := 'x'")
    run(db, "CREATE TEMPORARY TABLE py_temporary (id INT)")
    run(db, "INSERT INTO py_temporary VALUES (1)")
    equal(rows(db, "SELECT GET_LOCK('py_lock', 1)"), [(1,)])
    other = connect()
    equal(rows(other, "SELECT GET_LOCK('py_lock', 0)"), [(0,)])
    equal(rows(other, "SELECT @a"), [(None,)])
    with fails_with(ER.NO_SUCH_TABLE):
        rows(other, "SELECT * FROM py_temporary")
    for _ in range(5):
        equal(rows(db, "SELECT @a, @b"), [(5, "x")])
        equal(rows(db, "SELECT * FROM py_temporary"), [(1,)])
    db.close()
    # The lock ends with the session that held it.
    equal(rows(other, "SELECT GET_LOCK('py_lock', 10)"), [(1,)])
    other.close()


@check("locks tables until they are unlocked")
def _(db):
    table(db, "py_lock", "id INT PRIMARY KEY")
    run(db, "LOCK TABLES py_lock WRITE")
    run(db, "INSERT INTO py_lock VALUES (1)")
    other = connect()
    run(other, "SET SESSION lock_wait_timeout = 1")
    with fails_with(ER.LOCK_WAIT_TIMEOUT):
        run(other, "INSERT INTO py_lock VALUES (2)")
    run(db, "UNLOCK TABLES")
    run(other, "INSERT INTO py_lock VALUES (2)")
    other.close()
    run(db, "DROP TABLE py_lock")


@check("runs several statements of one text")
def _(db):
    other = connect(client_flag=CLIENT.MULTI_STATEMENTS)
    with other.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2, 3; SET @m = 4; SELECT @m")
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall())
    equal([list(result) for result in results], [[(1,)], [(2, 3)], [], [(4,)]])
    with other.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT * FROM py_no_such_table; SELECT 3")
        with fails_with(ER.NO_SUCH_TABLE):
            cursor.nextset()
    equal(rows(other, "SELECT 5"), [(5,)])
    with fails_with(ER.PARSE_ERROR):
        # Without the client's leave a second statement is a syntax error.
        rows(db, "SELECT 1; SELECT 2")
    equal(rows(db, "SELECT 6"), [(6,)])
    other.close()


@check("calls procedures with several results")
def _(db):
    run(db, "DROP PROCEDURE IF EXISTS py_procedure")
    run(db, "CREATE PROCEDURE py_procedure(IN n INT, OUT o INT) BEGIN SELECT n; SELECT n + 1, 'two'; SET o = n + 2; END")
    with db.cursor() as cursor:
        cursor.callproc("py_procedure", (7, 0))
        equal(list(cursor.fetchall()), [(7,)])
        assert cursor.nextset()
        equal(list(cursor.fetchall()), [(8, "two")])
        while cursor.nextset():
            pass
        cursor.execute("SELECT @_py_procedure_1")
        equal(cursor.fetchone(), (9,))
    run(db, "DROP PROCEDURE py_procedure")


@check("prepares statements as text")
def _(db):
    run(db, "PREPARE py_statement FROM 'SELECT ? + ?'")
    run(db, "SET @x = 3, @y = 4")
    for _ in range(3):
        equal(rows(db, "EXECUTE py_statement USING @x, @y"), [(7,)])
    run(db, "DEALLOCATE PREPARE py_statement")
    with fails_with(ER.UNKNOWN_STMT_HANDLER):
        rows(db, "EXECUTE py_statement USING @x, @y")


@check("passes the server's errors on and goes on")
def _(db):
    table(db, "py_error", "id INT PRIMARY KEY, v INT NOT NULL")
    run(db, "INSERT INTO py_error VALUES (1, 1)")
    for sql, code in [
        ("SELEC 1", ER.PARSE_ERROR),
        ("SELECT * FROM py_no_such_table", ER.NO_SUCH_TABLE),
        ("SELECT no_such_column FROM py_error", ER.BAD_FIELD_ERROR),
        ("INSERT INTO py_error VALUES (1, 1)", ER.DUP_ENTRY),
        ("INSERT INTO py_error VALUES (2, NULL)", ER.BAD_NULL_ERROR),
        ("", ER.EMPTY_QUERY),
    ]:
        with fails_with(code):
            rows(db, sql)
        equal(rows(db, "SELECT 1"), [(1,)])
    run(db, "DROP TABLE py_error")


@check("shows warnings and counts them")
def _(db):
    run(db, "SET SESSION sql_mode = ''")
    with db.cursor() as cursor:
        cursor.execute("SELECT CAST('12x' AS SIGNED), 1 / 0")
        equal(cursor.warning_count >= 1, True)
    warnings = rows(db, "SHOW WARNINGS")
    equal([row[1] for row in warnings if "12x" in row[2]], [1292])
    equal(rows(db, "SELECT @@warning_count >= 1"), [(1,)])


@check("answers SHOW")
def _(db):
    assert (KEYSPACE,) in rows(db, "SHOW DATABASES")
    assert rows(db, "SHOW VARIABLES LIKE 'version'")
    assert rows(db, "SHOW STATUS LIKE 'Threads%'")
    assert rows(db, "SHOW CHARACTER SET")
    assert rows(db, "SHOW PROCESSLIST")
    rows(db, f"SHOW TABLES FROM `{KEYSPACE}`")
    rows(db, "SHOW TABLE STATUS")


@check("takes the keyspace's name before tables")
def _(db):
    table(db, "py_qualified", "id INT PRIMARY KEY")
    run(db, f"INSERT INTO `{KEYSPACE}`.py_qualified VALUES (1)")
    equal(rows(db, f"SELECT {KEYSPACE}.py_qualified.id, q.id FROM {KEYSPACE}.py_qualified JOIN py_qualified q USING (id)"), [(1, 1)])
    bare = connect(database=None)
    equal(rows(bare, f"SELECT COUNT(*) FROM {KEYSPACE}.py_qualified"), [(1,)])
    bare.close()
    assert rows(db, "SELECT table_name FROM information_schema.tables WHERE table_name = 'py_qualified'")
    run(db, f"DROP TABLE {KEYSPACE}.py_qualified")


@check("loads a file of its own, and only where it allows that")
def _(db):
    table(db, "py_loaded", "id INT PRIMARY KEY, name VARCHAR(20)")
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.writelines(f"{number},name {number}\n" for number in range(20_000))
        file.flush()
        load = f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE py_loaded FIELDS TERMINATED BY ','"
        with fails_with(LOCAL_FILES_DISABLED):
            run(db, load)
        willing = connect(local_infile=True)
        equal(run(willing, load), 20_000)
        willing.close()
    equal(rows(db, "SELECT COUNT(*), MAX(id) FROM py_loaded"), [(20_000, 19_999)])
    run(db, "DROP TABLE py_loaded")


@check("kills a running statement")
def _(db):
    sleeper = connect()
    outcome = []

    def sleep():
        try:
            # SLEEP itself returns 1 when it is interrupted.
            outcome.append(rows(sleeper, "SELECT SLEEP(20)"))
        except pymysql.MySQLError as error:
            outcome.append(error.args[0])

    thread = threading.Thread(target=sleep)
    thread.start()
    deadline = time.monotonic() + 15
    while thread.is_alive() and time.monotonic() < deadline:
        run(db, f"KILL QUERY {sleeper.thread_id()}")
        thread.join(0.2)
    equal(outcome in ([QUERY_INTERRUPTED], [[(1,)]]), True)
    equal(rows(sleeper, "SELECT 1"), [(1,)])
    sleeper.close()


@check("reconnects, many times and many at once")
def _(db):
    for number in range(50):
        other = connect()
        equal(rows(other, "SELECT %s", number), [(number,)])
        other.close()
    together = [connect() for _ in range(40)]
    for number, other in enumerate(together):
        equal(rows(other, "SELECT %s", number), [(number,)])
    for other in together:
        other.close()
    db.connect()
    equal(rows(db, "SELECT 1"), [(1,)])


@check("serves many clients at once without mixing their answers")
def _(db):
    problems = []

    def work(worker):
        try:
            mine = connect()
            for number in range(200):
                equal(rows(mine, "SELECT %s, %s", worker, number), [(worker, number)])
            mine.close()
        except Exception as error:  # carried to the main thread
            problems.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(problems, [])


@check("reads from replicas and refuses writes there", router_only=True)
def _(db):
    table(db, "py_replica", "id INT PRIMARY KEY")
    run(db, "INSERT INTO py_replica VALUES (1)")
    replica = connect(database=f"{KEYSPACE}@replica")

    def read():
        try:
            return rows(replica, "SELECT id FROM py_replica")
        except pymysql.MySQLError as error:
            return error.args[0]

    until([(1,)], read)
    equal(rows(replica, "SELECT @@super_read_only"), [(1,)])
    equal(rows(db, "SELECT @@super_read_only"), [(0,)])
    with fails_with(READ_ONLY):
        run(replica, "INSERT INTO py_replica VALUES (2)")
    equal(rows(replica, "SELECT 1"), [(1,)])
    db.select_db(f"{KEYSPACE}@replica")
    equal(rows(db, "SELECT @@super_read_only"), [(1,)])
    db.select_db(f"{KEYSPACE}@primary")
    equal(rows(db, "SELECT @@super_read_only"), [(0,)])
    db.select_db(KEYSPACE)
    replica.close()
    run(db, "DROP TABLE py_replica")


@check("says what it does not support", router_only=True)
def _(db):
    table(db, "py_refused", "id INT")
    for sql, code in [
        ("CREATE DATABASE py_other", NOT_SUPPORTED_YET),
        ("DROP DATABASE py_other", NOT_SUPPORTED_YET),
        ("CREATE USER py_user IDENTIFIED BY 'x'", NOT_SUPPORTED_YET),
        ("LOAD DATA INFILE '/dev/null' INTO TABLE py_refused", ACCESS_DENIED),
        ("SELECT 1 INTO OUTFILE '/tmp/py_refused'", ACCESS_DENIED),
        ("SET GLOBAL max_connections = 10", ACCESS_DENIED),
        ("SET sql_log_bin = 0", ACCESS_DENIED),
        ("STOP REPLICA", ACCESS_DENIED),
        ("SELECT 1 /*!90100 + 1 */", NOT_SUPPORTED_YET),
        ("SHUTDOWN", ACCESS_DENIED),
        ("SELECT * FROM no_such_keyspace.t", BAD_DATABASE),
        ("KILL QUERY 4000000000", ER.NO_SUCH_THREAD),
    ]:
        with fails_with(code):
            rows(db, sql)
        equal(rows(db, "SELECT 1"), [(1,)])
    run(db, "DROP TABLE py_refused")


main()
