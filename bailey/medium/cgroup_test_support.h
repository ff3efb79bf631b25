// A cgroup with a memory limit, for tests of shortage. Needs root and a writable hierarchy; says why where it
// can't.
#pragma once

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

namespace bailey::medium {

class LimitedCgroup {
 public:
  explicit LimitedCgroup(std::uint64_t bytes) {
    struct stat about;
    for (bool v2 : {false, true}) {
      std::string mount = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
      std::string probe = mount + (v2 ? "/cgroup.controllers" : "/memory.limit_in_bytes");
      if (::stat(probe.c_str(), &about) != 0) continue;
      if (v2) std::ofstream(mount + "/cgroup.subtree_control") << "+memory";
      folder_ = fmt::format("{}/bailey-test-{}", mount, ::getpid());
      if (::mkdir(folder_.c_str(), 0755) != 0) {
        why_not_ = fmt::format("no cgroup can be made in {}: needs root", mount);
        folder_.clear();
        return;
      }
      std::ofstream limit(folder_ + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
      limit << bytes << std::flush;
      if (!limit) {
        why_not_ = fmt::format("{} takes no memory limit", folder_);
        ::rmdir(folder_.c_str());
        folder_.clear();
      }
      return;
    }
    why_not_ = "no cgroup hierarchy with memory limits is mounted at /sys/fs/cgroup";
  }
  LimitedCgroup(const LimitedCgroup&) = delete;
  ~LimitedCgroup() {
    if (!folder_.empty()) ::rmdir(folder_.c_str());
  }

  const std::string& why_not() const { return why_not_; }  // empty: it is there
  // For a forked child: from now on it and its children live in the cgroup.
  bool enter() const {
    std::ofstream procs(folder_ + "/cgroup.procs");
    procs << ::getpid() << std::flush;
    return static_cast<bool>(procs);
  }

 private:
  std::string folder_;
  std::string why_not_;
};

}  // namespace bailey::medium
