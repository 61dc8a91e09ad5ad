#!/usr/bin/env python3
"""Which lines and branches the tests have run, from what a build with --coverage left behind: tests/coverage.py BUILD

Branches that only an exception takes are not counted: the compiler makes one of almost every call.
"""

import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("rules/", "netfilter/", "cli/")


def reports(build):
    """gcov's report of each object."""
    for data in sorted(build.rglob("*.gcda")):
        if "_test.dir" in str(data):
            continue
        said = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", data], capture_output=True, text=True, cwd=build)
        yield from map(json.loads, said.stdout.splitlines())


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    # A line of a header, or of a template, is in many objects.
    lines = collections.defaultdict(collections.Counter)
    branches = collections.defaultdict(collections.Counter)
    for report in reports(build):
        for file in report["files"]:
            path = pathlib.Path(report["current_working_directory"], file["file"]).resolve()
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else ""
            if not name.startswith(FOLDERS):
                continue
            for line in file["lines"]:
                lines[name][line["line_number"]] += line["count"]
                for number, branch in enumerate(line["branches"]):
                    if not branch["throw"]:
                        branches[name][line["line_number"], number] += branch["count"]
    if not lines:
        sys.exit(f"nothing was counted in {build}")
    total = [0, 0, 0, 0]
    print(f"{'lines':>14} {'branches':>16}")
    for name in sorted(lines):
        figures = [count_run(lines[name]), len(lines[name]), count_run(branches[name]), len(branches[name])]
        total = [a + b for a, b in zip(total, figures)]
        print(row(figures), name)
    print(row(total), "all")


def count_run(counts):
    return sum(count > 0 for count in counts.values())


def row(figures):
    ran, lines, taken, branches = figures
    return f"{percent(ran, lines)} {ran:4}/{lines:<4} {percent(taken, branches)} {taken:4}/{branches:<4}"


def percent(part, whole):
    return f"{100 * part / whole:4.0f}%" if whole else "    -"


if __name__ == "__main__":
    main()
