// Bad policies, each with everything that is said about it: the promise that a mistake names file, line,
// column and what was probably meant. A new rule gets a row here.
#include <gtest/gtest.h>

#include "bailey/policy/policy.h"
#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using testing::alice;
using testing::fixed_context;
using testing::good;
using testing::grant;
using testing::orders;
using testing::pool;

struct Bad {
  const char* name;
  std::string text;
  std::vector<std::string> said;
};

// Lines 7 and on of these are the caller's; 10 and on of the second.
std::string with_region(const std::string& lines) { return pool + alice + "[region.orders]\n" + lines; }
std::string with_grant(const std::string& lines) { return pool + alice + orders + "[[grant]]\n" + lines; }

const std::vector<Bad>& bad_policies() {
  static const std::vector<Bad> all = {
      {"empty",
       "",
       {"f:1:1: the policy is empty; begin with [pool], name = \"courtyard\" and medium = \"memory:4GiB\""}},
      {"only a comment",
       "# nothing\n",
       {"f:1:1: the policy is empty; begin with [pool], name = \"courtyard\" and medium = \"memory:4GiB\""}},
      {"no pool",
       alice + orders + grant,
       {"f:1:1: the policy has no [pool]; add [pool] with name = \"courtyard\" and medium = "
        "\"memory:4GiB\""}},
      {"pool without keys",
       "[pool]\n" + alice,
       {"f:1:2: [pool] has no \"name\"; such as name = \"courtyard\"",
        "f:1:2: [pool] has no \"medium\"; such as medium = \"memory:4GiB\""}},
      {"pool name with bad characters",
       "[pool]\nname = \"My Pool\"\nmedium = \"memory:64MiB\"\n",
       {"f:2:8: the pool name \"My Pool\" is not 1 to 63 of a-z, 0-9 and -, with no - at the front; did you "
        "mean \"my-pool\"?"}},
      {"bad medium",
       "[pool]\nname = \"p\"\nmedium = \"memroy:64MiB\"\n",
       {"f:3:10: the medium \"memroy:64MiB\" has no known kind; did you mean \"memory\"?"}},
      {"medium without quotes",
       "[pool]\nname = \"p\"\nmedium = 64MiB\n",
       {"f:3:12: not TOML: decimal integer: expected digit, saw 'M'; text needs quotes, such as \"64MiB\""}},
      {"pool twice as list",
       "[[pool]]\nname = \"p\"\nmedium = \"memory:64MiB\"\n",
       {"f:1:3: \"pool\" is an array, not a table; write [pool], one pair of brackets"}},
      {"unknown table",
       good + "[regoin.x]\nsize = \"8MiB\"\n",
       {"f:13:2: unknown table \"regoin\"; did you mean \"region\"?"}},
      {"region without its section",
       good + "[ledger]\nkind = \"table\"\nsize = \"8MiB\"\n",
       {"f:13:2: unknown table \"ledger\"; did you mean [region.ledger]?"}},
      {"unknown key at the top",
       "admins = 3\n" + good,
       {"f:1:1: unknown key \"admins\"; known: \"pool\", \"broker\", \"principal\", \"region\", \"grant\""}},
      {"unknown key in a region",
       with_region("kind = \"table\"\n  sise = \"8MiB\"\n"),
       {"f:8:3: unknown key \"sise\" in [region.orders]; did you mean \"size\"?"}},
      {"duplicate key",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nsize = \"9MiB\"\n"),
       {"f:9:1: duplicate key \"size\"; first given at line 8; keep one of them"}},
      {"duplicate region",
       good + "  [region.orders]\nkind = \"table\"\nsize = \"8MiB\"\n",
       {"f:13:3: the table \"region.orders\" is given twice; keep one and put all its keys there"}},
      {"dotted region name",
       good + "[region.my.orders]\nkind = \"table\"\n",
       {"f:13:9: [region.my] has no \"kind\"; such as kind = \"table\"",
        "f:13:9: [region.my] has no \"size\"; such as size = \"256MiB\"",
        "f:13:12: unknown key \"orders\" in [region.my]; a \".\" parts names in TOML, so a name can't hold "
        "one"}},
      {"region name with bad characters",
       good + "[region.\"My Orders\"]\nkind = \"table\"\nsize = \"8MiB\"\n",
       {"f:13:9: the region name \"My Orders\" is not 1 to 63 of a-z, 0-9 and -, with no - at the front; did "
        "you mean \"my-orders\"?"}},
      {"region name too long",
       good + "[region." + std::string(64, 'a') + "]\nkind = \"table\"\nsize = \"8MiB\"\n",
       {"f:13:9: the region name \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" is not "
        "1 to 63 of a-z, 0-9 and -, with no - at the front; did you mean "
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"?"}},
      {"region as value",
       pool + alice + "[region]\norders = \"8MiB\"\n",
       {"f:7:1: [region.orders] is text, not a table; write [region.orders] and its keys below, one pair of "
        "brackets"}},
      {"region as list",
       pool + "[[region.orders]]\nkind = \"table\"\n",
       {"f:4:10: [region.orders] is an array, not a table; write [region.orders] and its keys below, one "
        "pair of brackets"}},
      {"region without keys",
       with_region(""),
       {"f:6:9: [region.orders] has no \"kind\"; such as kind = \"table\"",
        "f:6:9: [region.orders] has no \"size\"; such as size = \"256MiB\""}},
      {"unknown kind",
       with_region("kind = \"tabel\"\nsize = \"8MiB\"\n"),
       {"f:7:8: unknown kind \"tabel\" in [region.orders]; did you mean \"table\"?"}},
      {"negative size",
       with_region("kind = \"table\"\nsize = -5\n"),
       {"f:8:8: \"size\" in [region.orders]: the size -5 is negative; such as \"256MiB\""}},
      {"negative size as text",
       with_region("kind = \"table\"\nsize = \"-8MiB\"\n"),
       {"f:8:8: \"size\" in [region.orders]: the size \"-8MiB\" is negative; write a whole number and one of "
        "B, KiB, MiB, GiB, TiB, such as \"256MiB\""}},
      {"zero size",
       with_region("kind = \"table\"\nsize = 0\n"),
       {"f:8:8: \"size\" in [region.orders] is zero; such as \"256MiB\""}},
      {"overflowing size",
       with_region("kind = \"table\"\nsize = \"16777216TiB\"\n"),
       {"f:8:8: \"size\" in [region.orders]: the size \"16777216TiB\" is more than 64 bits can count; the "
        "largest size is below 16777216TiB"}},
      {"number beyond 64 bits",
       with_region("kind = \"table\"\nsize = 99999999999999999999\n"),
       {"f:8:28: not TOML: decimal integer: '99999999999999999999' is not representable in 64 bits; write a "
        "smaller number"}},
      {"size with a wrong unit",
       with_region("kind = \"table\"\nsize = \"8MB\"\n"),
       {"f:8:8: \"size\" in [region.orders]: the size \"8MB\" has no known unit; did you mean \"8MiB\"?"}},
      {"size of a wrong type",
       with_region("kind = \"table\"\nsize = true\n"),
       {"f:8:8: \"size\" in [region.orders] is true or false, not a size; such as size = \"256MiB\""}},
      {"region too small",
       with_region("kind = \"table\"\nsize = \"4095KiB\"\n"),
       {"f:8:8: [region.orders] has 4095KiB, too small for a region; the least is 4MiB"}},
      {"region larger than the pool",
       with_region("kind = \"table\"\nsize = \"65MiB\"\n"),
       {"f:8:8: [region.orders] has 65MiB, more than the whole pool's 64MiB; 1 MiB is missing"}},
      {"regions together larger than the pool",
       good + "[region.b]\nkind = \"table\"\nsize = \"57MiB\"\n",
       {"f:15:8: with [region.b] the regions have 65 MiB, more than the pool's 64MiB; 1 MiB is missing"}},
      {"unknown mode",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nmode = \"sharde\"\n"),
       {"f:9:8: unknown mode \"sharde\" in [region.orders]; did you mean \"shared\"?"}},
      {"records as text",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nrecords = \"200\"\n"),
       {"f:9:11: \"records\" in [region.orders] is text, not a whole number; without quotes: records = 200"}},
      {"zero records",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nrecords = 0\n"),
       {"f:9:11: \"records\" in [region.orders] is 0, which is not from 1 to 1099511627776; leave the key "
        "out where nothing is to be limited"}},
      {"quota above size",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nquota = \"9MiB\"\n"),
       {"f:9:9: \"quota\" in [region.orders] is 9MiB, more than the region's 8MiB"}},
      {"quota too small",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nquota = \"1KiB\"\n"),
       {"f:9:9: \"quota\" in [region.orders] is 1KiB, too small to write anything; the least is 64KiB"}},
      {"unknown protection",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"proces\"]\n"),
       {"f:9:12: unknown protection \"proces\" in [region.orders]; did you mean \"process\"?"}},
      {"protection not enforced",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"process\", \"encrypted\"]\n"),
       {"f:9:23: [region.orders] requires \"encrypted\", and this build does not enforce it; leave it out, "
        "or \"encrypted?\" takes it where it is available"}},
      {"nothing enforced",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = \"pkey?\"\n"),
       {"f:9:11: nothing of \"protect\" in [region.orders] is enforced here; add \"process\", or say "
        "\"none\" if nothing is to be protected"}},
      {"none beside others",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"none\", \"process\"]\n"),
       {"f:9:12: \"protect\" in [region.orders] has \"none\" beside others; leave out \"none\", or the "
        "others"}},
      {"none where available",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"none?\"]\n"),
       {"f:9:12: \"none?\" says nothing; did you mean \"none\"?"}},
      {"protection twice",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"process\", \"process?\"]\n"),
       {"f:9:23: \"protect\" in [region.orders] has \"process\" twice; keep one of them"}},
      {"records of plain bytes",
       with_region("kind = \"raw\"\nsize = \"8MiB\"\nrecords = 1000\n"),
       {"f:9:11: [region.orders] is raw, and plain bytes have no records; leave out \"records\""}},
      {"plain bytes encrypted",
       with_region("kind = \"raw\"\nsize = \"8MiB\"\nprotect = [\"process\", \"encrypted?\"]\n"),
       {"f:9:12: \"protect\" in [region.orders] has \"encrypted\", and the region is raw; records are what "
        "is "
        "encrypted, and plain bytes have none: make it a table"}},
      {"signed without encrypted",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"process\", \"signed?\"]\n"),
       {"f:9:12: \"protect\" in [region.orders] has \"signed\" without \"encrypted\"; signatures are over "
        "encrypted records; add \"encrypted\""}},
      {"empty protect",
       with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = []\n"),
       {"f:9:11: \"protect\" in [region.orders] is empty; such as protect = [\"process\"]"}},
      {"principal without identity",
       pool + "[principal.bob]\n",
       {"f:4:12: [principal.bob] has no \"identity\"; such as identity = \"user:1000\""}},
      {"principal name in capitals",
       pool + "[principal.Bob]\nidentity = \"user:1\"\n",
       {"f:4:12: the principal name \"Bob\" is not 1 to 63 of a-z, 0-9 and -, with no - at the front; did "
        "you mean \"bob\"?"}},
      {"empty identity",
       pool + "[principal.bob]\nidentity = []\n",
       {"f:5:12: \"identity\" in [principal.bob] is empty; such as identity = \"user:1000\""}},
      {"identity without kind",
       pool + "[principal.bob]\nidentity = [\"user:1\",\n  \"alice\"]\n",
       {"f:6:3: the identity \"alice\" has no kind; did you mean \"user:alice\"?"}},
      {"user that is not there",
       pool + "[principal.bob]\nidentity = \"user:bob\"\n",
       {"f:5:12: this machine has no user \"bob\"; create the user, or write its number, \"user:NUMBER\""}},
      {"key file that is not there",
       pool + "[principal.bob]\nidentity = \"key:@bob.pub\"\n",
       {"f:5:12: could not open the key file \"/keys/bob.pub\" (No such file or directory); `bailey "
        "principal add` makes a key pair"}},
      {"identity as number",
       pool + "[principal.bob]\nidentity = [1000]\n",
       {"f:5:13: an entry of \"identity\" in [principal.bob] is a whole number, not text; such as identity = "
        "\"user:1000\""}},
      {"grant with single brackets",
       pool + alice + orders + "[grant]\nprincipal = \"alice\"\n",
       {"f:9:2: \"grant\" is a table, not a list of tables; each grant begins with [[grant]], two pairs of "
        "brackets"}},
      {"two grants with single brackets",
       pool + alice + orders + "[grant]\nprincipal = \"alice\"\n[grant]\nprincipal = \"alice\"\n",
       {"f:9:2: \"grant\" is a table, not a list of tables; each grant begins with [[grant]], two pairs of "
        "brackets",
        "f:11:1: [grant] is given twice; each grant begins with [[grant]], two brackets"}},
      {"grant without keys",
       with_grant(""),
       {"f:9:1: [[grant]] has no \"principal\"; such as principal = \"alice\"",
        "f:9:1: [[grant]] has no \"region\"; such as region = \"orders\", or \"*\" for all",
        "f:9:1: [[grant]] has no \"rights\"; such as rights = \"r\", \"rw\" or \"admin\""}},
      {"grant to an unknown principal",
       with_grant("principal = \"alcie\"\nregion = \"orders\"\nrights = \"r\"\n"),
       {"f:10:13: [[grant]] names the principal \"alcie\", which the policy does not have; did you mean "
        "\"alice\"?"}},
      {"grant to nobody like that",
       with_grant("principal = \"mallory\"\nregion = \"orders\"\nrights = \"r\"\n"),
       {"f:10:13: [[grant]] names the principal \"mallory\", which the policy does not have; known: "
        "\"alice\""}},
      {"grant on an unknown region",
       with_grant("principal = \"alice\"\nregion = \"order\"\nrights = \"r\"\n"),
       {"f:11:10: [[grant]] names the region \"order\", which the policy does not have; did you mean "
        "\"orders\"?"}},
      {"unknown rights",
       with_grant("principal = \"alice\"\nregion = \"orders\"\nrights = \"wr\"\n"),
       {"f:12:10: unknown rights \"wr\" in [[grant]]; did you mean \"rw\"?"}},
      {"rights as number",
       with_grant("principal = \"alice\"\nregion = \"orders\"\nrights = 7\n"),
       {"f:12:10: \"rights\" in [[grant]] is a whole number, not text; such as rights = \"r\""}},
      {"zero sessions",
       with_grant("principal = \"alice\"\nregion = \"orders\"\nrights = \"r\"\nsessions = 0\n"),
       {"f:13:12: \"sessions\" in [[grant]] is 0, which is not from 1 to 4294967295; leave the key out where "
        "nothing is to be limited"}},
      {"too many sessions",
       with_grant("principal = \"alice\"\nregion = \"orders\"\nrights = \"r\"\nsessions = 4294967296\n"),
       {"f:13:12: \"sessions\" in [[grant]] is 4294967296, which is not from 1 to 4294967295"}},
      {"bytes too small",
       with_grant("principal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\nbytes = 10\n"),
       {"f:13:9: \"bytes\" in [[grant]] is 10B, too small to write anything; the least is 64KiB"}},
      {"unknown key in a grant",
       with_grant("principal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\nsession = 10\n"),
       {"f:13:1: unknown key \"session\" in [[grant]]; did you mean \"sessions\"?"}},
      {"duplicate grant",
       good + grant,
       {"f:13:1: a second grant of \"alice\" on \"orders\"; the first is at line 9; keep one with the rights "
        "that you mean"}},
      {"unknown admin",
       good + "[broker]\nadmins = [\"alise\", \"root\"]\n",
       {"f:14:11: \"admins\" in [broker] names the principal \"alise\", which the policy does not have; did "
        "you mean \"alice\"?",
        "f:14:20: \"admins\" in [broker] names the principal \"root\", which the policy does not have; an "
        "identity has a kind, such as \"user:root\""}},
      {"no admin",
       good + "[broker]\nadmins = []\n",
       {"f:14:10: \"admins\" in [broker] is empty; such as admins = [\"user:root\"]"}},
      {"not UTF-8",
       pool + "# caf\xe9\n",
       {"f:4:6: byte 0xe9 is not UTF-8; a policy is text in UTF-8; save it so"}},
      {"no quotes around text",
       with_region("kind = table\nsize = \"8MiB\"\n"),
       {"f:7:9: not TOML: boolean: expected 'true', saw 'ta'; text needs quotes, such as \"table\""}},
      {"no equals sign",
       with_region("kind \"table\"\nsize = \"8MiB\"\n"),
       {"f:7:6: not TOML: key-value pair: expected '=', saw '\"'; write key = value"}},
      {"header not closed",
       pool + "[region.orders\nkind = \"table\"\n",
       {"f:4:15: not TOML: table header: expected ']', saw '\\n'; a table begins as [region.NAME] or "
        "[[grant]]"}},
      {"typographic quotes",
       with_region("kind = \xe2\x80\x9ctable\xe2\x80\x9d # \xc3\xa4\n"),
       {"f:7:8: a letter beyond ASCII outside quotes; keys, names and numbers are ASCII; did an editor write "
        "typographic quotes?"}},
      {"columns count characters",
       pool + "[principal.bob]\nidentity = [\"user:\xc3\xa4\", \"alice\", \"\"\"\n",
       {"f:5:19: a letter beyond ASCII in a text; write it as an escape within double quotes, like "
        "\"caf\\u00e9\"",
        "f:5:32: a text over several lines has no place in a policy; use one pair of quotes"}},
      {"a quote that the TOML library takes for the rest of a number",
       pool + "[principal.bob]\nidentity = 0.'\xd0\xa5\"\n",
       {"f:5:15: a letter beyond ASCII in a text; write it as an escape within double quotes, like "
        "\"caf\\u00e9\""}},
      {"an array that closes wrongly",
       with_region("kind = [}\nsise = \"8MiB\"\nsize = \"8MiB\"\n"),
       {"f:7:1: not TOML: this line makes no sense",
        "f:8:1: unknown key \"sise\" in [region.orders]; did you mean \"size\"?"}},
      {"header of nothing",
       pool + "[&orders]\n  [[]]\n[\r2\n",
       {"f:4:1: a table without a name; a table begins as [region.NAME] or [[grant]]",
        "f:5:3: a table without a name; a table begins as [region.NAME] or [[grant]]",
        "f:6:2: control character 0x0d; take it out"}},
      {"array not closed",
       pool + "[principal.bob]\nidentity = [\"user:1\"\n[region.a]\n",
       {"f:6:1: not TOML: array: expected comma or closing ']', saw '['; a table begins as [region.NAME] or "
        "[[grant]]"}},
      {"text over several lines",
       pool + "[principal.bob]\nidentity = \"\"\"user:1\"\"\"\n",
       {"f:5:12: a text over several lines has no place in a policy; use one pair of quotes"}},
      {"control characters in a name",
       good + "[region.\"\\u001b[31m\"]\nkind = \"table\"\nsize = \"8MiB\"\n",
       {"f:13:9: the region name \"\\x1b[31m\" is not 1 to 63 of a-z, 0-9 and -, with no - at the front; did "
        "you mean \"31m\"?"}},
      {"many at once",
       "[pool]\nname = \"p\"\nmedium = 64MiB\n[region.orders]\nkind = \"tabel\"\nsize = \"8MB\"\nsize = "
       "3\nmode = sharde\n[[grant]]\nprincipal = \"bob\"\nright = \"rw\"\n",
       {"f:3:12: not TOML: decimal integer: expected digit, saw 'M'; text needs quotes, such as \"64MiB\"",
        "f:5:8: unknown kind \"tabel\" in [region.orders]; did you mean \"table\"?",
        "f:6:8: \"size\" in [region.orders]: the size \"8MB\" has no known unit; did you mean \"8MiB\"?",
        "f:7:1: duplicate key \"size\"; first given at line 6; keep one of them",
        "f:8:8: not TOML: value: could not determine value type; text needs quotes, such as \"sharde\"",
        "f:11:1: unknown key \"right\" in [[grant]]; did you mean \"rights\"?"}},
  };
  return all;
}

TEST(BadPolicies, EachIsExplained) {
  EXPECT_GE(bad_policies().size(), 60u);
  for (const Bad& bad : bad_policies()) {
    Checked checked = check(bad.text, "f", "/keys", fixed_context());
    EXPECT_FALSE(checked.ok()) << bad.name;
    std::vector<std::string> said;
    for (const Diagnostic& diagnostic : checked.diagnostics) said.push_back(diagnostic.to_string());
    EXPECT_EQ(said, bad.said) << bad.name;
  }
}

}  // namespace
}  // namespace bailey::policy
