#!/usr/bin/env python3
"""The container recipe of docs/operating.md, with `unshare` in place of an engine: a client in user, pid and mount
namespaces of its own, the socket's folder and its secret mounted read-only, the broker outside.

    container_test.py BAILEY
"""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "bailey"))
from support import BAILEY, SKIPPED, Broker, make_yard  # noqa: E402

NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]


class Container(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = Path(self.temporary.name)
        self.policy = make_yard(self.folder, ("alice", "bob", "broker"))
        (self.folder / "run").mkdir(mode=0o755)
        # What the container sees, and where.
        for place in ("socket", "secret"):
            (self.folder / "inside" / place).mkdir(parents=True)
        for name in ("alice", "bob"):
            (self.folder / "secrets" / name).mkdir(parents=True)
            shutil.copy(self.folder / name, self.folder / "secrets" / name / "key")
        self.broker_key = (self.folder / "broker.pub").read_text().strip()

    def contained(self, who, *arguments, broker_key=None):
        inside = self.folder / "inside"
        script = (f'mount --bind -o ro "{self.folder}/run" "{inside}/socket" && '
                  f'mount --bind -o ro "{self.folder}/secrets/{who}" "{inside}/secret" && exec "$@"')
        command = [*NAMESPACES, "sh", "-c", script, "sh", BAILEY, *arguments, "--socket",
                   f"{inside}/socket/broker.sock", "--as", f"{inside}/secret/key", "--broker-key",
                   broker_key or self.broker_key]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_recipe(self):
        with Broker("--policy", self.policy, "--key", self.folder / "broker",
                    socket=self.folder / "run" / "broker.sock"):
            status, _, err = self.contained("alice", "table", "put", "orders", "greeting", "hello")
            self.assertEqual(status, 0, err)
            status, out, err = self.contained("bob", "table", "get", "orders", "greeting")
            self.assertEqual((status, out), (0, "hello"), err)
            status, _, err = self.contained("bob", "table", "put", "orders", "greeting", "mine")
            self.assertEqual(status, 4)
            self.assertIn("bob has r on region orders", err)
            # Another broker than the pinned one is not talked to.
            other = (self.folder / "alice.pub").read_text().strip()
            status, _, err = self.contained("alice", "table", "get", "orders", "greeting", broker_key=other)
            self.assertEqual(status, 4)
            self.assertIn("the broker shows another key", err)


if __name__ == "__main__":
    probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        print(f"no user, pid and mount namespaces for this user here: {probe.stderr.decode().strip()}")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
