"""What every part of the benchmark needs: throwaway network namespaces, compiled helpers, tables of medians.

Programs take turns (A B C, B C A, ...), so that a drift of the machine meets all of them alike, and each round in another
order, so that none always finds the caches as the same other one left them; what is compared is the median of each. Every namespace is new, made before the first measurement and removed after the last, because the kernel
takes a namespace apart in the background and that would be measured with whatever comes next.
"""

import contextlib
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build/bench"
# A container's: how many folders are searched for iptables' programs is part of what a run costs.
CONTAINER = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def compile_c(name, static_libs, *sources_libraries):
    """Links the way sluice's release does, so that the comparison is of programs and not of linkers."""
    WORK.mkdir(parents=True, exist_ok=True)
    binary = WORK / name
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIE", "-static-pie", "-fstack-protector-strong"]
        + [f"-B{static_libs}/libc", f"-L{static_libs}/libc", "-Wl,-z,relro,-z,now,--gc-sections,--strip-all"]
        + [str(HERE / f"{name}.c"), *map(str, sources_libraries), "-o", str(binary)],
        check=True,
    )
    return as_installed(binary)


def as_installed(program):
    """A copy, as a package or an image layer leaves it: a linker leaves its output in the page cache in single pages, and to
    start from those takes a tenth longer."""
    copy = WORK / "installed" / program.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    shutil.copy(program, copy)
    return copy


def install_again(copy):
    """Puts another copy in its place. Where in memory the page cache has a program makes a difference of up to a tenth: every
    round draws anew."""
    another = copy.with_suffix(".new")
    shutil.copy(copy, another)
    another.replace(copy)


def installed_archive(name):
    found = subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return found.stdout.strip()


@contextlib.contextmanager
def namespaces(count):
    """The names of `count` new network namespaces."""
    names = [f"sluice-bench-{os.getpid()}-{number}" for number in range(count)]

    def batch(verb):
        lines = "".join(f"netns {verb} {name}\n" for name in names)
        subprocess.run(["ip", "-force", "-batch", "-"], input=lines, text=True, check=verb == "add")

    try:
        batch("add")
        # What the kernel still does for the new namespaces is over before the first measurement.
        time.sleep(1)
        yield names
    finally:
        batch("delete")


def inside(name, *command, **options):
    """Runs a program in a namespace; it has to succeed."""
    done = subprocess.run(["ip", "netns", "exec", name, *map(str, command)], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def plan(sluice, options, path):
    """The rules that sluice would write, as a file for nft."""
    text = subprocess.run(
        [str(sluice), "plan", "--backend", "nftables", "--format", "nft", *map(str, options)],
        check=True, capture_output=True, text=True,
    ).stdout
    path.write_text(text)
    return path


def networks(count):
    """Networks that cannot be merged: every second /25."""
    return [f"{10 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.0/25" for number in range(count)]


def configuration(count, path, with_ports=True):
    """A --config file that excludes `count` networks, and every second port up to as many."""
    cidrs = ", ".join(f'"{cidr}"' for cidr in networks(count))
    ports = ",".join(map(str, excluded_ports(count if with_ports else 0)))
    path.write_text(f'exclude-outbound-cidrs = [{cidrs}]\nexclude-outbound-ports = "{ports}"\n')
    return path


def excluded_ports(count):
    return list(range(20_001, 20_001 + 2 * min(count, 10_000), 2))


def in_turn(contestants, turn):
    """The contestants in this round's order, the same in every run of the benchmark."""
    order = list(contestants)
    random.Random(turn).shuffle(order)
    return order


def median(values):
    return statistics.median(values)


def print_table(title, columns, rows):
    """Rows of texts, the first left, the others right."""
    widths = [max(len(str(row[at])) for row in [columns, *rows]) for at in range(len(columns))]
    print(f"\n{title}\n")
    for row in [columns, *rows]:
        cells = [str(row[0]).ljust(widths[0])] + [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join(cells).rstrip())


class Goals:
    """Ratios that are to be reached, and whether they were."""

    def __init__(self):
        self.results = []

    def at_most(self, what, value, limit):
        self.results.append({"goal": what, "value": round(value, 3), "at_most": limit, "met": value <= limit})

    def at_least(self, what, value, limit):
        self.results.append({"goal": what, "value": round(value, 3), "at_least": limit, "met": value >= limit})

    def print(self):
        print()
        for goal in self.results:
            bound = f"at most {goal['at_most']}" if "at_most" in goal else f"at least {goal['at_least']}"
            print(f"  {'PASS' if goal['met'] else 'FAIL'}: {goal['goal']}: {goal['value']}, {bound}")

    def met(self):
        return all(goal["met"] for goal in self.results)
