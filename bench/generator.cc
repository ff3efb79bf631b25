#include "bench/generator.h"

#include <algorithm>
#include <cmath>

#include "bench/key.h"

namespace bailey::bench {
namespace {
double zeta_from(std::uint64_t first, std::uint64_t last) {
  double sum = 0;
  for (std::uint64_t i = first; i <= last; ++i) sum += 1 / std::pow(static_cast<double>(i), Zipfian::theta);
  return sum;
}
}  // namespace

Zipfian::Zipfian(std::uint64_t items) : Zipfian(items, zeta_from(1, items)) {}

Zipfian::Zipfian(std::uint64_t items, double zeta) : items_(items), zeta_(zeta) { derive(); }

void Zipfian::derive() {
  const double zeta_of_two = 1 + std::pow(0.5, theta);
  alpha_ = 1 / (1 - theta);
  eta_ = (1 - std::pow(2 / static_cast<double>(items_), 1 - theta)) / (1 - zeta_of_two / zeta_);
}

void Zipfian::grow(std::uint64_t items) {
  if (items <= items_) return;
  zeta_ += zeta_from(items_ + 1, items);
  items_ = items;
  derive();
}

std::uint64_t Zipfian::next(Random& random) const {
  const double u = random.unit();
  const double scaled = u * zeta_;
  if (scaled < 1) return 0;
  // With one or two items the general formula below divides by zero.
  if (items_ <= 2 || scaled < 1 + std::pow(0.5, theta)) return std::min<std::uint64_t>(1, items_ - 1);
  const double place = static_cast<double>(items_) * std::pow(eta_ * u - eta_ + 1, alpha_);
  return std::min(static_cast<std::uint64_t>(place), items_ - 1);
}

std::uint64_t ScrambledZipfian::next(Random& random) const {
  return fnv_hash64(zipfian_.next(random)) % items_;
}

}  // namespace bailey::bench
