#!/usr/bin/env python3
"""`bailey demo --quick`: all its parts are there, everything that should be refused is, and nothing is left, also
after Ctrl-C and after the demo was killed.

    demo_test.py BAILEY
"""

import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from support import BAILEY, run

PLACES = {"/dev/shm", "/run", "/tmp", os.environ.get("XDG_RUNTIME_DIR", "/tmp")}


def named():
    """Demos' entries by name; other tests may leave and take theirs meanwhile."""
    return {f"{place}/{name}" for place in PLACES if os.path.isdir(place) for name in os.listdir(place)
            if name.startswith("bailey-demo-")}


def children_of(pid):
    found = []
    for line in Path("/proc").iterdir():
        if line.name.isdigit():
            try:
                fields = (line / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(line.name))
    return found


def gone(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Demo(unittest.TestCase):
    def setUp(self):
        self.before = named()

    def nothing_left(self):
        self.assertEqual(named() - self.before, set())

    def check_output(self, text, own_uids):
        self.assertIn("A broker started and answered after", text)
        for name, uid in (("alice", 64101), ("bob", 64102), ("mallory", 64103)):
            self.assertRegex(text, rf"{name} +pid \d+ +uid {uid if own_uids else os.getuid()}")
        self.assertEqual("One uid: all three run under yours" in text, not own_uids)
        for name in ("alice", "bob"):
            row = re.search(rf"^  {name} +(\d+) +([\d.]+) +([\d.]+) +([\d.]+)$", text, re.M)
            self.assertTrue(row, f"no figures of {name}")
            rate, p50, p99, p999 = map(float, row.groups())
            self.assertGreater(rate, 1000)
            self.assertTrue(0 < p50 <= p99 <= p999)
        for who, what, by in (("bob", "opens orders for writing", "broker"),
                              ("bob", "puts into the table that he may read", "library"),
                              ("mallory", "opens orders for reading", "broker"),
                              ("bob", "maps alice's segment that he was given writable", "kernel"),
                              ("bob", "maps the index that he was given writable", "kernel"),
                              ("bob", "maps it for reading, then makes it writable", "kernel"),
                              ("bob", "writes to its descriptor", "kernel"),
                              ("bob", "opens the file anew to map it writable", "kernel")):
            self.assertRegex(text, rf"{who} {re.escape(what)}\n    refused by the {by}: \S")
        # Nothing keeps root from the memory of others, and the demo says so.
        outcome = r"refused by the kernel: \S+: EPERM" if own_uids or os.geteuid() != 0 else "NOT stopped: she runs as root"
        for what in ("takes a descriptor out of the broker", "reads the memory of alice's process"):
            self.assertRegex(text, rf"mallory {re.escape(what)}\n    {outcome}")
        self.assertNotIn("NOT REFUSED", text)
        self.assertRegex(text, r"makes it writable\n    refused by the kernel: mprotect: EACCES")
        self.assertIn("Posture of orders", text)
        self.assertIn("NOT stopped", text)
        self.assertIn("The price of protection", text)
        self.assertEqual(len(re.findall(r"Bailey is (?:between \d+ % slower and|\d.* (?:slower|quick)|as quick)", text)), 2)
        for system in ("the same table, unprotected", "one lock in one shared mapping"):
            self.assertRegex(text, rf"{system} +\d+ +\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)")
        self.assertIn("Nothing of this demo's is left in", text)

    def test_demo(self):
        status, out, err = run("demo", "--quick", timeout=100)
        self.assertEqual(status, 0, out.decode() + err)
        self.check_output(out.decode(), own_uids=os.geteuid() == 0)
        self.nothing_left()

    def test_one_uid(self):
        status, out, err = run("demo", "--quick", "--one-uid", timeout=100)
        self.assertEqual(status, 0, out.decode() + err)
        self.check_output(out.decode(), own_uids=False)
        self.nothing_left()

    def test_others_are_told_and_not_judged(self):
        demo = subprocess.Popen([BAILEY, "demo", "--quick"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn(b"A broker started", demo.stdout.readline())
        with tempfile.TemporaryDirectory(prefix="bailey-bench-", dir="/dev/shm") as folder:
            out, err = demo.communicate(timeout=100)
        self.assertEqual(demo.returncode, 0, out.decode() + err.decode())
        self.assertIn("Nothing of this demo's is left in", out.decode())
        self.assertRegex(out.decode(), rf"Other Baileys made meanwhile: .*{folder}")

    def stopped_by(self, number):
        demo = subprocess.Popen([BAILEY, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = demo.stdout.readline()
        self.assertIn(b"A broker started", line)
        self.assertTrue(named() - self.before)
        children = children_of(demo.pid)
        children += [grandchild for child in children for grandchild in children_of(child)]
        demo.send_signal(number)
        out, err = demo.communicate(timeout=60)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (all(map(gone, children)) and named() <= self.before):
            os.sched_yield()
        self.assertEqual([pid for pid in children if not gone(pid)], [])
        self.nothing_left()
        return demo.returncode, out.decode(), err.decode()

    def test_interrupted(self):
        status, out, _ = self.stopped_by(signal.SIGINT)
        self.assertEqual(status, 1)
        self.assertIn("Nothing of this demo's is left in", out)

    def test_killed(self):
        self.assertEqual(self.stopped_by(signal.SIGKILL)[0], -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main(verbosity=2)
