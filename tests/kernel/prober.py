"""Lives in one network namespace, takes whatever arrives there on the given ports, and dials when told.

usage: prober.py [PORT...]

Requests and replies are lines of JSON on standard input and output:

  {"do": "dial", "probes": [{"id", "protocol", "source", "source_port", "destination", "destination_port",
                             "uid", "gid", "mark"}]}
      -> {id: "connected" | "sent" | the name of an errno}
  {"do": "arrivals"}
      -> [[id, PORT]...], what came since the last such request: TCP by its source port, all else by its payload
  {"do": "let_go"}
      -> null, after closing what was accepted

One thread, one selector: a dial goes on serving meanwhile.
"""

import contextlib
import errno
import json
import os
import selectors
import socket
import struct
import sys
import time

TCP, UDP, UNKNOWN = 6, 17, 254  # 254: "for experimentation", RFC 3692
IP_TRANSPARENT, IPV6_TRANSPARENT, IPV6_FREEBIND = 19, 75, 78
# A reset on close: nothing lingers, no source port stays taken.
AT_ONCE = struct.pack("ii", 1, 0)
DEADLINE = 3


class Prober:
    def __init__(self, ports):
        self.selector = selectors.DefaultSelector()
        self.arrived, self.accepted = [], []
        for family in (socket.AF_INET, socket.AF_INET6):
            for port in ports:
                self.listen(family, port)
            if ports:
                self.take(socket.socket(family, socket.SOCK_RAW, UNKNOWN), self.on_raw)
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)

    def listen(self, family, port):
        for kind, callback in ((socket.SOCK_STREAM, self.on_connection), (socket.SOCK_DGRAM, self.on_datagram)):
            listener = socket.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            else:
                listener.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            listener.bind(("", port))
            if kind == socket.SOCK_STREAM:
                listener.listen(1024)
            self.take(listener, lambda found, port=port, callback=callback: callback(found, port))

    def take(self, found, callback):
        found.setblocking(False)
        self.selector.register(found, selectors.EVENT_READ, callback)

    def on_connection(self, listener, port):
        connection, peer = listener.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.arrived.append([peer[1], port])
        # Kept until the dialler has seen that it is connected.
        self.accepted.append(connection)

    def on_datagram(self, receiver, port):
        self.arrived.append([int(receiver.recv(64)), port])

    def on_raw(self, receiver):
        packet = receiver.recv(128)
        # IPv4 hands over the header, too; IPv6 does not.
        payload = packet[(packet[0] & 15) * 4 :] if receiver.family == socket.AF_INET else packet
        self.arrived.append([int(payload), 0])

    def turn(self, seconds):
        """Serves what is ready; true when a request waits."""
        request = False
        for key, _ in self.selector.select(seconds):
            if key.data is None:
                request = True
            else:
                key.data(key.fileobj)
        return request

    def arrivals(self):
        self.turn(0)
        arrived, self.arrived = self.arrived, []
        return arrived

    def let_go(self):
        """Closes what was accepted, with a reset."""
        while self.accepted:
            self.accepted.pop().close()

    def dial(self, probes):
        self.results = {}
        for probe in probes:
            self.start(probe)
        deadline = time.monotonic() + DEADLINE
        while len(self.results) < len(probes) and time.monotonic() < deadline:
            self.turn(0.05)
        return self.results

    def start(self, probe):
        dialer = self.socket_of(probe)
        failed = 0
        try:
            if probe["protocol"] == TCP:
                failed = dialer.connect_ex((probe["destination"], probe["destination_port"]))
            else:
                # Connected, so that a refusal comes back to this socket.
                dialer.connect((probe["destination"], probe["destination_port"]))
                with contextlib.suppress(PermissionError):  # a rule rejected it; with what, the socket's error tells
                    dialer.send(str(probe["id"]).encode())
                failed = dialer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            failed = error.errno
        if probe["protocol"] == TCP and failed == errno.EINPROGRESS:
            self.selector.register(
                dialer, selectors.EVENT_WRITE, lambda found, id=probe["id"]: self.finish(found, id)
            )
            return
        self.results[probe["id"]] = errno.errorcode[failed] if failed else "sent" if probe["protocol"] != TCP else "connected"
        dialer.close()

    def finish(self, dialer, id):
        failed = dialer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.results[id] = errno.errorcode[failed] if failed else "connected"
        self.selector.unregister(dialer)
        dialer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        dialer.close()

    @staticmethod
    def socket_of(probe):
        """The owner match looks at the effective user and group of whoever made the socket, when it was made."""
        family = socket.AF_INET6 if ":" in probe["source"] else socket.AF_INET
        kind = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM, UNKNOWN: socket.SOCK_RAW}[probe["protocol"]]
        if kind == socket.SOCK_RAW:
            dialer = socket.socket(family, kind, UNKNOWN)
        else:
            os.setegid(probe["gid"])
            os.seteuid(probe["uid"])
            try:
                dialer = socket.socket(family, kind)
            finally:
                os.seteuid(0)
                os.setegid(0)
        dialer.setblocking(False)
        dialer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # An address that is local by a route alone may be bound in IPv4, and in IPv6 only so.
            dialer.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        if probe["mark"]:
            dialer.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, probe["mark"])
        dialer.bind((probe["source"], 0 if kind == socket.SOCK_RAW else probe["source_port"]))
        return dialer


def main():
    prober = Prober([int(port) for port in sys.argv[1:]])
    while True:
        if not prober.turn(None):
            continue
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        print(json.dumps(getattr(prober, request.pop("do"))(**request)), flush=True)


if __name__ == "__main__":
    main()
