"""A node that starts many pods: as many namespaces, programmed by processes beside each other."""

import os
import subprocess

from measure import CONTAINER, WORK, compile_c, median, namespaces, plan, print_table

PODS = 500
TURNS = 3


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def run(sluice, static_libs, rounds, goals):
    del rounds, goals
    crowd = compile_c("crowd", static_libs)
    workers = 4 * os.cpu_count()
    commands = {"sluice apply": [sluice, "apply"], "nft -f": ["nft", "-f", plan(sluice, [], WORK / "default.nft")]}
    rates, each = {name: [] for name in commands}, {name: [] for name in commands}
    for _ in range(TURNS):
        for contestant, command in commands.items():
            with namespaces(PODS) as names:
                paths = WORK / "pods"
                paths.write_text("".join(f"/run/netns/{name}\n" for name in names))
                done = subprocess.run([crowd, str(workers), paths, *command], check=True, capture_output=True, text=True, env=CONTAINER)
            *taken, total = map(int, done.stdout.split())
            assert len(taken) == PODS
            rates[contestant].append(PODS / (total / 1e9))
            each[contestant] += taken
    results = {}
    for contestant, taken in each.items():
        taken.sort()
        results[contestant] = {"per_second": median(rates[contestant]), "p50_ms": percentile(taken, 0.5) / 1e6, "p99_ms": percentile(taken, 0.99) / 1e6}
    print_table(
        f"{PODS} network namespaces, {workers} processes beside each other ({TURNS} rounds):",
        ["", "per second", "p50 ms", "p99 ms"],
        [[name, f"{r['per_second']:.0f}", f"{r['p50_ms']:.2f}", f"{r['p99_ms']:.2f}"] for name, r in results.items()],
    )
    return results
