// The agent of `bailey exec --strict` in the new program: an audit module that ld.so loads before anything of
// the program's own (rtld-audit(7)).
//
// la_version, before a library of the program is mapped: the process becomes non-dumpable; the usher hears
// so. la_preinit, before the first constructor: every executable page is replaced by a private copy that was
// looked through, so that nobody changes the code by writing its file; then the lock is shut. Code stays
// where it was looked at: pages that are moved beside each other could make up an instruction over their
// border.
//
// Whatever goes wrong ends the process. Freestanding: it has no C library, which would be one more to look
// at. One thread.
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "bailey/guard/scan.h"
#include "bailey/guard/strict_layout.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

using namespace bailey::guard;

namespace {

constexpr std::size_t maps_bytes = 4u << 20;
constexpr std::size_t codes_max = 4096;
constexpr std::uintptr_t user_end = std::uintptr_t{1} << 47;

long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}
bool failed(long result) { return result < 0 && result > -4096; }
long of(const void* at) { return reinterpret_cast<long>(at); }

std::size_t length(const char* text) {
  std::size_t bytes = 0;
  while (text[bytes] != 0) ++bytes;
  return bytes;
}
void tell(const char* text) { call(SYS_write, 2, of(text), static_cast<long>(length(text))); }
void tell_hex(std::uintptr_t value) {
  char digits[2 + 16 + 1] = "0x";
  int wide = 1;
  while (wide < 16 && value >> 4 * wide != 0) ++wide;
  for (int i = 0; i < wide; ++i) digits[2 + i] = "0123456789abcdef"[value >> 4 * (wide - 1 - i) & 15];
  digits[2 + wide] = 0;
  tell(digits);
}
[[noreturn]] void end() {
  for (;;) call(SYS_exit_group, exit_not_begun);
}
[[noreturn]] void end(const char* why) {
  tell("bailey exec: ");
  tell(why);
  tell("\n");
  end();
}

// A line of /proc/self/maps with x among its rights.
struct Code {
  std::uintptr_t begin, end;
  std::uintptr_t offset;  // in its file
  bool readable, writable, shared, file;
  const char* name;  // ends with the line
};

bool named(const Code& code, const char* name) {
  std::size_t i = 0;
  while (name[i] != 0 && code.name[i] == name[i]) ++i;
  return name[i] == 0 && code.name[i] == '\n';
}
void tell_name(const Code& code) {
  std::size_t bytes = 0;
  while (code.name[bytes] != '\n') ++bytes;
  if (bytes == 0)
    tell("anonymous memory");
  else
    call(SYS_write, 2, of(code.name), static_cast<long>(bytes));
}
[[noreturn]] void end(const Code& code, const char* why) {
  tell("bailey exec: ");
  tell_name(code);
  tell(" ");
  tell(why);
  tell("\n");
  end();
}

struct Codes {
  char text[maps_bytes];
  Code all[codes_max];
  std::size_t count;

  void read();
};

std::uintptr_t hex(const char*& at) {
  std::uintptr_t value = 0;
  for (;; ++at) {
    if (*at >= '0' && *at <= '9')
      value = value << 4 | static_cast<std::uintptr_t>(*at - '0');
    else if (*at >= 'a' && *at <= 'f')
      value = value << 4 | static_cast<std::uintptr_t>(*at - 'a' + 10);
    else
      return value;
  }
}

void Codes::read() {
  const long fd = call(SYS_openat, AT_FDCWD, of("/proc/self/maps"), O_RDONLY | O_CLOEXEC);
  if (failed(fd)) end("can't read /proc/self/maps");
  std::size_t bytes = 0;
  for (;;) {
    if (bytes == maps_bytes - 1) end("the program has too many mappings");
    const long got = call(SYS_read, fd, of(text + bytes), static_cast<long>(maps_bytes - 1 - bytes));
    if (failed(got)) end("can't read /proc/self/maps");
    if (got == 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  call(SYS_close, fd);
  text[bytes] = 0;

  // begin-end rwxp offset device inode   name
  count = 0;
  for (const char* at = text; *at != 0; ++at) {
    Code code{};
    code.begin = hex(at);
    ++at;
    code.end = hex(at);
    ++at;
    const char* const rights = at;
    at += 5;
    code.offset = hex(at);
    ++at;
    while (*at != ' ') ++at;
    ++at;
    code.file = *at != '0';
    while (*at != ' ' && *at != '\n') ++at;
    while (*at == ' ') ++at;
    code.name = at;
    while (*at != '\n') ++at;
    if (rights[2] != 'x') continue;
    code.readable = rights[0] == 'r';
    code.writable = rights[1] == 'w';
    code.shared = rights[3] == 's';
    if (count == codes_max) end("the program has too many mappings with code");
    all[count++] = code;
  }
}

// The kernel's own pages: nobody else can write them, and the place of each is its own.
bool is_kernels(const Code& code) { return code.begin >= user_end || named(code, "[vdso]"); }

[[noreturn]] void refuse(const Code& code, const Found& found, std::uintptr_t at) {
  tell("bailey exec: ");
  tell_name(code);
  tell(found.what == Switch::wrpkru ? " has the bytes of WRPKRU at offset "
                                    : " has the bytes of XRSTOR at offset ");
  tell_hex(code.offset + (at - code.begin));
  tell(
      ", so whoever jumps there changes the rights of protection keys: refused\n"
      "  what to do: build this file in another way or of another version, so that these bytes don't "
      "occur\n");
  end();
}

const Code& holder(const Code* codes, std::size_t count, std::uintptr_t at) {
  std::size_t i = 0;
  while (i + 1 < count && codes[i].end <= at) ++i;
  return codes[i];
}

// Where calls go whose own bytes must not be: `jmp [rip]` and the address, near the code that they are called
// from.
class Detours {
 public:
  // Makes the call that the found bytes are the distance of take a detour, so that it has another distance.
  // False where they are no such thing. A call is known by its opcode and by where it leads: to where a
  // function can begin, in the same code. `copy` is of the code that lies at `begin`.
  bool mend(unsigned char* copy, std::size_t bytes, std::uintptr_t begin, const Found& found) {
    for (std::size_t back = 1; back <= 2 && back <= found.at; ++back) {
      const std::size_t opcode = found.at - back, next = opcode + call_bytes;
      if (copy[opcode] != 0xe8 || next > bytes) continue;
      std::int32_t distance;
      move(&distance, copy + opcode + 1, sizeof distance);
      const std::uintptr_t target = begin + next + static_cast<std::uintptr_t>(std::intptr_t{distance});
      if (target < begin || target >= begin + bytes || target % function_alignment != 0) continue;
      if (at_ == nullptr) map_near(begin);
      while (used_ < page_bytes) {
        unsigned char* const slot = at_ + used_;
        used_ += slot_bytes;
        distance = static_cast<std::int32_t>(reinterpret_cast<std::uintptr_t>(slot) - (begin + next));
        move(copy + opcode + 1, &distance, sizeof distance);
        const std::size_t from = opcode < 2 ? 0 : opcode - 2, to = next + 2 < bytes ? next + 2 : bytes;
        if (next_switch(copy + from, to - from, 0).what != Switch::none) continue;
        slot[0] = 0xff;
        slot[1] = 0x25;  // and four bytes of 0: what follows
        move(slot + 6, &target, sizeof target);
        if (next_switch(at_, page_bytes, 0).what == Switch::none) return true;
        for (std::size_t i = 0; i < slot_bytes; ++i) slot[i] = 0;
      }
      return false;
    }
    return false;
  }
  void make_code() {
    if (at_ != nullptr && failed(call(SYS_mprotect, of(at_), page_bytes, PROT_READ | PROT_EXEC)))
      end("can't make detours of calls");
  }

 private:
  static constexpr std::size_t call_bytes = 5, slot_bytes = 16, page_bytes = 4096, function_alignment = 16;
  static constexpr std::uintptr_t step = 64 << 10, farthest = 512 << 20;

  static void move(void* to, const void* from, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      static_cast<unsigned char*>(to)[i] = static_cast<const unsigned char*>(from)[i];
  }
  // Below, where no heap grows.
  void map_near(std::uintptr_t begin) {
    for (std::uintptr_t down = step; down <= farthest && down < begin; down += step) {
      const long got = call(SYS_mmap, static_cast<long>((begin - down) & ~(page_bytes - 1)), page_bytes,
                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
      if (failed(got)) continue;
      at_ = reinterpret_cast<unsigned char*>(got);
      return;
    }
    end("no room for detours of calls");
  }

  unsigned char* at_ = nullptr;
  std::size_t used_ = 0;
};

// `codes` lie one right behind the other.
void copy_and_look(const Code* codes, std::size_t count) {
  const std::uintptr_t begin = codes[0].begin;
  const std::size_t bytes = codes[count - 1].end - begin;
  const long got =
      call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (failed(got)) end(codes[0], "can't be copied: out of memory");
  auto* const copy = reinterpret_cast<unsigned char*>(got);
  const auto* const code = reinterpret_cast<const unsigned char*>(begin);
  // By the compiler's leave byte for byte; `rep movsb` is what it would make of it.
  {
    auto* to = copy;
    const auto* from = code;
    std::size_t left = bytes;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(left) : : "memory");
  }
  Detours detours;
  for (Found found{}; (found = next_switch(copy, bytes, found.at)).what != Switch::none; ++found.at) {
    if (found.known == Known::no) {
      if (!detours.mend(copy, bytes, begin, found))
        refuse(holder(codes, count, begin + found.at), found, begin + found.at);
    } else if (found.known != Known::gate) {
      disarm(copy, found);
    }
  }
  detours.make_code();
  if (failed(call(SYS_mprotect, got, static_cast<long>(bytes), PROT_READ | PROT_EXEC)) ||
      failed(call(SYS_mremap, got, static_cast<long>(bytes), static_cast<long>(bytes),
                  MREMAP_MAYMOVE | MREMAP_FIXED, static_cast<long>(begin))))
    end(codes[0], "can't be replaced by a copy");
}

void look_only(const Code& code) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(code.begin);
  if (const Found found = next_switch(bytes, code.end - code.begin, 0); found.what != Switch::none)
    refuse(code, found, code.begin + found.at);
}

void replace_all(Codes& codes) {
  codes.read();
  for (std::size_t i = 0; i < codes.count;) {
    const Code& code = codes.all[i];
    if (is_kernels(code)) {
      if (code.readable) look_only(code);
      ++i;
      continue;
    }
    std::size_t end_of_run = i;
    do {
      const Code& one = codes.all[end_of_run];
      if (one.writable) end(one, "is writable and executable: refused");
      if (!one.readable || one.shared) end(one, "has code that is not readable, or shared: refused");
      ++end_of_run;
    } while (end_of_run < codes.count && codes.all[end_of_run].begin == codes.all[end_of_run - 1].end &&
             !is_kernels(codes.all[end_of_run]));
    copy_and_look(codes.all + i, end_of_run - i);
    i = end_of_run;
  }
  codes.read();
  for (std::size_t i = 0; i < codes.count; ++i)
    if (!is_kernels(codes.all[i]) && (codes.all[i].file || codes.all[i].writable || codes.all[i].shared))
      end(codes.all[i], "came while the code was looked through: refused");
}

constexpr std::uint32_t low(std::uintptr_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high(std::uintptr_t value) { return static_cast<std::uint32_t>(value >> 32); }

void add_filter(sock_filter* filter, std::size_t count) {
  const sock_fprog program{static_cast<unsigned short>(count), filter};
  if (failed(call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, of(&program))))
    end("can't shut the lock (seccomp)");
}

// mremap(2) moves no byte of code: whatever its old address, what it takes meets none of these mappings. (An
// old length of 0 takes nothing: it is for shared mappings, which code never is.)
//
// Made here, of the machine's own instructions: libseccomp's rules can't add, and one call can take what lies
// above its address, several mappings of it (from Linux 6.17 on).
class MoveFilter {
 public:
  // As many as are surely not too long a filter; where there are more, there are more filters.
  static constexpr std::size_t codes_a_filter = 256;

  MoveFilter(const Code* codes, std::size_t count) {
    load(offsetof(seccomp_data, nr));
    jump(BPF_JEQ, SYS_mremap, 1, 0);
    allow();
    load(argument(1) + 4);
    store(length_high);
    jump(BPF_JGE, high(user_end), 0, 1);  // no mapping is as long, and sums stay sums
    refuse();
    load(argument(0) + 4);
    store(begin_high);
    add(length_high);
    store(end_high);
    load(argument(1));
    store(length_low);
    load(argument(0));
    store(begin_low);
    add(length_low);
    store(end_low);
    put(BPF_LDX | BPF_MEM, begin_low);
    put(BPF_JMP | BPF_JGE | BPF_X, 0, 3, 0);  // no carry
    put(BPF_LD | BPF_MEM, end_high);
    put(BPF_ALU | BPF_ADD | BPF_K, 1);
    store(end_high);
    for (std::size_t i = 0; i < count; ++i) compare(codes[i]);
    allow();
  }
  void add_to_process() { add_filter(filter_, count_); }

 private:
  static constexpr std::size_t head = 25, each = 11;
  static_assert(head + codes_a_filter * each <= BPF_MAXINSNS);
  enum Word : std::uint32_t { begin_low, begin_high, length_low, length_high, end_low, end_high };

  static constexpr std::uint32_t argument(std::uint32_t number) {
    return offsetof(seccomp_data, args) + 8 * number;
  }
  void put(unsigned operation, std::uint32_t value, unsigned char yes = 0, unsigned char no = 0) {
    filter_[count_++] = {static_cast<std::uint16_t>(operation), yes, no, value};
  }
  void load(std::uint32_t offset) { put(BPF_LD | BPF_W | BPF_ABS, offset); }
  void store(Word word) { put(BPF_ST, word); }
  void add(Word word) {
    put(BPF_LDX | BPF_MEM, word);
    put(BPF_ALU | BPF_ADD | BPF_X, 0);
  }
  // How many of the next instructions are left out.
  void jump(unsigned how, std::uint32_t value, unsigned char yes, unsigned char no) {
    put(BPF_JMP | how | BPF_K, value, yes, no);
  }
  void allow() { put(BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }
  void refuse() { put(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM); }

  // Refuses where begin < code.end and end > code.begin.
  void compare(const Code& code) {
    const std::size_t first = count_, refusal = each - 1, next = each;
    auto to = [&](std::size_t target) { return static_cast<unsigned char>(first + target - count_ - 1); };
    put(BPF_LD | BPF_MEM, begin_high);
    jump(BPF_JGT, high(code.end), to(next), 0);
    jump(BPF_JEQ, high(code.end), 0, to(5));
    put(BPF_LD | BPF_MEM, begin_low);
    jump(BPF_JGE, low(code.end), to(next), 0);
    put(BPF_LD | BPF_MEM, end_high);
    jump(BPF_JGT, high(code.begin), to(refusal), 0);
    jump(BPF_JEQ, high(code.begin), 0, to(next));
    put(BPF_LD | BPF_MEM, end_low);
    jump(BPF_JGT, low(code.begin), to(refusal), to(next));
    refuse();
  }

  sock_filter filter_[head + codes_a_filter * each];
  std::size_t count_ = 0;
};

void hold_in_place(const Codes& codes) {
  for (std::size_t i = 0; i < codes.count; i += MoveFilter::codes_a_filter) {
    const std::size_t left = codes.count - i;
    MoveFilter(codes.all + i, left < MoveFilter::codes_a_filter ? left : MoveFilter::codes_a_filter)
        .add_to_process();
  }
}

void shut_the_lock() {
  // Kernels before 6.3 don't know it; the filter says the same.
  call(SYS_prctl, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN);
  static sock_filter filter[BPF_MAXINSNS];
  const long bytes = call(SYS_pread64, lock_filter_fd, of(filter), sizeof filter);
  if (failed(bytes) || bytes == 0 || static_cast<std::size_t>(bytes) % sizeof filter[0] != 0)
    end("can't read the filter of the lock");
  add_filter(filter, static_cast<std::size_t>(bytes) / sizeof filter[0]);
  for (int fd : {agent_fd, lock_filter_fd, usher_fd}) call(SYS_close, fd);
}

bool locked = false, told_late = false;
std::int32_t usher = 0;

}  // namespace

extern "C" {

[[gnu::visibility("default")]] unsigned la_version(unsigned newest) {
  if (failed(call(SYS_prctl, PR_SET_DUMPABLE, 0))) end("can't become non-dumpable");
  if (call(SYS_write, usher_fd, of(&agent_hello), 1) != 1 ||
      call(SYS_read, usher_fd, of(&usher), sizeof usher) != sizeof usher)
    end("the usher is gone");
  // A version that ld.so does not know would make it leave us out.
  return newest < LAV_CURRENT ? newest : LAV_CURRENT;
}

[[gnu::visibility("default")]] void la_preinit(std::uintptr_t*) {
  const long got = call(SYS_mmap, 0, sizeof(Codes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (failed(got)) end("out of memory");
  Codes& codes = *reinterpret_cast<Codes*>(got);
  replace_all(codes);
  hold_in_place(codes);
  call(SYS_munmap, got, sizeof(Codes));
  shut_the_lock();
  // The program is not to meet a child that it does not know.
  call(SYS_wait4, usher, 0, __WALL);
  locked = true;
}

// ld.so's own words for a refused mapping don't say why.
[[gnu::visibility("default")]] char* la_objsearch(const char* name, std::uintptr_t*, unsigned why) {
  if (locked && !told_late && why == LA_SER_ORIG) {
    told_late = true;
    tell("bailey exec: ");
    tell(name);
    tell(
        " is asked for after the start: unless it is loaded already its code is refused\n"
        "  what to do: name the file with --preload: bailey exec --strict --preload FILE -- PROGRAM ...\n");
  }
  return const_cast<char*>(name);
}
}
