"""Lives in one network namespace as one user and does there what it is told.

usage: agent.py UID GID

Each request is a line of JSON on standard input, each reply a line on standard output. A resident process
answers in well under a millisecond, where a new interpreter for each probe would take thirty.

Every server here greets a caller with one line of JSON (who it is, which address the caller reached it by, which
address the caller asked for before a redirect) and then echoes. That line is what the tests judge by.
"""

import json
import os
import socket
import struct
import sys
import threading
import time
import traceback

import nfnetlink

# The same number for IPv4 (SO_ORIGINAL_DST) and IPv6 (IP6T_SO_ORIGINAL_DST).
ORIGINAL_DST = 80
TIMEOUT = 4


def written(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def original_destination(connection):
    """Where the caller wanted to go, as a (host, port) pair; None when conntrack does not know the connection."""
    try:
        if connection.family == socket.AF_INET6:
            raw = connection.getsockopt(socket.IPPROTO_IPV6, ORIGINAL_DST, 28)
            return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from("!H", raw, 2)[0]
        raw = connection.getsockopt(socket.IPPROTO_IP, ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack_from("!H", raw, 2)[0]
    except OSError:
        return None


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError("closed without an answer")
        line += piece
    return line


def dial(host, port, source=None):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(TIMEOUT)
        if source:
            connection.bind((source, 0))
        connection.connect((host, port))
        return connection
    except OSError:
        connection.close()
        raise


class Server:
    """Listens on one port in both families; `greet` says what a caller gets."""

    def __init__(self, name, port, log, relay):
        self.name, self.port, self.log, self.relay = name, port, log, relay
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, port))
            listener.listen(512)
            threading.Thread(target=self.accept_all, args=(listener,), daemon=True).start()

    def accept_all(self, listener):
        while True:
            connection, peer = listener.accept()
            threading.Thread(target=self.handle, args=(connection, peer), daemon=True).start()

    def handle(self, connection, peer):
        with connection:
            connection.settimeout(30)
            original = original_destination(connection)
            greeting = {
                "name": self.name,
                "local": written(connection.getsockname()),
                "peer": written(peer),
                "original": original and written(original),
                "via": [],
            }
            self.log.append(dict(greeting))
            try:
                if self.relay and original:
                    self.pass_on(connection, original)
                else:
                    connection.sendall(json.dumps(greeting).encode() + b"\n")
                    echo(connection)
            except OSError:
                pass  # The caller left; that is its right.

    def pass_on(self, connection, original):
        """A proxy at its smallest: fetches the real server's greeting, adds its own name, hands it on."""
        with dial(*original) as upstream:
            greeting = json.loads(read_line(upstream))
            greeting["via"].append(self.name)
            connection.sendall(json.dumps(greeting).encode() + b"\n")


def echo(connection):
    while data := connection.recv(4096):
        connection.sendall(data)


class SocksServer(Server):
    """SOCKS5, CONNECT only, no authentication: logs the address it is asked for and connects there."""

    def handle(self, connection, peer):
        with connection:
            connection.settimeout(TIMEOUT)
            try:
                _, methods = exactly(connection, 2)
                exactly(connection, methods)
                connection.sendall(b"\x05\0")
                _, _, _, kind = exactly(connection, 4)
                family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
                host = socket.inet_ntop(family, exactly(connection, size))
                port = struct.unpack("!H", exactly(connection, 2))[0]
                self.log.append({"name": self.name, "original": written((host, port)), "peer": written(peer)})
                with dial(host, port) as upstream:
                    connection.sendall(b"\x05\0\0\x01" + bytes(6))
                    connection.sendall(read_line(upstream))
            except OSError:
                pass


def exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("closed too early")
        data += piece
    return data


class Stream:
    """One connection after another to the given targets, about one a millisecond, counting who answered."""

    def __init__(self, targets):
        self.targets, self.answers, self.stopping = targets, {}, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping:
            for host, port in self.targets:
                name = self.who_answers(host, port)
                self.answers[name] = self.answers.get(name, 0) + 1
                time.sleep(0.001)

    def who_answers(self, host, port):
        try:
            with dial(host, port) as connection:
                return json.loads(read_line(connection))["name"]
        except OSError as error:
            return f"{type(error).__name__} from {host}"

    def stop(self):
        self.stopping = True
        self.thread.join(TIMEOUT + 1)
        return self.answers


class Agent:
    """The requests, one method each."""

    def __init__(self):
        self.log, self.held, self.stream = [], {}, None

    def serve(self, name, port, relay=False):
        Server(name, port, self.log, relay)

    def serve_socks(self, name, port):
        SocksServer(name, port, self.log, relay=True)

    def accepted(self):
        return self.log

    def ask(self, host, port, source=None):
        with dial(host, port, source) as connection:
            return json.loads(read_line(connection))

    def fetch(self, host, port, path):
        with dial(host, port) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            response = b""
            while piece := connection.recv(1 << 16):
                response += piece
        return response.decode(errors="replace")

    def hold(self, host, port):
        connection = dial(host, port)
        self.held[len(self.held)] = connection
        return {"id": len(self.held) - 1, "greeting": json.loads(read_line(connection))}

    def echo_on(self, id, text):
        self.held[id].sendall(text.encode() + b"\n")
        return read_line(self.held[id]).decode().strip()

    def start_stream(self, targets):
        self.stream = Stream(targets)

    def stop_stream(self):
        return self.stream.stop()

    def generation(self):
        return nfnetlink.generation()

    def table_dump(self, table):
        return nfnetlink.table_dump(table)

    def add_unreadable_set(self, table, name):
        return nfnetlink.add_unreadable_set(table, name)


def main():
    # Dropped here and not by whoever starts us: the interpreter and these files may lie where this user cannot read.
    uid, gid = int(sys.argv[1]), int(sys.argv[2])
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)

    agent = Agent()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"result": getattr(agent, request.pop("do"))(**request)}
        except OSError as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        except Exception:
            reply = {"failure": traceback.format_exc()}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
