// Wild<T>: a value that another party wrote.
//
// Whatever is read from memory or a message that somebody else can write is Wild until a named check makes it
// tame; the compiler finds an unchecked use. A Wild holds a copy: what was checked is what is used, the
// source is never fetched twice.
#pragma once

#include <concepts>
#include <optional>

namespace bailey {

template <class T>
class Wild {
 public:
  constexpr Wild() = default;
  explicit constexpr Wild(T value) : value_(value) {}

  // The value where value < bound, else nothing.
  [[nodiscard]] constexpr std::optional<T> below(T bound) const
    requires std::totally_ordered<T>
  {
    return value_ < bound ? std::optional<T>(value_) : std::nullopt;
  }
  // The value where low <= value <= high, else nothing.
  [[nodiscard]] constexpr std::optional<T> within(T low, T high) const
    requires std::totally_ordered<T>
  {
    return low <= value_ && value_ <= high ? std::optional<T>(value_) : std::nullopt;
  }
  // Whether it is exactly what was expected.
  [[nodiscard]] constexpr bool is(const T& expected) const { return value_ == expected; }
  // The value where `check(value)`, else nothing.
  template <std::predicate<const T&> Check>
  [[nodiscard]] constexpr std::optional<T> where(Check&& check) const {
    return check(value_) ? std::optional<T>(value_) : std::nullopt;
  }
  // For the code that is itself the check. Everywhere else this is a defect.
  [[nodiscard]] constexpr T unsafe_value() const { return value_; }

 private:
  T value_{};
};

}  // namespace bailey
