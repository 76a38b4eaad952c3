// Where the checks connect to, and how they are counted. Knows nothing of what is checked.
"use strict";
const mysql = require("mysql2/promise");

const { VT_HOST, VT_PORT, VT_USER, VT_PASSWORD, VT_KEYSPACE } = process.env;
const IS_DIRECT = process.env.VT_DIRECT === "1";
// A check that takes longer than this hangs.
const CHECK_SECONDS_MAX = 60;
// How long a replica may lag behind what was just written.
const REPLICA_WAIT_MS = 20_000;

const settings = (options = {}) => ({
  host: VT_HOST,
  port: Number(VT_PORT),
  user: VT_USER,
  password: VT_PASSWORD,
  database: VT_KEYSPACE,
  rowsAsArray: true,
  ...options,
});

const connect = (options) => mysql.createConnection(settings(options));
const createPool = (options) => mysql.createPool(settings(options));

const checks = [];
const check = (name, run) => checks.push({ name, run, routerOnly: false });
const checkRouter = (name, run) => checks.push({ name, run, routerOnly: true });

const shown = (value) => {
  const plain = (_, inner) => (typeof inner === "bigint" ? `${inner}n` : inner);
  return String(JSON.stringify(value, plain)).slice(0, 300);
};

function equal(found, expected) {
  if (shown(found) !== shown(expected)) {
    throw new Error(`expected ${shown(expected)}, found ${shown(found)}`);
  }
}

async function failsWith(code, run) {
  try {
    await run();
  } catch (error) {
    if (error.errno !== code) throw error;
    return error;
  }
  throw new Error(`error ${code} was expected, none came`);
}

// Waits for a value that arrives by replication.
async function until(expected, read) {
  const deadline = Date.now() + REPLICA_WAIT_MS;
  let found = await read();
  while (shown(found) !== shown(expected) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    found = await read();
  }
  equal(found, expected);
}

async function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${CHECK_SECONDS_MAX} seconds`)), CHECK_SECONDS_MAX * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function runOne({ run }) {
  const db = await connect();
  db.on("error", () => {});
  try {
    await run(db);
  } finally {
    db.destroy();
  }
}

async function main() {
  let failed = 0;
  for (const one of checks) {
    if (one.routerOnly && IS_DIRECT) {
      console.log(`mysql2   skip    ${one.name}: only a router does this`);
      continue;
    }
    try {
      await limited(runOne(one));
      console.log(`mysql2   ok      ${one.name}`);
    } catch (error) {
      failed += 1;
      console.log(`mysql2   FAILED  ${one.name}: ${process.env.VT_VERBOSE ? error.stack : error.message}`);
    }
  }
  process.exit(failed ? 1 : 0);
}

module.exports = { VT_KEYSPACE, VT_USER, VT_PASSWORD, check, checkRouter, connect, createPool, equal, failsWith, main, until };
