"""What the documents quote is what sluice prints.

A quotation is a code block after a comment. One for people shows its command, one that is drawn as a picture cannot:

    <!-- quoted by tests/kernel/test_documents.py: NAME -->      <!-- quoted by tests/kernel/test_documents.py: $ sluice ... -->
    ```                                                          ```mermaid
    $ sluice plan ...                                            OUTPUT
    OUTPUT                                                       ```
    ```

What needs a pod stands after `<!-- run by tests/kernel/test_documents.py -->`, as a session.
"""

import pathlib
import re
import shlex
import subprocess

import pytest

import pod as pods

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = "<!-- quoted by tests/kernel/test_documents.py: "
WITH_COMMAND = re.compile(re.escape(MARK) + r"[\w-]+ -->\n```\n\$ (.*)\n((?s:.*?))```\n")
PICTURE = re.compile(re.escape(MARK) + r"\$ (.*) -->\n```\w+\n((?s:.*?))```\n")


def quotations():
    for document in DOCUMENTS:
        text = document.read_text()
        found = WITH_COMMAND.findall(text) + PICTURE.findall(text)
        # Every mark is one that was understood.
        assert len(found) == text.count(MARK), document
        for command, output in found:
            yield pytest.param(command, output, id=f"{document.name}: {command}")


@pytest.mark.parametrize("command, text", quotations())
def test_the_documents_quote_real_output(command, text):
    program, *arguments = shlex.split(command)
    assert program == "sluice"
    done = subprocess.run([pods.sluice_binary(), *arguments], capture_output=True, text=True, env={}, timeout=60, check=False)
    assert done.stdout + done.stderr == text


def test_the_readme_quotes_a_plan_an_answer_and_an_error():
    assert [command.split()[1] for command, _ in WITH_COMMAND.findall(DOCUMENTS[0].read_text())] == ["plan", "explain", "--proxy-port"]


VERIFY = (ROOT / "docs" / "verify.md").read_text()
RUN = re.compile(r"<!-- run by tests/kernel/test_documents.py -->\n```\n((?s:.*?))```\n")


def session(pod, text):
    """The commands of a block run again, with what they print now."""
    shown = ""
    for command in re.findall(r"^\$ (.*)$", text, re.M):
        program, *arguments = shlex.split(command)
        argv = [pods.sluice_binary() if program == "sluice" else program, *arguments]
        printed = re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}Z", "2026-11-24T08:00:00Z", pods.run(argv, pod.name).stdout)
        kept = [line for line in printed.splitlines() if not line.startswith(("#", '\tcomment "'))]
        shown += f"$ {command}\n" + "".join(line + "\n" for line in kept)
    return shown


def test_the_sessions_in_verify_md_are_real(pod):
    blocks = RUN.findall(VERIFY)
    assert len(blocks) == 6
    for text in blocks:
        assert session(pod, text) == text


def test_the_table_of_exit_statuses_is_that_of_the_program():
    header = (ROOT / "cli" / "exit_code.hpp").read_text()
    known = dict(re.findall(r"(\w+) = (\d+),", header))
    for status in re.findall(r"^\| (\d) \|", DOCUMENTS[0].read_text(), re.M):
        assert status in known.values()


def test_the_tests_named_for_what_others_got_wrong_exist():
    tests = ROOT / "tests"
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (.*) \|$", (tests / "README.md").read_text().partition("## What others")[2], re.M)[2:]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`([\w.]+): ([\w ]+)`", row)
        assert named or row == "sluice hands rules to nobody", row
        for file, test in named:
            folder, heading = ("kernel", f"\ndef {test}(") if file.endswith(".py") else ("rules", f'\nTEST_CASE("{test}")')
            assert heading in (tests / folder / file).read_text(), (file, test)
