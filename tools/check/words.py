#!/usr/bin/env python3
"""Finds what must not be in the tree: notes to oneself, paths of one developer's machine, addresses of package hosts.

`--self-test` feeds the check each of them. The patterns are put together from pieces, so that this file passes too.
"""

import re
import sys
import tempfile
from pathlib import Path

import tree

FORBIDDEN = [
    (re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b"),
     "a note to oneself; do it now, or describe the limit as a fact where users read it"),
    # Not inside a longer path or name: bench/workloads/ and build/work/ are ours.
    (re.compile(r"(?<![\w./-])/" + r"work/"), "a path of one machine; take it from the root of the tree"),
    # By what package hosts are called, so that no host needs to be named here.
    (re.compile(r"(?:https?|ftp)://(?:[\w-]+\.)*(?:" +
                "|".join(["deb", "archive", "security", "snapshot", "mirrors?", "packages?", "registry", "artifactory",
                          "nexus", "pypi", "ftp"]) + r")\.[\w.-]+", re.I),
     "an address of a package host; say the package's name, apt-get knows the host"),
    (re.compile(r"(?:https?|ftp)://(?:[\w-]+\.)*[\w-]*(?:hosted|crates|npm|pypi|launchpad)[\w-]*\.[\w.-]+", re.I),
     "an address of a package host; say the package's name, apt-get knows the host"),
]


def check(root: Path) -> tuple[list[str], int]:
    """Problems and number of files read; binary files are passed over."""
    problems, count = [], 0
    for path in tree.files(root):
        data = path.read_bytes()
        if b"\0" in data:
            continue
        count += 1
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            for pattern, why in FORBIDDEN:
                match = pattern.search(line)
                if match:
                    problems.append(f"{path.relative_to(root).as_posix()}:{number}: '{match.group(0)}' is {why}")
    return problems, count


def self_test() -> int:
    good = {
        "a.cc": '// mkdtemp wants "/tmp/bailey-XXXXXX"; bench/work/a and ./work/ are relative\n',
        "b.md": "https://www.apache.org/licenses/ and https://keepachangelog.com/ and /work is no file\n",
        "c.bin": "\0" + "TO" + "DO",
    }
    bad = [
        "// TO" + "DO: later", "FIX" + "ME", "X" * 3 + " odd", "see /wor" + "k/main", "http://de" + "b.example.net/debian",
        "https://files.some" + "hosted.example/x", "https://np" + "mjs.example/x", "https://mir" + "ror.example.net/debian",
    ]
    expectations = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "good")
        tree.write_tree(root, good)
        problems, count = check(root)
        expectations.append((f"good files pass: {problems}", not problems and count == 2))
        for number, line in enumerate(bad):
            root = Path(folder, f"bad{number}")
            tree.write_tree(root, good | {"d.txt": "fine\n" + line + "\n"})
            problems, _ = check(root)
            found = len(problems) == 1 and problems[0].startswith("d.txt:2: ")
            expectations.append((f"'{line}' is found, alone: {problems}", found))
    return tree.self_test("words.py", expectations)


def main() -> int:
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems, count = check(tree.ROOT)
    return tree.report("words", problems, f"{count} files")


if __name__ == "__main__":
    sys.exit(main())
