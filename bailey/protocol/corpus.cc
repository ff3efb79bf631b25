// protocol_corpus FOLDER: writes each sample as a file into FOLDER/protocol_request_fuzz and
// FOLDER/protocol_reply_fuzz. What is in corpus/ came from it.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "bailey/protocol/codec.h"
#include "bailey/protocol/samples.h"

int main(int count, char** arguments) {
  using namespace bailey::protocol;
  if (count != 2) {
    std::fprintf(stderr, "usage: protocol_corpus FOLDER\n");
    return 2;
  }
  std::filesystem::path folder = arguments[1];
  auto write = [](const std::filesystem::path& path, const bailey::Result<std::string>& bytes) {
    std::ofstream file(path, std::ios::binary);
    if (bytes) file << *bytes;
    file.close();
    if (bytes && file) return true;
    std::fprintf(stderr, "protocol_corpus: could not write %s\n", path.c_str());
    return false;
  };
  bool good = true;
  std::filesystem::create_directories(folder / "protocol_request_fuzz");
  for (const Request& request : sample_requests())
    good = write(folder / "protocol_request_fuzz" / name(request.body), encode(request)) && good;
  std::filesystem::create_directories(folder / "protocol_reply_fuzz");
  for (const Reply& reply : sample_replies())
    good = write(folder / "protocol_reply_fuzz" / name(reply.answer), encode(reply)) && good;
  return good ? 0 : 1;
}
