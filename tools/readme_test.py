#!/usr/bin/env python3
"""Does what README.md tells a newcomer to do in two terminals, and compares what is said with what the README prints.

    readme_test.py BAILEY
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "bailey"))
from support import BAILEY, ROOT, Broker  # noqa: E402

README = (ROOT / "README.md").read_text()


def walkthrough():
    """[(command, what it prints)] of the block marked as the walkthrough."""
    block = re.search(r"<!-- walkthrough -->\n```console\n(.*?)```", README, re.S).group(1)
    steps = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append([line[2:], ""])
        else:
            steps[-1][1] += line + "\n"
    return steps


class Readme(unittest.TestCase):
    def test_walkthrough(self):
        with tempfile.TemporaryDirectory() as folder:
            socket = f"{folder}/run/broker.sock"
            with Broker("--demo", socket=socket) as broker:
                broker.wait_for("Ctrl-C stops the broker.")
                steps = walkthrough()
                self.assertGreaterEqual(len(steps), 5)
                keys = re.match(r"keys=(\S+)\s*", steps[0][0])
                self.assertTrue(keys, "the walkthrough begins with keys=FOLDER")
                for command, expected in steps[1:]:
                    arguments = command.replace("$keys", f"{folder}/run/demo").split()
                    self.assertEqual(arguments[0], "build/bin/bailey")
                    done = subprocess.run([BAILEY, *arguments[1:]], capture_output=True, timeout=60, check=False,
                                          env=os.environ | {"BAILEY_SOCKET": socket})
                    # A terminal gets an end of line after a value, a pipe does not.
                    said = (done.stdout + done.stderr).decode()
                    self.assertEqual(said.rstrip("\n"), expected.rstrip("\n"), command)
                    self.assertEqual(done.returncode, 4 if expected.startswith("bailey:") else 0, command)
                # The broker printed the same commands with its own paths.
                for command, _ in steps[1:]:
                    words = command.split()
                    key = words[words.index("--as") + 1].replace("$keys", f"{folder}/run/demo")
                    printed = [line for line in broker.said.splitlines()
                               if f"--as {key} " in line and " ".join(words[1:3]) in line and line.endswith(words[-1])]
                    self.assertEqual(len(printed), 1, command)
                for name in ("alice", "bob", "mallory"):
                    self.assertEqual(os.stat(f"{folder}/run/demo/{name}").st_mode & 0o777, 0o600)
            self.assertEqual(broker.status, 0)
            self.assertEqual(os.listdir(folder), [], "nothing is left of the demo's broker")

    def test_links_and_examples(self):
        for path in re.findall(r"\]\(([^)#]+)\)", README):
            self.assertTrue((ROOT / path).exists(), path)
        for example in ("put.cpp", "put.c"):
            self.assertRegex(README, rf"<!-- example: {re.escape(example)} -->\n```")


if __name__ == "__main__":
    unittest.main(verbosity=2)
