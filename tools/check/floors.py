#!/usr/bin/env python3
"""Holds the house together: no include looks up, own header first, no file swallows the design.

A room is a folder of bailey/, or one of the rooms at the top of the tree. A file may include its own room and rooms
of lower floors. `--self-test` feeds the check a tree that breaks each rule and expects each to be found.
"""

import re
import sys
import tempfile
from pathlib import Path

import tree

# The floors of docs/architecture.md, lowest first. A new room gets its line here.
FLOORS = {
    "abi": 1, "base": 1,
    "medium": 2, "guard": 2, "policy": 2, "vmm": 2,
    "crypto": 3,
    "pool": 4, "capability": 4, "protocol": 4,
    "channel": 5,
    "table": 6, "memfile": 6, "graph": 6,
    "kinds": 7,
    "broker": 8, "session": 8,
    "rpc": 9,
    "tools": 10, "adapters": 10, "attack": 10, "bench": 10, "lab": 10,
}
TOP_ROOMS = {"tools", "adapters", "attack", "bench", "lab"}
# The command is the door to the benchmarks (`bailey bench`) and the attacks (`bailey attack`), so these neighbours may be
# entered, one way only.
DOORS = {("tools", "bench"), ("tools", "attack")}
# Generated protobuf stays hidden in one room, so that it can't meet a user's own.
PROTOBUF_ROOM = "protocol"

LINES_MAX = 700
LINES_WARN = 600

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|R"(?P<tag>[^()\\ ]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"', re.S)


def without_comments(text: str) -> str:
    """Comments and raw strings become blank lines; ordinary strings stay, since includes look like them."""
    def blank(match: re.Match) -> str:
        piece = match.group(0)
        return piece if piece.startswith('"') else "\n" * piece.count("\n")
    return COMMENT.sub(blank, text)


def room_of(path: str) -> str | None:
    """Room of a path from the root of the tree; None for what belongs to no room."""
    parts = path.split("/")
    if parts[0] in TOP_ROOMS and len(parts) > 1:
        return parts[0]
    if parts[0] == "bailey":
        # The header of the C API stands in front of the rooms; a session is what it opens.
        return parts[1] if len(parts) > 2 else "session"
    return None


def refusal(name: str, room: str, include: str) -> str | None:
    """Why the file `name` of `room` may not include this; None if it may."""
    if include.startswith("google/protobuf/") or include.endswith(".pb.h"):
        if room != PROTOBUF_ROOM:
            return f"protobuf stays inside {PROTOBUF_ROOM}/; use the checked values of its headers"
        return None
    other = room_of(include)
    if other is None or other == room:
        return None
    if other not in FLOORS:
        return f"there is no room {other}; a new room gets its floor in tools/check/floors.py and docs/architecture.md"
    if {room, other} == {"abi", "base"}:
        return ("abi is shared with the kernel module and includes nothing of ours" if room == "abi" else
                "base and abi know nothing of each other; do this in a room above both")
    if FLOORS[other] < FLOORS[room] or (room, other) in DOORS:
        return None
    if FLOORS[other] == FLOORS[room]:
        # A test is no dependency of the room: neighbours may meet there.
        if name.endswith("_test.cc"):
            return None
        return (f"{room} and {other} are neighbours on floor {FLOORS[room]} and may not know each other; "
                f"move what both need to a lower floor, or join them in a room above")
    return (f"{room} (floor {FLOORS[room]}) looks up to {other} (floor {FLOORS[other]}); "
            f"move what is needed down to floor {FLOORS[room]} or lower, or have {other} pass it in")


def check(root: Path) -> tuple[list[str], list[str], int]:
    """Problems, warnings, number of files."""
    problems, warnings, count = [], [], 0
    for path in tree.files(root):
        name = path.relative_to(root).as_posix()
        room = room_of(name)
        if room is None or path.suffix not in {".h", ".cc", ".c"}:
            continue
        count += 1
        if room not in FLOORS:
            problems.append(f"{name}:1: there is no room {room}; a new room gets its floor in tools/check/floors.py "
                            f"and docs/architecture.md")
            continue
        text = path.read_text(errors="replace")
        lines = text.count("\n")
        if lines > LINES_MAX:
            problems.append(f"{name}:{LINES_MAX}: {lines} lines; split it by nouns, {LINES_MAX} is the most")
        elif lines > LINES_WARN:
            warnings.append(f"{name}: {lines} lines; {LINES_MAX} is the most, think of splitting it")
        first = None
        code = without_comments(text)
        for match in INCLUDE.finditer(code):
            line = code.count("\n", 0, match.start(2)) + 1
            include = match.group(2)
            if first is None:
                first = (line, include)
            if match.group(1) == '"' and "/" not in include and not include.endswith(".pb.h"):
                problems.append(f'{name}:{line}: "{include}" has no room; write it from the root of the tree, '
                                f'as "{path.parent.relative_to(root).as_posix()}/{include}"')
                continue
            why = refusal(name, room, include)
            if why:
                problems.append(f"{name}:{line}: includes {include}: {why}")
        own = path.with_suffix(".h")
        if path.suffix in {".cc", ".c"} and own.is_file():
            wanted = own.relative_to(root).as_posix()
            if first is None or first[1] != wanted:
                problems.append(f'{name}:{first[0] if first else 1}: include "{wanted}" first, so that the header '
                                f"is known to stand alone")
    return problems, warnings, count


def self_test() -> int:
    good = {
        "bailey/base/error.h": "#include <string>\n",
        "bailey/base/error.cc": '#include "bailey/base/error.h"\n',
        "bailey/pool/pool.h": '#include "bailey/base/error.h"\n#include "bailey/abi/segment.h"\n',
        "bailey/abi/segment.h": "#include <stdint.h>\n",
        "bailey/protocol/wire.cc": '#include "bailey/protocol/messages.pb.h"\n',
        "bailey/session/session_test.cc": '#include "bailey/broker/broker.h"\n',
        "bailey/table/text_test.cc": 'const char* t = R"(\n#include "bailey/session/s.h"\n)";\n'
                                     '// #include "bailey/session/s.h"\n',
        "tools/main.cc": '#include "bench/ycsb.h"\n#include "bailey/broker/broker.h"\n',
        "docs/example.cc": '#include "anything.h"\n',
    }
    bad = {
        "up": ("bailey/pool/up.h", '\n#include "bailey/table/table.h"\n', "bailey/pool/up.h:2:", "looks up"),
        "up from a test": ("bailey/pool/up_test.cc", '#include "bailey/table/table.h"\n', ":1:", "looks up"),
        "neighbour": ("bailey/broker/n.h", '#include "bailey/session/s.h"\n', ":1:", "neighbours"),
        "the command from bench": ("bench/b.cc", '#include "tools/main.h"\n', ":1:", "neighbours"),
        "up in angle brackets": ("bailey/base/a.h", "#include <bailey/pool/pool.h>\n", ":1:", "looks up"),
        "base to abi": ("bailey/base/b.h", '#include "bailey/abi/segment.h"\n', ":1:", "base and abi"),
        "abi to base": ("bailey/abi/c.h", '#include "bailey/base/error.h"\n', ":1:", "kernel module"),
        "public face from below": ("bailey/table/f.h", '#include "bailey/bailey.h"\n', ":1:", "looks up"),
        "unknown room": ("bailey/pool/d.h", '#include "bailey/cellar/wine.h"\n', ":1:", "no room cellar"),
        "file in an unknown room": ("bailey/attic/box.h", "", "bailey/attic/box.h:1:", "no room attic"),
        "no room in the path": ("bailey/pool/e.h", '#include "view.h"\n', ":1:", '"bailey/pool/view.h"'),
        "own header second": ("bailey/base/error.cc", '#include <string>\n#include "bailey/base/error.h"\n', ":1:",
                              'include "bailey/base/error.h" first'),
        "own header never": ("bailey/base/error.cc", "int x;\n", ":1:", "first"),
        "protobuf outside": ("bailey/broker/p.h", "#include <google/protobuf/message_lite.h>\n", ":1:", "protobuf"),
        "too long": ("bailey/base/long.h", "\n" * (LINES_MAX + 1), "bailey/base/long.h", "split it"),
    }
    expectations = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "good")
        tree.write_tree(root, good)
        problems, _, count = check(root)
        expectations.append((f"a good tree passes: {problems}", not problems))
        expectations.append(("the good tree was looked at", count == len(good) - 1))
        for number, (rule, (name, text, where, what)) in enumerate(bad.items()):
            root = Path(folder, f"bad{number}")
            tree.write_tree(root, good | {name: text})
            problems, _, _ = check(root)
            found = len(problems) == 1 and name in problems[0] and where in problems[0] and what in problems[0]
            expectations.append((f"'{rule}' is found, alone, at its place: {problems}", found))
        root = Path(folder, "warn")
        tree.write_tree(root, {"bailey/base/longish.h": "\n" * (LINES_WARN + 1)})
        problems, warnings, _ = check(root)
        expectations.append(("a longish file is a warning only", not problems and len(warnings) == 1))
    return tree.self_test("floors.py", expectations)


def main() -> int:
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems, warnings, count = check(tree.ROOT)
    for warning in warnings:
        print(f"warning: {warning}")
    if count == 0:
        problems.append("found no source file; is the tree complete?")
    return tree.report("floors", problems, f"{count} files")


if __name__ == "__main__":
    sys.exit(main())
