"""What the documents quote is what sluice prints.

A quotation is a code block after a comment. One for people shows its command, one that is drawn as a picture cannot:

    <!-- quoted by tests/kernel/test_documents.py: NAME -->      <!-- quoted by tests/kernel/test_documents.py: $ sluice ... -->
    ```                                                          ```mermaid
    $ sluice plan ...                                            OUTPUT
    OUTPUT                                                       ```
    ```
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


def test_the_table_of_exit_statuses_is_that_of_the_program():
    header = (ROOT / "cli" / "exit_code.hpp").read_text()
    known = dict(re.findall(r"(\w+) = (\d+),", header))
    for status in re.findall(r"^\| (\d) \|", DOCUMENTS[0].read_text(), re.M):
        assert status in known.values()
