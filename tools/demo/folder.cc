#include "tools/demo/folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "bailey/crypto/key_file.h"
#include "tools/demo/embedded.h"

namespace bailey::demo {

Folder::Folder(Folder&& other) noexcept
    : runtime_(std::move(other.runtime_)),
      path_(std::move(other.path_)),
      made_runtime_(other.made_runtime_),
      whole_runtime_(other.whole_runtime_),
      lock_(std::move(other.lock_)),
      owner_(std::exchange(other.owner_, 0)) {}

Folder::~Folder() {
  if (owner_ != ::getpid()) return;
  std::error_code ignored;
  std::filesystem::remove_all(whole_runtime_ ? runtime_ : path_, ignored);
  if (made_runtime_) ::rmdir(runtime_.c_str());
}

void Folder::take_over() { owner_ = ::getpid(); }

Result<Folder> Folder::beside_socket(const std::string& socket_path) {
  const std::size_t slash = socket_path.rfind('/');
  const std::string runtime = slash == std::string::npos ? "."
                              : slash == 0               ? "/"
                                                         : socket_path.substr(0, slash);
  const bool made = ::mkdir(runtime.c_str(), 0755) == 0;
  if (!made && errno != EEXIST)
    return fail_os(errno, fmt::format("could not make the socket's folder {}", runtime));
  return make(runtime, made, embedded_policy);
}

Result<Folder> Folder::temporary(std::uint64_t records) {
  constexpr std::string_view silent = "# records = 200000";
  std::string policy(embedded_policy);
  const std::size_t at = policy.find(silent);
  BAILEY_ASSERT(at != std::string::npos);
  policy.replace(at, silent.size(), fmt::format("records = {}", records));
  std::string runtime = "/tmp/bailey-demo-XXXXXX";
  if (::mkdtemp(runtime.data()) == nullptr) return fail_os(errno, "could not make a folder in /tmp");
  // Its principals are other users, who must find the socket.
  if (::chmod(runtime.c_str(), 0755) != 0) {
    const int os = errno;
    ::rmdir(runtime.c_str());
    return fail_os(os, fmt::format("could not open {} to others", runtime));
  }
  Folder folder = BAILEY_TRY(make(runtime, true, policy));
  folder.whole_runtime_ = true;
  return folder;
}

Result<Folder> Folder::make(std::string runtime, bool made_runtime, std::string_view policy) {
  Folder folder;
  folder.runtime_ = std::move(runtime);
  folder.made_runtime_ = made_runtime;
  folder.path_ = folder.runtime_ + "/demo";
  if (::mkdir(folder.path_.c_str(), 0755) != 0 && errno != EEXIST)
    return fail_os(errno, fmt::format("could not make {}", folder.path_));
  folder.lock_ = Fd(::open(folder.path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.lock_) return fail_os(errno, fmt::format("could not open {}", folder.path_));
  struct stat about;
  if (::fstat(folder.lock_.get(), &about) != 0 || about.st_uid != ::geteuid())
    return fail(Code::denied, By::library, fmt::format("{} belongs to somebody else", folder.path_),
                "give --socket PATH in a folder of your own");
  if (::flock(folder.lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Code::busy, By::library, fmt::format("another demo lives in {}", folder.path_),
                "stop it, or give --socket PATH in another folder");
  folder.owner_ = ::getpid();
  BAILEY_TRY(folder.fill(policy));
  return folder;
}

Status Folder::fill(std::string_view text) {
  std::error_code error;
  // What a demo left that was killed.
  for (const auto& entry : std::filesystem::directory_iterator(path_, error))
    std::filesystem::remove_all(entry.path(), error);
  for (const char* principal : principals) BAILEY_TRY(crypto::write_new_pair(key_file(principal)));
  std::ofstream policy(policy_file());
  policy << text;
  if (!policy.flush()) return fail_os(errno, fmt::format("could not write {}", policy_file()));
  return {};
}

}  // namespace bailey::demo
