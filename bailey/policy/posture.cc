#include "bailey/policy/posture.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "bailey/policy/size.h"

namespace bailey::policy {
namespace {

bool in_force(const Region& region, std::string_view wanted) {
  return std::any_of(region.protect.begin(), region.protect.end(),
                     [&](const Protection& p) { return p.name == wanted && p.in_force; });
}

// Whether the policy alone puts two parties under one uid.
bool shares_uid(const Policy& policy, std::uint32_t broker_uid) {
  std::set<std::uint32_t> taken{broker_uid};
  for (const Principal& principal : policy.principals) {
    std::set<std::uint32_t> own;
    for (const Identity& identity : principal.identities)
      if (identity.kind == Identity::Kind::user) own.insert(identity.id);
    for (std::uint32_t uid : own)
      if (!taken.insert(uid).second) return true;
  }
  return false;
}

void process_rung(const Region& region, bool sealed, bool one_uid, RegionPosture& out) {
  out.holds.push_back(
      {"process: a region without a grant is not opened", Word::broker,
       "the broker passes descriptors only under a grant, and its files are closed to other uids"});
  bool raw = region.kind == "raw";  // one file, and no segments
  if (sealed) {
    if (!raw)
      out.holds.push_back(
          {"process: nobody writes into another's segment", Word::kernel,
           "each file is sealed to the one process that mapped it for writing (F_SEAL_FUTURE_WRITE)"});
    out.holds.push_back({"process: nobody shrinks or grows a file under a reader", Word::kernel,
                         "F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL"});
  } else if (!raw) {
    out.holds.push_back(
        {"process: nobody writes into another's segment", one_uid ? Word::client : Word::kernel,
         "readers get read-only descriptors and the files have mode 0600; this medium takes no seals"});
  }
  if (region.mode == Mode::exclusive)
    out.holds.push_back({raw ? "process: the bytes have one writer" : "process: the index has one writer",
                         sealed || !one_uid ? Word::kernel : Word::client,
                         raw ? "one writing session at a time, and they are a file of its own"
                             : "one writing session at a time, and the index is a file of its own"});
  out.holds.push_back(
      {"revocation: new opens fail", Word::broker, "each open is decided by the policy in force"});
  out.holds.push_back({"revocation: reads and writes of what is mapped fail", Word::client,
                       "the last load of every operation is the grant word; hostile code may skip it"});
  out.holds.push_back({"revocation: a hostile writer's later writes count for nothing", Word::broker,
                       "its files are disowned and what lives in them is copied out"});
  out.holds.push_back({"revocation: nothing new gets into files that a hostile reader holds", Word::broker,
                       "before it returns, writers have left their segments and the index for new files"});

  if (region.mode == Mode::shared)
    out.not_stopped.push_back(
        raw ? "Mode shared: all with rw write the same bytes, and nothing keeps them apart."
            : "Mode shared: all with rw write one index, so each of them can delete or hide entries of "
              "others; "
              "none can write into another's records.");
  if (raw)
    out.not_stopped.push_back(
        "Plain bytes have no versions: who reads what another writes meanwhile may get old and new bytes, "
        "mixed.");
  out.not_stopped.push_back(
      "A reader whose grant ended keeps what it has copied; hostile code of its own keeps what it had mapped "
      "by "
      "then, and the memory of it, as long as it lives. A writer that is stopped in the middle of an "
      "operation for "
      "longer than it is waited for writes that operation's record where it began.");
}

void encrypted_rung(const Region& region, RegionPosture& out) {
  out.holds.push_back({"encrypted: who has not the region's key reads no key and no value of it",
                       Word::broker,
                       "each record is sealed with " + region.cipher +
                           "; keys come from the broker over its socket and are never in the pool"});
  out.holds.push_back(
      {"encrypted: a record that was changed, moved to another key or brought from elsewhere is "
       "noticed",
       Word::client, "readers open a copy under the tag, which binds region, key, version and sizes"});
  out.holds.push_back({"revocation: who loses the right to read opens nothing that is written afterwards",
                       Word::broker, "the region gets a new key before the revocation returns"});
  out.not_stopped.push_back(
      "Encrypted: whoever reads the region holds its key, and the keys of all generations before it. The "
      "sizes of "
      "records, which of them are of one key, and when they change are seen without a key. A record that was "
      "taken away, or an older one of a key that the session has not met or that another writer wrote, is "
      "not "
      "noticed.");
}

void signed_rung(RegionPosture& out) {
  out.holds.push_back({"signed: a record is its writer's, whoever else holds the region's key", Word::client,
                       "each carries an ed25519 signature over a batch, which readers verify; which key is a "
                       "writer's is the broker's word"});
  out.not_stopped.push_back(
      "Signed: whoever may write the region, or once might and can write its medium, writes any key of it, "
      "in its own name. An older record of a "
      "writer, "
      "one that it signed and did not publish, and a record's absence pass the signature.");
}

void lacking(const Region& region, RegionPosture& out) {
  for (const Protection& protection : region.protect)
    if (!protection.in_force)
      out.holds.push_back(
          {protection.name + ": asked where available", Word::nobody, "it is not available here"});
}

}  // namespace

std::string_view name(Word word) {
  switch (word) {
    case Word::kernel:
      return "kernel";
    case Word::broker:
      return "broker";
    case Word::client:
      return "client";
    case Word::nobody:
      return "nobody";
  }
  return "nobody";
}

RegionPosture posture_of(const Policy& policy, const Region& region, const PostureFacts& facts) {
  RegionPosture out;
  out.region = region.name;
  out.kind = region.kind;
  out.mode = region.mode;
  out.medium = name(policy.medium.kind);
  out.protections = region.protect;
  bool sealed = policy.medium.kind != MediumKind::file;
  bool one_uid = facts.one_uid || shares_uid(policy, facts.broker_uid);

  if (in_force(region, "none"))
    out.not_stopped.push_back(
        "Protection none protects nothing: whoever maps this region reads and writes all of it.");
  if (one_uid)
    out.not_stopped.push_back(
        "One uid is not a boundary: processes of one user can ptrace each other, read and write "
        "/proc/PID/mem and read "
        "each other's key files. Give principals uids of their own.");
  // It is what every region has; whoever names another rung has that as well.
  if (!in_force(region, "none")) process_rung(region, sealed, one_uid, out);
  if (in_force(region, "encrypted")) encrypted_rung(region, out);
  if (in_force(region, "signed")) signed_rung(out);
  for (std::string_view rung : {"pkey", "vm"})
    if (in_force(region, rung))
      out.holds.push_back(
          {std::string(rung), rung == "pkey" ? Word::client : Word::broker,
           rung == "pkey"
               ? "pages are closed but inside the library's gates; the process itself can open them"
               : "only virtual machines with a grant have the device"});
  if (in_force(region, "pkey"))
    out.not_stopped.push_back(
        "Protection keys hold off loads and stores that stray, from code that does not go for them: code "
        "that runs "
        "in the process can write the register that opens them, or ask the kernel (process_vm_readv, "
        "/proc/self/mem).");
  if (in_force(region, "pkey") && region.kind == "raw") {
    out.holds.push_back({"pkey: a token for a part of the bytes is held to its part", Word::client,
                         "windows look at their bounds, and there is no other way through the gates"});
    out.not_stopped.push_back(
        "Whoever opens it with a token for a part is given all of the file: a process with code of its own "
        "in place of the library reads all of it, and writes where the token has rw.");
  }
  lacking(region, out);
  if (!sealed)
    out.not_stopped.push_back(
        "Files of the medium file: take no seals: the uid that owns them, or whoever gets at the disk, can "
        "open, write or "
        "truncate them.");
  if (!in_force(region, "encrypted"))
    out.not_stopped.push_back(
        "Nothing is encrypted: whoever reads this machine's memory, swap or disk reads the data.");
  out.not_stopped.push_back(
      sealed && !in_force(region, "none")
          ? "Root is no boundary, except for what seals hold: root can't write a sealed file, but it can "
            "ptrace, read all "
            "memory and replace the broker."
          : "Root is no boundary: it can ptrace, read and write all memory and replace the broker.");
  return out;
}

std::vector<RegionPosture> posture(const Policy& policy, const PostureFacts& facts) {
  std::vector<RegionPosture> all;
  for (const Region& region : policy.regions) all.push_back(posture_of(policy, region, facts));
  return all;
}

std::vector<std::string> lines(const RegionPosture& posture) {
  std::vector<std::string> out;
  std::vector<std::string> asked, here;
  for (const Protection& protection : posture.protections) {
    asked.push_back(protection.name + (protection.where_available ? "?" : ""));
    if (protection.in_force) here.push_back(protection.name);
  }
  out.push_back(fmt::format("region {} ({}, {}, {})", posture.region, posture.kind, name(posture.mode),
                            posture.medium));
  out.push_back(fmt::format("  asked        {}", fmt::join(asked, ", ")));
  out.push_back(
      fmt::format("  in force     {}", here.empty() ? "nothing" : fmt::format("{}", fmt::join(here, ", "))));
  for (const Holding& holding : posture.holds)
    out.push_back(
        fmt::format("  {:<12} {}: {}",
                    holding.word == Word::nobody ? "not held" : fmt::format("by {}", name(holding.word)),
                    holding.what, holding.how));
  for (const std::string& text : posture.not_stopped) out.push_back("  not stopped  " + text);
  return out;
}

std::vector<PostureRow> rows(const RegionPosture& posture) {
  std::vector<PostureRow> out;
  for (const Protection& protection : posture.protections)
    out.push_back({posture.region, "asked", protection.name, protection.in_force,
                   protection.in_force ? "broker" : "nobody",
                   protection.where_available ? "where available" : "required"});
  for (const Holding& holding : posture.holds)
    out.push_back({posture.region, "holds", holding.what, holding.word != Word::nobody,
                   std::string(name(holding.word)), holding.how});
  for (const std::string& text : posture.not_stopped)
    out.push_back({posture.region, "not_stopped", text, false, "nobody", ""});
  return out;
}

}  // namespace bailey::policy
