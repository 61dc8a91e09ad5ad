#!/usr/bin/env python3
"""Wall time of whole processes that put the same capture into an empty network namespace.

Every measurement has a namespace of its own, made before the first and removed after the last, because the kernel
takes a namespace apart in the background and that would be measured with whatever comes next. The programs take
turns (A B C, A B C, ...), so that a drift of the machine meets all of them alike. Needs root.
"""

import argparse
import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WARM_UP_ROUNDS = 3
EXCLUSIONS = 10_000
GOALS = {"nft -f": 0.45, "minimal program": 1.3}

# The nat rules of sluice's defaults the way the istio family writes them; the reset for the proxy's own port is a
# filter rule, and so a second table.
IPTABLES_RULES = """\
*nat
:BENCH_OUTBOUND - [0:0]
:BENCH_INBOUND - [0:0]
:BENCH_REDIRECT - [0:0]
-A OUTPUT -p tcp -j BENCH_OUTBOUND
-A PREROUTING -p tcp -j BENCH_INBOUND
-A BENCH_OUTBOUND -m owner --uid-owner 1337 -j RETURN -m comment --comment proxy
-A BENCH_OUTBOUND -o lo -j RETURN -m comment --comment loopback
-A BENCH_OUTBOUND -d {loopback} -j RETURN -m comment --comment loopback
-A BENCH_OUTBOUND -j BENCH_REDIRECT -m comment --comment outbound
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


def compile_c(source, binary, static_libs):
    """Links the way sluice's release does, so that the comparison is of programs and not of linkers."""
    libraries = []
    if source.stem == "minimal":
        installed = subprocess.run(
            ["gcc", "-print-file-name=libnftnl.a"], check=True, capture_output=True, text=True
        ).stdout.strip()
        libraries = [installed, str(static_libs / "libmnl.a")]
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIE", "-static-pie", "-fstack-protector-strong"]
        + [f"-B{static_libs}/libc", f"-L{static_libs}/libc"]
        + ["-Wl,-z,relro,-z,now,--gc-sections,--strip-all", str(source), *libraries, "-o", str(binary)],
        check=True,
    )


@contextlib.contextmanager
def namespaces(count):
    names = [f"sluice-bench-{os.getpid()}-{number}" for number in range(count)]

    def batch(verb):
        lines = "".join(f"netns {verb} {name}\n" for name in names)
        subprocess.run(["ip", "-force", "-batch", "-"], input=lines, text=True, check=verb == "add")

    try:
        batch("add")
        # What the kernel still does for the new namespaces is over before the first measurement.
        time.sleep(1)
        yield iter(names)
    finally:
        batch("delete")


def measure(timer, name, commands):
    argv = [str(timer), f"/run/netns/{name}"]
    for command in commands:
        argv += [*map(str, command), ";"]
    done = subprocess.run(argv[:-1], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: {argv[2:-1]} failed with {done.returncode}\n{done.stderr}")
    return int(done.stdout) / 1e6


def listing(name):
    """The rules in the namespace, without their counts and the table's comment, which has the time."""
    shown = subprocess.run(
        ["ip", "netns", "exec", name, "nft", "list", "table", "inet", "sluice"], check=True, capture_output=True, text=True
    ).stdout
    shown = re.sub(r"\n\tcomment .*", "", shown)
    return re.sub(r"packets \d+ bytes \d+", "packets 0 bytes 0", shown)


def compare(timer, contestants, rounds, same_table):
    """The times in ms of each contestant. Those in same_table must leave the same table, or nothing is compared."""
    times = {name: [] for name in contestants}
    with namespaces(len(contestants) * (rounds + WARM_UP_ROUNDS)) as free:
        for turn in range(rounds + WARM_UP_ROUNDS):
            made = {}
            for contestant, commands in contestants.items():
                made[contestant] = next(free)
                taken = measure(timer, made[contestant], commands)
                if turn >= WARM_UP_ROUNDS:
                    times[contestant].append(taken)
            if turn == 0:
                tables = {contestant: listing(made[contestant]) for contestant in same_table}
                for contestant, table in tables.items():
                    if table != tables[same_table[0]]:
                        print(f"warning: {contestant} made another table than {same_table[0]}:\n{table}", file=sys.stderr)
    return times


def print_table(title, times):
    print(f"\n{title}\n")
    print(f"  {'':26} {'median':>9} {'fastest':>9} {'slowest':>9}   sluice is")
    ours = statistics.median(times["sluice apply"])
    for contestant, taken in times.items():
        median = statistics.median(taken)
        print(
            f"  {contestant:26} {median:6.2f} ms {min(taken):6.2f} ms {max(taken):6.2f} ms   "
            + ("" if contestant == "sluice apply" else f"{ours / median:.2f} of it")
        )


def check_goals(times):
    ours = statistics.median(times["sluice apply"])
    print()
    met = True
    for contestant, goal in GOALS.items():
        ratio = ours / statistics.median(times[contestant])
        met = met and ratio <= goal
        print(f"  {'PASS' if ratio <= goal else 'FAIL'}: sluice apply takes {ratio:.2f} of {contestant}, goal at most {goal}")
    return met


def plan(sluice, options, path):
    text = subprocess.run(
        [str(sluice), "plan", "--backend", "nftables", "--format", "nft", *options], check=True, capture_output=True, text=True
    ).stdout
    path.write_text(text)
    return path


def excluded_cidrs():
    """Networks that cannot be merged: every second /25 of 10.0.0.0/9."""
    return [f"10.{number >> 8}.{number & 255}.0/25" for number in range(EXCLUSIONS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", type=pathlib.Path, default=ROOT / "build/release/sluice")
    parser.add_argument("--static-libs", type=pathlib.Path, default=ROOT / "build/static", help="where libmnl.a is")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root, for network namespaces")
    if not os.access(options.sluice, os.X_OK):
        sys.exit(f"bench: there is no {options.sluice}; ./dev release makes it")

    work = ROOT / "build/bench"
    work.mkdir(parents=True, exist_ok=True)
    timer, minimal = work / "timer", work / "minimal"
    compile_c(HERE / "timer.c", timer, options.static_libs)
    compile_c(HERE / "minimal.c", minimal, options.static_libs)
    v4, v6 = work / "rules.v4", work / "rules.v6"
    v4.write_text(IPTABLES_RULES.format(loopback="127.0.0.0/8"))
    v6.write_text(IPTABLES_RULES.format(loopback="::1/128"))

    default_plan = plan(options.sluice, [], work / "default.nft")
    times = compare(
        timer,
        {
            "sluice apply": [[options.sluice, "apply"]],
            "minimal program": [[minimal]],
            "nft -f": [["nft", "-f", default_plan]],
            "iptables-nft-restore x2": [["iptables-nft-restore", v4], ["ip6tables-nft-restore", v6]],
            "iptables-legacy-restore x2": [["iptables-legacy-restore", v4], ["ip6tables-legacy-restore", v6]],
        },
        options.rounds,
        ["sluice apply", "minimal program", "nft -f"],
    )
    print_table(f"The default rules, first apply ({options.rounds} rounds, whole process):", times)
    met = check_goals(times)

    configuration = work / "large.toml"
    cidrs = ", ".join(f'"{cidr}"' for cidr in excluded_cidrs())
    configuration.write_text(f"exclude-outbound-cidrs = [{cidrs}]\n")
    large_plan = plan(options.sluice, ["--config", str(configuration)], work / "large.nft")
    times = compare(
        timer,
        {
            "sluice apply": [[options.sluice, "apply", "--config", configuration]],
            "nft -f": [["nft", "-f", large_plan]],
        },
        options.rounds,
        ["sluice apply", "nft -f"],
    )
    print_table(f"{EXCLUSIONS} excluded networks, first apply ({options.rounds} rounds, whole process):", times)
    sys.exit(1 if options.check and not met else 0)


if __name__ == "__main__":
    main()
