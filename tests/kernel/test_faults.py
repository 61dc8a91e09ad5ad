"""Killed at any instant, or refused any system call: the rules are the old ones or the new ones, and the next run succeeds.

strace counts and injects. Each test lists the system calls of a run first and then repeats it once for each.
"""

import collections
import itertools
import os
import re
import shutil

import pytest

import pod as pods

OLD = ["--exclude-outbound-ports", "80-90,443", "--proxy-uid", "1400"]
NEW = ["--inbound-port", "15006", "--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8"]
ERRORS = ["EPERM", "ENOBUFS", "EINTR", "EAGAIN", "ENOMEM", "EBUSY", "ENOENT"]
# Of the allocator, and the end: their failures are not sluice's.
NOT_TO_FAIL = {"brk", "mmap", "munmap", "exit_group"}
# Everything takes a quarter of an hour. Unless SLUICE_THOROUGH is set, every third system call is the last, and each call
# meets one of the errors.
THOROUGH = bool(os.environ.get("SLUICE_THOROUGH"))
EVERY = 1 if THOROUGH else 3
ERRORS_PER_CALL = len(ERRORS) if THOROUGH else 1

SCENARIOS = {
    "first apply": (None, ["apply", *NEW]),
    "replacement": (OLD, ["apply", *NEW]),
    "cleanup": (NEW, ["cleanup"]),
    "iptables": ([*OLD, "--backend", "iptables"], ["apply", *NEW, "--backend", "iptables"]),
    "switch": (OLD, ["apply", *NEW, "--backend", "iptables"]),
    "tproxy": (OLD, ["apply", "--inbound-mode", "tproxy", "--passthrough-source", "127.0.0.6,::6"]),
}


@pytest.fixture(params=SCENARIOS)
def scenario(request):
    return SCENARIOS[request.param]


def traced(pod, arguments, *options):
    """Runs sluice under strace."""
    if not shutil.which("strace"):
        pytest.skip("needs the program strace")
    return pods.run(["strace", "-qq", *options, pods.sluice_binary(), *arguments], pod.name, env={})


def state(pod):
    """All rules without the note of when they were applied; empty where there is no table."""
    return re.sub(r'\tcomment ".*"\n', "", pod.nft("-s", "list", "ruleset").stdout, count=1)


def system_calls(pod, arguments):
    """The run's system calls in order, each with its number among those of its name, from the first that is sluice's own on."""
    done = traced(pod, arguments, "-e", "signal=none")
    assert done.returncode == 0, done.stderr
    # The execve is strace's.
    names = [name for name in re.findall(r"^(\w+)\(", done.stderr, re.M) if name != "execve"]
    seen = collections.Counter()
    calls = []
    for name in names:
        seen[name] += 1
        calls.append((name, seen[name]))
    return calls[names.index("socket") :]


class Stage:
    """Brings the namespace to where a scenario begins, again and again, and knows how it begins and ends."""

    def __init__(self, pod, scenario):
        self.pod = pod
        self.before, self.arguments = scenario
        self.reset()
        self.old = state(pod)
        pod.sluice(*self.arguments)
        self.new = state(pod)
        assert self.old != self.new
        self.reset()
        self.calls = system_calls(pod, self.arguments)

    def reset(self):
        self.pod.sluice(*(["apply", *self.before] if self.before else ["cleanup"]))

    def finish(self, what):
        """Whatever happened, the next run does what was wanted."""
        self.pod.sluice(*self.arguments)
        assert state(self.pod) == self.new, what


def test_killed_at_a_system_call(pod, scenario):
    stage = Stage(pod, scenario)
    ends = collections.Counter()
    for name, number in stage.calls[::EVERY]:
        stage.reset()
        killed = traced(pod, stage.arguments, "-e", f"inject={name}:signal=KILL:when={number}")
        what = f"killed at {name} number {number}"
        assert killed.returncode == -9 or name == "exit_group", what
        found = state(pod)
        assert found in (stage.old, stage.new), what
        ends["old" if found == stage.old else "new"] += 1
        stage.finish(what)
    print(f"{sum(ends.values())} kills: {dict(ends)}")
    assert ends["old"] and ends["new"], "both sides of the commit were seen"


def test_a_system_call_that_fails_once(pod, scenario):
    stage = Stage(pod, scenario)
    tried = [call for call in stage.calls if call[0] not in NOT_TO_FAIL]
    assert len(tried) > 10
    results = collections.Counter()
    errors = itertools.cycle(ERRORS)
    for name, number in tried:
        for error in itertools.islice(errors, ERRORS_PER_CALL):
            stage.reset()
            done = traced(pod, stage.arguments, "-o", "/dev/null", "-e", f"inject={name}:error={error}:when={number}")
            what = f"{name} number {number} fails with {error}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            found = state(pod)
            assert found in (stage.old, stage.new), what
            assert done.returncode in (0, 1, 4), what
            if done.returncode == 0:
                assert found == stage.new, what
            else:
                assert "error: " in done.stderr, what
            if "nothing was changed" in done.stderr:
                assert found == stage.old, what
            results[done.returncode] += 1
            stage.finish(what)
    print(f"{sum(results.values())} failures: exit statuses {dict(results)}")
