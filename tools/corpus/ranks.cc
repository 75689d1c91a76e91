#include "tools/corpus/ranks.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

namespace tern::corpus {
namespace {

// What Open MPI and MPICH tell the processes they start.
bool StartedByMpirun() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* value = std::getenv(name);
    if (value && std::string_view(value) != "1") return true;
  }
  return false;
}

std::string FolderOfProgram() {
  char path[PATH_MAX];
  ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  std::string name(path, n > 0 ? static_cast<size_t>(n) : 0);
  return name.substr(0, name.rfind('/') + 1);
}

}  // namespace

Result<std::unique_ptr<Ranks>> Ranks::Open() {
  if (!StartedByMpirun()) return std::make_unique<Ranks>();
  // Beside the program, or where it was installed to. The library stays open until the process ends, as MPI wants it.
  const std::string folder = FolderOfProgram();
  void* library = nullptr;
  for (const std::string& path : {folder + kMpiLibrary, folder + "../lib/tern/" + kMpiLibrary})
    if (!library) library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    const char* why = ::dlerror();
    return UsageError(Str("mpirun started this program, but its part for MPI cannot be loaded: ", why ? why : "no reason given"))
        .Hint("Install libopenmpi-dev and build again, or run without mpirun");
  }
  auto open = reinterpret_cast<decltype(&tern_open_mpi)>(::dlsym(library, kMpiSymbol));
  std::unique_ptr<Transport> transport(open ? open() : nullptr);
  if (!transport) return InternalError("MPI cannot be started");
  return std::make_unique<Ranks>(std::move(transport));
}

Status Ranks::Step(const Transport::Message& message, std::vector<std::string>* in, bool* any_more) {
  std::vector<std::string> notes;
  transport_->Swap(message, in, &notes, any_more);
  for (const std::string& note : notes) {
    if (note.empty()) continue;
    failed_ = true;
    return Status(static_cast<Code>(note[0]), note.substr(1));
  }
  return {};
}

Result<std::vector<std::string>> Ranks::Swap(const std::vector<std::string>& out) {
  if (alone()) return out;
  std::vector<std::string> in;
  bool more;
  TERN_RETURN_IF_ERROR(Step({.out = {out.begin(), out.end()}}, &in, &more));
  return in;
}

Result<std::vector<std::string>> Ranks::Gather(std::string_view own) {
  if (alone()) return std::vector<std::string>{std::string(own)};
  std::vector<std::string> in;
  bool more;
  TERN_RETURN_IF_ERROR(Step({.out = std::vector<std::string_view>(static_cast<size_t>(size()), own)}, &in, &more));
  return in;
}

Result<std::string> Ranks::FromRoot(std::string_view text) {
  TERN_ASSIGN(std::vector<std::string> all, Gather(root() ? text : std::string_view()));
  return std::move(all[0]);
}

Result<int64_t> Ranks::Sum(int64_t own) {
  TERN_ASSIGN(std::vector<int64_t> all, Concatenate(std::vector<int64_t>{own}));
  int64_t sum = 0;
  for (int64_t n : all) sum += n;
  return sum;
}

Status Ranks::Barrier() {
  auto all = Sum(0);
  return all.ok() ? Status() : all.status();
}

Status Ranks::Exchange(const Fill& fill, const Drain& drain) {
  constexpr size_t kRound = 32 << 20, kLeast = 64 << 10;  // bytes a rank sends in a round, or to one other rank
  const size_t n = static_cast<size_t>(size()), piece = std::max(kLeast, kRound / n);
  if (alone()) return InternalError("one rank alone has nobody to exchange with");
  for (bool any_more = true; any_more;) {
    std::vector<std::string> out(n), in;
    bool some = false;
    for (size_t r = 0; r < n; ++r) {
      TERN_RETURN_IF_ERROR(fill(static_cast<int>(r), piece, &out[r]));
      some = some || !out[r].empty();
    }
    TERN_RETURN_IF_ERROR(Step({.more = some, .out = {out.begin(), out.end()}}, &in, &any_more));
    for (size_t r = 0; r < n; ++r)
      if (!in[r].empty()) TERN_RETURN_IF_ERROR(drain(static_cast<int>(r), in[r]));
  }
  return {};
}

void Ranks::Fail(const Status& status) {
  if (alone() || failed_ || status.ok()) return;
  failed_ = true;
  const std::string note = static_cast<char>(status.code()) + status.message();
  std::vector<std::string> in, notes;
  bool more;
  transport_->Swap({.note = note, .out = std::vector<std::string_view>(static_cast<size_t>(size()))}, &in, &notes, &more);
}

void SilenceThisProcess() {
  const int nowhere = ::open("/dev/null", O_WRONLY);
  if (nowhere < 0) return;
  ::dup2(nowhere, STDOUT_FILENO);
  ::dup2(nowhere, STDERR_FILENO);
  ::close(nowhere);
}

}  // namespace tern::corpus
