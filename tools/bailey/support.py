"""What the scripted tests of the command share: running it, and a broker that stops by itself."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = 77


def program() -> str:
    """The command under test: the first argument of the script, taken off."""
    return os.path.abspath(sys.argv.pop(1))


BAILEY = program()


def run(*arguments, stdin: bytes = b"", env=None, timeout=60, prefix=()):
    """(status, stdout, stderr) of `bailey ARGUMENTS`."""
    done = subprocess.run([*prefix, BAILEY, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout,
                          env=env, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


# One region "orders", which alice may write and bob may read.
POLICY = """
[pool]
name = "yard"
medium = "{medium}"
[principal.alice]
identity = ["key:@alice.pub"]
[principal.bob]
identity = ["key:@bob.pub"]
[region.orders]
kind = "table"
size = "16MiB"
mode = "shared"
{more}
[[grant]]
principal = "alice"
region = "orders"
rights = "rw"
[[grant]]
principal = "bob"
region = "orders"
rights = "r"
"""


def write_policy(path, medium="memory:64MiB", more=""):
    path.write_text(POLICY.format(medium=medium, more=more))


def make_yard(folder, names, medium="memory:64MiB"):
    """Keys of these names and the policy in `folder`; the policy's path."""
    for name in names:
        status, _, err = run("principal", "add", name, "--out", folder)
        assert status == 0, err
    write_policy(folder / "policy.toml", medium)
    return folder / "policy.toml"


class Broker:
    """`bailey serve` with these arguments, ready when the block begins and stopped when it ends."""

    def __init__(self, *arguments, socket=None):
        self.arguments = [*map(str, arguments)] + (["--socket", str(socket)] if socket else [])
        self.said = ""

    def __enter__(self):
        self.said = ""
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([BAILEY, "serve", *self.arguments], stdout=subprocess.PIPE, stderr=self.errors)
        self.wait_for("broker ready")
        return self

    def wait_for(self, text, timeout=60):
        deadline = time.monotonic() + timeout
        while text not in self.said:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            got = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not got:
                raise AssertionError(f"the broker did not say '{text}': {self.said} {self.logged()}")
            self.said += got.decode()

    def logged(self):
        """What it wrote to standard error so far."""
        return os.pread(self.errors.fileno(), 1 << 20, 0).decode()

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.status = self.process.wait(timeout=30)
        self.process.stdout.close()
        self.errors.close()


class Yard:
    """Of a TestCase: a broker on the policy above for all of its tests, and alice, bob and eve with a key each."""

    medium = "memory:64MiB"
    more = ""  # lines of the policy

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        cls.policy = make_yard(cls.folder, ("alice", "bob", "eve"))
        write_policy(cls.policy, cls.medium.format(cls.folder), cls.more)
        cls.socket = cls.folder / "run" / "broker.sock"
        cls.broker = Broker("--policy", cls.policy, socket=cls.socket)
        cls.broker.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.broker.__exit__()
        assert cls.broker.status == 0, cls.broker.status
        cls.temporary.cleanup()

    def bailey(self, *arguments, who="alice", **options):
        return run(*arguments, "--socket", self.socket, *(["--as", self.folder / who] if who else []), **options)

    def good(self, *arguments, **options):
        status, out, err = self.bailey(*arguments, **options)
        self.assertEqual(status, 0, err)
        return out
