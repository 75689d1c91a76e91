#include "tools/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>

namespace tern {
namespace {

CancelToken cancel_token;
std::atomic<int> arrived{0};
std::atomic<bool> bus_as_json{false};

void OnStop(int number) {
  int none = 0;
  if (!arrived.compare_exchange_strong(none, number)) _exit(128 + number);
  cancel_token.Cancel();
}

// What follows runs inside a signal handler: no allocation, no stdio.
void Put(int fd, const char* text, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(fd, text, bytes);
    if (n <= 0) return;
    text += n, bytes -= static_cast<size_t>(n);
  }
}
void Put(int fd, const char* text) { Put(fd, text, std::strlen(text)); }

// The path mapped at `address` according to /proc/self/maps ("start-end perms offset dev inode   path"), or "".
const char* MappedPath(uintptr_t address) {
  static char line[4608];
  int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  size_t used = 0;
  char c;
  const char* found = "";
  while (read(fd, &c, 1) == 1) {
    if (c != '\n') {
      if (used + 1 < sizeof line) line[used++] = c;
      continue;
    }
    line[used] = 0;
    uintptr_t bound[2] = {0, 0};
    const char* p = line;
    for (uintptr_t& b : bound) {
      for (; *p && *p != '-' && *p != ' '; ++p) b = b * 16 + static_cast<uintptr_t>(*p <= '9' ? *p - '0' : *p - 'a' + 10);
      ++p;
    }
    used = 0;
    if (address < bound[0] || address >= bound[1]) continue;
    if (const char* slash = std::strchr(line, '/')) found = slash;
    break;
  }
  close(fd);
  return found;
}

bool PlainPath(const char* path) {
  for (const char* p = path; *p; ++p) {
    if (static_cast<unsigned char>(*p) < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f) return false;
  }
  return *path != 0;
}

void OnBusError(int, siginfo_t* info, void*) {
  static const char kWhat[] = "became shorter while it was read, or its disk failed";
  const char* path = MappedPath(reinterpret_cast<uintptr_t>(info->si_addr));
  bool plain = PlainPath(path);
  if (!plain) path = "a mapped file";
  Put(2, "tern: "), Put(2, path), Put(2, plain ? ": the file " : " "), Put(2, kWhat), Put(2, ". Copy it to a local disk and try again\n");
  if (bus_as_json.load(std::memory_order_relaxed)) {
    Put(1, "{\"error\":{\"code\":3,\"message\":\""), Put(1, path), Put(1, plain ? ": the file " : " "), Put(1, kWhat), Put(1, "\",\"file\":\"");
    if (plain) Put(1, path);
    Put(1, "\",\"where\":\"\"}}\n");
  }
  _exit(3);
}

}  // namespace

void InstallSignalHandlers() {
  // A closed standard input or output becomes a descriptor that fails when used, a closed standard error one that swallows.
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", fd == 1 ? O_RDONLY : O_WRONLY);
  }
  struct sigaction stop = {};
  stop.sa_handler = OnStop;
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(number, &stop, nullptr);  // nohup keeps working. No SA_RESTART: a waiting read ends
  }
  struct sigaction bus = {};
  bus.sa_sigaction = OnBusError;
  bus.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &bus, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

CancelToken& ProgramCancelToken() { return cancel_token; }
int ArrivedSignal() { return arrived.load(); }
void ForgetArrivedSignal() {
  arrived.store(0);
  cancel_token.Reset();
}
void ReportBusErrorsAsJson() { bus_as_json.store(true); }

}  // namespace tern
