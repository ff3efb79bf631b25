// Runs attacks and judges what came of them.
//
// Process safety: forks; for a program with one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attack/attack.h"

namespace bailey::attack {

enum class Verdict : std::uint8_t {
  stopped,            // as expected
  stopped_otherwise,  // by something else than on the machines that the suite was written on
  known,              // it gets through on this rung, as the threat model says
  known_stopped,      // and here it does not
  canary,             // it gets through where nothing protects
  skipped,
  // What follows is wrong.
  got_through,  // though it should be stopped
  blind,        // a canary was not seen to get through: the suite would see no success
  broken        // the set-up failed, or took too long
};
std::string_view name(Verdict verdict);
inline bool is_wrong(Verdict verdict) { return verdict >= Verdict::got_through; }

Verdict judge(const Attack& attack, const Came& came);

struct Outcome {
  const Attack* attack = nullptr;
  Came came;
  Verdict verdict = Verdict::broken;
  std::uint64_t ns = 0;
};

// Empty, or why who runs this can't set up what most attacks need: brokers that sessions believe, and, as
// root, attackers of other uids.
std::string why_no_stage();

class Suite {
 public:
  // `no_stage`: why_no_stage(). What can't be set up then is skipped with it, and is not broken.
  explicit Suite(std::string no_stage = why_no_stage());
  ~Suite();
  // In a stage of its own.
  Outcome run(const Attack& attack);

 private:
  std::string no_stage_;
  std::string folder_;
  std::unique_ptr<Courtyard> courtyard_;  // from the first attack that asks for it
  unsigned runs_ = 0;
};

// The attacks whose name is one of these or begins with it and a slash; all where there are none. A name that
// fits nothing is put into `unknown`.
std::vector<const Attack*> select(const Attacks& attacks, const std::vector<std::string>& names,
                                  std::string& unknown);

}  // namespace bailey::attack
