"""While rules are replaced or moved to another backend, every new connection is captured by the old or the new, and none fails.

SLUICE_THOROUGH=1 opens a million connections during 1,000 replacements and 100 moves; otherwise there are fewer.
"""

import collections
import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

import pod as pods
from pod import APP_UID, IPV4, IPV6, PROXY_UID, ROOT_UID
from test_faults import BACKENDS

THOROUGH = bool(os.environ.get("SLUICE_THOROUGH"))
CONNECTIONS, REPLACEMENTS, MOVES = (1_000_000, 1000, 100) if THOROUGH else (8_000, 20, 6)
OUTBOUND, INBOUND, APP = 15001, 15006, 5000
ONE = ["apply", "--inbound-port", str(INBOUND), "--exclude-outbound-ports", "9001"]
OTHER = ["apply", "--inbound-port", str(INBOUND), "--exclude-outbound-cidrs", "10.200.0.0/16,fd77::/16", "--proxy-uid", "1337,1338"]
SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "connections.py")


@dataclasses.dataclass
class Result:
    changes: int
    outward: collections.Counter  # who answered what the application called
    inward: collections.Counter  # and what the world called
    seconds: float

    def judge(self, what, connections=0, changes=0):
        total = sum(self.outward.values()) + sum(self.inward.values())
        print(f"{self.changes} {what}: {total} connections in {self.seconds:.0f} s, "
              f"outbound {dict(self.outward)}, inbound {dict(self.inward)}")  # fmt: skip
        assert set(self.outward) == {"o"} and set(self.inward) == {"i"}
        assert total >= connections and self.changes >= changes


class Traffic:
    """An application that calls out and a world that calls in, as fast as they can, in both families."""

    def __init__(self, pod):
        self.pod = pod
        self.started = []
        # Closed connections are forgotten soon, so that a long run does not fill conntrack.
        pod.sysctl("net.netfilter.nf_conntrack_tcp_timeout_close=2")
        for netns, uid, letter, port in (
            (pod.name, PROXY_UID, "o", OUTBOUND),
            (pod.name, PROXY_UID, "i", INBOUND),
            (pod.name, APP_UID, "a", APP),
            (pod.world_name, ROOT_UID, "w", 80),
        ):
            server = self.start(netns, uid, "answer", letter, port)
            assert server.stdout.readline() == "ready\n"

    def start(self, netns, uid, *arguments):
        argv = [sys.executable, "-B", "-s", "-S", SCRIPT, str(uid), *map(str, arguments)]
        process = pods.spawn(argv, netns, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def run(self, connections, change=None, times=0):
        """Connects at least that often while `change` is called again and again, at least so many times, from the first
        connection to the last."""
        began = time.monotonic()
        each = connections // 4
        outward = [self.start(self.pod.name, APP_UID, "connect", each, 80, "198.18.1.", "2001:db8::") for _ in range(2)]
        inward = [self.start(self.pod.world_name, ROOT_UID, "connect", each, APP, IPV4.pod, IPV6.pod) for _ in range(2)]
        clients = outward + inward
        changes = 0
        while changes < times or (change and all(client.poll() is None for client in clients)):
            change(changes)
            changes += 1
            if changes == times:
                for client in clients:
                    client.stdin.close()
        answers = [collections.Counter(), collections.Counter()]
        for number, client in enumerate(clients):
            if not client.stdin.closed:
                client.stdin.close()
            answers[number // 2].update(json.loads(client.stdout.read()))
            assert client.wait() == 0
        return Result(changes, *answers, time.monotonic() - began)

    def close(self):
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def traffic(pod):
    traffic = Traffic(pod)
    yield traffic
    traffic.close()


def test_without_changes_every_connection_is_captured(pod, traffic):
    """What the others are compared with."""
    pod.sluice(*ONE)
    traffic.run(CONNECTIONS // 10).judge("without changes")


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_connection_escapes_or_fails_while_rules_are_replaced(pod, traffic, backend):
    def replace(number):
        pod.sluice(*(ONE if number % 2 else OTHER), *BACKENDS[backend])

    pod.sluice(*ONE, *BACKENDS[backend])
    times = max(REPLACEMENTS // 10, 2) if backend == "iptables-legacy" else REPLACEMENTS
    traffic.run(CONNECTIONS // 4, replace, times).judge(f"replacements, {backend}", CONNECTIONS // 4, times)


def test_no_connection_escapes_or_fails_while_rules_move(pod, traffic):
    # Every direction.
    order = ["nftables", "iptables-nft", "iptables-legacy", "nftables", "iptables-legacy", "iptables-nft"]

    def move(number):
        pod.sluice(*ONE, *BACKENDS[order[(number + 1) % len(order)]])

    pod.sluice(*ONE, *BACKENDS[order[0]])
    traffic.run(CONNECTIONS // 4, move, MOVES).judge("moves", CONNECTIONS // 4, MOVES)
