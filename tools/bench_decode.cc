// tern bench decode: greedy decoding, one token after another, exactly as many as asked for.
#include <algorithm>

#include "tools/bench_encoder_decoder.h"

namespace tern {
namespace {

class BenchDecode : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &path_, "a .tern file");
    args.Heading("Work");
    args.Path("--prompt-ids", &prompt_, "a safetensors file: input_ids [B, T], fed before the first new token; an encoder-decoder's source").Required();
    args.Integer("--new-tokens", &new_tokens_, 1, 1 << 20, "tokens per repeat; exactly so many, an end symbol is ignored");
    args.Integer("--beams", &beams_, 1, 64, "beams of an encoder-decoder; decoder-only models take 1 (greedy)");
    args.Set(&settings_);
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(Safetensors file, Safetensors::Open(prompt_));
    TERN_ASSIGN(Ids ids, ReadIds(file, prompt_, "input_ids"));
    const int64_t begin_ns = NowNs();
    TERN_ASSIGN(auto model, OpenModel(path_, settings_, console));
    if (dynamic_cast<const EncoderDecoderNetwork*>(&model->network()))
      return BenchEncoderDecoder(model, {"bench decode", std::move(ids), {}, {}, new_tokens_, beams_, static_cast<double>(begin_ns)}, flags_, console);
    if (beams_ != 1) return UsageError("beam search is not measured on decoder-only models").Where("--beams").Got(beams_, 1);
    SessionOptions options;
    options.threads = static_cast<int>(flags_.threads), options.batch = ids.batch, options.cancel = &console.cancel();
    const SegmentRule rule = model->network().segments();
    // As `tern run` feeds a prompt; one that is read whole or not at all is fed whole.
    const int64_t piece = rule.one_by_one ? ids.tokens : std::min<int64_t>(ids.tokens, model->network().preferred_chunk());
    options.context = ids.tokens + new_tokens_;
    options.plans = {{piece, LogitsMode::kLast, false}};
    if (piece > 1) options.plans.push_back({1, LogitsMode::kLast, false});
    TERN_ASSIGN(auto session_made, Session::Create(model, options));
    Session& session = *session_made;
    const double load_seconds = static_cast<double>(NowNs() - begin_ns) * 1e-9;
    std::vector<std::vector<int32_t>> prompt;
    for (int64_t at = 0; at < ids.tokens; at += piece) prompt.push_back(Columns(ids, at, std::min(piece, ids.tokens - at)));

    std::vector<double> prefill, decode;
    std::vector<int32_t> next(static_cast<size_t>(ids.batch));
    auto pick = [&] {
      const Operand& out = session.output("logits");
      for (int64_t b = 0; b < ids.batch; ++b) next[static_cast<size_t>(b)] = static_cast<int32_t>(model->kernels().argmax(out.f32() + b * out.stride, out.cols));
    };
    auto pass = [&]() -> Status {
      session.Reset();
      int64_t begin = NowNs();
      for (const std::vector<int32_t>& part : prompt) TERN_RETURN_IF_ERROR(session.Feed(part, LogitsMode::kLast));
      pick();
      int64_t middle = NowNs();
      for (int64_t i = 0; i < new_tokens_; ++i) {
        TERN_RETURN_IF_ERROR(session.Feed(next, LogitsMode::kLast));
        pick();
      }
      prefill.push_back(static_cast<double>(middle - begin) * 1e-9);
      decode.push_back(static_cast<double>(NowNs() - middle) * 1e-9);
      return {};
    };
    BenchRow row;
    TERN_ASSIGN(row.measured, Repeat(flags_, console.cancel(), pass));
    const size_t kept = std::min(row.measured.seconds.size(), decode.size());
    const double cpu_share = row.measured.cpu_seconds / row.measured.Median();
    row.measured.seconds.assign(decode.end() - static_cast<int64_t>(kept), decode.end());  // without the prompt
    prefill.erase(prefill.begin(), prefill.end() - static_cast<int64_t>(kept));
    row.measured.cpu_seconds = cpu_share * row.measured.Median();
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, model->kernels(), model->file().mapped()->bytes()));
    row.json = CommonJson("bench decode", row.measured, machine);
    row.json["prefill_seconds"] = prefill;
    row.json["tokens_per_second"] = static_cast<double>(new_tokens_ * ids.batch) / row.measured.Median();
    AddMemory(&row.json, load_seconds, session.memory(), *model, flags_);
    row.work = Str(new_tokens_, " tokens after ", ids.tokens, ids.batch > 1 ? Str(", ", ids.batch, " lanes") : "");
    EntryOptions entry;
    entry.batch = ids.batch, entry.chunk = piece, entry.logits = LogitsMode::kLast;
    const StepCost cost = CostOf(*model, entry, static_cast<double>(ids.tokens));
    SetBound(&row, cost.flops * static_cast<double>(new_tokens_), cost.bytes * static_cast<double>(new_tokens_), machine);
    row.extra = Fixed(static_cast<double>(new_tokens_ * ids.batch) / row.measured.Median(), 1) + " tok/s";
    return ReportBench("bench decode", {row}, machine, flags_, console);
  }

 private:
  std::string path_, prompt_;
  int64_t new_tokens_ = 32, beams_ = 1;
  Settings settings_;
  RepeatFlags flags_;
};

}  // namespace

extern const Verb kBenchDecode = {"decode", "Kinds", "greedy decoding, one token after another",
                                  "tern bench decode books.tern --prompt-ids ids.safetensors --new-tokens 32", Make<BenchDecode>};

}  // namespace tern
