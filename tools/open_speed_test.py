#!/usr/bin/env python3
"""How long it takes until a broker is ready and until a table can be used.

    open_speed_test.py BAILEY

The bars are 100 ms and, at the median, 3 ms (docs/benchmarks.md), on a machine that does nothing else. A test can't
know what else the machine does: it prints what it measured, and fails at ten times as much.
"""

import json
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "bailey"))
from support import Broker, run  # noqa: E402

READY_MS, OPEN_MS, PATIENCE = 100, 3, 10

POLICY = """
[pool]
name = "yard"
medium = "memory:256MiB"
[principal.alice]
identity = ["key:@alice.pub"]
[[grant]]
principal = "alice"
region = "*"
rights = "rw"
"""
REGION = """
[region.{mode}]
kind = "table"
mode = "{mode}"
size = "64MiB"
records = 20000
protect = ["process"]
"""


class OpenSpeed(unittest.TestCase):
    def test_open(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            status, _, err = run("principal", "add", "alice", "--out", folder)
            self.assertEqual(status, 0, err)
            modes = ("exclusive", "shared")
            policy = folder / "policy.toml"
            policy.write_text(POLICY + "".join(REGION.format(mode=mode) for mode in modes))
            socket = folder / "broker.sock"
            begun = time.monotonic()
            with Broker("--policy", policy, socket=socket):
                ready_ms = (time.monotonic() - begun) * 1e3
                print(f"ready: {ready_ms:.1f} ms, bar {READY_MS}")
                reach = ("--as", folder / "alice", "--socket", socket)
                for mode in modes:
                    # The first to open a region waits until its index is made.
                    self.assertEqual(run("table", "put", mode, "key", "value", *reach)[0], 0)
                    for how in ([], ["--write"]):
                        self.one(mode, how, reach)
            self.assertLess(ready_ms, READY_MS * PATIENCE)

    def one(self, mode, how, reach):
        status, out, err = run("bench", "open", "--region", mode, "--count", 50, "--json", *how, *reach)
        self.assertEqual(status, 0, err)
        times = json.loads(out)
        self.assertEqual("first put" in times, bool(how))
        told = ", ".join(f"{part} {each['median_ms']:.2f} (p99 {each['p99_ms']:.2f})" for part, each in times.items())
        print(f"{mode}{' for writing' if how else ''}: {told} ms, bar {OPEN_MS}")
        self.assertGreater(times["connect"]["median_ms"], 0)
        self.assertGreaterEqual(times["all"]["median_ms"], times["open"]["median_ms"])
        self.assertLess(times["all"]["median_ms"], OPEN_MS * PATIENCE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
