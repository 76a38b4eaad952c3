"""Runs test suites of MySQL clients against a plain server and through a router, and compares the outcomes test by test."""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import pymysql

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

import place as places  # noqa: E402

HOME = pathlib.Path(os.environ["SUITES_HOME"])
SECONDS_MAX = int(os.environ.get("SUITES_SECONDS_MAX", "3600"))
# A test that waits longer waits for ever: for a lock of a test that failed.
TEST_SECONDS_MAX = 300
# The databases that the suites use, to each suite its own: they leave tables behind. A keyspace is what a router has for one.
KEYSPACES = ("test", "test_schema", "test_schema_2", "test_pymysql", "test_pymysql2", "test_mysqlclient")
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


def private_file(file, text):
    """A file that nobody else can read: arguments can be read by everybody."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    return file


def mysqlclient(folder, path):
    options = private_file(
        folder / "mysqlclient.cnf",
        f"[MySQLdb-tests]\nhost={places.HOST}\nport={path.port}\nuser={path.user}\npassword={path.password}\n"
        f"database=test_mysqlclient\ndefault-character-set=utf8mb4\n",
    )
    return ["tests"], {"TESTDB": str(options)}


def aiomysql(_, path):
    # uvloop would run everything a second time. What it has for SQLAlchemy is for one of years ago: it fails everywhere, and then
    # holds locks that the tests after it wait for.
    choice = ["--ignore=tests/sa", "-k", "not uvloop and not sa_ and not engine and not transaction_context and not cursor_correct"]
    address = ["-p", "aiomysql_server", "--mysql-address", f"tcp={places.HOST}:{path.port}"]
    return ["tests", *choice, *address], {"PYTHONPATH": str(HERE)}


def sqlalchemy(driver):
    def over(folder, path):
        url = f"mysql+{driver}://{path.user}:{path.password}@{places.HOST}:{path.port}/test?charset=utf8mb4"
        private_file(folder / "test.cfg", f"[db]\nhere = {url}\n")
        return ["test/dialect/test_suite.py", "-p", "no:logging", "-p", "no:warnings", "--db", "here"], {}

    return over


# Name -> the package whose sources hold it, and how it is told where to connect.
SUITES = {
    "mysqlclient": ("mysqlclient", mysqlclient),
    "aiomysql": ("aiomysql", aiomysql),
    "sqlalchemy-pymysql": ("sqlalchemy", sqlalchemy("pymysql")),
}


def outcomes(report):
    """Test by test, from pytest's report; a test that fails and cannot clean up is there twice, and failed once is failed."""
    found = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        # SQLAlchemy's names end with driver and version of the server.
        name = re.sub(r"_mysql\+[a-z]+(_\d+)+$", "", case.get("classname")) + "::" + case.get("name")
        kinds = {child.tag for child in case}
        outcome = FAILED if kinds & {"failure", "error"} else SKIPPED if "skipped" in kinds else PASSED
        if found.get(name) != FAILED:
            found[name] = outcome
    return found


def run(place, suite, path):
    """One suite at one address, in a copy of its own: suites write beside their sources."""
    folder = place.folder / suite / path.name
    package, prepare = SUITES[suite]
    source = next(entry for entry in (HOME / "sources").glob(f"{package}-*") if entry.is_dir())
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("doc", "examples"))
    arguments, more = prepare(folder, path)
    environment = dict(
        os.environ, VT_HOST=places.HOST, VT_PORT=str(path.port), VT_USER=path.user, VT_PASSWORD=path.password, **more
    )
    report = folder / "report.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts=", f"--timeout={TEST_SECONDS_MAX}",
        f"--junitxml={report}", *arguments,
    ]
    log = place.folder / f"{suite}-{path.name}.log"
    with open(log, "wb") as out:
        subprocess.run(
            command, cwd=folder, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, timeout=SECONDS_MAX, check=False
        )
    if not report.exists():
        raise RuntimeError(f"{suite}, {path.name}: no report\n{log.read_text(errors='replace')[-2000:]}")
    return outcomes(report)


def accepted():
    """Differences that are known: suite -> test -> reason."""
    found = collections.defaultdict(dict)
    for number, line in enumerate((HERE / "accepted.txt").read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        parts = line.split("\t")
        if len(parts) != 3 or not all(parts) or parts[0] not in SUITES or parts[1] in found[parts[0]]:
            raise SystemExit(f"suites: accepted.txt:{number} is not SUITE<tab>TEST<tab>REASON, or says it again")
        found[parts[0]][parts[1]] = parts[2]
    return found


def compare(direct, router, known):
    """What differs and is not known, and what is known and differs no longer."""
    differs = {test for test, outcome in direct.items() if outcome == PASSED and router.get(test) != PASSED}
    # A test that runs only through the router has passed nowhere else, but must not fail.
    differs |= {test for test, outcome in router.items() if outcome == FAILED and direct.get(test, SKIPPED) == SKIPPED}
    return differs, sorted(differs - known.keys()), sorted(known.keys() - differs)


def plain_server():
    path = places.plain_server()
    with pymysql.connect(host=places.HOST, port=path.port, user=path.user, password=path.password) as connection:
        with connection.cursor() as cursor:
            for keyspace in KEYSPACES:
                cursor.execute(f"CREATE DATABASE {keyspace}")
    return path


def versions():
    lines = (HERE / "sources.txt").read_text().splitlines()
    return {name.lower(): version for name, version in (line.split("==") for line in lines if "==" in line)}


def passed(found):
    return sum(outcome == PASSED for outcome in found.values())


def main():
    wanted = sys.argv[1:] or list(SUITES)
    unknown = [suite for suite in wanted if suite not in SUITES]
    if unknown:
        raise SystemExit(f"suites: unknown suite {unknown[0]}; there are {', '.join(SUITES)}")
    known = accepted()
    pinned = versions()
    table, complaints = [], []
    with places.Place() as place:
        direct_path = plain_server()
        _, router_path = places.cluster(place, KEYSPACES)
        print(f"{'suite':<32}{'tests':>7}{'direct':>9}{'router':>9}{'accepted':>10}")
        for suite in wanted:
            direct, router = run(place, suite, direct_path), run(place, suite, router_path)
            differs, new, gone = compare(direct, router, known[suite])
            version = pinned[SUITES[suite][0]]
            row = {
                "suite": suite,
                "version": version,
                "tests": len(direct.keys() | router.keys()),
                "passed_direct": passed(direct),
                "passed_through_router": passed(router),
                "accepted": len(differs & known[suite].keys()),
                "not_accepted": new,
                "no_longer_different": gone,
            }
            table.append(row)
            name = f"{suite} {version}"
            print(f"{name:<32}{row['tests']:>7}{row['passed_direct']:>9}{row['passed_through_router']:>9}{row['accepted']:>10}", flush=True)
            complaints += [f"{suite}\t{test}: passes directly and not through the router" for test in new]
            complaints += [f"{suite}\t{test}: differs no longer; remove the line from accepted.txt" for test in gone]
        if complaints and os.environ.get("BENCH_KEEP") == "1":
            print(f"suites: logs are in {place.folder}", file=sys.stderr)
    output = pathlib.Path(os.environ["SUITES_OUTPUT"])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(table, indent=2) + "\n")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
