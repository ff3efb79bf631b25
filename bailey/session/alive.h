// A word that tells a process from its forked children.
//
// It lies on a private page that the kernel wipes in a child (MADV_WIPEONFORK), so reading it is one load,
// whoever forked and however (fork, clone, posix_spawn's helper). vfork and threads share the page, as they
// share the rest.
//
// Thread safety: any thread may read, one may change.
#pragma once

#include <cstdint>

#include "bailey/base/error.h"

namespace bailey::session {

class Alive {
 public:
  // Error unsupported: the kernel is older than 4.14.
  static Result<Alive> create();
  Alive(Alive&& other) noexcept;
  Alive& operator=(Alive&&) = delete;
  ~Alive();

  // Valid while the object lives. 0: not this process's, or ended.
  const std::uint64_t* word() const { return &page_->alive; }
  bool alive() const { return __atomic_load_n(&page_->alive, __ATOMIC_RELAXED) != 0; }
  // Whether this process is the one that created it, ended or not.
  bool own_process() const { return __atomic_load_n(&page_->own_process, __ATOMIC_RELAXED) != 0; }
  // From now on alive() is false.
  void end() { __atomic_store_n(&page_->alive, 0, __ATOMIC_RELAXED); }

 private:
  struct Page {
    std::uint64_t alive;
    std::uint64_t own_process;
  };
  explicit Alive(Page* page) : page_(page) {}
  Page* page_;
};

}  // namespace bailey::session
