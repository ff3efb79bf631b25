#!/usr/bin/env python3
"""Holds docs/threat-model.md to the tests: a claim there names the test that shows it, and the test exists.

In backticks, `Suite.Test` names a GoogleTest and `some_test.sh` (or `some_test.py`) a script of the tree. Each row of
each table names at least one test, or says "not stopped". `--self-test` feeds the check documents that break this.
"""

import re
import sys
import tempfile
from pathlib import Path

import tree

DOCUMENT = "docs/threat-model.md"
GTEST = re.compile(r"\b(?:TYPED_)?TEST(?:_F|_P)?\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)")
BACKTICKS = re.compile(r"`([^`]+)`")
TEST_NAME = re.compile(r"[A-Z]\w*\.[A-Z]\w*")
SCRIPT_NAME = re.compile(r"(?:[\w.-]+/)*[\w.-]+(?:\.sh|_test\.py)")
SEPARATOR = re.compile(r"\|?(\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?")


def tests_of(root: Path) -> tuple[set[str], set[str]]:
    """GoogleTest names and paths of scripts that the tree has."""
    tests, scripts = set(), set()
    for path in tree.files(root):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".cc":
            tests |= {f"{suite}.{test}" for suite, test in GTEST.findall(path.read_text(errors="replace"))}
        elif path.suffix in {".sh", ".py"}:
            scripts.add(name)
    return tests, scripts


def has_script(scripts: set[str], wanted: str) -> bool:
    return any(name == wanted or name.endswith("/" + wanted) for name in scripts)


def check(root: Path) -> tuple[list[str], int]:
    """Problems, and how many tests the document names."""
    path = root / DOCUMENT
    if not path.is_file():
        return [f"{DOCUMENT}: is missing; it says which attack is stopped by what, and by which test that is shown"], 0
    tests, scripts = tests_of(root)
    problems, named_count = [], 0
    lines = path.read_text().splitlines()
    fenced = False
    for number, line in enumerate(lines, 1):
        where = f"{DOCUMENT}:{number}"
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        named = 0
        for word in BACKTICKS.findall(line):
            if TEST_NAME.fullmatch(word):
                named += 1
                suite, test = word.split(".")
                if f"{suite}.DISABLED_{test}" in tests:
                    problems.append(f"{where}: {word} is disabled; a disabled test shows nothing")
                elif word not in tests:
                    problems.append(f"{where}: there is no test {word}; write it, or name the one that shows this")
            elif SCRIPT_NAME.fullmatch(word):
                named += 1
                if not has_script(scripts, word):
                    problems.append(f"{where}: there is no script {word} in the tree")
        named_count += named
        # The line above the |---| line is the head of the table.
        is_head = number < len(lines) and "|" in line and SEPARATOR.fullmatch(lines[number].strip())
        is_row = line.lstrip().startswith("|") and not is_head and not SEPARATOR.fullmatch(line.strip())
        if is_row and named == 0 and "not stopped" not in line.lower():
            problems.append(f'{where}: this row names no test; name one as `Suite.Test`, or say "not stopped"')
    if named_count == 0 and not problems:
        problems.append(f"{DOCUMENT}: names no test at all")
    return problems, named_count


def self_test() -> int:
    sources = {
        "bailey/pool/seal_test.cc": "TEST(Seal, WriterCantReopen) {}\nTEST_F(Seal,\n       Punch) {}\n"
                                    "TEST(Seal, DISABLED_Off) {}\n",
        "tools/kill_test.sh": "true\n",
    }
    head = "# Model\n\n| attack | test |\n| --- | :---: |\n"
    good = head + "| reopen | `Seal.WriterCantReopen`, `Seal.Punch` by `EPERM` |\n| ptrace | Not stopped |\n" \
                  "\nSee `kill_test.sh`, `tools/kill_test.sh` and `bailey.h`.\n```\n| drawing |\n```\n"
    bad = {
        "an unknown test in a row": (head + "| a | `Seal.Nothing` |\n", ":5:", "no test Seal.Nothing"),
        "an unknown test in the text": (good + "\nAlso `Other.Thing`.\n", "", "no test Other.Thing"),
        "an unknown script": (good + "\nAlso `gone_test.sh`.\n", "", "no script gone_test.sh"),
        "a disabled test": (head + "| a | `Seal.Off` |\n", ":5:", "disabled"),
        "a row without a test": (good + "\n" + head + "| a | the kernel, `EPERM` |\n", "", "names no test"),
        "a first row without a test": (head + "| a | b |\n| c | `Seal.Punch` |\n", ":5:", "names no test"),
        "no test at all": ("# Model\n\nAll is well.\n", "", "no test at all"),
    }
    expectations = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "good")
        tree.write_tree(root, sources | {DOCUMENT: good})
        problems, named = check(root)
        expectations.append((f"a good document passes: {problems}", not problems and named == 4))
        for number, (rule, (text, where, what)) in enumerate(bad.items()):
            root = Path(folder, f"bad{number}")
            tree.write_tree(root, sources | {DOCUMENT: text})
            problems, _ = check(root)
            found = len(problems) == 1 and where in problems[0] and what in problems[0]
            expectations.append((f"'{rule}' is found, alone: {problems}", found))
        root = Path(folder, "none")
        tree.write_tree(root, sources)
        problems, _ = check(root)
        expectations.append(("a missing document is found", len(problems) == 1 and "missing" in problems[0]))
    return tree.self_test("threat_model.py", expectations)


def main() -> int:
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems, named = check(tree.ROOT)
    return tree.report("threat model", problems, f"{named} tests named")


if __name__ == "__main__":
    sys.exit(main())
