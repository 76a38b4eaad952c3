"""A client that only logs in, asks once and leaves: what takes long is not its own work. Measures nothing."""

import concurrent.futures
import hashlib
import socket

CONNECT_SECONDS_MAX = 30
LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH = (1 << bit for bit in (0, 3, 9, 13, 15, 19))
CAPABILITIES = LONG_PASSWORD | CONNECT_WITH_DB | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH
UTF8MB4 = 45
PLUGIN = b"caching_sha2_password"
COM_QUIT, COM_PING = 1, 14
OK, MORE_DATA, SWITCH = 0, 1, 254
FAST_AUTH_OK = 3
NONCE_LENGTH = 20


def read_exactly(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise OSError("the connection was closed")
        data += part
    return data


def read_packet(connection):
    header = read_exactly(connection, 4)
    return header[3], read_exactly(connection, int.from_bytes(header[:3], "little"))


def send_packet(connection, sequence, payload):
    connection.sendall(len(payload).to_bytes(3, "little") + bytes([sequence]) + payload)


def scramble(password, nonce):
    digest = lambda data: hashlib.sha256(data).digest()
    first = digest(password)
    return bytes(one ^ other for one, other in zip(first, digest(digest(first) + nonce)))


def nonce_of(greeting):
    behind_version = greeting.index(0, 1) + 1
    first = greeting[behind_version + 4:behind_version + 12]
    second = behind_version + 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10
    return first + greeting[second:second + NONCE_LENGTH - len(first)]


def log_in(connection, path):
    sequence, greeting = read_packet(connection)
    answer = scramble(path.password.encode(), nonce_of(greeting))
    response = (
        CAPABILITIES.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + bytes([UTF8MB4]) + bytes(23)
        + path.user.encode() + b"\0" + bytes([len(answer)]) + answer + path.database.encode() + b"\0" + PLUGIN + b"\0"
    )
    send_packet(connection, sequence + 1, response)
    while True:
        sequence, payload = read_packet(connection)
        if payload[0] == OK:
            return
        if payload[0] == SWITCH and payload[1:].startswith(PLUGIN + b"\0"):
            nonce = payload[len(PLUGIN) + 2:][:NONCE_LENGTH]
            send_packet(connection, sequence + 1, scramble(path.password.encode(), nonce))
        elif payload[:2] != bytes([MORE_DATA, FAST_AUTH_OK]):
            raise OSError(f"the login fails: {payload[:80]!r}")


def connect(path):
    connection = socket.create_connection(("127.0.0.1", path.port), CONNECT_SECONDS_MAX)
    try:
        log_in(connection, path)
    except Exception:
        connection.close()
        raise
    return connection


def visit(path):
    """Whether a short visit was served."""
    try:
        with connect(path) as connection:
            send_packet(connection, 0, bytes([COM_PING]))
            served = read_packet(connection)[1][0] == OK
            send_packet(connection, 0, bytes([COM_QUIT]))
            return served
    except OSError:
        return False


def come_and_go(path, connections, at_once):
    """How many of so many short visits were served, with so many at a time."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(lambda _: visit(path), range(connections)))
