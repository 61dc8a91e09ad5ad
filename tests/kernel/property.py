#!/usr/bin/env python3
"""Compares what the contract, the evaluator and the kernel say, for random configurations and connections.

usage: property.py [--pairs N] [--seed SEED] [--backend nftables|iptables|legacy]

A configuration is applied to a pod, a batch of connections is made at once, and each must land where the evaluator in
rules/ and the contract as contract.py has it say. A mismatch is made as small as it gets (options dropped, lists shortened) and printed with its seed.

The namespaces:   WORLD --eth0-- POD --vnet0-- INNER     INNER is a machine or container inside the pod: what it sends
                  WORLD --net1-- POD                     arrives in POD on vnet0 and is forwarded to WORLD
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field

import contract
import pod as pods

HERE = pathlib.Path(__file__).resolve().parent
TCP, UDP, UNKNOWN = 6, 17, 254
PORTS = (53, 80, 443, 3306, 8080, 9090, 15001, 15006, 15008, 15053)
PRESET_PORTS = (4140, 4143, 8600, 20000)  # only listened on
FIRST_SOURCE_PORT, LAST_SOURCE_PORT = 21000, 59999
RESOLVERS = ("10.96.0.10", "127.0.0.53", "fd00:96::10")
CONNECTIONS_PER_CONFIGURATION = 100
BACKENDS = {
    "nftables": ["--backend", "nftables"],
    "iptables": ["--backend", "iptables", "--iptables-variant", "nft"],
    "legacy": ["--backend", "iptables", "--iptables-variant", "legacy"],
}

# What each option is tried with. An option is left out as often as it is given.
CIDRS = ["10.96.0.0/12", "198.18.0.0/15", "203.0.113.0/24", "203.0.113.10", "10.9.0.2/32", "10.88.0.0/16", "2001:db8::/32",
         "2001:db8:ff::/48", "fd00:9::/64", "fd00:96::/112", "fd00:88::1", "0.0.0.0/1", "::/1", "128.0.0.0/1"]
PORT_ITEMS = ["53", "80", "443", "3306", "8000-9100", "1-1023", "9090", "15008", "80:443", "15001-15006"]
ID_ITEMS = ["0", "1000", "1337", "1400", "1300-1399", "1000-1400", "2000", "1500-65535"]
INTERFACES = ["eth0", "net1", "lo", "net+", "vnet*", "eth7", "vnet0"]


def some(items, least=1, most=4):
    return lambda r: ",".join(r.sample(items, r.randint(least, most)))


def one(*items):
    return lambda r: r.choice(items)


OPTIONS = {
    "proxy-port": one("15001", "9090"),
    "inbound-port": one("15006", "15006", "8080"),
    "proxy-uid": one("1337", "", "1337,1400", "1300-1399"),
    "proxy-gid": some(ID_ITEMS, 1, 2),
    "proxy-mark": one("0x777", "0x700/0xf00", "7"),
    "proxy-port-access": one("reject", "capture"),
    "hairpin": one("direct", "inbound", "inbound"),
    "passthrough-source": one("127.0.0.6", "127.0.0.6,::6", "10.9.0.2", "fd00:9::2"),
    "inbound-ports": some(PORT_ITEMS, 0, 4),
    "exclude-inbound-ports": some(PORT_ITEMS, 1, 3),
    "exclude-inbound-cidrs": some(CIDRS, 1, 3),
    "tunnel-ports": one("15008", "15008,443"),
    "inbound-mode": one("redirect", "tproxy", "tproxy", "off"),
    "tproxy-mark": one("1337", "0x4000"),
    "outbound-cidrs": lambda r: r.choice(["*", "", "127.0.0.0/8", "127.0.0.53,::1", some(CIDRS)(r), some(CIDRS)(r)]),
    "exclude-outbound-cidrs": some(CIDRS, 1, 6),
    "outbound-ports": some(PORT_ITEMS, 1, 3),
    "exclude-outbound-ports": some(PORT_ITEMS, 1, 4),
    "exclude-outbound-ports-for-uids": one("tcp:3306,443:1000-1400", "udp:53:1000", "80:2000", "53,443:0-1000"),
    "exclude-uids": some(ID_ITEMS, 1, 2),
    "exclude-gids": some(ID_ITEMS, 1, 2),
    "only-gids": some(ID_ITEMS, 1, 3),
    "exclude-interfaces": some(INTERFACES, 1, 2),
    "virtual-interfaces": one("vnet0", "vnet+", "net1,vnet0"),
    "forwarded": one("pass", "capture"),
    "dns": one("off", "all", "resolv-conf", "resolv-conf"),
    "dns-port": one("15053", "9090"),
    "udp": one("reject:443", "reject:53,443", "reject:1-65535"),
    "drop-invalid": one("true"),
    "ip-family": one("dual", "ipv4", "ipv6"),
    "other-family": one("pass", "reject"),
    "loopback-cidr": one("127.0.0.1/32", "127.0.0.0/8"),
    "preset": one("istio", "linkerd", "kuma", "consul"),
}


@dataclass
class Probe:
    """One connection: who makes it where, and what the evaluator is told about it."""

    at: str  # the namespace it is made in: pod, world or inner
    protocol: int
    source: str
    destination: str
    destination_port: int
    interface: str  # by which it leaves the pod, or reaches it
    passed_to: str  # the namespace in which it lands when it is left alone
    uid: int = 0
    gid: int = 0
    mark: int = 0
    source_port: int = 0

    def judged(self):
        """As judge.cpp reads it."""
        ports = self.protocol != UNKNOWN
        connection = {
            "flow": "outbound" if self.at == "pod" else "inbound",
            "protocol": self.protocol,
            "source": self.source,
            "source_port": self.source_port if ports else 0,
            "destination": self.destination,
            "destination_port": self.destination_port if ports else 0,
            "interface": self.interface,
            "mark": self.mark,
            "to_this_host": self.passed_to == "pod",
        }
        return connection | ({"uid": self.uid, "gid": self.gid} if self.at == "pod" else {})

    def dialled(self):
        """As prober.py reads it."""
        return {
            "id": self.source_port,
            "protocol": self.protocol,
            "source": self.source,
            "source_port": self.source_port,
            "destination": self.destination,
            "destination_port": self.destination_port,
            "uid": self.uid,
            "gid": self.gid,
            "mark": self.mark,
        }


# Destinations of the pod's own connections: (address, interface, where it lands).
OUTSIDE = {
    4: [("198.18.0.10", "eth0", "world"), ("203.0.113.10", "eth0", "world"), ("10.96.0.10", "eth0", "world"),
        ("10.88.0.1", "net1", "world"), ("10.77.0.2", "vnet0", "inner")],
    6: [("2001:db8::10", "eth0", "world"), ("2001:db8:ff::10", "eth0", "world"), ("fd00:96::10", "eth0", "world"),
        ("fd00:88::1", "net1", "world"), ("fd00:77::2", "vnet0", "inner")],
}
OWN = {4: ["127.0.0.1", "127.0.0.6", "127.0.0.53", "10.9.0.2"], 6: ["::1", "fd00:9::2"]}
SOURCE_ON = {("eth0", 4): "10.9.0.2", ("net1", 4): "10.88.0.2", ("vnet0", 4): "10.77.0.1",
             ("eth0", 6): "fd00:9::2", ("net1", 6): "fd00:88::2", ("vnet0", 6): "fd00:77::1"}
# Connections that reach the pod: (made in, source, destination, arrives on, lands in).
ARRIVING = {
    4: [("world", "10.9.0.1", "10.9.0.2", "eth0", "pod"), ("world", "203.0.113.10", "10.9.0.2", "eth0", "pod"),
        ("world", "10.88.0.1", "10.88.0.2", "net1", "pod"), ("world", "198.18.0.10", "10.77.0.2", "eth0", "inner"),
        ("inner", "10.77.0.2", "10.77.0.1", "vnet0", "pod"), ("inner", "10.77.0.2", "10.9.0.2", "vnet0", "pod"),
        ("inner", "10.77.0.2", "203.0.113.10", "vnet0", "world"), ("inner", "10.77.0.2", "10.96.0.10", "vnet0", "world")],
    6: [("world", "fd00:9::1", "fd00:9::2", "eth0", "pod"), ("world", "2001:db8:ff::10", "fd00:9::2", "eth0", "pod"),
        ("world", "fd00:88::1", "fd00:88::2", "net1", "pod"), ("world", "2001:db8::10", "fd00:77::2", "eth0", "inner"),
        ("inner", "fd00:77::2", "fd00:77::1", "vnet0", "pod"), ("inner", "fd00:77::2", "fd00:9::2", "vnet0", "pod"),
        ("inner", "fd00:77::2", "2001:db8:ff::10", "vnet0", "world"), ("inner", "fd00:77::2", "fd00:96::10", "vnet0", "world")],
}


def random_configuration(r):
    share = r.choice([0.05, 0.1, 0.2, 0.5])
    options = {name: value(r) for name, value in OPTIONS.items() if r.random() < share}
    if r.random() < 0.25:
        options["inbound-mode"] = "tproxy"
    if r.random() < 0.75:
        options.pop("preset", None)
    return options


def adds_passthrough(options):
    """Whether sluice gives the namespace the address ::6."""
    return "::6" in options.get("passthrough-source", "") and options.get("ip-family") != "ipv4"


def random_probe(r, options):
    version = r.choice([4, 6])
    protocol = r.choices([TCP, UDP, UNKNOWN], [75, 22, 3])[0]
    port = r.choice(PORTS)
    if r.random() < 0.35:
        at, source, destination, interface, lands = r.choice(ARRIVING[version])
        return Probe(at, protocol, source, destination, port, interface, lands)
    if r.random() < 0.6:
        destination, interface, lands = r.choice(OUTSIDE[version])
        source = SOURCE_ON[interface, version]
    else:
        destination, interface, lands = r.choice(OWN[version]), "lo", "pod"
        source = r.choice(OWN[version] + (["::6"] if version == 6 and adds_passthrough(options) else []))
    who = {} if protocol == UNKNOWN else {"uid": r.choice([0, 1000, 1000, 1337, 1400, 2000]), "gid": r.choice([0, 1000, 1337, 1500])}
    return Probe("pod", protocol, source, destination, port, interface, lands, mark=r.choice([0, 0, 0, 0x777, 7]), **who)


class Worker:
    """A program that answers lines of JSON with lines of JSON."""

    def __init__(self, argv, netns=None):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = pods.spawn(argv, netns, **pipes) if netns else subprocess.Popen(argv, **pipes)

    def ask(self, question):
        self.send(question)
        return self.receive()

    def send(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[0]} died")
        return json.loads(line)

    def close(self):
        self.process.kill()
        self.process.communicate()


@dataclass
class Mismatch:
    options: dict
    probe: Probe
    decision: dict
    expected: str
    contract: str
    landed: str

    def __str__(self):
        words = " ".join(f"--{name}={value!r}" for name, value in sorted(self.options.items()))
        return (f"configuration: {words or '(defaults)'}\nconnection: {self.probe}\n"
                f"evaluator: {self.decision}, so it should land in {self.expected}\n"
                f"contract: it should land in {self.contract}\nkernel: it landed in {self.landed}")


@dataclass
class Tally:
    pairs: int = 0
    configurations: int = 0
    refused: int = 0
    verdicts: dict = field(default_factory=dict)


class Laboratory:
    """The namespaces, the probers in them, and the judge. Use as a context manager."""

    def __init__(self, backend, judge):
        self.backend = backend
        self._ports = itertools.cycle(range(FIRST_SOURCE_PORT, LAST_SOURCE_PORT + 1))
        self._stack = contextlib.ExitStack()
        try:
            self.pod = self._stack.enter_context(pods.Pod())
            self._add_inner()
            self.judge = self._worker([judge])
            prober = [sys.executable, "-B", "-s", "-S", str(HERE / "prober.py")]
            listening = [*prober, *map(str, PORTS + PRESET_PORTS)]
            self.listening = {
                "pod": self._worker(listening, self.pod.name),
                "world": self._worker(listening, self.pod.world_name),
                "inner": self._worker(listening, self.inner_name),
            }
            self.dialling = {**self.listening, "pod": self._worker(prober, self.pod.name)}
            self.resolv_conf = self.pod.scratch / "resolv.conf"
            self.resolv_conf.write_text("".join(f"nameserver {server}\n" for server in RESOLVERS))
            pods.wait_until(self._all_pass_without_rules, "every connection to arrive before there are rules", 20)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _worker(self, argv, netns=None):
        worker = Worker(argv, netns)
        self._stack.callback(worker.close)
        return worker

    def _add_inner(self):
        self.inner_name = self.pod.name.replace("-pod", "-inner")
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", self.inner_name], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "add", self.inner_name], check=True)
        world, inner = self.pod.world_name, self.inner_name

        def up(device, *addresses):
            return [f"link set {device} addrgenmode none",
                    *(f"addr add {a} dev {device}" + (" nodad" if ":" in a else "") for a in addresses), f"link set {device} up"]

        self.pod.ip(f"link add net1 type veth peer name net1 netns {world}", f"link add vnet0 type veth peer name eth0 netns {inner}",
                    *up("net1", "10.88.0.2/24", "fd00:88::2/64"), *up("vnet0", "10.77.0.1/24", "fd00:77::1/64"))
        self.pod.ip(*up("net1", "10.88.0.1/24", "fd00:88::1/64"), "route add 10.77.0.0/24 via 10.9.0.2",
                    "route add fd00:77::/64 via fd00:9::2", netns=world)
        self.pod.ip("link set lo up", *up("eth0", "10.77.0.2/24", "fd00:77::2/64"), "route add default via 10.77.0.1",
                    "route add default via fd00:77::1", netns=inner)
        settings = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 " + " ".join(
            f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", "eth0", "net1", "vnet0"))
        pods.succeeded(pods.run(["sysctl", "-qw", *settings.split()], self.pod.name))
        no_filter = [f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", "eth0", "net1")]
        pods.succeeded(pods.run(["sysctl", "-qw", *no_filter], world))

    def _all_pass_without_rules(self):
        """Devices come up and neighbours are learned meanwhile."""
        probes = [Probe("pod", TCP, SOURCE_ON[interface, version], destination, 80, interface, lands)
                  for version in (4, 6) for destination, interface, lands in OUTSIDE[version]]
        probes += [Probe(at, TCP, source, destination, 80, interface, lands)
                   for version in (4, 6) for at, source, destination, interface, lands in ARRIVING[version]]
        return self.dial(probes) == [f"{probe.passed_to}:80" for probe in probes]

    # ---------------------------------------------------------------------------------------------- one experiment

    def decisions(self, options, probes):
        """The evaluator's decisions, or None where the configuration is refused."""
        answer = self.judge.ask({"options": options, "name_servers": RESOLVERS, "connections": [p.judged() for p in probes]})
        return answer.get("decisions")

    def apply(self, options):
        argv = [pods.sluice_binary(), "apply", *BACKENDS[self.backend], "--log-level", "error"]
        argv += [f"--{name}={value}" for name, value in options.items()]
        if options.get("dns") == "resolv-conf":
            script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
            argv = ["unshare", "-m", "sh", "-c", script, str(self.resolv_conf), *argv]
        pods.succeeded(pods.run(argv, self.pod.name, env={"PATH": os.environ["PATH"]}))

    def dial(self, probes):
        """Where each probe landed: `world:80`, `refused`, or what went wrong."""
        by_place = {}
        for probe in probes:
            probe.source_port = next(self._ports)
            by_place.setdefault(probe.at, []).append(probe)
        for worker in self.listening.values():
            worker.ask({"do": "let_go"})
            worker.ask({"do": "arrivals"})
        results = {}
        for place, those in by_place.items():
            results.update(self.dialling[place].ask({"do": "dial", "probes": [p.dialled() for p in those]}))
        outcome = {int(id): result for id, result in results.items()}
        landed = self._arrivals({id for id, result in outcome.items() if result in ("connected", "sent")})
        refused = {id: "refused" for id, result in outcome.items() if result == "ECONNREFUSED"}
        return [landed.get(p.source_port) or refused.get(p.source_port) or f"nowhere ({outcome.get(p.source_port, 'no answer')})"
                for p in probes]

    def _arrivals(self, wanted):
        landed = {}
        deadline = time.monotonic() + 2
        while wanted - landed.keys() and time.monotonic() < deadline:
            for place, worker in self.listening.items():
                for id, port in worker.ask({"do": "arrivals"}):
                    landed[id] = f"{place}:{port}"
        return landed

    @staticmethod
    def expected(probe, decision):
        if decision["verdict"] in ("redirect", "tproxy"):
            return f"pod:{decision['port']}"
        if decision["verdict"] == "reject":
            return "refused"
        return f"{probe.passed_to}:{probe.destination_port if probe.protocol != UNKNOWN else 0}"

    @staticmethod
    def by_contract(options, probe):
        """The same from contract.py; None where that does not know the options."""
        if "preset" in options:
            return None
        landing = contract.Policy(options, RESOLVERS).landing(probe)
        if landing == contract.PASS:
            return f"{probe.passed_to}:{probe.destination_port if probe.protocol != UNKNOWN else 0}"
        return "refused" if landing == contract.REFUSE else f"pod:{landing}"

    def mismatches(self, options, probes):
        """None where the configuration is refused."""
        decisions = self.decisions(options, probes)
        if decisions is None:
            return None
        self.apply(options)
        landed = self.dial(probes)
        found = []
        for probe, decision, place in zip(probes, decisions, landed):
            expected = self.expected(probe, decision)
            wanted = self.by_contract(options, probe) or expected
            if not expected == wanted == place:
                found.append(Mismatch(options, probe, decision, expected, wanted, place))
        return found

    # ------------------------------------------------------------------------------------------------------ shrinking

    def still_fails(self, options, probe):
        if probe.source == "::6" and not adds_passthrough(options):
            return None  # Without the address that connection would be another one.
        found = self.mismatches(options, [probe])
        return found[0] if found else None

    def shrink(self, mismatch):
        """The same mismatch with as few options, and as short lists, as it takes."""
        smallest = self.still_fails(mismatch.options, mismatch.probe)
        if smallest is None:
            return mismatch  # It takes the whole batch; that is news in itself.
        progress = True
        while progress:
            progress = False
            for smaller in list(shorter(smallest.options)):
                if found := self.still_fails(smaller, smallest.probe):
                    smallest, progress = found, True
                    break
        return smallest


def shorter(options):
    for name, value in options.items():
        yield {other: kept for other, kept in options.items() if other != name}
        items = value.split(",")
        if len(items) > 1:
            for leave_out in range(len(items)):
                yield options | {name: ",".join(items[:leave_out] + items[leave_out + 1 :])}


def search(laboratory, pairs, seed):
    """Runs that many pairs; returns the tally and the first mismatch, made small, or None."""
    r = random.Random(seed)
    tally = Tally()
    while tally.pairs < pairs:
        options = random_configuration(r)
        probes = [random_probe(r, options) for _ in range(min(CONNECTIONS_PER_CONFIGURATION, pairs - tally.pairs))]
        found = laboratory.mismatches(options, probes)
        if found is None:
            tally.refused += 1
            continue
        tally.configurations += 1
        tally.pairs += len(probes)
        for decision in laboratory.decisions(options, probes):
            tally.verdicts[decision["verdict"]] = tally.verdicts.get(decision["verdict"], 0) + 1
        if found:
            return tally, laboratory.shrink(found[0])
    return tally, None


def judge_binary():
    return str(pathlib.Path(pods.sluice_binary()).parent / "sluice_judge")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to have it again")
    parser.add_argument("--backend", choices=BACKENDS, default="nftables")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("property: needs root, for network namespaces")
    pods.clean_up_on_exit()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with Laboratory(options.backend, judge_binary()) as laboratory:
        tally, mismatch = search(laboratory, options.pairs, seed)
    print(f"{tally.pairs} pairs, {tally.configurations} configurations ({tally.refused} more were contradictions, rightly refused) "
          f"on {options.backend} in {time.monotonic() - began:.0f} s: {tally.verdicts}")
    if mismatch:
        sys.exit(str(mismatch))


if __name__ == "__main__":
    main()
