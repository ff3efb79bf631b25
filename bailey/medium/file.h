// Files of a medium: where the bytes of segments, indexes and the control page live.
//
// What keeps a file from those who may only read it:
//   memory, hugepages   memfds with mode 0600, born without a name. Seals, which not even root can take off,
//   forbid
//                       every new way to write once the writer has mapped the file.
//   file                files of mode 0600 in a folder of mode 0700. They take no seals: others get
//   descriptors that
//                       were opened read-only, and the broker's uid and root are not held off.
//
// Thread and process safety: functions without shared state; descriptors are close-on-exec.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::medium {

inline constexpr std::uint64_t huge_page_bytes = 2u << 20;

enum class Kind : std::uint8_t { memory = 1, file = 2, hugepages = 3 };

struct Place {
  Kind kind = Kind::memory;
  std::string folder;                 // Kind::file only: absolute
  std::optional<std::uint32_t> numa;  // take memory from this node alone; not for Kind::file
  bool sealable() const { return kind != Kind::file; }
  // Sizes of files are multiples of this.
  std::uint64_t unit_bytes() const { return kind == Kind::hugepages ? huge_page_bytes : 4096; }
};

// What a file is for, which says how it is sealed.
enum class Purpose : std::uint8_t {
  segment,          // one writer for life: nobody else ever writes
  exclusive_index,  // likewise
  shared_index,     // several writers: the size is fixed, the contents are not
  control,          // the broker's own: mapped before it is sealed
};

// The seals that a file of a sealable medium has before anybody but its writer is given it.
int seals_wanted(Purpose purpose);

// A new file of `bytes` zeros, mode 0600, open for reading and writing. Nothing is allocated: see reserve.h.
// `name` is for /proc and, with Kind::file, the file's name in the folder, where it must not exist. Errors:
// invalid_argument (bytes not a multiple of the unit), unsupported, io.
Result<Fd> create_file(const Place& place, const std::string& name, std::uint64_t bytes);

// A file that create_file made in the folder of a Kind::file place, once more. Errors: corrupt where it is
// not a regular file of this user with mode 0600; io.
Result<Fd> open_file(const Place& place, const std::string& name);
// Removes the name of a file; memfds have none. Not an error where it is gone.
Status remove_file(const Place& place, const std::string& name);

// Seals for the purpose and looks whether it is so. Where the place takes no seals, nothing. Error: io with
// EBUSY where somebody has a writable mapping that the purpose forbids.
Status seal(const Place& place, int fd, Purpose purpose);
// Error corrupt, by kernel's word, where a seal is missing.
Status verify_seals(int fd, Purpose purpose);

// A descriptor of the same file that was opened for reading: it can't be mapped writable nor be made so.
Result<Fd> reopen_read_only(int fd);

}  // namespace bailey::medium
