"""A pytest plugin for aiomysql's suite: its own preparation logs in as root and makes databases and users; here the databases are
there already, and the user is whom the environment names."""

import os

import pymysql
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    if fixturedef.argname != "mysql_server":
        return None
    parameters = {
        "host": os.environ["VT_HOST"],
        "port": int(os.environ["VT_PORT"]),
        "user": os.environ["VT_USER"],
        "password": os.environ["VT_PASSWORD"],
    }
    with pymysql.connect(**parameters) as connection:
        version = connection.get_server_info()
    numbers = tuple(int(number) for number in version.split("-")[0].split("."))
    server = {
        "conn_params": parameters,
        "server_version": version,
        "server_version_tuple": numbers,
        "server_version_tuple_short": numbers[:2],
        "db_type": "mysql",
    }
    fixturedef.cached_result = (server, fixturedef.cache_key(request), None)
    return server
