// A folder of the test's own, removed at the end.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tern {

class ScratchFolder {
 public:
  ScratchFolder() {
    const char* root = std::getenv("TMPDIR");
    path_ = std::string(root && *root ? root : "/tmp") + "/tern-test-XXXXXX";
    if (!::mkdtemp(path_.data())) std::abort();  // a test without a folder to write into cannot say anything
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace tern
