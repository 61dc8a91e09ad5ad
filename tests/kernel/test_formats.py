"""Texts that sluice writes, read by those they are meant for; and hostile texts, which must not become anything else.

The configurations are the fuzzer's corpus (tests/fuzz/compile_fuzz.cpp): lines of `option=value`.
"""

import json
import os
import pathlib
import re
import subprocess

import pytest

import pod as pods

CORPUS = pathlib.Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "compile"
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
