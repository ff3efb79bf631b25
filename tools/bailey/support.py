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
                self.errors.seek(0)
                raise AssertionError(f"the broker did not say '{text}': {self.said} {self.errors.read().decode()}")
            self.said += got.decode()

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.status = self.process.wait(timeout=30)
        self.process.stdout.close()
        self.errors.close()
