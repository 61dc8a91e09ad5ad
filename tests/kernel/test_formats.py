"""Texts that sluice writes, read by those they are meant for; and hostile texts, which must not become anything else.

The configurations are the fuzzer's corpus (tests/fuzz/compile_fuzz.cpp): lines of `option=value`.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import pod as pods

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = HERE.parent / "fuzz" / "corpus" / "compile"
HOSTILE = [
    'x"y', "x'y", "x;y", "x{y}", "{{x}}", "x\ny", "x\n-A OUTPUT -j ACCEPT", "-j ACCEPT", "x -j ACCEPT", "x\ty", "\x1b[31mx",
    "\x9b31m", "\x07", "x\\", "x#y", "# x", "$x", "`x`", "$(x)", "x|y", "x>y", "x]", "[x]", "é", "\u202e", "%s%n", "x,y",
    "x: y", "- x", "null", "*", "!", "! x", "@x", "<b>", '"]-->', "accept", "}\ntable ip x {", 'x" comment "y', "..", "/x",
    "\udcff",
]  # fmt: skip
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
RULE = re.compile(r"^\t\t.*comment \"", re.M)


@pytest.fixture(scope="module")
def netns(namespaces):
    """An empty namespace, in which whatever was loaded is gone with it."""
    name = f"sluice-{os.getpid()}-formats"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def sluice(*arguments, env=None):
    return subprocess.run(
        [pods.sluice_binary(), *arguments], env=env or {}, capture_output=True, timeout=60, stdin=subprocess.DEVNULL
    )


def shown(result):
    return (result.stdout + result.stderr).decode(errors="surrogateescape")


def configurations():
    found = []
    for file in sorted(CORPUS.iterdir()):
        lines = [line for line in file.read_bytes().split(b"\n") if re.match(rb"[a-z0-9-]+=", line) and b"\0" not in line]
        found.append([b"--" + line for line in lines])
    return found


def families(text):
    """The two halves of `plan --format iptables`, by the program that loads each."""
    parts = re.split(r"^# IPv([46]): .*\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def test_the_real_parsers_take_every_plan_of_the_corpus(sluice_plans, netns):
    assert len(sluice_plans["nft"]) > 50, "the corpus has come to hold nothing valid"
    # One transaction for all; the tables must not meet.
    for number, text in enumerate(sluice_plans["nft"]):
        text = text.replace("table inet sluice", f"table inet s{number}")
        loaded = pods.run(["nft", "-f", "-"], netns, stdin=text)
        assert loaded.returncode == 0, loaded.stderr + text
        pods.succeeded(pods.run(["nft", "delete", "table", "inet", f"s{number}"], netns))
    for variant in ("nft", "legacy"):
        for family, program in (("4", "iptables"), ("6", "ip6tables")):
            text = "".join(families(plan).get(family, "") for plan in sluice_plans["iptables"])
            tested = pods.run([f"{program}-{variant}-restore", "--test", "--noflush"], netns, stdin=text)
            assert tested.returncode == 0, tested.stderr + "\n" + at_line(text, tested.stderr)


def test_nft_takes_the_plans_of_the_unit_tests(netns):
    for file in sorted((HERE.parent / "rules" / "plans").iterdir()):
        pods.succeeded(pods.run(["nft", "-c", "-f", "-"], netns, stdin=file.read_text()))


def at_line(text, error):
    number = re.search(r"line:? (\d+)", error)
    return text.split("\n")[int(number[1]) - 1] if number else ""


@pytest.fixture(scope="module")
def sluice_plans():
    """What the valid configurations of the corpus come to, in each language."""
    plans = {"nft": [], "iptables": []}
    for flags in configurations():
        for language, texts in plans.items():
            result = sluice("plan", "--format", language, *flags)
            assert result.returncode in (0, 2), shown(result)
            if result.returncode == 0:
                texts.append(result.stdout.decode())
    return plans


def options():
    text = sluice("--help").stdout.decode()
    return [name for name in re.findall(r"^  --([a-z-]+) [A-Z\[]", text, re.M) if name not in ("netns", "config")]


def check_plan(result, said, netns):
    """Refused, or rules that are as many in nft as sluice says, and nothing but a table of sluice."""
    assert result.returncode in (0, 2), said + shown(result)
    assert not CONTROL.search(result.stderr.decode(errors="surrogateescape")), result.stderr
    assert result.stderr.decode("ascii", errors="strict") is not None
    if result.returncode == 2:
        return None
    plan = json.loads(result.stdout)
    return sum(len(chain["rules"]) for chain in plan["chains"])


@pytest.mark.parametrize("option", options())
def test_no_value_of_an_option_becomes_anything_else(option, netns):
    accepted = 0
    for hostile in HOSTILE:
        flag = f"--{option}={hostile}"
        said = sluice("plan", "--format", "json", flag)
        number = check_plan(said, flag, netns)
        by_variable = sluice("plan", "--format", "json", env={"SLUICE_" + option.upper().replace("-", "_"): hostile})
        # A variable that another command reads, or that a flag overrides, is not what plan goes by.
        assert number is None or check_plan(by_variable, flag, netns) == number
        if number is None or option in ("format", "log-format"):
            continue
        accepted += 1
        text = sluice("plan", "--format", "nft", flag).stdout.decode()
        loaded = pods.run(["nft", "-f", "-"], netns, stdin=text)
        assert loaded.returncode == 0, loaded.stderr + text
        listed = pods.run(["nft", "list", "ruleset"], netns).stdout
        pods.succeeded(pods.run(["nft", "flush", "ruleset"], netns))
        assert re.findall(r"^table .*", listed, re.M) == ["table inet sluice {"]
        assert len(RULE.findall(listed)) == number
        for_iptables = families(sluice("plan", "--format", "iptables", flag).stdout.decode())
        for family, program in (("4", "iptables"), ("6", "ip6tables")):
            tested = pods.run([f"{program}-nft-restore", "--test"], netns, stdin=for_iptables[family])
            assert tested.returncode == 0, tested.stderr + for_iptables[family]
        for picture in ("mermaid", "dot"):
            drawn = sluice("plan", "--format", picture, flag)
            assert drawn.returncode == 0 and not CONTROL.search(drawn.stdout.decode())
    # Names of interfaces are the only free text that reaches a rule.
    assert accepted > 0 or option not in ("exclude-interfaces", "virtual-interfaces")


def test_every_line_of_the_json_log_is_json(tmp_path):
    hostile_file = tmp_path / 'a"\n\x1b[31m.toml'
    hostile_file.write_bytes(b'proxy-port = "x\x1b\xff"\nno-such = "\x01"\n')
    for hostile in HOSTILE:
        for result in (
            sluice("plan", "--log-format", "json", "--exclude-interfaces", f"{hostile},"),
            sluice("plan", "--log-format=json", env={f"SLUICE_{hostile}": hostile}),
            sluice("plan", "--log-format", "json", hostile),
            sluice("plan", "--log-format", "json", "--config", str(hostile_file)),
        ):
            text = result.stderr.decode(errors="surrogateescape")
            for line in text.splitlines():
                if line.startswith("{"):
                    assert {"level", "time", "message"} <= json.loads(line).keys()


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_what_is_wrong_is_told_without_control_characters(hostile, tmp_path):
    file = tmp_path / "pod.toml"
    file.write_bytes(f"{hostile} = 1\nproxy-port = '{hostile}'\n".encode(errors="surrogateescape"))
    for result in (
        sluice(hostile),
        sluice(f"--{hostile}"),
        sluice("plan", env={f"SLUICE_{hostile}": "x"}),
        sluice("plan", "--config", str(file)),
        sluice("plan", "--config", str(tmp_path / hostile.replace("/", "")) + "x"),
    ):
        assert result.returncode in (0, 2), shown(result)
        assert not CONTROL.search(result.stderr.decode(errors="surrogateescape")), result.stderr


# --- Hostile names that are in the kernel already --------------------------------------------------------------------------

HOSTILE_NAMES = [
    "a\n\t\tmeta l4proto tcp accept\n\t}\n}\ntable ip stolen {\n}\n#", "x { } table ip stolen { }", 'q" accept comment "',
    "\x1b[2J\x1b[31mred", "back\\slash", "tab\there", "é\u202ex", "{{ .Values }}", "- [x]: y", "# not a comment",
]  # fmt: skip

# Arguments: names as JSON. In the table of sluice a chain of each name with a rule that has it as its comment, and a set of each name;
# in a table of each name a NAT chain that redirects, which explain and doctor tell.
PLANT = r"""
import json, struct, sys
import nfnetlink as n
ip, inet, add = 2, 1, n.NLM_F_REQUEST | n.NLM_F_ACK | n.NLM_F_CREATE
def text(kind, value): return n._attribute(kind, value.encode() + b"\0")
def nested(kind, value): return n._attribute(kind | 0x8000, value)
def message(kind, family, body): return n._frame(n.NFNL_SUBSYS_NFTABLES << 8 | kind, add, family, 0, body)
def hook(priority): return nested(4, n._attribute(1, n._be32(3)) + n._attribute(2, struct.pack(">i", priority)))
def expression(name, data): return nested(1, text(1, name) + nested(2, data))
counter = expression("counter", b"")
accept = expression("immediate", n._attribute(1, n._be32(0)) + nested(2, nested(2, n._attribute(1, n._be32(1)))))
messages = []
for number, name in enumerate(json.loads(sys.argv[1])):
    comment = n._attribute(7, n._user_data(0, name.encode()[:120] + b"\0"))
    rule = nested(4, counter + accept) + comment
    messages += [
        message(3, inet, text(1, "sluice") + text(3, name) + hook(500 + number) + text(7, "filter")),
        message(6, inet, text(1, "sluice") + text(2, name) + rule),
        message(6, inet, text(1, "sluice") + text(2, "outbound") + rule),
        message(9, inet, text(1, "sluice") + text(2, name) + n._attribute(3, n._be32(0)) + n._attribute(4, n._be32(13))
                + n._attribute(5, n._be32(2)) + n._attribute(10, n._be32(number + 1))),
        message(0, ip, text(1, name)),
        message(3, ip, text(1, name) + text(3, name) + hook(-150 - number) + text(7, "nat")),
        message(6, ip, text(1, name) + text(2, name) + rule),
    ]
n._exchange(n._batch_edge(n.NFNL_MSG_BATCH_BEGIN) + b"".join(messages) + n._batch_edge(n.NFNL_MSG_BATCH_END), replies=len(messages))
"""

EXPLAIN = ("explain", "--live", "--dst", "198.18.0.10:80", "--uid", "2000")


def told(netns, *arguments):
    """What sluice says, which must be lines of printable ASCII whatever the kernel holds."""
    result = pods.run([pods.sluice_binary(), *arguments], netns)
    assert result.returncode in (0, 1, 3), result.stderr
    assert result.stdout.isascii() or "json" in arguments, result.stdout
    assert not CONTROL.search(result.stdout + result.stderr), ascii(result.stdout + result.stderr)
    return result.stdout


def test_names_that_are_in_the_kernel_stay_names(netns):
    pods.succeeded(pods.run([pods.sluice_binary(), "--backend", "nftables"], netns))
    plant = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n" + PLANT, json.dumps(HOSTILE_NAMES)]
    pods.succeeded(pods.run(plant, netns))
    for command in (("status",), ("verify",), ("doctor",), EXPLAIN, ("plan", "--diff"), ("cleanup", "--dry-run")):
        lines = told(netns, *command).splitlines()
        # No name has made a line of its own.
        assert not [line for line in lines if re.match(r"\s*(meta l4proto tcp accept|table ip stolen|#$)", line)], lines
        json.loads(told(netns, *command, "--format", "json"))
    status = json.loads(told(netns, "status", "--format", "json"))
    assert {rule["chain"] for rule in status["rules"]} >= {"x { } table ip stolen { }", "back\\slash"}
    script = told(netns, "status", "--format", "nft")
    pods.succeeded(pods.run([pods.sluice_binary(), "cleanup"], netns))
    assert pods.run(["nft", "list", "table", "inet", "sluice"], netns).returncode, "cleanup left its table"
    # Only sluice's own table, and in it no more chains than it made.
    pods.succeeded(pods.run(["nft", "flush", "ruleset"], netns))
    pods.succeeded(pods.run(["nft", "-f", "-"], netns, stdin=script))
    listed = pods.run(["nft", "list", "ruleset"], netns).stdout
    assert re.findall(r"^table .*", listed, re.M) == ["table inet sluice {"]
    assert re.findall(r"^\tchain (\S+)", listed, re.M) == ["outbound", "inbound", "inbound_guard"]
    pods.succeeded(pods.run(["nft", "flush", "ruleset"], netns))


@pytest.mark.parametrize("variant", ("nft", "legacy"))
def test_comments_in_the_tables_of_iptables_stay_comments(netns, variant):
    sluice_here = [pods.sluice_binary(), "--backend", "iptables", "--iptables-variant", variant]
    pods.succeeded(pods.run(sluice_here, netns))
    for comment in HOSTILE_NAMES:
        for chain in ("SLUICE_OUTBOUND", "OUTPUT"):
            rule = ["-t", "nat", "-A", chain, "-m", "comment", "--comment", comment, "-j", "RETURN"]
            pods.succeeded(pods.run([f"iptables-{variant}", *rule], netns))
    for command in (("status",), ("verify", *sluice_here[1:]), ("cleanup", "--dry-run")):
        told(netns, *command)
        json.loads(told(netns, *command, "--format", "json"))
    pods.succeeded(pods.run(["nft", "-c", "-f", "-"], netns, stdin=told(netns, "status", "--format", "nft")))
    pods.succeeded(pods.run([pods.sluice_binary(), "cleanup"], netns))
    left = pods.run([f"iptables-{variant}-save", "-t", "nat"], netns).stdout
    assert "SLUICE_" not in left and left.count("--comment") == len(HOSTILE_NAMES), left
    pods.succeeded(pods.run([f"iptables-{variant}", "-t", "nat", "-F"], netns))
