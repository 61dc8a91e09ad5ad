"""What the rules cost traffic: opening connections through them, and packets of connections that are open.

Each way of capturing has a namespace of its own with an interface that leads nowhere (one end of a veth pair), a listener on the proxy's port and
rules that send every connection there. Where there are no rules, the same listener answers on the addresses themselves.
"""

import contextlib
import os
import subprocess

from measure import WORK, compile_c, configuration, in_turn, inside, median, namespaces, networks, print_table

SERVER = "10.0.50.200"  # between two networks that are excluded, so that a list is searched
EXCLUSIONS = (0, 100, 1_000, 10_000)
CONNECTIONS = 400
COPIES = 8  # namespaces for each way: where its memory happens to lie makes one faster or slower than its like
PACKETS = 2_000
POD, PEER = "10.9.0.2", "10.9.0.1"


@contextlib.contextmanager
def served(traffic, name, kind, port):
    command = ["ip", "netns", "exec", name, *on_one_processor(), traffic, "serve", kind, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n", f"no listener on {port} in {name}"
            yield
        finally:
            server.kill()


def on_one_processor():
    """Client and listener: moving from one to another costs more than most rules do."""
    return ["taskset", "--cpu-list", str(os.cpu_count() - 1)]


def nanoseconds(traffic, name, *arguments):
    return [int(line) for line in inside(name, *on_one_processor(), traffic, *arguments, timeout=120).split()]


def nat_chain(rules):
    return "table ip bench {\n chain output {\n  type nat hook output priority -105;\n" + "".join(f"  {rule}\n" for rule in rules) + " }\n}\n"


def ways_out(sluice):
    """Each way to have connections redirected, as what puts it into a namespace; None: no rules at all."""
    redirect = "meta l4proto tcp redirect to :15001"

    def with_sluice(count, with_ports=False):
        options = ["--config", configuration(count, WORK / f"traffic-{count}-{with_ports}.toml", with_ports)] if count else []
        return lambda name: inside(name, sluice, "apply", *options)

    def one_rule_each(count):
        rules = [f"ip daddr {cidr} accept" for cidr in networks(count)]
        return lambda name: inside(name, "nft", "-f", "-", input=nat_chain([*rules, redirect]))

    def one_iptables_rule_each(count):
        rules = "".join(f"-A OUTPUT -d {cidr} -j RETURN\n" for cidr in networks(count))
        text = f"*nat\n{rules}-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"
        return lambda name: inside(name, "iptables-legacy-restore", input=text)

    ways = {"no rules": None, "one bare redirect": lambda name: inside(name, "nft", "-f", "-", input=nat_chain([redirect]))}
    for count in EXCLUSIONS:
        ways[f"sluice, {count} networks excluded"] = with_sluice(count)
    ways[f"sluice, {count} networks and as many ports"] = with_sluice(count, with_ports=True)
    for count in EXCLUSIONS[1:]:
        ways[f"nft, a rule for each of {count}"] = one_rule_each(count)
        ways[f"iptables-legacy, a rule for each of {count}"] = one_iptables_rule_each(count)
    return ways


def prepare_way_out(name, way):
    inside(name, "ip", "link", "set", "lo", "up")
    if way is None:
        inside(name, "ip", "route", "add", "local", f"{SERVER}/32", "dev", "lo")
        return
    inside(name, "ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
    inside(name, "ip", "link", "set", "out0", "up")
    inside(name, "ip", "address", "add", f"{POD}/24", "dev", "out0")
    inside(name, "ip", "route", "add", "default", "dev", "out0")
    way(name)


def measure_connections(sluice, traffic, rounds):
    ways = ways_out(sluice)
    rates, latencies = {way: [] for way in ways}, {way: [] for way in ways}
    with namespaces(COPIES * len(ways)) as names, contextlib.ExitStack() as stack:
        for name, (way, put) in zip(names, COPIES * list(ways.items())):
            prepare_way_out(name, put)
            stack.enter_context(served(traffic, name, "tcp", 80 if put is None else 15001))
        for turn in range(rounds + COPIES):
            copy = names[turn % COPIES * len(ways):]
            for name, way in in_turn(zip(copy, ways), turn):
                taken = nanoseconds(traffic, name, "connect", SERVER, 80, CONNECTIONS)
                if turn >= COPIES:
                    rates[way].append(CONNECTIONS / (sum(taken) / 1e9))
                    latencies[way].append(median(taken) / 1e3)
    # Round by round, because the machine itself becomes faster and slower meanwhile.
    bare = rates["one bare redirect"]
    return {way: {"connections_per_second": median(rates[way]), "of_bare_redirect": median([rate / other for rate, other in zip(rates[way], bare)]),
                  "latency_us": median(latencies[way])} for way in ways}


PACKET_MODES = {
    # name: (sluice's options, kind of listener, where it listens, how it is spoken to)
    "inbound, no rules": (None, "tcp", 5000, ("tcp", POD, 5000)),
    "inbound, redirect": ([], "tcp", 15001, ("tcp", POD, 5000)),
    "inbound, tproxy": (["--inbound-mode", "tproxy"], "tproxy", 15001, ("tcp", POD, 5000)),
    "dns, no rules": (None, "udp", 53, ("udp", SERVER, 53)),
    "dns, all": (["--dns", "all"], "udp", 15053, ("udp", SERVER, 53)),
}


def prepare_packets(name, peer, mode, sluice):
    """Inbound packets come from a second namespace; DNS is asked inside, as in the connection test."""
    options, kind = PACKET_MODES[mode][:2]
    if kind == "udp":
        prepare_way_out(name, None if options is None else lambda where: inside(where, sluice, "apply", *options))
        return name
    inside(name, "ip", "link", "set", "lo", "up")
    inside(name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer)
    for end, address in ((name, POD), (peer, PEER)):
        inside(end, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        inside(end, "ip", "link", "set", "eth0", "up")
    if options is not None:
        inside(name, sluice, "apply", *options)
    return peer


def measure_packets(sluice, traffic, rounds):
    times = {mode: [] for mode in PACKET_MODES}
    with namespaces(2 * len(PACKET_MODES)) as names, contextlib.ExitStack() as stack:
        asked_from = {}
        for number, (mode, (_, kind, port, _)) in enumerate(PACKET_MODES.items()):
            name, peer = names[2 * number], names[2 * number + 1]
            asked_from[mode] = prepare_packets(name, peer, mode, sluice)
            stack.enter_context(served(traffic, name, kind, port))
        for turn in range(rounds + 1):
            for mode, (_, _, _, to) in PACKET_MODES.items():
                taken = nanoseconds(traffic, asked_from[mode], "echo", *to, PACKETS)
                if turn:
                    times[mode].append(median(taken) / 1e3)
    return {mode: {"round_trip_us": median(taken)} for mode, taken in times.items()}


def run(sluice, static_libs, rounds, goals):
    traffic = compile_c("traffic", static_libs)
    connections = measure_connections(sluice, traffic, rounds)
    print_table(
        f"Opening TCP connections one after the other ({rounds} rounds of {CONNECTIONS}):",
        ["", "per second", "of bare redirect", "median us"],
        [[way, f"{r['connections_per_second']:.0f}", f"{r['of_bare_redirect']:.2f}", f"{r['latency_us']:.1f}"]
         for way, r in connections.items()],
    )
    packets = measure_packets(sluice, traffic, rounds)
    print_table(
        f"A byte there and back ({rounds} rounds of {PACKETS}):",
        ["", "median us"],
        [[mode, f"{r['round_trip_us']:.2f}"] for mode, r in packets.items()],
    )
    many = connections["sluice, 10000 networks excluded"]["of_bare_redirect"]
    goals.at_least("connection rate, 10,000 networks excluded / one bare redirect", many, 0.95)
    return {"connections": connections, "packets": packets}
