#!/usr/bin/env python3
"""`bailey token`, what is opened with tokens, and the bytes of raw regions.

    token_test.py BAILEY
"""

import json
import stat
import time
import unittest

from support import Yard, run

# alice is admin of raw bytes, eve of all; bob and eve have no grant there.
MORE = """
[broker]
admins = ["eve"]
[principal.eve]
identity = ["key:@eve.pub"]
[region.frames]
kind = "raw"
size = "4MiB"
mode = "shared"
[[grant]]
principal = "alice"
region = "frames"
rights = "admin"
"""


class Tokens(Yard, unittest.TestCase):
    more = MORE

    def refused(self, *arguments, says, status=4, **options):
        got, out, err = self.bailey(*arguments, **options)
        self.assertEqual((got, out), (status, b""), err)
        self.assertIn(says, err)

    def mint(self, *arguments, region="frames"):
        return self.good("token", "mint", region, *arguments)

    def narrow(self, token, *arguments):
        status, out, err = run("token", "narrow", *arguments, stdin=token)
        self.assertEqual(status, 0, err)
        return out

    def inspect(self, token):
        status, out, err = run("token", "inspect", "--json", stdin=token)
        self.assertEqual(status, 0, err)
        return json.loads(out)

    def test_help_has_examples(self):
        for command in (["token", "mint"], ["token", "narrow"], ["token", "inspect"], ["token", "verify"],
                        ["token", "revoke"], ["region", "read"], ["region", "write"], ["bench", "window"]):
            status, out, _ = run(*command, "--help")
            self.assertEqual(status, 0, command)
            self.assertIn("Example:", out.decode())
            self.assertIn("bailey " + " ".join(command), out.decode())

    def test_a_token_is_minted_narrowed_used_and_revoked(self):
        wide, less = self.folder / "wide.token", self.folder / "less.token"
        self.assertEqual(self.mint("--rights", "rw", "--holder", "bob", "--in", "1h", "--out", wide), b"")
        self.assertEqual(stat.S_IMODE(wide.stat().st_mode), 0o600)
        self.assertEqual(run("token", "narrow", wide, "--rights", "r", "--out", less)[:2], (0, b""))
        told = self.inspect(less.read_bytes())
        self.assertEqual((told["rights"], told["bearer"], told["audience"]), ("rw", False, "the broker"))
        self.assertIn("holder bob", told["caveats"])
        less.chmod(0o640)
        self.refused("token", "verify", less, who="bob", says="has mode 0640: others than its owner can use it")
        less.chmod(0o600)
        self.assertIn("rights r", told["caveats"])
        self.assertTrue(self.good("token", "verify", less, who="bob").startswith(b"valid: r on region frames, until "))
        self.good("region", "write", "frames", "--offset", "10", "--token", wide, who="bob", stdin=b"hello")
        self.assertEqual(self.good("region", "read", "frames", "--offset", "9", "--length", "7", "--token", less,
                                   who="bob"), b"\0hello\0")
        self.refused("region", "write", "frames", "--token", less, who="bob", stdin=b"x", says="has rights r on region")
        self.refused("region", "read", "frames", "--token", wide, who="eve", says="another holder")
        self.refused("region", "read", "frames", who="bob", says="has no grant")
        self.refused("table", "get", "orders", "k", "--token", wide, who="bob", says="another region")
        self.refused("token", "revoke", wide, who="bob", says="that you may revoke", status=3)
        self.assertIn(b"is revoked", self.good("token", "revoke", "--id", told["id"]))
        for token in (wide, less):
            self.refused("region", "read", "frames", "--token", token, who="bob", says="not valid any more")
            self.refused("token", "verify", token, who="bob", says="not valid any more")

    def test_tables_are_opened_with_tokens(self):
        self.good("table", "put", "orders", "k", "v")
        token = self.good("token", "mint", "orders", "--bearer", who="eve")
        self.assertEqual(self.good("table", "get", "orders", "k", "--token", "-", who="eve", stdin=token), b"v")
        self.refused("table", "put", "orders", "k", "w", "--token", "-", stdin=token, says="has rights r on region")
        self.refused("table", "get", "orders", "k", "--token", "-", who="eve", status=1, says="all of the file",
                     stdin=self.narrow(token, "--prefix", "k"))

    def test_a_part_is_refused_where_nothing_holds_to_it(self):
        part = self.narrow(self.mint("--bearer"), "--offset", "0", "--length", "4096")
        self.assertIn("bytes 0..4095", self.inspect(part)["caveats"])
        self.refused("region", "read", "frames", "--token", "-", who="bob", stdin=part, status=1, says='with "pkey"')

    def test_a_token_is_over_in_time(self):
        token = self.mint("--bearer", "--until", str(int(time.time()) + 2))
        self.good("region", "read", "frames", "--length", "1", "--token", "-", who="bob", stdin=token)
        until = time.monotonic() + 20
        while self.bailey("token", "verify", who="bob", stdin=token)[0] == 0:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)
        self.refused("region", "read", "frames", "--token", "-", who="bob", stdin=token, says="not valid any more")

    def test_what_is_wrong_is_said(self):
        token = self.mint("--bearer")
        for arguments, stdin, says in (
                (["mint", "frames"], b"", "for a holder or for the bearer"),
                (["mint", "frames", "--bearer", "--holder", "bob"], b"", "for a holder or for the bearer"),
                (["mint", "frames", "--bearer", "--rights", "admin"], b"", "no rights of a token"),
                (["mint", "frames", "--bearer", "--in", "soon"], b"", "no time"),
                (["mint", "frames", "--bearer", "--in", "0s"], b"", "no time"),
                (["narrow"], token, "nothing was said that narrows"),
                (["narrow", "--offset", "1"], token, "an offset and a length"),
                (["narrow", "--offset", "1", "--length", "0x10"], token, "no number of bytes"),
                (["narrow", "--rights", "r"], b"", "holds no token"),
                (["inspect"], token + token, "holds no token"),
                (["inspect"], b"\n" + token, "holds no token"),
                (["inspect"], token[:-5] + b"\n", "holds no token"),
                (["inspect"], b"A" * 5000, "holds no token")):
            reach = ["--socket", self.socket, "--as", self.folder / "alice"] if arguments[0] == "mint" else []
            status, out, err = run("token", *arguments, *reach, stdin=stdin)
            self.assertEqual((status, out), (1, b""), arguments)
            self.assertIn(says, err)
            self.assertNotIn(token.decode().strip(), err)
        self.refused("token", "mint", "frames", "--bearer", who="bob", says="has no grant")
        self.refused("token", "mint", "frames", "--holder", "nobody", status=3, says="no principal nobody")
        old = self.folder / "old"
        old.write_text("precious")
        self.refused("token", "mint", "frames", "--bearer", "--out", old, status=1, says="nothing is overwritten")
        self.assertEqual(old.read_text(), "precious")

    def test_raw_bytes(self):
        value = bytes(range(256)) * 600
        source = self.folder / "source"
        source.write_bytes(value)
        self.good("region", "write", "frames", "--offset", "100000", "--file", source)
        self.assertEqual(self.good("region", "read", "frames", "--offset", "100000", "--length", len(value)), value)
        size = len(self.good("region", "read", "frames"))
        self.assertEqual(size % 4096, 0)
        self.assertIn(f"{size} bytes without a layout", self.good("region", "check", "frames").decode())
        self.assertIn("00 01 02", self.good("region", "inspect", "frames", "--contents").decode())
        self.refused("region", "read", "frames", "--offset", size, status=1, says="not within")
        self.refused("region", "write", "frames", "--offset", size - 1, stdin=b"ab", status=1, says="more than the 1 bytes")
        self.assertEqual(self.good("region", "read", "frames", "--offset", size - 1), b"\0")
        self.assertEqual(self.bailey("region", "write", "frames", "--token", "-", stdin=b"x")[0], 2)
        self.refused("region", "read", "orders", status=1, says="not raw")
        self.refused("table", "get", "frames", "k", status=1, says="not a table")

    def test_bench_window(self):
        token = self.mint("--bearer", "--rights", "rw")
        for mac in ("once", "each"):
            rows = json.loads(self.good("bench", "window", "--region", "frames", "--write", "--rounds", "11", "--json",
                                        "--mac", mac, "--token", "-", who="bob", stdin=token))
            self.assertEqual({row["operation"] for row in rows}, {"read", "write"})
            for row in rows:
                # To verify takes 12 blocks of SHA-256 at least; a check of bounds takes none.
                self.assertEqual(row["window_ns"] - row["copy_ns"] > 150, mac == "each", row)
        self.refused("bench", "window", "--region", "orders", status=1, says="not raw")
        self.assertEqual(self.bailey("bench", "window", "--region", "frames", "--mac", "never")[0], 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
