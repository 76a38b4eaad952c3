// What an application may expect of a MySQL server, asked through node's mysql2: above all prepared statements in the
// binary protocol. Every check makes and drops its own tables.
"use strict";
const { Readable } = require("node:stream");

const {
  VT_KEYSPACE, VT_USER, VT_PASSWORD, check, checkRouter, connect, createPool, equal, failsWith, main, until,
} = require("./harness.cjs");

const PARSE_ERROR = 1064;
const NO_SUCH_TABLE = 1146;
const DUPLICATE = 1062;
const ACCESS_DENIED = 1045;
const BAD_DATABASE = 1049;
const READ_ONLY = 1290;
const NOT_SUPPORTED_YET = 1235;
const MIB = 1024 * 1024;

const query = async (db, sql, values) => (await db.query(sql, values))[0];
const execute = async (db, sql, values) => (await db.execute(sql, values))[0];

async function table(db, name, columns) {
  await db.query(`DROP TABLE IF EXISTS ${name}`);
  await db.query(`CREATE TABLE ${name} (${columns})`);
}

check("connects", async (db) => {
  equal(await query(db, "SELECT 1 + 1, DATABASE()"), [[2, VT_KEYSPACE]]);
  await db.ping();
});

check("refuses a wrong password and an unknown keyspace", async () => {
  await failsWith(ACCESS_DENIED, () => connect({ password: `${VT_PASSWORD}x` }));
  await failsWith(BAD_DATABASE, () => connect({ database: "no_such_keyspace" }));
});

check("defines and drops tables", async (db) => {
  await table(db, "js_ddl", "id INT PRIMARY KEY, name VARCHAR(20)");
  await db.query("ALTER TABLE js_ddl ADD COLUMN price DECIMAL(10,2)");
  await db.query("CREATE INDEX js_ddl_name ON js_ddl (name)");
  equal((await query(db, "SHOW COLUMNS FROM js_ddl")).map((row) => row[0]), ["id", "name", "price"]);
  await db.query("DROP TABLE js_ddl");
  equal(await query(db, "SHOW TABLES LIKE 'js\\_ddl'"), []);
});

check("inserts, updates and deletes through prepared statements", async (db) => {
  await table(db, "js_dml", "id INT PRIMARY KEY AUTO_INCREMENT, v INT, t VARCHAR(100)");
  for (let n = 1; n <= 20; n += 1) {
    const done = await execute(db, "INSERT INTO js_dml (v, t) VALUES (?, ?)", [n, `row ${n}`]);
    equal([done.insertId, done.affectedRows], [n, 1]);
  }
  equal((await execute(db, "UPDATE js_dml SET v = v + ? WHERE id <= ?", [100, 5])).affectedRows, 5);
  equal((await execute(db, "DELETE FROM js_dml WHERE id > ?", [15])).affectedRows, 5);
  equal(await execute(db, "SELECT id, v, t FROM js_dml WHERE id IN (?, ?) ORDER BY id", [5, 6]), [[5, 105, "row 5"], [6, 6, "row 6"]]);
  equal(await execute(db, "SELECT LAST_INSERT_ID()"), [[20]]);
  await db.query("DROP TABLE js_dml");
});

check("carries every type through the binary protocol", async (db) => {
  await table(
    db,
    "js_types",
    `id INT PRIMARY KEY, a TINYINT, b SMALLINT UNSIGNED, c BIGINT, d BIGINT UNSIGNED, e FLOAT, f DOUBLE, g DECIMAL(30,10),
     h DATE, i DATETIME(6), j TIME, k YEAR, l BIT(9), m CHAR(5), n VARBINARY(9), o TEXT, p JSON, q ENUM('x','y'), r SET('u','v')`,
  );
  const values = [
    1, -128, 65535, "-9223372036854775808", "18446744073709551615", 1.5, -2.25e100, "12345678901234567890.0123456789",
    "2024-02-29", "2024-02-29 23:59:59.123456", "-838:59:59", 2024, Buffer.from([1, 255]), "abc",
    Buffer.from([0, 255, 92, 39]), "text \u{1F600}", '{"a": [1, null]}', "y", "u,v",
  ];
  await execute(db, `INSERT INTO js_types VALUES (${values.map(() => "?").join(", ")})`, values);
  await execute(db, `INSERT INTO js_types VALUES (2${", ?".repeat(18)})`, Array(18).fill(null));
  const options = { dateStrings: true, supportBigNumbers: true, bigNumberStrings: true, rowsAsArray: true };
  const strict = await connect(options);
  const binary = await execute(strict, "SELECT * FROM js_types ORDER BY id");
  const text = await query(strict, "SELECT * FROM js_types ORDER BY id");
  equal(binary, text);
  equal(binary[0].slice(3, 5), ["-9223372036854775808", "18446744073709551615"]);
  equal(binary[0].slice(7, 11), ["12345678901234567890.0123456789", "2024-02-29", "2024-02-29 23:59:59.123456", "-838:59:59"]);
  equal(Buffer.compare(binary[0][14], values[14]), 0);
  equal(binary[1].slice(1), Array(18).fill(null));
  strict.destroy();
  await db.query("DROP TABLE js_types");
});

check("holds many prepared statements at once", async (db) => {
  const statements = [];
  for (let n = 0; n < 60; n += 1) statements.push(await db.prepare(`SELECT ? + ${n}, '${n}'`));
  for (const round of [1, 2, 3]) {
    for (let n = 0; n < statements.length; n += 7) {
      equal((await statements[n].execute([round]))[0], [[round + n, String(n)]]);
    }
  }
  for (const statement of statements) await statement.close();
  equal(await query(db, "SELECT 1"), [[1]]);
});

check("keeps the prepared statements of many clients apart", async () => {
  const clients = await Promise.all(Array.from({ length: 12 }, () => connect()));
  const statements = clients.flatMap((client, c) => Array.from({ length: 30 }, (_, n) => ({ client, c, n })));
  for (const one of statements) one.statement = await one.client.prepare(`SELECT ? + ${one.n}, ${one.c}`);
  for (const round of [1, 2, 3]) {
    for (const { statement, c, n } of statements) equal((await statement.execute([round]))[0], [[round + n, c]]);
  }
  for (const client of clients) client.destroy();
});

check("prepares again after a failure and after the table changed", async (db) => {
  await failsWith(NO_SUCH_TABLE, () => db.execute("SELECT * FROM js_later WHERE id = ?", [1]));
  await failsWith(PARSE_ERROR, () => db.execute("SELEC ?", [1]));
  await table(db, "js_later", "id INT PRIMARY KEY");
  await db.query("INSERT INTO js_later VALUES (1)");
  equal(await execute(db, "SELECT * FROM js_later WHERE id = ?", [1]), [[1]]);
  await db.query("ALTER TABLE js_later ADD COLUMN v INT DEFAULT 7");
  equal(await execute(db, "SELECT * FROM js_later WHERE id = ?", [1]), [[1, 7]]);
  const error = await failsWith(DUPLICATE, () => db.execute("INSERT INTO js_later VALUES (?, ?)", [1, 1]));
  equal(error.sqlState, "23000");
  equal(await execute(db, "SELECT COUNT(*) FROM js_later", []), [[1]]);
  await db.query("DROP TABLE js_later");
});

check("runs transactions of prepared statements", async (db) => {
  await table(db, "js_tx", "id INT PRIMARY KEY, v INT");
  const other = await connect();
  const count = async (connection) => (await execute(connection, "SELECT COUNT(*) FROM js_tx"))[0][0];
  await db.beginTransaction();
  await execute(db, "INSERT INTO js_tx VALUES (?, ?)", [1, 1]);
  equal([await count(db), await count(other)], [1, 0]);
  await db.rollback();
  equal(await count(db), 0);
  await db.beginTransaction();
  await execute(db, "INSERT INTO js_tx VALUES (?, ?)", [2, 2]);
  await execute(db, "SELECT v FROM js_tx WHERE id = ? FOR UPDATE", [2]);
  await db.commit();
  equal([await count(db), await count(other)], [1, 1]);
  other.destroy();
  await db.query("DROP TABLE js_tx");
});

check("carries parameters and rows beyond 16 MiB", async (db) => {
  const [[limit]] = await query(db, "SELECT @@max_allowed_packet");
  if (limit < 40 * MIB) return;
  await table(db, "js_blob", "id INT PRIMARY KEY, b LONGBLOB");
  for (const [id, length] of [[1, 17 * MIB], [2, 0xffffff], [3, 0xffffff - 20]]) {
    const blob = Buffer.alloc(length, `${id}x\\'`);
    await execute(db, "INSERT INTO js_blob VALUES (?, ?)", [id, blob]);
    const found = (await execute(db, "SELECT b FROM js_blob WHERE id = ?", [id]))[0][0];
    equal(Buffer.compare(found, blob), 0);
    equal(Buffer.compare((await query(db, `SELECT b FROM js_blob WHERE id = ${id}`))[0][0], blob), 0);
  }
  await db.query("DROP TABLE js_blob");
});

check("streams many rows of a prepared statement", async (db) => {
  await db.query("SET SESSION cte_max_recursion_depth = 100000");
  const rows = await execute(
    db,
    "WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i, REPEAT('r', 40) FROM n",
    [30000],
  );
  equal([rows.length, rows[29999][0]], [30000, 30000]);
});

check("sends many statements without waiting for answers", async (db) => {
  const waiting = [];
  for (let n = 0; n < 300; n += 1) {
    waiting.push(n % 3 ? query(db, "SELECT ?", [n]) : execute(db, "SELECT CAST(? AS SIGNED)", [n]));
  }
  const answers = await Promise.all(waiting);
  equal(answers.map((rows) => rows[0][0]), [...answers.keys()]);
});

check("runs several statements of one text", async () => {
  const db = await connect({ multipleStatements: true });
  equal(await query(db, "SELECT 1; SELECT 2, 3"), [[[1]], [[2, 3]]]);
  const error = await failsWith(NO_SUCH_TABLE, () => db.query("SELECT 1; SELECT * FROM js_no_such_table; SELECT 2"));
  equal(error.sqlState, "42S02");
  equal(await query(db, "SELECT 4"), [[4]]);
  db.destroy();
});

check("calls procedures", async (db) => {
  await db.query("DROP PROCEDURE IF EXISTS js_procedure");
  await db.query("CREATE PROCEDURE js_procedure(n INT) BEGIN SELECT n; SELECT n + 1; END");
  for (const run of [query, execute]) {
    const [first, second] = await run(db, "CALL js_procedure(?)", [7]);
    equal([first, second], [[[7]], [[8]]]);
  }
  await db.query("DROP PROCEDURE js_procedure");
});

check("counts warnings", async (db) => {
  await db.query("SET SESSION sql_mode = ''");
  await table(db, "js_warning", "v TINYINT");
  equal((await execute(db, "INSERT INTO js_warning VALUES (?)", [1000])).warningStatus, 1);
  const warnings = await query(db, "SHOW WARNINGS");
  equal(warnings[0][1], 1264);
  await db.query("DROP TABLE js_warning");
});

check("changes the user, which forgets the session", async (db) => {
  await db.query("SET @a = 1, SESSION sql_select_limit = 9");
  await db.query("CREATE TEMPORARY TABLE js_temporary (id INT)");
  equal(await execute(db, "SELECT @a + ?", [1]), [["2"]].map(([value]) => [Number(value)]));
  await db.changeUser({ user: VT_USER, password: VT_PASSWORD, database: VT_KEYSPACE });
  equal(await query(db, "SELECT @a, @@sql_select_limit = 9, DATABASE()"), [[null, 0, VT_KEYSPACE]]);
  await failsWith(NO_SUCH_TABLE, () => db.query("SELECT * FROM js_temporary"));
  equal(await execute(db, "SELECT ?", ["x"]), [["x"]]);
});

check("resets the connection", async (db) => {
  if (typeof db.reset !== "function") return;
  await db.query("SET @a = 1, SESSION sql_select_limit = 9");
  await db.beginTransaction();
  await db.reset();
  equal(await query(db, "SELECT @a, @@sql_select_limit = 9, DATABASE()"), [[null, 0, VT_KEYSPACE]]);
});

check("serves a pool of clients at once", async () => {
  const pool = createPool({ connectionLimit: 20 });
  const answers = await Promise.all(
    Array.from({ length: 1000 }, async (_, n) => (await pool.execute("SELECT CAST(? AS SIGNED)", [n]))[0][0][0]),
  );
  equal(answers, [...answers.keys()]);
  await pool.end();
});

check("connects again after an end and after a cut", async () => {
  for (let n = 0; n < 20; n += 1) {
    const db = await connect();
    equal(await query(db, "SELECT ?", [n]), [[n]]);
    if (n % 2) db.destroy();
    else await db.end();
  }
});

check("loads a stream as if it were a file", async (db) => {
  await table(db, "js_loaded", "id INT PRIMARY KEY");
  const lines = Array.from({ length: 5000 }, (_, number) => Buffer.from(`${number}\n`));
  const [loaded] = await db.query({
    sql: "LOAD DATA LOCAL INFILE 'lines' INTO TABLE js_loaded",
    infileStreamFactory: () => Readable.from(lines),
  });
  equal(loaded.affectedRows, 5000);
  equal(await query(db, "SELECT COUNT(*), MAX(id) FROM js_loaded"), [[5000, 4999]]);
  await db.query("DROP TABLE js_loaded");
});

check("sends compressed", async () => {
  const db = await connect({ compress: true });
  const text = "packed well ".repeat(50_000);
  equal(await query(db, "SELECT ?, 1", [text]), [[text, 1]]);
  equal(await execute(db, "SELECT ?", [text]), [[text]]);
  await db.end();
});

checkRouter("reads prepared statements from replicas", async (db) => {
  await table(db, "js_replica", "id INT PRIMARY KEY");
  await execute(db, "INSERT INTO js_replica VALUES (?)", [1]);
  const replica = await connect({ database: `${VT_KEYSPACE}@replica` });
  await until([[1]], () => execute(replica, "SELECT id FROM js_replica WHERE id = ?", [1]).catch((error) => error.errno));
  await failsWith(READ_ONLY, () => replica.execute("INSERT INTO js_replica VALUES (?)", [2]));
  equal(await execute(replica, "SELECT @@super_read_only + ?", [0]), [[1]]);
  replica.destroy();
  await db.query("DROP TABLE js_replica");
});

checkRouter("refuses in a prepared statement what it refuses in a text", async (db) => {
  await failsWith(NOT_SUPPORTED_YET, () => db.execute("CREATE DATABASE js_other"));
  await failsWith(BAD_DATABASE, () => db.execute("SELECT * FROM no_such_keyspace.t WHERE id = ?", [1]));
  equal(await execute(db, "SELECT ?", ["still here"]), [["still here"]]);
});

main();
