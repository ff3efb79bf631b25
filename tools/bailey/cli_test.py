#!/usr/bin/env python3
"""Every subcommand of `bailey`: its good path, and what it says to bad input.

    cli_test.py BAILEY
"""

import base64
import json
import os
import signal
import stat
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from support import BAILEY, Yard, run, write_policy

class Alone(unittest.TestCase):
    """What needs no broker."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.addCleanup(self.temporary.cleanup)

    def test_help_of_every_subcommand_has_an_example(self):
        status, out, _ = run("--help")
        self.assertEqual(status, 0)
        for word in ("serve", "principal", "policy", "table", "region", "token", "status", "pool", "bench", "demo", "exec"):
            self.assertIn(word, out.decode())
        for command in (["serve"], ["demo"], ["status"], ["principal", "add"], ["policy", "check"], ["policy", "apply"],
                        ["table", "put"], ["table", "get"], ["table", "del"], ["table", "scan"], ["region", "list"],
                        ["region", "check"], ["region", "inspect"], ["pool", "rm"], ["bench", "table"], ["exec"]):
            status, out, _ = run(*command, "--help")
            self.assertEqual(status, 0, command)
            self.assertIn("Example:", out.decode())
            self.assertIn("bailey " + " ".join(command), out.decode())

    def test_wrong_usage_is_2(self):
        for command in ([], ["cellar"], ["table"], ["table", "put", "orders"], ["table", "put", "orders", "k"],
                        ["table", "put", "orders", "k", "v", "--stdin"], ["policy", "check"], ["principal", "add"],
                        ["serve", "--demo", "--policy", "x"], ["table", "put", "o", "k", "v", "--insert", "--update"],
                        ["bench", "table", "--medium", "memory:", "--mode", "odd"], ["bench", "table"],
                        ["exec", "--", "true"], ["exec", "--strict"]):
            status, _, err = run(*command)
            self.assertEqual(status, 2, command)
            self.assertTrue(err.strip(), command)

    def test_exec_strict(self):
        status, out, err = run("exec", "--strict", "--", "sh", "-c", "echo $0 $1; exit 7", "--strict", "-x")
        self.assertEqual((status, out), (7, b"--strict -x\n"), err)
        without_keys = " ospke" not in Path("/proc/cpuinfo").read_text()
        self.assertEqual("no region is guarded here" in err, without_keys)
        status, _, err = run("exec", "--strict", "--", "no-such-program")
        self.assertEqual(status, 125)
        self.assertIn("no-such-program", err)

    def test_exec_strict_preload(self):
        file = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()
                    if "/libc.so.6" in line)
        other = file.replace("libc.so.6", "libresolv.so.2")
        status, out, err = run("exec", "--strict", "--preload", file, "--preload", other, "--", "sh", "-c",
                               "echo $LD_PRELOAD")
        self.assertEqual((status, out.decode()), (0, f"{file}:{other}\n"), err)
        status, out, err = run("exec", "--strict", "--preload", self.folder / "none", "--", "echo", "begun")
        self.assertEqual((status, out), (125, b""))
        self.assertIn("none [No such file or directory, by the kernel]", err)

    def test_attack_says_where_no_region_is_guarded(self):
        without_keys = " ospke" not in Path("/proc/cpuinfo").read_text()
        for attack, guarded in (("strict/32-bit", True), ("canary/strict/own-wrpkru", False)):
            status, out, err = run("attack", attack)
            self.assertEqual(status, 0, err)
            self.assertEqual("no region is guarded here" in out.decode(), guarded and without_keys, attack)
        json.loads(run("attack", "strict/32-bit", "--json")[1])

    def test_attack_skips_what_the_user_can_not_set_up(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be another uid")
        done = subprocess.run([BAILEY, "attack", "windows/around", "--json"], capture_output=True, user=65534, group=65534,
                              extra_groups=[], check=False)
        self.assertEqual(done.returncode, 0)
        row, = json.loads(done.stdout)
        self.assertEqual(row["verdict"], "skipped")
        self.assertIn("uid 65534", row["seen"])

    def test_attack_help_names_each_group_and_verdict(self):
        lines = run("attack", "--help")[1].decode()
        for group in {line.split("/")[0] for line in run("attack", "--list")[1].decode().splitlines()}:
            self.assertRegex(lines, rf"\n  {group} ")
        self.assertIn("BROKEN", lines)

    def test_principal(self):
        status, lines, err = run("principal", "add", "carol", "--out", self.folder / "keys")
        self.assertEqual(status, 0, err)
        secret = self.folder / "keys" / "carol"
        self.assertEqual(stat.S_IMODE(secret.stat().st_mode), 0o600)
        public = (self.folder / "keys" / "carol.pub").read_text().strip()
        self.assertEqual(len(base64.b64decode(public)), 32)
        self.assertIn(f'identity = ["key:{public}"]', lines.decode())
        # What it prints is policy.
        policy = self.folder / "policy.toml"
        policy.write_text('[pool]\nname = "p"\nmedium = "memory:64MiB"\n' + lines.decode())
        self.assertEqual(run("policy", "check", policy)[0], 0)
        before = secret.read_bytes()
        status, _, err = run("principal", "add", "carol", "--out", self.folder / "keys")
        self.assertEqual(status, 1)
        self.assertEqual(secret.read_bytes(), before)
        for name in ("Carol", "../carol", "", "a b"):
            status, _, err = run("principal", "add", name, "--out", self.folder)
            self.assertEqual(status, 2, name)
            self.assertIn("is no name of a principal", err)

    def test_policy_check_knows_what_the_broker_knows(self):
        policy = self.folder / "all.toml"
        text = (
            "[pool]\nname = \"p\"\nmedium = \"memory:64MiB\"\n[principal.a]\nidentity = \"user:root\"\n"
            "[region.frames]\nkind = \"raw\"\nsize = \"4MiB\"\n"
            "[region.vault]\nkind = \"table\"\nsize = \"4MiB\"\nprotect = [\"process\", \"encrypted\"]\n"
            "[region.keyed]\nkind = \"table\"\nsize = \"4MiB\"\nprotect = [\"process\", \"pkey?\"]\n")
        policy.write_text(text)
        status, _, err = run("policy", "check", policy)
        self.assertEqual(status, 0, err)
        policy.write_text(text.replace("encrypted", "vm"))
        status, _, err = run("policy", "check", policy)
        self.assertEqual(status, 1)
        self.assertIn('requires "vm", and this build does not enforce it', err)

    def test_bench_table_is_of_a_region_or_of_a_medium(self):
        status, _, err = run("bench", "table", "--region", "orders", "--medium", "memory:")
        self.assertEqual(status, 2, err)
        self.assertIn("excludes", err)

    def test_policy_check(self):
        bad = self.folder / "bad.toml"
        bad.write_text('[pool]\nname = "p"\nmedium = "memory:64MiB"\n[region.a]\nkind = "table"\nsise = "8MiB"\n')
        status, _, err = run("policy", "check", bad)
        self.assertEqual(status, 1)
        self.assertIn("bad.toml:6:1", err)
        self.assertIn('did you mean "size"', err)
        status, out, _ = run("policy", "check", bad, "--json")
        self.assertEqual(status, 1)
        told = json.loads(out)
        self.assertFalse(told["ok"])
        self.assertIn(6, [one["line"] for one in told["diagnostics"]])

    def test_files_that_are_not_there_and_files_of_others(self):
        none = self.folder / "none"
        for command in (["policy", "check", none], ["policy", "apply", none], ["serve", "--policy", none],
                        ["table", "put", "orders", "k", "--file", none], ["status", "--as", none],
                        ["pool", "rm", f"file:{none}"], ["bench", "table", "--medium", "memory:", "--workload", none],
                        ["bench", "table", "--medium", "memory:", "--trace", none]):
            status, _, err = run(*command)
            self.assertEqual(status, 3, (command, err))
            self.assertIn("none [No such file or directory, by the kernel]", err)
        closed = self.folder / "closed"
        closed.write_text("")
        closed.chmod(0)
        stranger = None
        if os.geteuid() == 0:  # root is refused by no mode: ask as somebody else
            self.folder.chmod(0o755)
            stranger = 64101
        done = subprocess.run([BAILEY, "policy", "check", closed], capture_output=True, user=stranger, check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("closed [Permission denied, by the kernel]", done.stderr.decode())

    def test_one_is_singular(self):
        policy = self.folder / "policy.toml"
        policy.write_text('[pool]\nname = "p"\nmedium = "memory:64MiB"\n[region.a]\nkind = "table"\nsize = "8MiB"\n'
                          '[principal.me]\nidentity = ["user:root"]\n')
        status, out, err = run("policy", "check", policy)
        self.assertEqual(status, 0, err)
        self.assertIn(": 1 region, 1 principal, 0 grants;", out.decode())

    def test_pool_rm(self):
        self.assertEqual(run("pool", "rm", "memory:64MiB")[0], 0)
        self.assertIn("leaves nothing behind", run("pool", "rm", "memory:64MiB")[1].decode())
        stranger = self.folder / "stranger"
        stranger.mkdir()
        (stranger / "precious").write_text("x")
        status, _, err = run("pool", "rm", f"file:{stranger}", "--yes")
        self.assertEqual(status, 3)
        self.assertIn("no pool", err)
        self.assertTrue((stranger / "precious").exists())
        self.assertEqual(run("pool", "rm", "cellar:/x", "--yes")[0], 3)  # taken for a policy file

    def test_no_broker(self):
        for command in (["status"], ["table", "get", "orders", "k"], ["region", "list"]):
            status, _, err = run(*command, "--socket", self.folder / "none.sock", "--timeout-ms", "200")
            self.assertEqual(status, 1)
            self.assertIn("none.sock", err)
        status, _, err = run("status", "--socket", "/tmp/" + "x" * 200)
        self.assertEqual(status, 1)
        self.assertIn("107", err)

    def test_serve_says_what_is_wrong(self):
        bad = self.folder / "bad.toml"
        bad.write_text("[pool\n")
        status, _, err = run("serve", "--policy", bad, "--socket", self.folder / "s")
        self.assertEqual(status, 1)
        self.assertIn("bad.toml:1", err)
        self.assertEqual(os.listdir(self.folder), ["bad.toml"])

    def test_serve_as_a_uid_that_nobody_is_shown(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be another uid")
        overflow = 65534
        whom = {"user": overflow, "group": overflow, "extra_groups": []}
        socket, key = self.folder / "s", self.folder / "broker"
        serve = [BAILEY, "serve", "--demo", "--socket", socket]

        def put(*more):
            done = subprocess.run([BAILEY, "table", "put", "orders", "k", "v", "--socket", socket, "--as",
                                   self.folder / "demo" / "alice", *more], capture_output=True, check=False, **whom)
            return done.returncode, done.stderr.decode()

        os.chown(self.folder, overflow, overflow)
        refused = subprocess.run(serve, capture_output=True, timeout=60, check=False, **whom)
        self.assertEqual((refused.returncode, refused.stdout), (1, b""))
        self.assertIn("uid 65534 was not started", refused.stderr.decode())
        self.assertIn("--key FILE", refused.stderr.decode())
        self.assertEqual(os.listdir(self.folder), [])
        # The other way that it names.
        self.assertEqual(run("principal", "add", "broker", "--out", self.folder)[0], 0)
        os.chown(key, overflow, overflow)
        with subprocess.Popen([*serve, "--key", key], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **whom) as served:
            try:
                self.assertIn(b"broker ready", served.stdout.readline())
                status, err = put("--broker-key", key.with_suffix(".pub").read_text().strip())
                self.assertEqual(status, 0, err)
                status, err = put()
                self.assertEqual(status, 4)
                self.assertIn("give the broker's public key", err)
            finally:
                served.terminate()

    def test_bench_table(self):
        status, out, err = run("bench", "table", "--medium", "memory:", "--records", "2000", "--operations", "4000",
                               "--clients", "2", "--json", self.folder / "r.json")
        self.assertEqual(status, 0, err)
        self.assertIn("ops/s", out.decode())
        self.assertTrue(json.loads((self.folder / "r.json").read_text())["results"])

    def test_bench_table_help_says_what_options_take(self):
        lines = run("bench", "table", "--help")[1].decode()
        for option in ("--clients N", "--records N", "--value-size SIZE", "--workload FILE", "--trace FILE", "--csv FILE",
                       "--medium MEDIUM", "--mode MODE"):
            self.assertIn(option, lines)
        for word in ("UINT", "FLOAT", "TEXT:"):
            self.assertNotIn(word, lines)
        self.assertIn("--trace requests.txt", lines)


class Served(Yard, unittest.TestCase):
    def test_a_session_under_exec_strict(self):
        strict = (BAILEY, "exec", "--strict", "--")
        self.good("table", "put", "orders", "strict", "yes", prefix=strict)
        self.assertEqual(self.good("table", "get", "orders", "strict", prefix=strict), b"yes")


class WithBroker(Served):
    def test_put_get_del(self):
        self.good("table", "put", "orders", "k", "v")
        self.assertEqual(self.good("table", "get", "orders", "k", who="bob"), b"v")
        told = json.loads(self.good("table", "get", "orders", "k", "--json", who="bob"))
        self.assertEqual((told["key"], told["value"]), ("k", "v"))
        self.good("table", "put", "orders", "k", "w", "--if-version", told["version"])
        status, _, err = self.bailey("table", "put", "orders", "k", "x", "--if-version", told["version"])
        self.assertEqual(status, 1)
        self.assertIn("version mismatch", err.replace("_", " "))
        self.assertEqual(self.bailey("table", "put", "orders", "k", "x", "--insert")[0], 1)
        self.assertEqual(self.bailey("table", "put", "orders", "absent", "x", "--update")[0], 3)
        self.good("table", "del", "orders", "k")
        status, _, err = self.bailey("table", "get", "orders", "k")
        self.assertEqual(status, 3)
        self.assertIn("not found", err.replace("_", " "))
        self.assertEqual(self.bailey("table", "del", "orders", "k")[0], 3)

    def test_binary_values(self):
        value = bytes(range(256)) * 300
        self.good("table", "put", "orders", "binary", "--stdin", stdin=value)
        self.assertEqual(self.good("table", "get", "orders", "binary"), value)
        told = json.loads(self.good("table", "get", "orders", "binary", "--json"))
        self.assertEqual(base64.b64decode(told["value_base64"]), value)
        source, copy = self.folder / "source", self.folder / "copy"
        source.write_bytes(value[::-1])
        self.good("table", "put", "orders", "binary", "--file", source)
        self.good("table", "get", "orders", "binary", "--file", copy)
        self.assertEqual(copy.read_bytes(), value[::-1])
        self.good("table", "put", "orders", "empty", "")
        self.assertEqual(self.good("table", "get", "orders", "empty"), b"")

    def test_key_too_long(self):
        status, _, err = self.bailey("table", "put", "orders", "k" * 5000, "v")
        self.assertEqual(status, 1)
        self.assertIn("too large", err.replace("_", " "))

    def test_scan(self):
        for n in range(20):
            self.good("table", "put", "orders", f"scan{n}", f"value\t{n}")
        lines = self.good("table", "scan", "orders", who="bob").decode().splitlines()
        self.assertTrue({f"scan{n}\tvalue\\x09{n}" for n in range(20)} <= set(lines))
        rows = [json.loads(line) for line in self.good("table", "scan", "orders", "--json").splitlines()]
        self.assertIn(("scan7", "value\t7"), [(row["key"], row.get("value")) for row in rows])
        self.assertEqual(len(self.good("table", "scan", "orders", "--limit", "5").splitlines()), 5)

    def test_refusals_name_who_refused(self):
        status, out, err = self.bailey("table", "put", "orders", "k", "v", who="bob")
        self.assertEqual((status, out), (4, b""))
        self.assertIn("bob has r on region orders; rw was asked [denied, by the broker]", err)
        for arguments in (["table", "get", "orders", "k"], ["table", "scan", "orders"]):
            status, _, err = self.bailey(*arguments, who="eve")
            self.assertEqual(status, 4)
            self.assertIn("by the broker", err)
        # Whoever has no grant is not told which names there are; the broker's user is.
        self.assertEqual(self.bailey("table", "get", "nowhere", "k")[0], 4)

    def test_region(self):
        rows = json.loads(self.good("region", "list", "--json"))
        self.assertEqual([row["name"] for row in rows], ["orders"])
        self.assertIn("orders", self.good("region", "list", who="bob").decode())
        self.good("table", "put", "orders", "seen", "v")
        told = json.loads(self.good("region", "check", "orders", "--json", who="bob"))
        self.assertTrue(told["sound"])
        self.assertGreater(told["records"], 0)
        self.good("region", "check", "orders")
        self.assertTrue(self.good("region", "inspect", "orders", "--lines", "20"))
        self.assertEqual(self.bailey("region", "check", "nowhere")[0], 4)

    def test_status(self):
        told = json.loads(self.good("status", "--json", who=None))
        self.assertEqual(told["pool"]["name"], "yard")
        text = self.good("status", who=None).decode()
        self.assertIn("NOT stopped", text)
        self.assertIn("held by kernel", text)

    def test_status_tells_denials_as_a_table(self):
        for _ in range(3):
            self.assertEqual(self.bailey("table", "get", "orders", "k", who="eve")[0], 4)
        text = self.good("status", who=None).decode()
        denials = text[text.index("\ndenials:"):]
        self.assertRegex(denials, r"how many +who +region +reason")
        self.assertRegex(denials, r"\n +\d+  \S.*  orders +denied\n")
        self.assertNotIn("{", denials)
        self.assertNotRegex(text, r"\b1 (writers|readers|frozen segments|segments)\b")

    def test_policy_apply(self):
        wider = self.folder / "wider.toml"
        write_policy(wider, medium=self.medium, more='[region.extra]\nkind = "table"\nsize = "8MiB"\n')
        self.assertIn("extra", self.good("policy", "apply", wider, who=None).decode())
        status, _, err = self.bailey("policy", "apply", self.policy, who=None)
        self.assertEqual(status, 4)
        self.assertIn("drop", err)
        self.assertIn("extra", self.good("policy", "apply", self.policy, "--drop", who=None).decode())
        bad = self.folder / "bad.toml"
        bad.write_text("[pool]\nnaem = 1\n")
        status, _, err = self.bailey("policy", "apply", bad, who=None)
        self.assertEqual(status, 1)
        self.assertIn("bad.toml:2", err)

    def test_a_second_broker_is_refused(self):
        status, _, err = run("serve", "--policy", self.policy, "--socket", self.socket)
        self.assertEqual(status, 1)
        self.assertIn("already running", err)
        self.assertIn(f"process {self.broker.process.pid} ", err)

    def test_a_second_demo_broker_is_refused(self):
        status, _, err = run("serve", "--demo", "--socket", self.socket)
        self.assertEqual(status, 1)
        self.assertIn(f"a broker is already running at {self.socket}: process {self.broker.process.pid} ", err)
        self.assertFalse((self.socket.parent / "demo").exists())

    def test_bench_on_a_region(self):
        status, out, err = self.bailey("bench", "table", "--region", "orders", "--mode", "shared", "--records", "500",
                                       "--operations", "1000")
        self.assertEqual(status, 0, err)
        self.assertIn("ops/s", out.decode())


class Hangup(Served):
    """`kill -HUP` of the keeper: the policy file is read again."""

    def hang_up(self, says):
        before = self.broker.logged().count(says)
        self.broker.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while self.broker.logged().count(says) == before:
            self.assertLess(time.monotonic(), deadline, self.broker.logged())
            time.sleep(0.01)

    def test_grants_come_and_go(self):
        self.good("table", "put", "orders", "k", "v")
        self.assertEqual(self.bailey("table", "get", "orders", "k", who="eve")[0], 4)
        eve = '[principal.eve]\nidentity = ["key:@eve.pub"]\n'
        write_policy(self.policy, more=eve + '[[grant]]\nprincipal = "eve"\nregion = "orders"\nrights = "r"\n')
        self.hang_up("is in force")
        self.assertEqual(self.good("table", "get", "orders", "k", who="eve"), b"v")
        self.policy.write_text(self.policy.read_text().replace('rights = "rw"', 'rights = "rx"'))
        self.hang_up("the policy was not applied again")
        self.assertRegex(self.broker.logged(), r'policy\.toml:\d+:\d+: .*"rx"')
        self.good("table", "put", "orders", "k", "w")  # nothing has changed
        self.assertEqual(self.good("table", "get", "orders", "k", who="eve"), b"w")
        write_policy(self.policy, more=eve)
        self.hang_up("is in force")
        status, _, err = self.bailey("table", "get", "orders", "k", who="eve")
        self.assertEqual(status, 4)
        self.assertIn("denied, by the broker", err)
        self.assertEqual(self.good("table", "get", "orders", "k"), b"w")


class WithFiles(Served):
    """A pool in files, which stays when its broker goes."""

    medium = "file:{}/pool"

    def test_pool_rm(self):
        self.good("table", "put", "orders", "k", "v")
        status, _, err = run("pool", "rm", self.policy, "--yes")
        self.assertEqual(status, 1)
        self.assertIn("a broker serves", err)
        self.broker.__exit__()
        self.assertEqual(run("pool", "rm", self.policy)[0], 4)  # nobody agreed
        self.assertTrue((self.folder / "pool" / "state.db").exists())
        status, out, err = run("pool", "rm", self.policy, "--yes")
        self.assertEqual(status, 0, err)
        self.assertFalse((self.folder / "pool").exists())
        self.broker.__enter__()


if __name__ == "__main__":
    unittest.main(verbosity=2)
