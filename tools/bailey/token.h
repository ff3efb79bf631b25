// Tokens as the command reads them: from a file or from standard input, never from the command line, which
// everybody on the machine can read.
#pragma once

#include <CLI/App.hpp>
#include <optional>
#include <string>

#include "bailey/session/session.h"

namespace bailey::tools {

// The token in a file, or on standard input where `path` is "-": its text and one end of line at most.
Result<Token> read_token(const std::string& path);
// Nothing where no path was given.
Result<std::optional<Token>> read_token_if(const std::string& path);

void add_token_option(CLI::App* command, std::string& path);

}  // namespace bailey::tools
