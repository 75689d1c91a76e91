// How long a cold expert takes: from the router's decision until its bytes can be read, beside an O_DIRECT read of as many bytes of the same file.
//   expert_bench MODEL.tern [EXPERTS] [--json]     64 of them, drawn at random; each is sent out of memory first
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

#include "engine/base/rng.h"
#include "engine/runtime/expert_pager.h"

using namespace tern;

namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double Quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[static_cast<size_t>(q * static_cast<double>(v.size() - 1))];
}

// A byte of every page, as the kernels that multiply it would find them.
uint64_t Touch(const uint8_t* data, uint64_t bytes) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < bytes; i += 4096) sum += *static_cast<const volatile uint8_t*>(data + i);
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const bool json = argc > 1 && std::strcmp(argv[argc - 1], "--json") == 0;
  if (json) --argc;
  if (argc < 2) return std::fprintf(stderr, "usage: expert_bench MODEL.tern [EXPERTS] [--json]\n"), 2;
  auto opened = ModelFile::Open(argv[1]);
  if (!opened.ok()) return std::fprintf(stderr, "%s\n", opened.status().message().c_str()), 4;
  const std::shared_ptr<const ModelFile> file = *opened;
  std::vector<std::string> groups;
  std::set<std::string> seen;
  for (const TensorRecord& t : file->tensors())
    if (!t.group.empty() && seen.insert(t.group).second) groups.push_back(t.group);
  if (groups.size() < 2) return std::fprintf(stderr, "%s: no experts\n", argv[1]), 2;
  ExpertPager pager(file, {});
  if (!pager.AddLayer("bench", groups).ok()) return 1;
  const int fd = ::open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) return std::perror("O_DIRECT"), 3;

  const size_t wanted = std::min(argc > 2 ? static_cast<size_t>(std::atoll(argv[2])) : 64, groups.size() / 2);
  std::vector<int32_t> order(groups.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  Rng rng(1);
  for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[static_cast<size_t>(rng.Uniform() * static_cast<double>(i + 1))]);
  uint64_t bytes = 0;
  for (const std::string& g : groups) bytes = std::max(bytes, file->Group(g).bytes);
  void* buffer = nullptr;
  if (::posix_memalign(&buffer, 4096, (bytes + 4095) / 4096 * 4096) != 0) return 1;
  std::vector<double> paged, direct;
  uint64_t sum = 0;
  // In turn, each an expert of its own that nothing has read.
  for (size_t i = 0; i < wanted; ++i) {
    for (int32_t e : {order[2 * i], order[2 * i + 1]}) {
      const ByteRange r = file->Group(groups[static_cast<size_t>(e)]);
      file->mapped()->Advise(MappedFile::Advice::kEvict, r.offset, r.bytes);
      if (file->mapped()->ResidentBytes(r.offset, r.bytes) > 0) return std::fprintf(stderr, "this file system keeps what it was told to drop\n"), 1;
    }
    const int32_t expert = order[2 * i];
    const ByteRange one = file->Group(groups[static_cast<size_t>(expert)]), other = file->Group(groups[static_cast<size_t>(order[2 * i + 1])]);
    double begin = Seconds();
    pager.Need(0, {&expert, 1});
    sum += Touch(file->mapped()->bytes().data() + one.offset, one.bytes);
    paged.push_back(Seconds() - begin);
    begin = Seconds();
    if (::pread(fd, buffer, (other.bytes + 4095) / 4096 * 4096, static_cast<off_t>(other.offset)) < static_cast<ssize_t>(other.bytes)) return std::perror("pread"), 3;
    sum += Touch(static_cast<const uint8_t*>(buffer), other.bytes);
    direct.push_back(Seconds() - begin);
  }
  ::close(fd);
  std::free(buffer);
  const double p = Quantile(paged, 0.5), d = Quantile(direct, 0.5);
  if (json)
    std::printf("{\"bytes\": %llu, \"experts\": %zu, \"paged_seconds\": %.9f, \"direct_seconds\": %.9f, \"ratio\": %.4f}\n", static_cast<unsigned long long>(bytes), wanted, p, d, p / d);
  else
    std::printf("%zu cold experts of %llu bytes: paged %.3f ms (quartiles %.3f, %.3f), O_DIRECT %.3f ms (%.3f, %.3f), %.2f x  [%llu]\n", wanted, static_cast<unsigned long long>(bytes),
                p * 1e3, Quantile(paged, 0.25) * 1e3, Quantile(paged, 0.75) * 1e3, d * 1e3, Quantile(direct, 0.25) * 1e3, Quantile(direct, 0.75) * 1e3, p / d,
                static_cast<unsigned long long>(sum % 10));
  return 0;
}
