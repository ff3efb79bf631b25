// The folder of a demo: the policy that ships with Bailey, and a new key pair for each principal of it.
//
// Secret keys have mode 0600 and belong to the user who runs the demo. The folder is removed, with all that
// is in it, by the process that made it when the object goes.
//
// Process safety: a folder is locked while its maker lives; one that a dead maker left is replaced.
#pragma once

#include <sys/types.h>

#include <array>
#include <string>
#include <string_view>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::demo {

inline constexpr std::array<const char*, 3> principals = {"alice", "bob", "mallory"};

class Folder {
 public:
  // FOLDER-OF-SOCKET/demo. Makes the socket's folder where it is missing. Errors: busy (another demo lives
  // there), denied (somebody else's), io.
  static Result<Folder> beside_socket(const std::string& socket_path);
  // A new private place for a demo that needs no name: /tmp/bailey-demo-XXXXXX, with demo/ in it.
  // Its orders expect `records`, so that the index is sized for them as the baselines' are.
  static Result<Folder> temporary(std::uint64_t records);

  Folder(Folder&& other) noexcept;
  Folder& operator=(Folder&&) = delete;
  ~Folder();

  std::string policy_file() const { return path_ + "/policy.toml"; }
  std::string key_file(std::string_view principal) const { return path_ + "/" + std::string(principal); }
  // For the socket of the demo's broker: the folder above.
  const std::string& runtime() const { return runtime_; }
  // From now on this process, a forked child of the maker, removes it too.
  void take_over();

 private:
  Folder() = default;
  static Result<Folder> make(std::string runtime, bool made_runtime, std::string_view policy);
  Status fill(std::string_view policy);

  std::string runtime_;
  std::string path_;
  bool made_runtime_ = false;
  bool whole_runtime_ = false;  // nobody else has anything in it
  Fd lock_;
  pid_t owner_ = 0;
};

}  // namespace bailey::demo
