// A long text through one session: is memory constant, and time per token?
//   stream_bench MODEL TEXT|- [TOKENS] [THREADS]     prints resident memory and processor time per token as the stream goes, and the two verdict figures;
//   for an infinity-former also the largest |B|. TEXT -: random tokens, for models without a tokenizer.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/rng.h"
#include "engine/runtime/memory_view.h"
#include "engine/runtime/score.h"

using namespace tern;

namespace {

double ProcessorSeconds() {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

int Fail(const Status& s) {
  std::fprintf(stderr, "stream_bench: %s\n", s.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return Fail(UsageError("MODEL TEXT [TOKENS] [THREADS]"));
  const int64_t wanted = argc > 3 ? std::atoll(argv[3]) : 1'000'000;
  auto model = Model::Open(argv[1]);
  if (!model.ok()) return Fail(model.status());
  const bool random = std::string(argv[2]) == "-";
  auto tokenizer = random ? Result<const Tokenizer*>(nullptr) : (*model)->NeedTokenizer();
  if (!tokenizer.ok()) return Fail(tokenizer.status());
  auto text = MappedFile::Open(random ? argv[1] : argv[2]);
  if (!text.ok()) return Fail(text.status());
  SessionOptions options;
  options.threads = argc > 4 ? std::atoi(argv[4]) : 1;
  options.plans = {{(*model)->network().preferred_chunk(), LogitsMode::kTarget}};
  auto session = Session::Create(*model, options);
  if (!session.ok()) return Fail(session.status());

  // Tokens in blocks of 2,000; text is taken as it is needed, so that the resident size is the stream's own.
  constexpr int64_t kBlock = 2000;
  Scorer scorer(session->get());
  auto stream = random ? nullptr : (*tokenizer)->NewEncodeStream();
  Rng rng(1);
  MemoryStats memory(session->get());
  double largest = 0;
  std::vector<int32_t> ids;
  std::vector<double> seconds;
  size_t at = 0;
  int64_t base = 0, most = 0;
  while (scorer.score().tokens < wanted && at < (*text)->text().size()) {
    while (random && static_cast<int64_t>(ids.size()) < kBlock) ids.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>((*model)->network().vocab_size()))));
    while (static_cast<int64_t>(ids.size()) < kBlock && at < (*text)->text().size()) {
      const auto piece = (*text)->text().substr(at, 4096);
      if (Status s = stream->Push(piece, &ids); !s.ok()) return Fail(s);
      at += piece.size();
    }
    (*text)->Advise(MappedFile::Advice::kDontNeed, 0, at);
    const size_t take = std::min<size_t>(ids.size(), kBlock);
    const double begin = ProcessorSeconds();
    if (Status s = scorer.Push({ids.data(), take}); !s.ok()) return Fail(s);
    seconds.push_back((ProcessorSeconds() - begin) / static_cast<double>(take));
    ids.erase(ids.begin(), ids.begin() + static_cast<int64_t>(take));
    if (!memory.empty()) {
      memory.Look(1);
      for (const auto& layer : memory.Finish()) largest = std::max(largest, layer.largest);
    }
    if (base == 0) base = ResidentBytes();
    most = std::max(most, ResidentBytes());
    if (seconds.size() % 50 == 0)
      std::printf("%8lld tokens  %7.2f us per token  %6.2f MB resident  perplexity %.3f\n", static_cast<long long>(scorer.score().tokens),
                  1e6 * Median({seconds.end() - 50, seconds.end()}), static_cast<double>(ResidentBytes()) * 1e-6, scorer.score().perplexity());
  }
  if (!memory.empty()) std::printf("largest |B|: %g over the stream, %g at the end\n", largest, memory.Finish()[0].largest);
  const size_t tenth = seconds.size() / 10;
  const double first = Median({seconds.begin(), seconds.begin() + static_cast<int64_t>(tenth)}), last = Median({seconds.end() - static_cast<int64_t>(tenth), seconds.end()});
  std::printf("%lld tokens: resident memory grew by %lld bytes after the first %lld; processor time per token, last tenth / first tenth: %.3f\n",
              static_cast<long long>(scorer.score().tokens), static_cast<long long>(most - base), static_cast<long long>(kBlock), last / first);
  return 0;
}
