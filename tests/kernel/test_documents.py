"""What the documents quote is what the programs print."""

import pathlib
import re
import shlex
import subprocess

import pytest

import pod as pods

README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
QUOTED = re.compile(r"<!-- quoted by tests/kernel/test_documents.py: (\w+) -->\n```\n\$ (.*)\n((?s:.*?))```\n")


def quotations():
    found = QUOTED.findall(README)
    assert [name for name, _, _ in found] == ["plan", "error"]
    return [pytest.param(command, text, id=name) for name, command, text in found]


@pytest.mark.parametrize("command, text", quotations())
def test_the_readme_quotes_real_output(command, text):
    program, *arguments = shlex.split(command)
    assert program == "sluice"
    done = subprocess.run([pods.sluice_binary(), *arguments], capture_output=True, text=True, env={}, timeout=60, check=False)
    assert done.stdout + done.stderr == text


VERIFY = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "verify.md").read_text()
RUN = re.compile(r"<!-- run by tests/kernel/test_documents.py -->\n```\n((?s:.*?))```\n")


def session(pod, text):
    """The commands of a block run again, with what they print now."""
    shown = ""
    for command in re.findall(r"^\$ (.*)$", text, re.M):
        program, *arguments = shlex.split(command)
        argv = [pods.sluice_binary() if program == "sluice" else program, *arguments]
        printed = pods.run(argv, pod.name).stdout
        kept = [line for line in printed.splitlines() if not line.startswith(("#", '\tcomment "'))]
        shown += f"$ {command}\n" + "".join(line + "\n" for line in kept)
    return shown


def test_the_sessions_in_verify_md_are_real(pod):
    blocks = RUN.findall(VERIFY)
    assert len(blocks) == 4
    for text in blocks:
        assert session(pod, text) == text


def test_the_table_of_exit_statuses_is_that_of_the_program():
    header = (pathlib.Path(__file__).resolve().parents[2] / "cli" / "exit_code.hpp").read_text()
    known = dict(re.findall(r"(\w+) = (\d+),", header))
    for status in re.findall(r"^\| (\d) \|", README, re.M):
        assert status in known.values()
