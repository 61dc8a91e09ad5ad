#!/usr/bin/env python3
"""What sluice costs: a whole run beside other programs that write the same rules, the traffic that goes through the rules,
and a node that starts many pods. Prints tables and writes build/bench/results.json. Needs root."""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

import applies
import measure
import node
import traffic

PARTS = {"applies": applies, "traffic": traffic, "node": node}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sluice", type=pathlib.Path, default=measure.ROOT / "build/release/sluice")
    parser.add_argument("--static-libs", type=pathlib.Path, default=measure.ROOT / "build/static", help="where libmnl.a is")
    parser.add_argument("--rounds", type=int, default=100, help="runs of each program; large policies take fewer")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated")
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    options = parser.parse_args()
    # What a container's is. Every folder in it costs those who look for a program.
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if os.geteuid() != 0:
        sys.exit("bench: needs root, for network namespaces")
    if not os.access(options.sluice, os.X_OK):
        sys.exit(f"bench: there is no {options.sluice}; ./dev release makes it")

    goals = measure.Goals()
    version = subprocess.run([options.sluice, "--version"], check=True, capture_output=True, text=True).stdout
    results = {"sluice": version.splitlines(), "kernel": platform.release(), "processors": os.cpu_count()}
    for name in options.only or PARTS:
        results[name] = PARTS[name].run(measure.as_installed(options.sluice), options.static_libs, options.rounds, goals)
    results["goals"] = goals.results
    goals.print()
    path = measure.WORK / "results.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{path.relative_to(measure.ROOT)} has the figures")
    sys.exit(1 if options.check and not goals.met() else 0)


if __name__ == "__main__":
    main()
