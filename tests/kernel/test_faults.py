"""Killed at any instant, or refused any system call: the rules are the old ones or the new ones, and the next run succeeds.

strace counts and injects; sluice_cut_short hands out less than a call asked for. Each test lists the system calls of a run
first and then repeats it once for each. That takes an hour, so unless SLUICE_THOROUGH is set, a few calls of each scenario
are tried, spread over the run, with one error each.

The old tables of iptables have one commit for each family and table. There a kill may leave some of them new, and in a move
between them and nf_tables both; a failure is taken back.
"""

import collections
import dataclasses
import errno
import fcntl
import itertools
import os
import re
import shutil
import time

import pytest

import pod as pods

OLD = ["--exclude-outbound-ports", "80-90,443", "--proxy-uid", "1400"]
NEW = ["--inbound-port", "15006", "--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8"]
TPROXY = ["--inbound-mode", "tproxy", "--passthrough-source", "127.0.0.6,::6"]
BACKENDS = {
    "nftables": ["--backend", "nftables"],
    "iptables-nft": ["--backend", "iptables", "--iptables-variant", "nft"],
    "iptables-legacy": ["--backend", "iptables", "--iptables-variant", "legacy"],
}
ERRORS = ["EPERM", "ENOBUFS", "EINTR", "EAGAIN", "ENOMEM", "EBUSY", "ENOENT"]
# brk has no error: it returns the old end of the heap. And the end cannot fail.
NOT_TO_FAIL = {"brk", "exit_group"}
# Files whose absence says something, and truly: the kernel has no old tables.
ABSENCE_MEANS_NONE = "_tables_names"
# What can come to less than was asked for, and to how many bytes.
SHORT = {"recvfrom": [0, 10, 40], "read": [1], "pread64": [1], "pwrite64": [1], "write": [1]}
THOROUGH = bool(os.environ.get("SLUICE_THOROUGH"))
# How many calls of a run are tried otherwise; fewer where each starts ten programs.
SAMPLE, SAMPLE_LEGACY = 4, 2


def scenarios():
    """By name: with which options what stands before was applied, and what is run then."""
    for name, backend in BACKENDS.items():
        yield f"first apply, {name}", (None, ["apply", *NEW, *backend])
        yield f"replacement, {name}", ([*OLD, *backend], ["apply", *NEW, *backend])
        yield f"cleanup, {name}", ([*NEW, *backend], ["cleanup"])
    for one, other in itertools.permutations(BACKENDS, 2):
        yield f"{one} to {other}", ([*OLD, *BACKENDS[one]], ["apply", *NEW, *BACKENDS[other]])
    yield "tproxy added", (OLD, ["apply", *TPROXY])
    yield "tproxy left", ([*TPROXY, *BACKENDS["iptables-nft"]], ["apply", *NEW, "--dns", "resolv-conf"])
    yield "tproxy changed", (TPROXY, ["apply", *TPROXY, "--tproxy-mark", "7", "--tproxy-table", "7"])
    yield "tproxy cleanup", (TPROXY, ["cleanup"])


SCENARIOS = dict(scenarios())


@pytest.fixture(params=SCENARIOS)
def stage(request, pod):
    return Stage(pod, *SCENARIOS[request.param])


@pytest.fixture(scope="module", autouse=True)
def tools():
    for program in ("strace", "iptables-legacy-save", cut_short()):
        if not shutil.which(program):
            pytest.skip(f"needs the program {program}")


def cut_short():
    return os.path.join(os.path.dirname(pods.sluice_binary()), "sluice_cut_short")


# ------------------------------------------------------------------------------------------------- what there is

LOOK = """
echo '== nf_tables'; nft -s list ruleset
# Of a target for IPv6 nft shows nothing, of sets and tables not its own iptables does not.
for family in ip ip6; do ${family}tables-nft-save | grep -E '^[*:-]' || true; done
for family in ip ip6; do echo "== $family"; ${family}tables-legacy-save; done
echo '== kept'; for family in -4 -6; do ip -o $family address show; ip $family rule show; ip $family route show table all; done
"""


@dataclasses.dataclass(frozen=True)
class State:
    """All that a run can change: what the kernel commits as one, by name (nf_tables, and each of the old tables that has
    a rule in it), and the addresses, routes and routing rules."""

    parts: tuple
    kept: frozenset

    def part(self, name):
        return dict(self.parts).get(name, "")


def state(pod):
    shown = pods.succeeded(pods.run(["sh", "-ec", LOOK], pod.name)).stdout
    sections = dict(re.findall(r"^== (\w+)\n((?s:.*?))(?=^== |\Z)", shown, re.M))
    parts = {"nf_tables": re.sub(r"\[\d+:\d+\]", "", pods.without_note(sections["nf_tables"]))}
    for family in ("ip", "ip6"):
        for table, text in re.findall(r"^\*(\w+)\n((?s:.*?))^COMMIT", sections[family], re.M):
            # Nobody can remove an old table; one without rules and chains is as good as none.
            if re.search(r"^-A|^:\S+ - ", text, re.M):
                parts[f"{family} {table}"] = re.sub(r"\[\d+:\d+\]", "", text)
    return State(tuple(parts.items()), frozenset(numbered(sections["kept"].splitlines())))


def numbered(lines):
    """What there is twice is told apart. A routing rule's place among the others depends on what was there before."""
    seen = collections.Counter()
    for line in lines:
        line = re.sub(r"^\d+:\t(.*proto 115)", r"\1", line)
        seen[line] += 1
        yield line, seen[line]


def injecting(name, what, when):
    """What runs a program and has one of its calls of that name end in another way (strace(1), --inject)."""
    return ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={name}:{what}:when={when}"]


class Stage:
    """Brings the namespace to where a scenario begins, again and again, and knows how it begins and ends."""

    def __init__(self, pod, before, arguments):
        self.pod = pod
        self.before, self.arguments = before, arguments
        self.reset()
        self.old = state(pod)
        pod.sluice(*self.arguments)
        self.new = state(pod)
        self.names = sorted({name for each in (self.old, self.new) for name, _ in each.parts})
        self.has_old_tables = self.names != ["nf_tables"]
        self.reset()
        assert state(pod) == self.old != self.new
        self.calls = system_calls(pod, arguments)
        self.reset()

    def reset(self):
        self.pod.sluice(*(["cleanup"] if self.before is None else ["apply", *self.before]))

    def run(self, *argv, **options):
        return pods.run([*argv, pods.sluice_binary(), *self.arguments], self.pod.name, env={}, **options)

    def inject(self, name, number, what):
        return self.run(*injecting(name, what, number))

    def settle(self):
        """Waits for a helper program whose sluice was killed: it still holds the lock."""
        with open(f"/run/netns/{self.pod.name}") as namespace:
            fcntl.flock(namespace, fcntl.LOCK_EX)
        return state(self.pod)

    def finish(self, what):
        """Whatever happened, the next run does what was wanted."""
        self.pod.sluice(*self.arguments)
        assert state(self.pod) == self.new, what

    def sample(self, calls):
        """All, or some that are spread evenly."""
        number = SAMPLE_LEGACY if self.has_old_tables else SAMPLE
        if THOROUGH or len(calls) <= number:
            return calls
        return [calls[len(calls) * (2 * place + 1) // (2 * number)] for place in range(number)]

    # ------------------------------------------------------------------------------------------------- judging

    def judge_interrupted(self, found, what):
        for name in self.names:
            assert found.part(name) in (self.old.part(name), self.new.part(name)), (what, name)
        if self.has_old_tables:
            self.judge_move(found, what)
        # Never less than the rules that are there need, never anything of others gone.
        assert found.kept >= self.old.kept & self.new.kept, what
        assert found.kept <= self.old.kept | self.new.kept, what
        if found.parts == self.old.parts:
            assert found.kept >= self.old.kept, what
        if found.parts == self.new.parts:
            assert found.kept >= self.new.kept, what

    def judge_move(self, found, what):
        """From nf_tables to the old tables or back the new rules come before the old go. So where nf_tables has none, the
        old tables are complete."""
        moves = (self.old.part("nf_tables") == "") != (self.new.part("nf_tables") == "")
        if not moves or found.part("nf_tables"):
            return
        complete = self.old if self.old.part("nf_tables") == "" else self.new
        assert found.parts == complete.parts, what

    def judge_failed(self, done, what, error=None):
        """The exit status tells which rules are there, and the message tells why."""
        what = f"{what}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode in (0, 1, 4), what
        found = self.settle()
        if done.returncode == 0:
            assert "error: " not in done.stderr, what
            assert found == self.new, what
            return
        assert re.search(r"^sluice: error: .*; nothing was changed$", done.stderr, re.M), what
        if error:
            assert os.strerror(getattr(errno, error)) in done.stderr or "CAP_NET_ADMIN is missing" in done.stderr, what
        assert found == self.old, what


def system_calls(pod, arguments):
    """The run's system calls in order, each with its number among those of its name and as strace shows it, from the first
    that is sluice's own on."""
    done = pods.run(["strace", "-qq", "-e", "signal=none", pods.sluice_binary(), *arguments], pod.name, env={})
    assert done.returncode == 0, done.stderr
    # The execve is strace's.
    lines = [line for line in done.stderr.splitlines() if re.match(r"\w+\(", line) and not line.startswith("execve(")]
    seen = collections.Counter()
    calls = []
    for line in lines:
        name = line.split("(")[0]
        seen[name] += 1
        calls.append((name, seen[name], line))
    own = (at for at, (name, _, line) in enumerate(calls) if name in ("socket", "openat") and "ld.so" not in line and ".so." not in line)
    return calls[next(own) :]


# ------------------------------------------------------------------------------------------------------ faults


def test_killed_at_a_system_call(stage):
    ends = collections.Counter()
    first, *others, last = stage.calls
    for name, number, line in [first, *stage.sample(others), last]:
        stage.reset()
        killed = stage.inject(name, number, "signal=KILL")
        what = f"killed at {line}"
        assert killed.returncode == -9 or name == "exit_group", what
        found = stage.settle()
        stage.judge_interrupted(found, what)
        ends["old" if found == stage.old else "new" if found == stage.new else "between"] += 1
        stage.finish(what)
    print(f"{sum(ends.values())} kills: {dict(ends)}")
    assert ends["old"] and ends["new"], "both sides of the commit were seen"


def test_a_system_call_that_fails_once(stage):
    tried = [call for call in stage.calls if call[0] not in NOT_TO_FAIL]
    results = collections.Counter()
    errors = itertools.cycle(ERRORS)
    for name, number, line in stage.sample(tried):
        for error in ERRORS if THOROUGH else [next(errors)]:
            if error == "ENOENT" and ABSENCE_MEANS_NONE in line:
                continue
            stage.reset()
            done = stage.inject(name, number, f"error={error}")
            what = f"{error} from {line}"
            stage.judge_failed(done, what, error)
            results[done.returncode] += 1
            stage.finish(what)
    print(f"{sum(results.values())} failures: exit statuses {dict(results)}")


def test_a_system_call_that_comes_to_less(stage):
    tried = [(call, length) for call in stage.calls for length in SHORT.get(call[0], [])]
    results = collections.Counter()
    for (name, number, line), length in stage.sample(tried):
        stage.reset()
        done = stage.run(cut_short(), name, str(number), str(length))
        what = f"{length} bytes of {line}"
        stage.judge_failed(done, what)
        results[done.returncode] += 1
        stage.finish(what)
    print(f"{sum(results.values())} short calls: exit statuses {dict(results)}")


def test_a_system_call_that_keeps_failing(stage):
    """Nothing can be promised then but to say which rules there are."""
    tried = [call for call in stage.calls if call[0] not in NOT_TO_FAIL | {"write"}]
    results = collections.Counter()
    # A call that is interrupted for ever is made for ever.
    errors = itertools.cycle(error for error in ERRORS if error != "EINTR")
    stage.arguments = [*stage.arguments, "--lock-timeout", "1s"]
    for name, number, line in stage.sample(tried):
        stage.reset()
        error = next(errors)
        if error == "ENOENT" and ABSENCE_MEANS_NONE in line:
            error = next(errors)
        done = stage.run(*injecting(name, f"error={error}", f"{number}+"))
        what = f"{error} from now on from {line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        found = stage.settle()
        stage.judge_interrupted(found, what)
        assert done.returncode in (0, 1, 4), what
        if done.returncode == 0 or re.search("; the (new rules are in place|rules are removed)$", done.stderr, re.M):
            assert found.parts == stage.new.parts, what
        elif "; nothing was changed\n" in done.stderr:
            assert found.parts == stage.old.parts, what
            assert found == stage.old or "stays until the next run" in done.stderr, what
        else:
            assert re.search("; (whether that was done|the rules of before could not|.*, and those of before may be there)", done.stderr), what
            if "may be there, too" in done.stderr:
                assert all(found.part(name) == text for name, text in stage.new.parts if text), what
        results[re.search(r"; (?!show)(\w+ \w+)|$", done.stderr + done.stdout).group(1) or "done"] += 1
        stage.finish(what)
    print(f"{sum(results.values())} lasting failures: {dict(results)}")


# -------------------------------------------------------------------------------------------- iptables' own programs

LEGACY = ["--backend", "iptables", "--iptables-variant", "legacy"]


class Programs:
    """Puts scripts in the way of iptables' own programs."""

    def __init__(self, pod):
        self.pod, self.folder = pod, pod.scratch / "programs"
        self.folder.mkdir()

    def replace(self, name, script):
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def clear(self):
        for path in self.folder.iterdir():
            path.unlink()

    @property
    def environment(self):
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}


@pytest.fixture
def programs(pod):
    return Programs(pod)


HELPER_FAULTS = [
    (program, fault)
    for program in ("iptables-legacy-restore", "ip6tables-legacy-restore", "ip6tables-legacy-save")
    for fault in (
        *(f"setsockopt:signal=KILL:when={number}" for number in range(1, 6)),
        *(f"getsockopt:signal=KILL:when={number}" for number in range(1, 4)),
        "exit_group:signal=KILL",
        "setsockopt:error=ENOMEM:when=2",
        "setsockopt:error=EAGAIN:when=1",
        "setsockopt:error=EPERM:when=1+",
    )
]


@pytest.mark.parametrize("before", [None, [*OLD, *LEGACY], OLD], ids=["first", "replacement", "move"])
def test_a_helper_program_that_fails_or_dies(pod, programs, before):
    """Once; those that take back what it did work."""
    stage = Stage(pod, before, ["apply", *NEW, "--dns", "all", *LEGACY])
    results = collections.Counter()
    for program, fault in HELPER_FAULTS if THOROUGH else HELPER_FAULTS[1 :: 6]:
        stage.reset()
        programs.clear()
        once = f"[ -e {programs.folder}/done ] || {{ : >{programs.folder}/done; set -- strace -qq -o /dev/null -e inject={fault} "
        programs.replace(program, f'{once} {shutil.which(program)} "$@"; exec "$@"; }}\nexec {shutil.which(program)} "$@"')
        done = pod.sluice(*stage.arguments, check=False, env=programs.environment)
        what = f"{fault} in {program}"
        stage.judge_failed(done, what)
        results[done.returncode] += 1
        programs.clear()
        stage.finish(what)
    print(f"{sum(results.values())} failures: exit statuses {dict(results)}")
    assert results[1] > 0


@pytest.mark.parametrize("before", [None, [*OLD, *LEGACY], OLD], ids=["first", "replacement", "move"])
def test_a_family_that_cannot_be_programmed_leaves_the_other_as_it_was(pod, programs, before):
    stage = Stage(pod, before, ["apply", *NEW, *LEGACY])
    programs.replace("ip6tables-legacy-restore", "echo there is no such table >&2; exit 3")
    done = pod.sluice(*stage.arguments, check=False, env=programs.environment)
    assert done.returncode == 1
    stage.judge_failed(done, "no table for IPv6")
    assert "there is no such table" in done.stderr and "ip6tables-legacy-restore (exit status 3)" in done.stderr


@pytest.mark.parametrize("arguments", [["apply", *NEW], ["cleanup"]], ids=["move", "cleanup"])
def test_without_the_programs_the_rules_they_made_are_not_touched(pod, arguments):
    stage = Stage(pod, [*OLD, *LEGACY], arguments)
    done = pod.sluice(*arguments, check=False, env={"PATH": "/nonexistent"})
    assert done.returncode == 4
    stage.judge_failed(done, "no programs")
    assert "iptables-legacy" in done.stderr and "install iptables" in done.stderr


def test_the_program_of_a_killed_run_ends_before_the_next_run_begins(pod, programs):
    """Else it would write its rules over those of the next."""
    stage = Stage(pod, None, ["apply", *NEW, *LEGACY])
    started, go = programs.folder / "started", programs.folder / "go"
    name = "ip6tables-legacy-restore"
    programs.replace(name, f': >{started}; while [ ! -e {go} ]; do sleep 0.01; done; exec {shutil.which(name)} "$@"')
    argv = [pods.sluice_binary(), "apply", *OLD, *LEGACY]
    killed = pods.spawn(argv, pod.name, env=programs.environment)
    pods.wait_until(started.exists, "the program to start")
    killed.kill()
    killed.wait()
    following = pod.sluice_process(*stage.arguments)
    time.sleep(0.5)
    assert following.poll() is None, "it waits"
    go.touch()
    said = following.communicate(timeout=60)
    assert following.returncode == 0, said
    assert stage.settle() == stage.new


def test_whoever_ignores_its_children_does_not_make_sluice_lose_its_own(pod):
    stage = Stage(pod, None, ["apply", *NEW, *LEGACY])
    stage.judge_failed(stage.run("env", "--ignore-signal=CHLD"), "SIGCHLD ignored")


# ------------------------------------------------------------------------------------------------------- the lock


def test_another_run_is_waited_for_and_for_no_longer_than_asked(pod):
    stage = Stage(pod, OLD, ["apply", *NEW])
    with open(f"/run/netns/{pod.name}") as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        done = pod.sluice(*stage.arguments, "--lock-timeout", "300ms", check=False)
        assert done.returncode == 1
        assert "another sluice" in done.stderr and "--lock-timeout" in done.stderr and "; nothing was changed" in done.stderr
        assert state(pod) == stage.old
        waiting = pod.sluice_process(*stage.arguments)
        time.sleep(0.3)
        assert waiting.poll() is None
        for command in ("status", "verify", "plan"):
            assert pod.sluice(command, check=False).returncode in (0, 3), "whoever only looks does not wait"
        fcntl.flock(namespace, fcntl.LOCK_UN)
    assert waiting.communicate(timeout=60)[1] == "" and waiting.returncode == 0
    assert state(pod) == stage.new


def test_the_lock_needs_no_proc(pod):
    stage = Stage(pod, OLD, ["apply", *NEW])
    without_proc = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    with open(f"/run/netns/{pod.name}") as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        done = pods.run([*without_proc, pods.sluice_binary(), *stage.arguments, "--lock-timeout", "300ms"], pod.name, env={})
        assert done.returncode == 1 and "another sluice" in done.stderr, done
    done = stage.run(*without_proc)
    stage.judge_failed(done, "no /proc")
    assert done.returncode == 0


@pytest.mark.parametrize("error", ["ENOTTY", "EPERM"])
def test_where_a_socket_does_not_tell_its_namespace_proc_does(pod, error):
    """SIOCGSKNS came with Linux 4.10, and asks for CAP_NET_ADMIN."""
    tracer = injecting("ioctl", f"error={error}", 1)
    with open(f"/run/netns/{pod.name}") as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        done = pods.run([*tracer, pods.sluice_binary(), "--lock-timeout", "300ms"], pod.name, env={})
        assert done.returncode == 1 and "another sluice" in done.stderr, done


def test_what_was_listed_before_an_answer_was_lost_is_not_told_twice(pod):
    """Chains and rules of another tool, which doctor asks the kernel to list."""
    pod.nft("-f", "-", stdin="table ip other {\n chain out {\n  type nat hook output priority -110;\n  tcp dport 80 redirect to :8080\n }\n}\n")
    arguments = ["doctor", "--format", "json"]
    wanted = pods.run([pods.sluice_binary(), *arguments], pod.name, env={}).stdout
    answers = [(number, line) for name, number, line in system_calls(pod, arguments) if name == "recvfrom"]
    assert "other" in wanted and len(answers) > 5
    for number, line in answers:
        lost = pods.run([*injecting("recvfrom", "error=ENOBUFS", number), pods.sluice_binary(), *arguments], pod.name, env={})
        assert lost.stdout == wanted, line
