"""Many at once, two configurations, others at work in the same ruleset: the result is exactly one of the two.

SLUICE_THOROUGH=1 runs 1,000 rounds of 50 processes; otherwise there are a few.
"""

import collections
import itertools
import os
import re
import subprocess

import pytest

import pod as pods
from test_faults import BACKENDS, state

THOROUGH = bool(os.environ.get("SLUICE_THOROUGH"))
PROCESSES = 50
ROUNDS = 1000 if THOROUGH else 3
# Each run of the legacy variant starts about ten programs.
LEGACY_PROCESSES, LEGACY_ROUNDS = (PROCESSES, 100) if THOROUGH else (8, 1)

ONE = ["apply", "--exclude-outbound-ports", "80-90,443"]
OTHER = ["apply", "--inbound-mode", "tproxy", "--passthrough-source", "127.0.0.6,::6", "--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8"]

# Others, who add and remove what is theirs for as long as they are let: a table of their own, and rules in those of iptables.
OTHERS = """
trap 'exit 0' TERM
while :; do
  nft add table ip others
  nft add chain ip others c '{ type filter hook output priority 0; }'
  nft add rule ip others c counter
  iptables-nft -w -t nat -A OUTPUT -p tcp --dport 7 -j RETURN
  ip6tables-nft -w -t nat -A OUTPUT -p tcp --dport 7 -j RETURN
  echo done
  nft delete table ip others
  iptables-nft -w -t nat -D OUTPUT -p tcp --dport 7 -j RETURN
  ip6tables-nft -w -t nat -D OUTPUT -p tcp --dport 7 -j RETURN
done
"""
# What they leave for good, before anybody else is there.
LASTING = """
nft add table inet lasting; nft add chain inet lasting c; nft add rule inet lasting c counter
iptables-nft -t nat -A OUTPUT -p tcp --dport 9 -j RETURN
ip6tables-nft -t nat -A OUTPUT -p tcp --dport 9 -j RETURN
"""


def in_one_order(listing):
    """Which chain of a table was made first means nothing; nft lists them in that order."""

    def ordered(table):
        chains = re.findall(r"^\tchain \S+ \{\n(?s:.*?)^\t\}\n", table[0], re.M)
        rest = table[0]
        for chain in chains:
            rest = rest.replace(chain, "", 1)
        return re.sub(r"\n+", "\n", rest + "".join(sorted(chains)))

    return re.sub(r"^table .* \{\n(?s:.*?)^\}\n", ordered, listing, flags=re.M)


def ours(pod):
    """What is ours: all but what others add and remove, and what was there before."""
    found = state(pod)
    text = re.sub(r"table ip others \{(?s:.*?)\n\}\n", "", found.part("nf_tables"))
    text = "".join(line for line in text.splitlines(True) if "dport 7 " not in line)
    tables, *saved = re.split(r"(?=^\*)", text, maxsplit=1, flags=re.M)
    return in_one_order(tables), "".join(sorted("".join(saved).splitlines(True))), found.parts[1:], found.kept


class Race:
    def __init__(self, pod, choices):
        self.pod, self.choices = pod, choices
        self.outcomes = []
        for choice in choices:
            pod.sluice(*choice)
            self.outcomes.append(ours(pod))
        assert self.outcomes[0] != self.outcomes[1]

    def round(self, number):
        """All at once; who comes last is left to chance."""
        chosen = itertools.islice(itertools.cycle(self.choices), number)
        processes = [self.pod.sluice_process(*choice, "--lock-timeout", "120s") for choice in chosen]
        ended = [(process.communicate(timeout=200), process.returncode) for process in processes]
        assert [(code, said) for said, code in ended if code] == []
        found = ours(self.pod)
        assert found in self.outcomes
        return self.outcomes.index(found)


def race(pod, choices, rounds, processes):
    pods.succeeded(pods.run(["sh", "-ec", LASTING], pod.name))
    contest = Race(pod, choices)
    others = pods.spawn(["sh", "-c", OTHERS], pod.name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        ends = collections.Counter(contest.round(processes) for _ in range(rounds))
    finally:
        others.terminate()
        edits = others.communicate(timeout=30)[0].splitlines()
    print(f"{rounds} rounds of {processes}: {dict(ends)}, while others made {edits.count('done')} rounds of edits")
    assert "done" in edits, "nobody else was at work"
    rules = pods.run(["sh", "-ec", "iptables-nft-save; ip6tables-nft-save; nft list table inet lasting"], pod.name).stdout
    assert rules.count("--dport 9 -j RETURN") == 2 and "chain c" in rules, "what others left is there"
    pod.sluice("cleanup")
    assert "proto 115" not in pods.run(["sh", "-c", "ip rule; ip -6 rule; ip route show table all"], pod.name).stdout


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft"])
def test_two_configurations_at_once_end_in_one(pod, backend):
    race(pod, [[*ONE, *BACKENDS[backend]], [*OTHER, *BACKENDS[backend]]], ROUNDS, PROCESSES)


def test_two_backends_at_once_end_in_one(pod):
    race(pod, [[*ONE, *BACKENDS["nftables"]], [*OTHER, *BACKENDS["iptables-nft"]]], ROUNDS, PROCESSES)


@pytest.mark.parametrize("other", ["nftables", "iptables-legacy"])
def test_the_legacy_variant_at_once_with_another_ends_in_one(pod, other):
    race(pod, [[*ONE, *BACKENDS["iptables-legacy"]], [*OTHER, *BACKENDS[other]]], LEGACY_ROUNDS, LEGACY_PROCESSES)
