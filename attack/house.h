// A whole Bailey to attack: keeper and broker in processes of their own, key pairs for three principals,
// sessions and bare clients. Everything that fails throws.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "attack/attacker.h"
#include "bailey/broker/bare_client.h"
#include "bailey/broker/in_child.h"
#include "bailey/crypto/key_file.h"
#include "bailey/session/session.h"

namespace bailey::attack {

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().to_string());
  return std::move(*result);
}
inline void must(const Status& status) {
  if (!status) throw std::runtime_error(status.error().to_string());
}
inline void must(bool good, const std::string& what) {
  if (!good) throw std::runtime_error("no " + what);
}

// Somebody whom the broker does not know by its uid, where there is a second one.
inline Attacker stranger() { return attacker_of(::geteuid() == 0 ? "other uid" : "same uid"); }

class House {
 public:
  // In an empty folder, which stays.
  explicit House(std::string folder) : folder_(std::move(folder)) {
    for (const char* who : {"alice", "bob", "mallory"}) {
      keys_.emplace(who, must(crypto::write_new_pair(key_file(who))));
      secrets_.emplace(who, must(crypto::read_secret_key(key_file(who))));
    }
  }

  std::string key_file(const std::string& who) const { return folder_ + "/" + who; }
  std::string socket() const { return folder_ + "/broker.sock"; }

  // The pool, who is who, and an admin whom nobody here is.
  std::string principals() const {
    std::string text = fmt::format(
        "[pool]\nname = \"house\"\nmedium = \"{}\"\n[broker]\nadmins = [\"user:4242\"]\n", medium);
    for (const auto& [who, key] : keys_)
      text += fmt::format("[principal.{}]\nidentity = [\"key:{}\"]\n", who, crypto::public_key_text(key));
    return text;
  }
  // One region "orders"; alice may write it, bob read it, mallory nothing. The last two are appended to each
  // grant and to the region.
  std::string policy(const std::string& mode, const std::string& size = "16MiB",
                     const std::string& of_grants = "", const std::string& of_region = "") const {
    return principals() + broker::region_toml("orders", mode, size, of_region, protect) +
           broker::grant_toml("alice", "orders", "rw", of_grants) +
           broker::grant_toml("bob", "orders", "r", of_grants);
  }
  // Under defended_uid().
  void serve(const std::string& text, unsigned seconds_most = 100, const std::string& key_file = {}) {
    std::ofstream(folder_ + "/policy.toml") << text;
    must(::chown(folder_.c_str(), defended_uid(), static_cast<gid_t>(-1)) == 0, "owner of the folder");
    broker::ServeOptions options;
    options.policy_file = folder_ + "/policy.toml";
    options.socket_path = socket();
    options.audit_file = folder_ + "/audit.log";
    options.key_file = key_file;
    broker::Served served(
        std::move(options),
        [] {
          if (!become(defended_uid())) ::_exit(97);
        },
        seconds_most);
    keeper_ = std::move(served.keeper);
    broker_ = served.broker;
    client("bob");  // what nobody could do before an attack is not stopped by it
  }

  Session session(const std::string& who) const {
    Options options;
    options.socket_path = socket();
    options.key_file = key_file(who);
    options.allow_dump = true;  // of the stage, which attacks nobody and is attacked by nobody
    return must(Session::connect(options));
  }
  const crypto::SecretKey* key(const std::string& who) const { return &secrets_.at(who); }
  broker::Client client(const std::string& who) const {
    return must(broker::Client::connect(socket(), key(who)));
  }

  std::string protect = "\"process\"";  // of the region that policy() has
  std::string medium = "memory:256MiB";

  pid_t keeper() const { return keeper_->pid; }
  pid_t broker() const { return broker_; }

 private:
  std::string folder_;
  std::map<std::string, crypto::PublicKey> keys_;
  std::map<std::string, crypto::SecretKey> secrets_;
  std::unique_ptr<broker::Process> keeper_;
  pid_t broker_ = 0;
};

}  // namespace bailey::attack
