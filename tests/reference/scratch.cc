#include "tests/reference/scratch.h"

#include <cstdlib>
#include <filesystem>

namespace tern {

ScratchFolder::ScratchFolder() {
  const char* root = std::getenv("TMPDIR");
  path_ = std::string(root && *root ? root : "/tmp") + "/tern-test-XXXXXX";
  if (!::mkdtemp(path_.data())) std::abort();  // a test without a folder to write into cannot say anything
}
ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace tern
