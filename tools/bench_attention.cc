// tern bench attention: one kind at one or several lengths, or several kinds beside each other over length; or the spectrum of a model's attention.
#include <algorithm>
#include <cmath>

#include "tools/attention_work.h"

namespace tern {

std::span<const AttentionKind> AttentionKinds() {
  static constexpr AttentionKind kKinds[] = {
      {"exact", "every query sees every key", MeasureExactAttention},
      {"causal", "exact, no key behind its query", MeasureExactAttention},
      {"xl", "causal with Transformer-XL's relative positions", MeasureExactAttention},
      {"performer", "random features, linear in length", MeasurePerformerAttention},
      {"lsh", "Reformer's hashed attention, whole chunks", MeasureChunkAttention},
      {"local", "a chunk and the one before, whole chunks", MeasureChunkAttention},
  };
  return kKinds;
}

namespace {

class BenchAttention : public Command {
 public:
  void Declare(Arguments& args) override {
    args.Heading("Work");
    for (const AttentionKind& kind : AttentionKinds()) known_ += Str(known_.empty() ? "" : "|", kind.name), help_ += Str(help_.empty() ? "" : "; ", kind.name, ": ", kind.what);
    help_ += ". Several with commas: one table over length, and where they cross";
    args.Text("--kind", &kinds_, help_.c_str()).ValueName(known_);
    args.Integer("--batch", &work_.batch, 1, 4096, "sequences");
    args.Integer("--heads", &work_.heads, 1, 1024, "heads");
    args.Integers("--query-length", &query_length_, 1, 1 << 22, "new queries T: one or several (default: --length)");
    args.Integers("--length", &length_, 1, 1 << 22, "keys S: one or several (default 512,1024,2048,4096)");
    args.Integer("--head-dim", &work_.dim, 1, 1024, "width of a head");
    args.Flag("--causal", &work_.causal, "for kinds that exist both ways (performer, lsh, local)");
    args.Integer("--features", &work_.features, 1, 65536, "random features m, for performer").ValueName("M");
    args.Integer("--chunk", &work_.chunk, 1, 1 << 16, "tokens of a chunk, for lsh and local").ValueName("C");
    args.Integer("--hashes", &work_.hashes, 1, 64, "rounds of hashing, for lsh").ValueName("N");
    args.Real("--sigma", &work_.sigma, 0, 100, "standard deviation of queries and keys: the larger, the more peaked the attention");
    args.Flag("--accuracy", &work_.accuracy, "the error against exact attention too (always with several kinds)");
    args.Real("--patience", &patience_, 0.001, 1e6, "with several kinds: none that would take longer than this many seconds a repeat").ValueName("S");
    args.Heading("Spectrum");
    args.Path("--spectrum", &spectrum_model_, "how much of the attention's energy rank r holds, per layer and head of this model on TEXT").ValueName("MODEL");
    args.Input("TEXT", &spectrum_.text, "for --spectrum: a file, or the text itself");
    args.Integer("--tokens", &spectrum_.length, 8, 2048, "for --spectrum: tokens of the text that are read");
    args.Set(&spectrum_.settings);
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    if (spectrum_model_) return Spectrum(console);
    if (spectrum_.text) return UsageError("a text is for --spectrum");
    TERN_ASSIGN(std::vector<const AttentionKind*> kinds, Kinds());
    if (length_.empty()) length_ = {512, 1024, 2048, 4096};
    TERN_ASSIGN(const KernelTable* kernels, ChosenKernels());
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, *kernels));
    const AttentionBench bench{flags_, *kernels, machine, console.cancel()};
    if (kinds.size() > 1) return Compare(kinds, bench, console);
    std::vector<BenchRow> rows;
    for (int64_t s : length_)
      for (int64_t t : query_length_.empty() ? std::vector<int64_t>{s} : query_length_) {
        if (t > s) return UsageError("more queries than keys").Where("--query-length").Got(t, Str("at most --length ", s));
        work_.t = t, work_.s = s;
        TERN_ASSIGN(BenchRow row, kinds[0]->measure(kinds[0]->name, work_, bench));
        if (row.json.contains("relative_error")) row.extra = Str("error ", Fixed(row.json["relative_error"].get<double>(), 3));
        rows.push_back(std::move(row));
      }
    return ReportBench("bench attention", rows, machine, flags_, console);
  }

 private:
  Result<std::vector<const AttentionKind*>> Kinds() const {
    std::vector<const AttentionKind*> kinds;
    size_t begin = 0;
    while (begin <= kinds_.size()) {
      const size_t end = std::min(kinds_.find(',', begin), kinds_.size());
      const std::string name = kinds_.substr(begin, end - begin);
      const AttentionKind* found = nullptr;
      for (const AttentionKind& kind : AttentionKinds())
        if (kind.name == name) found = &kind;
      if (!found) return UsageError("this kind of attention is not measured").Where("--kind").Got("\"" + Printable(name, 40) + "\"", known_);
      kinds.push_back(found);
      begin = end + 1;
    }
    return kinds;
  }

  // A kind that grows with the square of the length is not waited for: its next time is foreseen from the last two.
  Status Compare(const std::vector<const AttentionKind*>& kinds, const AttentionBench& bench, Console& console) {
    if (!query_length_.empty()) return UsageError("several kinds are compared at as many queries as keys").Where("--query-length");
    std::sort(length_.begin(), length_.end());
    AttentionComparison c;
    c.lengths = length_;
    c.setting = Str(work_.batch > 1 ? Str("batch ", work_.batch, ", ") : "", work_.heads, work_.heads > 1 ? " heads of " : " head of ", work_.dim, ", performer m = ", work_.features, work_.causal ? " causal" : "",
                    ", queries and keys of deviation ", Fixed(work_.sigma, 2));
    work_.accuracy = true;
    Progress progress(console, "measuring", static_cast<int64_t>(kinds.size() * length_.size()), "rows");
    int64_t done = 0;
    for (const AttentionKind* kind : kinds) {
      c.kinds.push_back(std::string(kind->name));
      if (kind->name == "exact" || kind->name == "causal")
        if (c.reference.empty() || (kind->name == "causal") == work_.causal) c.reference = kind->name;
      std::vector<BenchRow> rows;
      for (size_t i = 0; i < length_.size(); ++i) {
        rows.emplace_back();
        if (i > 0 && Foreseen(rows, i) > patience_) continue;
        work_.t = work_.s = length_[i];
        TERN_ASSIGN(rows.back(), kind->measure(kind->name, work_, bench));
        progress.Update(++done);
      }
      c.rows.push_back(std::move(rows));
    }
    return ReportComparison(c, bench, console);
  }

  double Foreseen(const std::vector<BenchRow>& rows, size_t i) const {
    if (rows[i - 1].measured.seconds.empty()) return INFINITY;
    const double last = rows[i - 1].measured.Median();
    double power = 2;
    if (i > 1) {
      power = std::log(last / rows[i - 2].measured.Median()) / std::log(static_cast<double>(length_[i - 1]) / static_cast<double>(length_[i - 2]));
      power = std::clamp(power, 1.0, 2.0);
    }
    return last * std::pow(static_cast<double>(length_[i]) / static_cast<double>(length_[i - 1]), power);
  }

  Status Spectrum(Console& console) {
    if (!spectrum_.text) return UsageError("the spectrum needs a text").Hint("tern bench attention --spectrum MODEL TEXT");
    spectrum_.model = *spectrum_model_;
    spectrum_.threads = flags_.threads;
    spectrum_.svg = flags_.svg;
    return ReportSpectrum(spectrum_, console);
  }

  std::string kinds_ = "exact", known_, help_;
  AttentionWork work_;
  std::vector<int64_t> query_length_, length_;
  std::optional<std::string> spectrum_model_;
  SpectrumFlags spectrum_;
  double patience_ = 60;
  RepeatFlags flags_;
};

}  // namespace

extern const Verb kBenchAttention = {"attention", "Kinds", "attention of T queries over S keys",
                                     "tern bench attention --kind causal --length 2048\ntern bench attention --kind xl --query-length 128 --length 928 --json\n"
                                     "tern bench attention --kind causal,performer --causal --length 1024,4096,16384 --svg crossover.svg\n"
                                     "tern bench attention --kind lsh --hashes 4 --causal --length 4096,16384\n"
                                     "tern bench attention --spectrum model.tern \"Some text.\" --svg spectrum.svg",
                                     Make<BenchAttention>};

}  // namespace tern
