#include "bailey/broker/audit.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"

namespace bailey::broker {
namespace {

constexpr std::size_t text_bytes_max = 256;

std::string now_text() {
  std::uint64_t now = wall_ns();
  auto seconds = static_cast<std::time_t>(now / 1'000'000'000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds), now / 1'000'000 % 1000);
}

}  // namespace

Result<Audit> Audit::open(const std::string& path) {
  Audit audit;
  audit.path_ = path;
  audit.file_ = Fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!audit.file_) return fail_os(errno, fmt::format("could not open the audit log {}", path));
  return audit;
}

void Audit::event(const char* name, nlohmann::json fields) {
  nlohmann::ordered_json line{{"time", now_text()}, {"event", name}};
  for (auto& [key, value] : fields.items()) line[key] = std::move(value);
  // Bytes that are no UTF-8 are replaced: a line is always JSON.
  write(line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n");
}

bool Audit::denial(Denial denial) {
  denial.region.resize(std::min(denial.region.size(), text_bytes_max));
  denial.reason.resize(std::min(denial.reason.size(), text_bytes_max));
  if (denials_.size() >= kinds_max && !denials_.contains(denial)) denial = {"(others)", "", "(various)"};
  Count& count = denials_[denial];
  ++count.unwritten;
  ++count.total;
  return !std::exchange(pending_, true);
}

void Audit::flush() {
  if (!std::exchange(pending_, false)) return;
  for (auto& [denial, count] : denials_) {
    if (count.unwritten == 0) continue;
    event("denied", {{"who", denial.who},
                     {"region", denial.region},
                     {"reason", denial.reason},
                     {"count", count.unwritten}});
    count.unwritten = 0;
  }
}

nlohmann::json Audit::denials() const {
  auto list = nlohmann::json::array();
  for (const auto& [denial, count] : denials_)
    list.push_back(
        {{"who", denial.who}, {"region", denial.region}, {"reason", denial.reason}, {"count", count.total}});
  return list;
}

void Audit::write(const std::string& line) {
  struct stat about;
  if (::fstat(file_.get(), &about) == 0 && static_cast<std::uint64_t>(about.st_size) > file_bytes_max &&
      ::rename(path_.c_str(), (path_ + ".1").c_str()) == 0) {
    Fd fresh(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fresh) file_ = std::move(fresh);
  }
  if (::write(file_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    log::error("audit", "a line could not be written to {}: {}", path_, line);
}

}  // namespace bailey::broker
