#!/usr/bin/env python3
"""Breaks the policy in one place at a time and looks whether the unit tests notice: `./dev mutate`.

One mutant is one changed source, compiled beside the objects of build/dev and linked before them into a rules_test of
its own; the tree is not touched. Mutants that do not compile say nothing and do not count. A survivor is a hole in
tests/rules, or a change that changes nothing: those stand in equivalent.py, with the reason.
"""

import argparse
import json
import pathlib
import random
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass

from equivalent import EQUIVALENT

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "dev"
WORK = ROOT / "build" / "mutation"
SOURCES = ("rules/compile.cpp", "rules/evaluate.cpp")
TEST_SECONDS = 60
LONG_TEST = "read back, the rules differ in nothing*"

# Each pattern and what stands there instead; a pattern with several replacements gives several mutants.
TOKENS = [
    (r" == ", [" != "]),
    (r" != ", [" == "]),
    (r" < ", [" >= ", " <= "]),
    (r" > ", [" <= ", " >= "]),
    (r" <= ", [" > ", " < "]),
    (r" >= ", [" < ", " > "]),
    (r" && ", [" || "]),
    (r" \|\| ", [" && "]),
    (r"(?<=[(\s])!(?=[\w(])", [""]),
    (r"\btrue\b", ["false"]),
    (r"\bfalse\b", ["true"]),
    (r"Side::source", ["Side::destination"]),
    (r"Side::destination", ["Side::source"]),
    (r"Direction::in\b", ["Direction::out"]),
    (r"Direction::out\b", ["Direction::in"]),
    (r"Protocol::tcp", ["Protocol::udp"]),
    (r"Protocol::udp", ["Protocol::tcp"]),
    (r"Hook::output", ["Hook::prerouting"]),
    (r"Hook::prerouting", ["Hook::input"]),
    (r"Hook::input", ["Hook::prerouting"]),
    (r"ChainType::\w+", ["ChainType::filter", "ChainType::nat", "ChainType::route"]),
    (r"Family::ipv4", ["Family::ipv6"]),
    (r"Family::ipv6", ["Family::ipv4"]),
    (r"\bPass\{\}", ["Drop{}"]),
    (r"\bDrop\{\}", ["Pass{}"]),
    (r"RejectWith::tcp_reset", ["RejectWith::port_unreachable"]),
    (r"RejectWith::port_unreachable", ["RejectWith::tcp_reset"]),
    (r"ConntrackState::fresh", ["ConntrackState::invalid"]),
    (r"ConntrackState::invalid", ["ConntrackState::fresh"]),
    (r"\bs\.proxy_port\b", ["s.inbound_port"]),
    (r"\bs\.inbound_port\b", ["s.proxy_port"]),
    (r"\bs\.dns_port\b", ["s.proxy_port"]),
    (r"\bs\.priority\b", ["priority_filter"]),
    (r"(?<!int )\bpriority_(?:raw|mangle|filter)\b", ["priority_raw", "priority_mangle", "priority_filter"]),
    (r"Hairpin::direct\)", ["s.hairpin)"]),
    (r"\(s\.hairpin\)", ["(Hairpin::direct)"]),
]


@dataclass(frozen=True)
class Mutant:
    source: str
    begin: int
    end: int
    replacement: str
    text: str  # the whole source it is a change of

    @property
    def line(self):
        return self.text.count("\n", 0, self.begin) + 1

    def changed(self):
        return self.text[: self.begin] + self.replacement + self.text[self.end :]

    def key(self):
        """The line before and after, without indentation: what equivalent.py names it by."""
        changed = self.changed()
        start = self.text.rfind("\n", 0, self.begin) + 1
        before = self.text[start : self._end_of_line(self.text, self.end)]
        after = changed[start : self._end_of_line(changed, self.begin + len(self.replacement))]
        return " ".join(before.split()), " ".join(after.split())

    @staticmethod
    def _end_of_line(text, at):
        end = text.find("\n", at)
        return len(text) if end < 0 else end


def blanked(text):
    """The source with comments and string literals as blanks, so that nothing in them is taken for code."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    return re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text)


def closing(code, opening):
    """Where the bracket at `opening` is closed."""
    depth = 0
    for at in range(opening, len(code)):
        depth += code[at] in "([{"
        depth -= code[at] in ")]}"
        if depth == 0:
            return at
    raise ValueError(f"nothing closes {opening}")


def pieces(code, begin, end, separator):
    """What lies between separators that are in no inner bracket."""
    found, depth, start = [], 0, begin
    for at in range(begin, end):
        depth += code[at] in "([{"
        depth -= code[at] in ")]}"
        if depth == 0 and code[at] == separator:
            found.append((start, at))
            start = at + 1
    return [*found, (start, end)]


def token_changes(code, text):
    for pattern, replacements in TOKENS:
        for match in re.finditer(pattern, code):
            for replacement in replacements:
                if replacement != match[0]:
                    yield match.start(), match.end(), replacement


def negations(code, text):
    """Each `if` the other way round. One that declares a variable does not compile so, and is left out."""
    for match in re.finditer(r"\bif \(", code):
        opening = match.end() - 1
        end = closing(code, opening)
        condition = text[opening + 1 : end]
        if not re.search(r"\bconst auto\b", condition):
            yield opening + 1, end, f"!({condition})"


def dropped_statements(code, text):
    """Each call that stands for itself, among them every rule that is added."""
    for match in re.finditer(r"(?<=[;{})\n])\s*((?:\w+(?:\.|->))*\w+\()", code):
        start = match.start(1)
        if re.match(r"(?:if|for|while|switch|return|Compiler|Walk|Asker)\b", code[start:]):
            continue
        end = closing(code, match.end() - 1)
        if code[end + 1 : end + 2] == ";":
            yield start, end + 1, ""


def dropped_matches(code, text):
    """Each match of each rule that is added."""
    for match in re.finditer(r"\badd\(", code):
        arguments = pieces(code, match.end(), closing(code, match.end() - 1), ",")
        if len(arguments) != 3:
            continue
        summands = pieces(code, *arguments[1], "+")
        for begin, end in summands:
            opening = code.find("{", begin, end)
            if len(summands) > 1:
                yield begin, end, " Matches{} "
            if opening < 0 or not re.match(r"\s*(?:Matches)?\{", code[begin:end]):
                continue
            elements = pieces(code, opening + 1, closing(code, opening), ",")
            for first, last in elements:
                rest = [text[a:b].strip() for a, b in elements if (a, b) != (first, last)]
                yield opening, closing(code, opening) + 1, "{" + ", ".join(rest) + "}"


def mutants_of(source):
    text = (ROOT / source).read_text()
    code = blanked(text)
    makers = (token_changes, negations, dropped_statements, dropped_matches)
    found = {Mutant(source, *change, text) for maker in makers for change in maker(code, text)}
    return sorted(found, key=lambda mutant: (mutant.begin, mutant.end, mutant.replacement))


class Compilation:
    """How build/dev compiles one source and links rules_test, made quick: clang, no optimisation, headers read once."""

    def __init__(self, source):
        commands = json.loads((BUILD / "compile_commands.json").read_text())
        entry = next(entry for entry in commands if entry["file"] == str(ROOT / source))
        self.directory = entry["directory"]
        words = shlex.split(entry["command"])
        flags = [word for word in words if word.startswith(("-I", "-D", "-std", "-f"))]
        includes = WORK / "includes.hpp"
        lines = (ROOT / source).read_text().splitlines()
        includes.write_text("\n".join(line for line in lines if line.startswith("#include")) + "\n")
        self.compile = ["clang++-14", "-O0", "-w", *flags]
        self.run([*self.compile, "-x", "c++-header", includes, "-o", f"{includes}.pch"])
        self.compile += ["-include-pch", f"{includes}.pch"]
        self.link = self.link_of_rules_test()

    def run(self, words):
        return subprocess.run(words, cwd=self.directory, check=True, capture_output=True, text=True)

    def link_of_rules_test(self):
        """What the mutant defines, the library is not asked for."""
        commands = self.run(["ninja", "-C", BUILD, "-t", "commands", "-s", "rules_test"]).stdout.splitlines()
        # `: && ccache c++ OBJECT... -o rules_test LIBRARY... && :`
        words = shlex.split(next(line for line in commands if " -o rules_test " in line).split("&&")[1])
        words = [word for word in words if "ccache" not in word]
        at = words.index("-o")
        return [*words[:at], str(WORK / "changed.o"), "-o", str(WORK / "rules_test"), *words[at + 2 :], "-fuse-ld=lld"]

    def compiles(self, text):
        (WORK / "changed.cpp").write_text(text)
        words = [*self.compile, "-c", WORK / "changed.cpp", "-o", WORK / "changed.o"]
        return subprocess.run(words, cwd=self.directory, capture_output=True).returncode == 0

    def passes(self):
        subprocess.run(self.link, cwd=BUILD, check=True, capture_output=True)
        # The one long test last: most mutants do not live to see it.
        return self.passed("--test-case-exclude=" + LONG_TEST) and self.passed("--test-case=" + LONG_TEST)

    @staticmethod
    def passed(choice):
        words = [WORK / "rules_test", "--abort-after=1", choice]
        try:
            return subprocess.run(words, cwd=ROOT, capture_output=True, timeout=TEST_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def explained(mutant):
    return EQUIVALENT.get((mutant.source, *mutant.key()))


def verdict(mutant, compilation):
    if not compilation.compiles(mutant.changed()):
        return "does not compile"
    return "SURVIVED" if compilation.passes() else "killed"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", choices=SOURCES, action="append", help="only this file")
    arguments.add_argument("--sample", type=int, metavar="N", help="only so many, chosen by chance")
    arguments.add_argument("--list", action="store_true", help="tells the mutants and tries none")
    asked = arguments.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    mutants = [mutant for source in asked.source or SOURCES for mutant in mutants_of(source)]
    unknown = EQUIVALENT.keys() - {(mutant.source, *mutant.key()) for mutant in mutants}
    if unknown and not asked.source:
        sys.exit(f"equivalent.py explains what is no mutant any more: {sorted(unknown)}")
    if asked.sample:
        mutants = sorted(random.sample(mutants, min(asked.sample, len(mutants))), key=lambda m: (m.source, m.begin))
    counts, survivors, compilations, started = {}, [], {}, time.monotonic()
    for mutant in mutants:
        before, after = mutant.key()
        place = f"{mutant.source}:{mutant.line}: {before}\n    -> {after}"
        if asked.list:
            print(place)
            continue
        if mutant.source not in compilations:
            compilations[mutant.source] = Compilation(mutant.source)
            if not (compilations[mutant.source].compiles(mutant.text) and compilations[mutant.source].passes()):
                sys.exit("rules_test fails without any change")
        result = "explained" if explained(mutant) else verdict(mutant, compilations[mutant.source])
        counts[result] = counts.get(result, 0) + 1
        if result == "SURVIVED":
            survivors.append(place)
            print(f"SURVIVED {place}", flush=True)
    if asked.list:
        return
    print(f"{len(mutants)} mutants: " + ", ".join(f"{number} {result}" for result, number in sorted(counts.items()))
          + f"; {time.monotonic() - started:.0f} s")  # fmt: skip
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
