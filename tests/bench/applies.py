"""Whole processes that put the same capture into an empty network namespace: time, memory, system calls, netlink bytes."""

import re
import subprocess
import sys

from measure import CONTAINER, WORK, compile_c, configuration, excluded_ports, in_turn, inside, install_again, installed_archive, median, namespaces, networks, plan, print_table

WARM_UP_ROUNDS = 2
# Excluded networks and ports, and how often each contestant runs.
SIZES = {0: 2.0, 100: 0.5, 1_000: 0.5, 10_000: 0.25, 50_000: 0.125}
# Longer lists of networks are divided (rules/compile.cpp).
LONGEST_SET = 2048
# Contestants that are to write the very same table.
SAME_RULES = {"sluice", "nft", "minimal", "promises"}
# Beyond this iptables' own programs take seconds, and nobody writes such rules with them.
MOST_IPTABLES_ENTRIES = 10_000

# The nat rules of sluice's defaults the way the istio family writes them; the reset for the proxy's own port is a
# filter rule, and so a second table.
IPTABLES_RULES = """\
*nat
:BENCH_OUTBOUND - [0:0]
:BENCH_INBOUND - [0:0]
:BENCH_REDIRECT - [0:0]
-A OUTPUT -p tcp -j BENCH_OUTBOUND
-A PREROUTING -p tcp -j BENCH_INBOUND
{ports}-A BENCH_OUTBOUND -m owner --uid-owner 1337 -j RETURN -m comment --comment proxy
-A BENCH_OUTBOUND -o lo -j RETURN -m comment --comment loopback
-A BENCH_OUTBOUND -d {loopback} -j RETURN -m comment --comment loopback
{networks}-A BENCH_OUTBOUND -j BENCH_REDIRECT -m comment --comment outbound
-A BENCH_INBOUND -m addrtype ! --dst-type LOCAL -j RETURN -m comment --comment forwarded
-A BENCH_INBOUND -p tcp --dport 15001 -j RETURN -m comment --comment proxy-port
-A BENCH_INBOUND -j BENCH_REDIRECT -m comment --comment inbound
-A BENCH_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
*filter
:BENCH_GUARD - [0:0]
-A INPUT -p tcp -j BENCH_GUARD
-A BENCH_GUARD -i lo -j RETURN -m comment --comment loopback
-A BENCH_GUARD -p tcp --dport 15001 -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT -j REJECT --reject-with tcp-reset
COMMIT
"""


def iptables_text(size, family):
    """One rule per network and multiport groups of fifteen, as the tools in the field write them."""
    ports = excluded_ports(size)
    groups = [",".join(map(str, ports[at : at + 15])) for at in range(0, len(ports), 15)]
    return IPTABLES_RULES.format(
        loopback="127.0.0.0/8" if family == 4 else "::1/128",
        ports="".join(f"-A BENCH_OUTBOUND -p tcp -m multiport --dports {group} -j RETURN\n" for group in groups),
        networks="".join(f"-A BENCH_OUTBOUND -d {cidr} -j RETURN\n" for cidr in (networks(size) if family == 4 else [])),
    )


def timed(timer, name, commands):
    """Milliseconds of wall time, milliseconds of processor time, peak memory in KiB."""
    argv = [str(timer), f"/run/netns/{name}"]
    for command in commands:
        argv += [*map(str, command), ";"]
    done = subprocess.run(argv[:-1], capture_output=True, text=True, check=False, env=CONTAINER)
    if done.returncode:
        sys.exit(f"bench: {argv[2:-1]} failed with {done.returncode}\n{done.stderr}")
    wall, processor, memory = map(int, done.stdout.split())
    return wall / 1e6, processor / 1e3, memory


def counted(name, commands):
    """System calls, and bytes sent to and received from sockets, as strace sees them."""
    calls = sent = received = 0
    for command in commands:
        trace = WORK / "trace"
        inside(name, "strace", "-f", "-qq", "-s", "0", "-o", trace, *command, env=CONTAINER)
        for line in trace.read_text(errors="replace").splitlines():
            call = re.search(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)", line)
            if not call or "<unfinished" in line:
                continue
            calls += 1
            result = re.search(r"\) += (\d+)$", line)
            if result and call.group(1) in ("sendto", "sendmsg"):
                sent += int(result.group(1))
            if result and call.group(1) in ("recvfrom", "recvmsg") and "MSG_PEEK" not in line:
                received += int(result.group(1))
    return calls, sent, received


def listing(name):
    """The rules in the namespace, without their counts and the table's comment, which has the time."""
    shown = inside(name, "nft", "list", "table", "inet", "sluice")
    shown = re.sub(r"\n\tcomment .*", "", shown)
    return re.sub(r"packets \d+ bytes \d+", "packets 0 bytes 0", shown)


def in_one_set(text):
    """sluice divides a long list into sets; this is the same policy as somebody would write it for nft by hand."""
    sets = re.findall(r"\tset exclude_outbound_v4_\d+ \{.*?\n\t\}\n\n", text, re.DOTALL)
    elements = ",".join(re.search(r"elements = \{([^}]*)\}", piece).group(1) for piece in sets)
    rules = re.findall(r"\t\tip daddr \S+ ip daddr @exclude_outbound_v4_\d+ .*\n", text)
    for part in sets[1:] + rules[1:]:
        text = text.replace(part, "")
    text = text.replace(sets[0], re.sub(r"_1 \{", " {", re.sub(r"elements = \{[^}]*\}", lambda _: f"elements = {{{elements}}}", sets[0])))
    return text.replace(rules[0], '\t\tip daddr @exclude_outbound_v4 counter accept comment "exclude-cidr"\n')


def contestants_for(size, sluice, minimal):
    """Each has a name and steps; a step has a name and the commands that are timed together, in one namespace."""
    config = configuration(size, WORK / f"{size}.toml")
    options = ["--config", config] if size else []
    nft_file = plan(sluice, options, WORK / f"{size}.nft")
    contestants = {
        "sluice": {
            "sluice apply": [[sluice, "apply", *options]],
            "sluice apply, identical": [[sluice, "apply", *options]],
            "sluice apply, replacing": [[sluice, "apply", *options, "--proxy-uid", "1400"]],
            "sluice cleanup": [[sluice, "cleanup"]],
        },
        "nft": {"nft -f": [["nft", "-f", nft_file]]},
    }
    if size > LONGEST_SET:
        one_set = WORK / f"{size}.one-set.nft"
        one_set.write_text(in_one_set(nft_file.read_text()))
        contestants["one set"] = {"nft -f, the networks in one set": [["nft", "-f", one_set]]}
    if size == 0:
        contestants["minimal"] = {"minimal program": [[minimal]]}
        contestants["promises"] = {"minimal program, and what the promises ask": [[minimal, "promises"]]}
    if size <= MOST_IPTABLES_ENTRIES:
        for family in (4, 6):
            (WORK / f"{size}.v{family}").write_text(iptables_text(size, family))
        for variant in ("nft", "legacy"):
            contestants[variant + " restore"] = {
                f"iptables-{variant}-restore x2": [
                    [f"iptables-{variant}-restore", WORK / f"{size}.v4"],
                    [f"ip6tables-{variant}-restore", WORK / f"{size}.v6"],
                ]
            }
    return contestants


def check_same_rules(tables):
    """What is compared is the same work: the programs that write sluice's table wrote the same."""
    first = tables["sluice"]
    for contestant, table in tables.items():
        if table != first:
            sys.exit(f"bench: {contestant} made another table than sluice:\n{table}")


def measure_size(size, rounds, sluice, timer, minimal):
    contestants = contestants_for(size, sluice, minimal)
    times = {step: [] for steps in contestants.values() for step in steps}
    counts = {}
    with namespaces(len(contestants) * (rounds + WARM_UP_ROUNDS + 1)) as names:
        free = iter(names)
        for turn in range(rounds + WARM_UP_ROUNDS):
            tables = {}
            for program in (sluice, minimal):
                install_again(program)
            for contestant, steps in in_turn(contestants.items(), turn):
                name = next(free)
                for number, (step, commands) in enumerate(steps.items()):
                    taken = timed(timer, name, commands)
                    if turn >= WARM_UP_ROUNDS:
                        times[step].append(taken)
                    if turn == 0 and number == 0 and contestant in SAME_RULES:
                        tables[contestant] = listing(name)
            if turn == 0:
                check_same_rules(tables)
        for steps in contestants.values():
            name = next(free)
            for step, commands in steps.items():
                counts[step] = counted(name, commands)
    ours = [wall for wall, _, _ in times["sluice apply"]]
    return {
        step: {
            "wall_ms": median([wall for wall, _, _ in taken]),
            # Of the same round, because the machine itself becomes faster and slower.
            "apply_is": median([apply / wall for apply, (wall, _, _) in zip(ours, taken)]),
            "fastest_ms": min(wall for wall, _, _ in taken),
            "slowest_ms": max(wall for wall, _, _ in taken),
            "processor_ms": median([processor for _, processor, _ in taken]),
            "peak_kib": max(memory for _, _, memory in taken),
            "system_calls": counts[step][0],
            "bytes_sent": counts[step][1],
            "bytes_received": counts[step][2],
        }
        for step, taken in times.items()
    }


def print_size(size, rounds, results):
    rows = [
        [step, f"{r['wall_ms']:.2f}", f"{r['fastest_ms']:.2f}", f"{r['slowest_ms']:.2f}", f"{r['processor_ms']:.2f}", r["peak_kib"],
         r["system_calls"], r["bytes_sent"], r["bytes_received"], f"{r['apply_is']:.2f}"]
        for step, r in results.items()
    ]
    title = f"{size or 'No'} excluded networks, {len(excluded_ports(size)) or 'no'} excluded ports ({rounds} rounds, whole process):"
    print_table(title, ["", "median ms", "fastest", "slowest", "cpu ms", "peak KiB", "calls", "sent", "received", "apply is"], rows)


def run(sluice, static_libs, rounds, goals):
    timer = compile_c("timer", static_libs)
    minimal = compile_c("minimal", static_libs, installed_archive("libnftnl.a"), static_libs / "libmnl.a")
    everything = {}
    for size, share in SIZES.items():
        turns = max(3, round(rounds * share))
        everything[size] = measure_size(size, turns, sluice, timer, minimal)
        print_size(size, turns, everything[size])
    default, largest = everything[0], everything[50_000]
    for limit in (0.45, 0.35):
        goals.at_most("first apply / nft -f", default["nft -f"]["apply_is"], limit)
    for limit in (1.3, 1.15):
        goals.at_most("first apply / minimal program", default["minimal program"]["apply_is"], limit)
    goals.at_most("identical re-apply / first apply", 1 / default["sluice apply, identical"]["apply_is"], 1)
    goals.at_most("peak memory of the first apply in KiB", default["sluice apply"]["peak_kib"], 4096)
    goals.at_most("50,000 networks: first apply / nft -f", largest["nft -f"]["apply_is"], 0.5)
    return everything
