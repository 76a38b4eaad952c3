"""Where the checks connect to, and how they are counted. Knows nothing of what is checked."""

import contextlib
import os
import sys
import time
import traceback

import pymysql

HOST = os.environ["VT_HOST"]
PORT = int(os.environ["VT_PORT"])
USER = os.environ["VT_USER"]
PASSWORD = os.environ["VT_PASSWORD"]
KEYSPACE = os.environ["VT_KEYSPACE"]
IS_DIRECT = os.environ.get("VT_DIRECT") == "1"

# A statement that takes longer than this hangs.
TIMEOUT_SECONDS = 30
# How long a replica may lag behind what was just written.
REPLICA_WAIT_SECONDS = 20

_checks = []


def connect(**options):
    """A connection, autocommit on unless told otherwise."""
    settings = dict(
        host=HOST,
        port=PORT,
        user=USER,
        password=PASSWORD,
        database=KEYSPACE,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        write_timeout=TIMEOUT_SECONDS,
    )
    settings.update(options)
    return pymysql.connect(**settings)


def check(name, router_only=False):
    """Registers a check; it gets a fresh connection."""
    skip = None
    if router_only and IS_DIRECT:
        skip = "only a router does this"

    def register(function):
        _checks.append((name, function, skip))
        return function

    return register


def rows(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return list(cursor.fetchall())


def run(connection, sql, *arguments):
    """Runs a statement that has no result; returns the affected rows."""
    with connection.cursor() as cursor:
        return cursor.execute(sql, arguments or None)


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"expected {expected!r:.300}, found {found!r:.300}")


@contextlib.contextmanager
def fails_with(code):
    """The block must end with this MySQL error."""
    try:
        yield
    except pymysql.MySQLError as error:
        equal(error.args[0], code)
        return
    raise AssertionError(f"error {code} was expected, none came")


def until(expected, read):
    """Waits for a value that arrives by replication."""
    deadline = time.monotonic() + REPLICA_WAIT_SECONDS
    found = read()
    while found != expected and time.monotonic() < deadline:
        time.sleep(0.05)
        found = read()
    equal(found, expected)


def main():
    failed = 0
    for name, function, skip in _checks:
        if skip:
            print(f"pymysql  skip    {name}: {skip}", flush=True)
            continue
        try:
            connection = connect()
            try:
                function(connection)
            finally:
                with contextlib.suppress(pymysql.MySQLError):
                    connection.close()
            print(f"pymysql  ok      {name}", flush=True)
        except Exception as error:  # any failure whatever is a failed check, and the next one still runs
            failed += 1
            print(f"pymysql  FAILED  {name}: {type(error).__name__}: {error}", flush=True)
            if os.environ.get("VT_VERBOSE"):
                traceback.print_exc()
    sys.exit(1 if failed else 0)
