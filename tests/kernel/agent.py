"""Lives in one network namespace as one user and does there what it is told.

usage: agent.py UID GID [net_admin]

Each request is a line of JSON on standard input, each reply a line on standard output. A resident process
answers in well under a millisecond, where a new interpreter for each probe would take thirty.

Every server here greets a caller with one line of JSON (who it is, which address the caller reached it by, which
address the caller asked for before a redirect) and then echoes. That line is what the tests judge by.
"""

import ctypes
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback

import nfnetlink
import packets

# The same number for IPv4 (SO_ORIGINAL_DST) and IPv6 (IP6T_SO_ORIGINAL_DST).
ORIGINAL_DST = 80
# linux/in.h and linux/in6.h; Python's socket module lacks them.
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
IP_PKTINFO, IPV6_FREEBIND = 8, 78
TIMEOUT = 4
GOODBYE = b"goodbye\n"
EVERY_ADDRESS = ("0.0.0.0", "::")


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


def wait_until_closed(connection):
    """Until both sides have acknowledged the end; before that the same ports cannot be used again."""
    closed = 7  # TCP_CLOSE, net/tcp_states.h; the first byte of struct tcp_info
    deadline = time.monotonic() + TIMEOUT
    while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != closed:
        if time.monotonic() > deadline:
            raise TimeoutError("the other side does not close")
        time.sleep(0.001)


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def be_transparent(endpoint):
    """Lets a socket own addresses that are not this machine's. Needs CAP_NET_ADMIN."""
    if endpoint.family == socket.AF_INET6:
        endpoint.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        endpoint.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)


def dial(host, port, source=None, source_port=0, mark=None, transparent=False, protocol="tcp"):
    """Connects; `source_port` may have been in use a moment ago. UDP then hears from nobody but that server."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    connection = socket.socket(family_of(host), kind)
    try:
        connection.settimeout(TIMEOUT)
        if mark is not None:
            # Packed, because Python would not take more than 31 bits as a number.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        if transparent:
            be_transparent(connection)
        if source_port:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source and connection.family == socket.AF_INET6:
            # IPv6 would not bind to an address that is only routed here, IPv4 does.
            connection.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        if source or source_port:
            connection.bind((source or "", source_port))
        connection.connect((host, port))
        return connection
    except OSError:
        connection.close()
        raise


def listening(kind, host, port, ipv6_only=True):
    listener = socket.socket(family_of(host), kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, ipv6_only)
    listener.bind((host, port))
    return listener


class Server:
    """Listens on one port of each of `hosts`.

    A relay calls on to where the caller wanted to go: from the address `source`, and by way of `onward`, which maps
    that address to another, as what a proxy knows of services does. Unless `ipv6_only`, the host :: is every address
    of IPv4, too. A `late` one has one more thing to say that many seconds after the caller has said all.
    """

    def __init__(self, name, port, log, relay, hosts=EVERY_ADDRESS, onward=None, source=None, ipv6_only=True, late=0):
        self.name, self.port, self.log, self.relay = name, port, log, relay
        self.onward, self.source, self.late = onward or {}, source, late
        for host in hosts:
            listener = listening(socket.SOCK_STREAM, host, port, ipv6_only)
            self.prepare(listener)
            listener.listen(512)
            threading.Thread(target=self.accept_all, args=(listener,), daemon=True).start()

    def prepare(self, listener):
        pass

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
                    if self.late:
                        time.sleep(self.late)
                        connection.sendall(b"at last\n")
            except OSError:
                pass  # The caller left; that is its right.

    def pass_on(self, connection, original):
        """A proxy at its smallest: fetches the real server's greeting, adds its own name, hands it on."""
        with self.dial_upstream(connection, original) as upstream:
            greeting = json.loads(read_line(upstream))
            greeting["via"].append(self.name)
            connection.sendall(json.dumps(greeting).encode() + b"\n")
            while line := connection.recv(4096):
                upstream.sendall(line)
                connection.sendall(read_line(upstream))

    def dial_upstream(self, connection, original):
        host, port = original
        return dial(self.onward.get(host, host), port, self.source)


class TransparentServer(Server):
    """What TPROXY hands connections to: it reads where the caller wanted to go from its own end of the connection, and
    connects there in the caller's name, with the mark that leads the answers back here."""

    def __init__(self, name, port, log, mark):
        self.mark = mark
        super().__init__(name, port, log, relay=True)

    def prepare(self, listener):
        be_transparent(listener)

    def dial_upstream(self, connection, original):
        host, port = connection.getsockname()[:2]
        return dial(host, port, source=connection.getpeername()[0], mark=self.mark, transparent=True)

    def handle(self, connection, peer):
        with connection:
            connection.settimeout(TIMEOUT)
            self.log.append({"name": self.name, "local": written(connection.getsockname()), "peer": written(peer)})
            try:
                self.pass_on(connection, None)
            except OSError:
                pass


class DatagramServer:
    """Answers each datagram with who it is, from the very address that was asked.

    With `upstream` it is a DNS proxy: it first asks that server, from the caller's own source port, and says what it
    heard there as "upstream".
    """

    def __init__(self, name, port, log, hosts=EVERY_ADDRESS, upstream=None):
        self.name, self.log, self.upstream = name, log, upstream
        for host in hosts:
            server = listening(socket.SOCK_DGRAM, host, port)
            if server.family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                # IPv6 would not answer from an address that is only routed here.
                server.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            else:
                server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            threading.Thread(target=self.answer_all, args=(server,), daemon=True).start()

    def answer_all(self, server):
        while True:
            _, ancillary, _, peer = server.recvmsg(4096, 256)
            answer = {"name": self.name, "peer": written(peer)}
            self.log.append(dict(answer))
            if self.upstream:
                answer["upstream"] = self.ask_upstream(peer)
            server.sendmsg([json.dumps(answer).encode()], [reply_source(*each) for each in ancillary], 0, peer)

    def ask_upstream(self, peer):
        try:
            return ask_datagram(*self.upstream, source=peer[0], source_port=peer[1])
        except OSError as error:
            return {"name": f"{type(error).__name__}"}


def reply_source(level, kind, data):
    """The control message that makes a reply leave from the address its question came to."""
    if level == socket.IPPROTO_IP:
        # struct in_pktinfo: the source to use is its second field, where the kernel puts the local address.
        return level, kind, bytes(4) + data[8:12] + bytes(4)
    return level, kind, data[:16] + bytes(4)


def ask_datagram(host, port, **how):
    with dial(host, port, protocol="udp", **how) as asking:
        try:
            asking.send(b"who are you?")
        except PermissionError:
            pass  # A rule refused it. What it sent back is still to come, if it did not merely drop.
        return {"local": written(asking.getsockname()), **json.loads(asking.recv(4096))}


def echo(connection):
    while (data := connection.recv(4096)) and data != GOODBYE:
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
        self.log, self.held, self.stream, self.raw = [], {}, None, {}

    def serve(self, name, port, relay=False, **how):
        Server(name, port, self.log, relay, **how)

    def serve_transparent(self, name, port, mark):
        TransparentServer(name, port, self.log, mark)

    def serve_datagrams(self, name, port, hosts=EVERY_ADDRESS, upstream=None):
        DatagramServer(name, port, self.log, hosts, upstream)

    def serve_socks(self, name, port):
        SocksServer(name, port, self.log, relay=True)

    def accepted(self):
        return self.log

    def ask(self, host, port, ending=None, **how):
        with dial(host, port, **how) as connection:
            greeting = json.loads(read_line(connection))
            if ending == "server":
                connection.sendall(GOODBYE)
                connection.recv(1)
            if ending in ("server", "client"):
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)
                wait_until_closed(connection)
            if ending == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            return greeting

    def ask_datagram(self, host, port, **how):
        return ask_datagram(host, port, **how)

    def ask_from_same_port(self, targets, source_ports):
        """Opens a connection to every target from each of these ports, all alive at the same time, and returns how each
        was greeted, in that order."""
        opened = []
        try:
            for source_port in source_ports:
                opened += [dial(host, port, source_port=source_port) for host, port in targets]
            greetings = [json.loads(read_line(connection)) for connection in opened]
            # Each is its own: what is said on one does not come out of another.
            for number, connection in enumerate(opened):
                connection.sendall(b"%d\n" % number)
            for number, connection in enumerate(opened):
                if read_line(connection) != b"%d\n" % number:
                    raise ConnectionError("an answer to somebody else")
            return greetings
        finally:
            for connection in opened:
                connection.close()

    def fetch(self, host, port, path):
        with dial(host, port) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            response = b""
            while piece := connection.recv(1 << 16):
                response += piece
        return response.decode(errors="replace")

    def hold(self, host, port, **how):
        connection = dial(host, port, **how)
        self.held[len(self.held)] = connection
        return {"id": len(self.held) - 1, "greeting": json.loads(read_line(connection))}

    def echo_on(self, id, text):
        self.held[id].sendall(text.encode() + b"\n")
        return read_line(self.held[id]).decode().strip()

    def say_no_more_on(self, id):
        self.held[id].shutdown(socket.SHUT_WR)

    def hear_on(self, id, patience=TIMEOUT):
        self.held[id].settimeout(patience)
        return read_line(self.held[id]).decode().strip()

    def ping(self, host):
        return packets.ping(host, TIMEOUT)

    def send_stray_segment(self, id):
        packets.send_stray_segment(self.held[id])

    def hear_protocol(self, number, host):
        self.raw[number] = packets.raw_socket(host, number)

    def send_protocol(self, number, host):
        packets.send(number, host)

    def heard_protocol(self, number):
        return packets.sender_of_next(self.raw[number], TIMEOUT)

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


def become(uid, gid, net_admin):
    """Lays down what the user must not have. Of root's capabilities at most CAP_NET_ADMIN is kept."""
    keep_capabilities, net_admin_bit = 8, 1 << 12  # PR_SET_KEEPCAPS, CAP_NET_ADMIN
    libc = ctypes.CDLL(None, use_errno=True)
    if net_admin:
        libc.prctl(keep_capabilities, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if net_admin:
        # struct __user_cap_header_struct and two __user_cap_data_struct, linux/capability.h, version 3.
        header = struct.pack("=Ii", 0x20080522, 0)
        if libc.capset(header, struct.pack("=6I", net_admin_bit, net_admin_bit, 0, 0, 0, 0)):
            raise OSError(ctypes.get_errno(), "capset")


def main():
    # Dropped here and not by whoever starts us: the interpreter and these files may lie where this user cannot read.
    become(int(sys.argv[1]), int(sys.argv[2]), net_admin="net_admin" in sys.argv[3:])

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
