#include "bailey/base/error.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bailey {

std::string_view name(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return "invalid argument";
    case Code::not_found:
      return "not found";
    case Code::exists:
      return "exists";
    case Code::version_mismatch:
      return "version mismatch";
    case Code::contended:
      return "contended";
    case Code::corrupt:
      return "corrupt";
    case Code::index_full:
      return "index full";
    case Code::no_space:
      return "no space";
    case Code::quota:
      return "quota exceeded";
    case Code::denied:
      return "denied";
    case Code::unavailable:
      return "broker away";
    case Code::revoked:
      return "revoked";
    case Code::unsupported:
      return "unsupported";
    case Code::incompatible:
      return "incompatible";
    case Code::timed_out:
      return "timed out";
    case Code::io:
      return "input/output error";
    case Code::closed:
      return "closed";
    case Code::forked:
      return "handle of the parent process";
    case Code::too_large:
      return "too large";
    case Code::unauthenticated:
      return "not authenticated";
    case Code::busy:
      return "busy";
  }
  return "unknown error";
}

std::string_view name(By by) {
  switch (by) {
    case By::library:
      return "library";
    case By::broker:
      return "broker";
    case By::kernel:
      return "kernel";
    case By::peer:
      return "peer";
  }
  return "unknown";
}

std::string Error::to_string() const {
  std::string text = message.empty() ? std::string(name(code)) : message;
  // Of a call that failed, errno's words say more than "input/output error".
  const bool call_failed = code == Code::io && os != 0;
  text += " [";
  text += call_failed ? std::string_view(std::strerror(os)) : name(code);
  text += ", by the ";
  text += name(by);
  if (os != 0 && !call_failed) {
    text += ": ";
    text += std::strerror(os);
  }
  text += "]";
  if (!remedy.empty()) {
    text += "\n  what to do: ";
    text += remedy;
  }
  return text;
}

std::unexpected<Error> fail_os(int os, std::string message, std::string remedy) {
  return std::unexpected(Error{Code::io, By::kernel, os, std::move(message), std::move(remedy)});
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "bailey: broken invariant: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace bailey
