#include "bailey/broker/serve.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <filesystem>

#include <cerrno>

#include "bailey/broker/broker.h"
#include "bailey/broker/context.h"
#include "bailey/broker/keeper.h"
#include "bailey/crypto/kdf.h"
#include "bailey/crypto/key_file.h"
#include "bailey/policy/policy.h"
#include "bailey/protocol/overflow.h"

namespace bailey::broker {
namespace {

// The broker's own files: for its uid alone, made where they are missing.
Status own_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_os(errno, fmt::format("could not make {}", path));
  struct stat about;
  if (::lstat(path.c_str(), &about) != 0) return fail_os(errno, fmt::format("could not look at {}", path));
  if (!S_ISDIR(about.st_mode) || about.st_uid != ::geteuid() || (about.st_mode & 077) != 0)
    return fail(Code::denied, By::broker,
                fmt::format("{} must be a folder of uid {} with mode 0700", path, ::geteuid()),
                fmt::format("chmod 0700 {}, if what is in it is to be trusted", path));
  return {};
}

// A session that knows no key of the broker goes by its uid, and that one says nothing.
Status check_own_uid(bool has_key) {
  if (has_key || ::geteuid() != protocol::overflow_id) return {};
  return fail(
      Code::unsupported, By::broker,
      fmt::format("a broker of uid {} was not started: it is the kernel's word for a uid that is not "
                  "shown, so no session takes its word",
                  protocol::overflow_id),
      "run it as a uid of its own (in a user namespace: map one), or with --key FILE and each session "
      "with that key's public half (--broker-key)");
}

// Each file of the pool is a descriptor here.
void raise_descriptor_limit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Result<policy::Policy> read_policy(const std::string& path) {
  auto checked = BAILEY_TRY(policy::check_file(path, parse_context()));
  if (checked.ok()) return std::move(*checked.policy);
  std::string text;
  for (const policy::Diagnostic& diagnostic : checked.diagnostics) text += diagnostic.to_string() + "\n";
  text.pop_back();
  return fail(Code::invalid_argument, By::broker, text, "bailey policy check tells the same");
}

Result<medium::Place> place_of(const policy::MediumSpec& spec) {
  medium::Place place;
  place.numa = spec.numa;
  switch (spec.kind) {
    case policy::MediumKind::memory:
      break;
    case policy::MediumKind::hugepages:
      place.kind = medium::Kind::hugepages;
      break;
    case policy::MediumKind::file:
      place.kind = medium::Kind::file;
      place.folder = spec.path;
      BAILEY_TRY(own_folder(spec.path));
      break;
  }
  return place;
}

// The key of a pool in files has to be kept, and elsewhere than what it keeps.
std::string why_root_ends(const std::string& key_file, const std::string& folder) {
  if (key_file.empty()) return "the broker has a key for its own life alone";
  std::error_code ignored;
  const auto key = std::filesystem::weakly_canonical(key_file, ignored);
  const auto pool = std::filesystem::weakly_canonical(folder, ignored);
  const auto from_pool = key.lexically_relative(pool);
  const bool inside = !from_pool.empty() && *from_pool.begin() != "..";
  return inside ? "the broker's key lies in the pool's own folder" : std::string();
}

}  // namespace

Status serve_until_stopped(const ServeOptions& options) {
  BAILEY_TRY(check_own_uid(!options.key_file.empty()));
  // Before there is a secret, and while this process may still open its own oom_score_adj.
  medium::Allocator allocator = BAILEY_TRY(medium::Allocator::start());
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return fail_os(errno, "could not make the broker non-dumpable");
  raise_descriptor_limit();
  policy::Policy policy = BAILEY_TRY(read_policy(options.policy_file));
  crypto::SecretKey key = BAILEY_TRY(options.key_file.empty() ? crypto::SecretKey::generate()
                                                              : crypto::read_secret_key(options.key_file));
  crypto::Secret seed = BAILEY_TRY(key.seed());
  crypto::Secret root = BAILEY_TRY(crypto::derive(seed.span(), "bailey root 1"));
  seed.reset();
  std::string path = options.socket_path.empty() ? protocol::default_socket_path() : options.socket_path;
  // First of all that it makes: the lock that says that nobody else serves here.
  protocol::Listener listener = BAILEY_TRY(protocol::Listener::bind(path));

  Setup setup;
  setup.place = BAILEY_TRY(place_of(policy.medium));
  setup.durable = setup.place.kind == medium::Kind::file;
  std::string folder = setup.durable ? setup.place.folder : path + ".state";
  BAILEY_TRY(own_folder(folder));
  const std::string root_ends = setup.durable ? why_root_ends(options.key_file, folder) : std::string();
  Fd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || !lock_file(lock.get()))
    return fail(Code::busy, By::broker, fmt::format("another broker serves the pool in {}", folder),
                "stop it first, or name another pool");
  setup.state_path = folder + "/state.db";
  setup.audit_path = options.audit_file.empty() ? folder + "/audit.log" : options.audit_file;
  setup.policy_file = options.policy_file;
  setup.keeper = ::getpid();

  Id unknown{};
  std::uint32_t start = 0;  // so that a value of before is not met again
  random_bytes(&start, sizeof start);
  ControlPage control = BAILEY_TRY(ControlPage::create(allocator, unknown, start));
  setup.listener = &listener;
  setup.control = &control;
  setup.key = &key;
  setup.root = &root;
  setup.root_ends = root_ends;
  setup.allocator = &allocator;
  setup.pool_lock = &lock;

  Running running;
  running.socket_path = path;
  running.pool = policy.pool;
  running.broker_key = crypto::public_key_text(key.public_key());
  running.audit_path = setup.audit_path;
  running.keeper = setup.keeper;
  auto remove_state = [&] {
    for (const char* name : {"state.db", "state.db-wal", "state.db-shm", "state.db-journal"})
      ::unlink((folder + "/" + name).c_str());
  };
  // The state of a pool in memory is worth nothing without the memory.
  if (!setup.durable) remove_state();
  Status served = Keeper(setup, options, std::move(running)).run();
  if (!setup.durable) {
    remove_state();
    ::unlink((folder + "/audit.log").c_str());
    ::unlink((folder + "/audit.log.1").c_str());
    ::rmdir(folder.c_str());
  }
  return served;
}

}  // namespace bailey::broker
