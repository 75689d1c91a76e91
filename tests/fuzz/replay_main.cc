// Runs a fuzz target over its corpus without libFuzzer, so that every compiler and sanitizer sees the inputs that once mattered. Each file is also fed
// with a few fixed changes: cut short, bits flipped, a range overwritten.   usage: NAME_fuzz FILE|FOLDER...
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kChanges = 24;

// A copy without slack behind it, so that AddressSanitizer sees a read beyond the end.
void Feed(const std::vector<uint8_t>& bytes) {
  std::vector<uint8_t> exact(bytes);
  exact.shrink_to_fit();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

uint64_t Next(uint64_t* state) {  // splitmix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

void FeedChanged(const std::vector<uint8_t>& bytes) {
  uint64_t state = bytes.size();
  for (int i = 0; i < kChanges && !bytes.empty(); ++i) {
    std::vector<uint8_t> changed = bytes;
    const size_t at = Next(&state) % changed.size();
    switch (i % 3) {
      case 0: changed.resize(at); break;
      case 1: changed[at] = static_cast<uint8_t>(changed[at] ^ 1u << Next(&state) % 8); break;
      default:
        for (size_t k = at; k < std::min(changed.size(), at + 8); ++k) changed[k] = static_cast<uint8_t>(i % 2 ? 0xff : Next(&state));
    }
    Feed(changed);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i]))
      if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "no inputs; usage: %s FILE|FOLDER...\n", argv[0]);
    return 2;
  }
  for (const auto& path : files) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
      std::fprintf(stderr, "cannot read %s\n", path.c_str());
      return 1;
    }
    std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(in)), {});
    Feed(bytes);
    FeedChanged(bytes);
  }
  std::printf("%zu files, %zu inputs\n", files.size(), files.size() * (1 + kChanges));
  return 0;
}
