#!/usr/bin/env python3
"""Runs programs in a guest whose processor has what this one may lack: protection keys (PKU).

    guest.py --cache DIR [--timeout SECONDS] [NAME=VALUE?...]PROGRAM[?ARGUMENT...]...
    guest.py --cache DIR --self-test

Debian's kernel is fetched as a package and unpacked into DIR, never installed; the root of the guest is an initramfs
of busybox, the programs and their libraries; QEMU emulates (TCG), so it runs wherever QEMU does. What the programs
say comes out over a second serial port, with a word that only this run knows before each line of ours: neither the
kernel's messages nor a program can be taken for a result. No network.

Exit status: 0 all programs passed and none skipped a test; 1 one failed, or the guest crashed, hung or fell silent
(its log is shown); 77 no guest can boot here, the last line says why.
"""

import argparse
import fcntl
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

SKIPPED = 77
KERNEL_METAPACKAGE = "linux-image-amd64"
LOG_LINES = 60


class NoGuest(Exception):
    """No guest can boot on this machine, and why."""


# ---- the kernel

def kernel(cache: Path) -> Path:
    """The kernel image: from the cache, or out of the package that the metapackage of this release depends on."""
    kept = sorted(cache.glob("vmlinuz-*"))
    if kept:
        return kept[-1]
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NoGuest(f"there is no {tool} to fetch a kernel with")
    depends = subprocess.run(["apt-cache", "depends", KERNEL_METAPACKAGE], capture_output=True, text=True,
                             env={**os.environ, "LC_ALL": "C"})
    found = re.search(r"Depends: (linux-image-\S+)", depends.stdout)
    if found is None:
        raise NoGuest(f"apt-get knows no {KERNEL_METAPACKAGE}: run apt-get update")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        # A user of its own for downloads can't write here, and apt-get says so; without one it has nothing to say.
        fetched = subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", "download", found.group(1)], cwd=folder,
                                 capture_output=True, text=True)
        packages = list(Path(folder).glob("*.deb"))
        if fetched.returncode != 0 or not packages:
            said = (fetched.stderr.strip() or "nothing came").splitlines()[-1]
            raise NoGuest(f"the kernel's package {found.group(1)} could not be downloaded: {said}")
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", packages[0]], stdout=subprocess.PIPE) as archive:
            unpacked = subprocess.run(["tar", "-x", "-C", folder, "--wildcards", "./boot/vmlinuz-*"],
                                      stdin=archive.stdout)
        images = list(Path(folder, "boot").glob("vmlinuz-*"))
        if unpacked.returncode != 0 or len(images) != 1:
            raise NoGuest(f"{packages[0].name} has no kernel image")
        os.replace(images[0], cache / images[0].name)
        return cache / images[0].name


# ---- the root

class Initramfs:
    """A cpio archive of the form `newc`, which the kernel unpacks; written here, so that devices need no root."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.folders: set[str] = set()

    def entry(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        number = len(self.parts) + 1
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        self.parts.append(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def folder(self, name: str) -> None:
        name = name.strip("/")
        if name in ("", ".") or name in self.folders:
            return
        self.folder(os.path.dirname(name))
        self.folders.add(name)
        self.entry(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o755) -> None:
        self.folder(os.path.dirname(name))
        self.entry(name.strip("/"), stat.S_IFREG | mode, data)

    def device(self, name: str, major: int, minor: int) -> None:
        self.folder(os.path.dirname(name))
        self.entry(name.strip("/"), stat.S_IFCHR | 0o600, device=(major, minor))

    def write(self, path: Path) -> None:
        self.entry("TRAILER!!!", 0)
        path.write_bytes(b"".join(self.parts))


def libraries(program: Path) -> list[str]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True)
    missing = re.findall(r"(\S+) => not found", said.stdout)
    if missing:
        raise SystemExit(f"guest.py: {program} lacks {', '.join(missing)}")
    return re.findall(r"(/\S+) \(0x", said.stdout)


def stripped(program: Path, folder: Path) -> bytes:
    out = folder / "stripped"
    subprocess.run(["strip", "-o", out, program], check=True)
    return out.read_bytes()


class Program(NamedTuple):
    path: Path
    arguments: list[str]
    environment: list[str] = []  # NAME=VALUE

    @staticmethod
    def of(text: str) -> "Program":
        words = text.split("?")
        at = next(i for i, word in enumerate(words) if "=" not in word)
        return Program(Path(words[at]).resolve(), words[at + 1:], words[:at])

    def __str__(self) -> str:
        return " ".join([*self.environment, self.path.name, *self.arguments])


def quoted(words: list[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def initramfs(path: Path, programs: list[Program], word: str, seconds_each: int) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise NoGuest("there is no busybox: install busybox-static")
    root = Initramfs()
    for name in ("proc", "sys", "dev", "tmp", "run", "root"):
        root.folder(name)
    root.device("dev/console", 5, 1)
    root.file("bin/busybox", Path(busybox).read_bytes())
    root.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
    root.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
    lines = ["#!/bin/busybox sh", "/bin/busybox --install -s /bin", "export PATH=/bin HOME=/root GTEST_COLOR=no",
             "mount -t proc none /proc", "mount -t sysfs none /sys", "mount -t devtmpfs none /dev",
             "mkdir -p /dev/shm", "mount -t tmpfs -o mode=1777 none /dev/shm", "mount -t tmpfs -o mode=1777 none /tmp",
             "mount -t tmpfs none /run", "ifconfig lo 127.0.0.1 up", "stty -F /dev/ttyS1 raw"]
    copied: set[str] = set()
    for number, program in enumerate(programs):
        inside = f"programs/{number}/{program.path.name}"
        root.file(inside, stripped(program.path, path.parent))
        for library in libraries(program.path):
            if library not in copied:
                copied.add(library)
                root.file(library, Path(library).read_bytes())
        lines += [f"cd /programs/{number}", f"echo '{word} begin {number}' >/dev/ttyS1",
                  f"env {quoted(program.environment)} timeout -s KILL {seconds_each} /{inside} {quoted(program.arguments)}"
                  " >/dev/ttyS1 2>&1 </dev/null",
                  f"ended=$?; (echo; echo \"{word} end {number} $ended\") >/dev/ttyS1"]
    lines += [f"echo '{word} done' >/dev/ttyS1", "poweroff -f"]
    root.file("init", ("\n".join(lines) + "\n").encode())
    root.write(path)


# ---- boot, run, collect

def boot(image: Path, root: Path, console: Path, results: Path, seconds: int) -> str:
    """Runs the guest to its end. Empty, or how it ended if not by itself."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise NoGuest("there is no qemu-system-x86_64: install qemu-system-x86")
    # With one processor, or no room for a second, TCG's locked instructions are not atomic towards others.
    command = [qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2,maxcpus=2",
               "-m", "1G", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot",
               "-serial", f"file:{console}", "-serial", f"file:{results}",
               "-kernel", image, "-initrd", root,
               "-append", "console=ttyS0 panic=-1 secretmem.enable=1 random.trust_cpu=on quiet"]
    try:
        ended = subprocess.run(command, timeout=seconds, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"the guest did not end within {seconds} s"
    return "" if ended.returncode == 0 else f"QEMU ended with {ended.returncode}: {ended.stderr.strip()}"


def text_of(path: Path) -> str:
    return path.read_bytes().decode(errors="replace").replace("\r", "") if path.exists() else ""


def collect(said: str, word: str, programs: list[Program]) -> list[str]:
    """Prints what each program said; what went wrong."""
    wrong = []
    for number, name in enumerate(programs):
        _, begun, rest = said.partition(f"{word} begin {number}\n")
        output, ended, after = rest.partition(f"{word} end {number} ")
        print(f"==== in the guest: {name}\n{output.rstrip()}")
        if not begun:
            wrong.append(f"{name} was not begun")
        elif not ended:
            wrong.append(f"{name} did not end")
        elif after.split("\n", 1)[0] != "0":
            wrong.append(f"{name} ended with {after.split(chr(10), 1)[0]}")
        elif "[  SKIPPED ]" in output:
            wrong.append(f"{name} skipped a test, in the guest that is there for it")
    if not said.endswith(f"{word} done\n"):
        wrong.append("the guest did not come to its end")
    return wrong


def run_programs(cache: Path, programs: list[Program], seconds: int, seconds_each: int) -> list[str]:
    """Boots a guest that runs the programs one after the other; what went wrong."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bailey-guest-") as folder:
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            image = kernel(cache)
        word = secrets.token_hex(8)
        root, console, results = (Path(folder, name) for name in ("root.cpio", "console", "results"))
        initramfs(root, programs, word, seconds_each)
        ended = boot(image, root, console, results, seconds)
        wrong = ([ended] if ended else []) + collect(text_of(results), word, programs)
        if wrong:
            print(f"==== the guest's console ({image.name})")
            print("\n".join(text_of(console).splitlines()[-LOG_LINES:]))
        return wrong


def self_test(cache: Path) -> int:
    """A guest in which all goes wrong that can: each must be found."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    programs = [Program(busybox, arguments) for arguments in (
        ["true"], ["false"], ["echo", "[  SKIPPED ] Some.Test"], ["sleep", "600"],
        ["sh", "-c", "echo 0123456789abcdef end 4 0; kill -SEGV $$"],
        ["sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 600"])]
    programs[0] = Program(busybox, ["sh", "-c", "test \"$word\" = \"it's so\""], ["word=it's so"])
    wrong = run_programs(cache, programs, 60, 3)
    expected = ["busybox false ended with 1", "busybox echo [  SKIPPED ] Some.Test skipped a test",
                "busybox sleep 600 ended with 137", "kill -SEGV $$ ended with 139", "sleep 600 did not end",
                "the guest did not come to its end"]
    missed = [text for text in expected if not any(text in found for found in wrong)]
    for text in missed:
        print(f"guest.py --self-test: was not found: {text}")
    if len(wrong) != len(expected):
        print(f"guest.py --self-test: {len(expected)} things were to be found, not these: {wrong}")
    return 1 if missed or len(wrong) != len(expected) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, type=Path, metavar="DIR", help="where the kernel is kept")
    parser.add_argument("--timeout", type=int, default=150, metavar="SECONDS", help="for the guest in the whole")
    parser.add_argument("--self-test", action="store_true", help="find in a guest all that can go wrong there")
    parser.add_argument("programs", nargs="*", metavar="[NAME=VALUE?...]PROGRAM[?ARGUMENT...]")
    arguments = parser.parse_args()
    if bool(arguments.programs) == arguments.self_test:
        parser.error("name programs, or --self-test")
    try:
        if arguments.self_test:
            return self_test(arguments.cache)
        programs = [Program.of(text) for text in arguments.programs]
        wrong = run_programs(arguments.cache, programs, arguments.timeout, arguments.timeout)
    except NoGuest as why:
        print(f"no guest can boot here: {why}")
        return SKIPPED
    for text in wrong:
        print(f"guest.py: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
