// tern bench model: a whole model on given ids, whole or in chunks that carry the state. tern bench decode: one token after another.
#include <algorithm>

#include "engine/base/checked.h"
#include "engine/graph/cost.h"
#include "engine/runtime/session.h"
#include "formats/safetensors.h"
#include "tools/bench.h"

namespace tern {
namespace {

// Ids of a safetensors file: `name` [B, T] of integers below `vocabulary`; negative ones only where allowed (labels that do not count).
struct Ids {
  int64_t batch = 0, tokens = 0;
  std::vector<int32_t> values;
};
Result<Ids> ReadIds(const Safetensors& file, const std::string& path, const std::string& name, int64_t vocabulary, bool negative_allowed) {
  const ConstTensor* tensor = file.Find(name);
  if (!tensor) return Status(Code::kUsage, "no such tensor").File(path).Where(name);
  if (tensor->type != DType::i64 && tensor->type != DType::i32) {
    return Malformed("ids must be integers").File(path).Where(name).Got(SafetensorsTypeName(tensor->type), "I64 or I32");
  }
  if (tensor->shape.rank() != 2 || tensor->shape.elements() == 0) return Malformed("ids must be [B, T]").File(path).Where(name).Got(tensor->shape.ToString(), "two dimensions, not empty");
  Ids ids{tensor->shape[0], tensor->shape[1], {}};
  const int64_t n = tensor->shape.elements();
  ids.values.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    int64_t id = tensor->type == DType::i64 ? static_cast<const int64_t*>(tensor->data)[i] : static_cast<const int32_t*>(tensor->data)[i];
    if (id >= vocabulary || (id < 0 && !negative_allowed)) {
      return Malformed("an id lies outside the vocabulary").File(path).Where(name).Got(id, Str("0 to ", vocabulary - 1));
    }
    ids.values.push_back(static_cast<int32_t>(std::max<int64_t>(id, -1)));
  }
  return ids;
}

// Columns [begin, begin + count) of ids [B, T], as [B, count].
std::vector<int32_t> Columns(const Ids& ids, int64_t begin, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < ids.batch; ++b) {
    auto row = ids.values.begin() + b * ids.tokens + begin;
    out.insert(out.end(), row, row + count);
  }
  return out;
}

// The labels that `count` columns from `begin` predict, as the public implementation shifts them: within the piece, the last position predicts nothing.
std::vector<int32_t> Targets(const Ids& labels, int64_t begin, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < labels.batch; ++b) {
    for (int64_t t = 0; t < count; ++t) out.push_back(t + 1 < count ? labels.values[static_cast<size_t>(b * labels.tokens + begin + t + 1)] : -1);
  }
  return out;
}

struct Loaded {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Session> session;
  double load_seconds = 0;
};
Result<Loaded> Load(const std::string& path, const Settings& settings, SessionOptions options, Console& console) {
  Loaded out;
  int64_t begin = NowNs();
  ModelOptions model_options;
  model_options.settings = settings;
  model_options.log = console.Log();
  TERN_ASSIGN(out.model, Model::Open(path, model_options));
  options.cancel = &console.cancel();
  TERN_ASSIGN(out.session, Session::Create(out.model, options));
  out.load_seconds = static_cast<double>(NowNs() - begin) * 1e-9;
  return out;
}

// What one Feed of `tokens` per lane costs when each query sees `visible` keys: operations, and bytes of weights and of keys and values.
struct StepCost {
  double flops = 0, bytes = 0;
};
Result<StepCost> CostOf(const Model& model, const SessionOptions& options, int64_t tokens, double visible) {
  SessionOptions one = options;
  TERN_ASSIGN(SessionPlan plan, PlanSession(model, one));
  StepCost cost;
  for (size_t i = 0; i < plan.plans.size(); ++i) {
    if (options.plans[i].tokens != tokens) continue;
    const Graph& graph = plan.plans[i].graph;
    std::vector<int64_t> lengths;
    for (const Length& length : graph.lengths) lengths.push_back(length.capacity);
    Cost run = RunCost(graph, lengths, visible);
    cost.flops = run.flops;
    // The cost counts weights as f32; the file may hold them narrower.
    double stored = 0, wide = 0;
    for (const WeightSpec& w : graph.weights) {
      const BoundWeight bound = model.Find(w.name);
      if (!bound.record) continue;
      stored += static_cast<double>(bound.record->bytes), wide += 4.0 * static_cast<double>(w.shape.elements());
    }
    cost.bytes = run.weight_bytes * (wide > 0 ? stored / wide : 1);
    for (const StateSpec& s : graph.states) {
      cost.bytes += 8.0 * static_cast<double>(s.lanes * s.heads * s.head_width) * std::min(visible, static_cast<double>(s.slots));
    }
    return cost;
  }
  return cost;
}

void AddMemory(Json* json, const Loaded& loaded, const RepeatFlags& flags) {
  (*json)["load_seconds"] = loaded.load_seconds;
  (*json)["arena_bytes"] = loaded.session->memory().arena;
  (*json)["state_bytes"] = loaded.session->memory().state;
  (*json)["weights_bytes"] = loaded.session->memory().weights;
  (*json)["target"] = loaded.model->kernels().target;
  (*json)["threads"] = flags.threads;
}

class BenchModel : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &path_, "a .tern file");
    args.Heading("Work");
    args.Path("--inputs", &inputs_, "a safetensors file: input_ids [B, T]; with labels [B, T] the loss per token is computed").Required();
    args.Integers("--chunks", &chunks_, 1, 1 << 20, "feed the sequence in pieces of these lengths, the state carried along");
    args.Choice("--logits", &logits_, {"all", "last"}, "which positions' outputs are wanted (without labels)");
    args.Set(&settings_);
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(Safetensors file, Safetensors::Open(inputs_));
    // The vocabulary is known once the model is open, so that ids are checked twice: here for their shape, by the session for their range.
    TERN_ASSIGN(Ids ids, ReadIds(file, inputs_, "input_ids", INT32_MAX, false));
    const bool scored = file.Find("labels") != nullptr;
    Ids labels;
    if (scored) {
      TERN_ASSIGN(labels, ReadIds(file, inputs_, "labels", INT32_MAX, true));
      if (labels.batch != ids.batch || labels.tokens != ids.tokens) return Malformed("labels and input_ids differ in shape").File(inputs_);
    }
    const std::vector<int64_t> pieces = chunks_.empty() ? std::vector<int64_t>{ids.tokens} : chunks_;
    int64_t total = 0;
    for (int64_t piece : pieces) total += piece;
    if (total > ids.tokens) return UsageError("the chunks are longer than the sequence").Where("--chunks").Got(total, Str("at most ", ids.tokens));

    const LogitsMode mode = scored ? LogitsMode::kTarget : logits_ == "last" ? LogitsMode::kLast : LogitsMode::kAll;
    SessionOptions options;
    options.threads = static_cast<int>(flags_.threads), options.batch = ids.batch;
    std::vector<int64_t> distinct = pieces;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (int64_t piece : distinct) options.plans.push_back({piece, mode, false});
    TERN_ASSIGN(Loaded loaded, Load(path_, settings_, options, console));

    std::vector<std::vector<int32_t>> fed, targets;
    int64_t at = 0;
    for (int64_t piece : pieces) {
      fed.push_back(Columns(ids, at, piece));
      targets.push_back(scored ? Targets(labels, at, piece) : std::vector<int32_t>{});
      at += piece;
    }
    std::vector<std::vector<double>> chunk_seconds;
    auto pass = [&]() -> Status {
      loaded.session->Reset();
      std::vector<double> seconds;
      for (size_t i = 0; i < fed.size(); ++i) {
        int64_t begin = NowNs();
        TERN_RETURN_IF_ERROR(loaded.session->Feed(fed[i], mode, targets[i]));
        seconds.push_back(static_cast<double>(NowNs() - begin) * 1e-9);
      }
      chunk_seconds.push_back(std::move(seconds));
      return {};
    };
    BenchRow row;
    TERN_ASSIGN(row.measured, Repeat(flags_, console.cancel(), pass));
    // Warm-up passes (and batches that were too short to count) stand first.
    if (chunk_seconds.size() > row.measured.seconds.size()) chunk_seconds.erase(chunk_seconds.begin(), chunk_seconds.end() - static_cast<int64_t>(row.measured.seconds.size()));
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, loaded.model->kernels(), loaded.model->file().mapped()->bytes()));
    row.json = CommonJson("bench model", row.measured, machine);
    if (!chunks_.empty()) row.json["chunk_seconds"] = chunk_seconds;
    row.json["tokens"] = total * ids.batch;
    AddMemory(&row.json, loaded, flags_);
    row.work = Str(ids.batch, "x", total, " tokens", chunks_.empty() ? "" : Str(" in ", pieces.size(), " chunks"));
    StepCost cost;
    double seen = 0;
    for (int64_t piece : pieces) {
      TERN_ASSIGN(StepCost one, CostOf(*loaded.model, options, piece, seen + static_cast<double>(piece) / 2));
      cost.flops += one.flops, cost.bytes += one.bytes;
      seen += static_cast<double>(piece);
    }
    SetBound(&row, cost.flops, cost.bytes, machine);
    row.extra = WithCommas(static_cast<int64_t>(static_cast<double>(total * ids.batch) / row.measured.Median())) + " tok/s";
    return ReportBench("bench model", {row}, machine, flags_, console);
  }

 private:
  std::string path_, inputs_, logits_ = "all";
  std::vector<int64_t> chunks_;
  Settings settings_;
  RepeatFlags flags_;
};

class BenchDecode : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &path_, "a .tern file");
    args.Heading("Work");
    args.Path("--prompt-ids", &prompt_, "a safetensors file: input_ids [B, T], fed before the first new token").Required();
    args.Integer("--new-tokens", &new_tokens_, 1, 1 << 20, "tokens per repeat; exactly so many, an end symbol is ignored");
    args.Integer("--beams", &beams_, 1, 64, "beams; decoder-only models take 1 (greedy)");
    args.Set(&settings_);
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    if (beams_ != 1) return UsageError("beam search is not measured on decoder-only models").Where("--beams").Got(beams_, 1);
    TERN_ASSIGN(Safetensors file, Safetensors::Open(prompt_));
    TERN_ASSIGN(Ids ids, ReadIds(file, prompt_, "input_ids", INT32_MAX, false));
    SessionOptions options;
    options.threads = static_cast<int>(flags_.threads), options.batch = ids.batch;
    const int64_t piece = std::min<int64_t>(ids.tokens, kPromptChunk);
    options.plans = {{piece, LogitsMode::kLast, false}};
    if (piece > 1) options.plans.push_back({1, LogitsMode::kLast, false});
    TERN_ASSIGN(Loaded loaded, Load(path_, settings_, options, console));
    Session& session = *loaded.session;
    std::vector<std::vector<int32_t>> prompt;
    for (int64_t at = 0; at < ids.tokens; at += piece) prompt.push_back(Columns(ids, at, std::min(piece, ids.tokens - at)));

    std::vector<double> prefill, decode;
    std::vector<int32_t> next(static_cast<size_t>(ids.batch));
    auto pick = [&] {
      const Operand& out = session.output("logits");
      for (int64_t b = 0; b < ids.batch; ++b) next[static_cast<size_t>(b)] = static_cast<int32_t>(loaded.model->kernels().argmax(out.f32() + b * out.stride, out.cols));
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
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, loaded.model->kernels(), loaded.model->file().mapped()->bytes()));
    row.json = CommonJson("bench decode", row.measured, machine);
    row.json["prefill_seconds"] = prefill;
    row.json["tokens_per_second"] = static_cast<double>(new_tokens_ * ids.batch) / row.measured.Median();
    AddMemory(&row.json, loaded, flags_);
    row.work = Str(new_tokens_, " tokens after ", ids.tokens, ids.batch > 1 ? Str(", ", ids.batch, " lanes") : "");
    TERN_ASSIGN(StepCost cost, CostOf(*loaded.model, options, 1, static_cast<double>(ids.tokens)));
    SetBound(&row, cost.flops * static_cast<double>(new_tokens_), cost.bytes * static_cast<double>(new_tokens_), machine);
    row.extra = Fixed(static_cast<double>(new_tokens_ * ids.batch) / row.measured.Median(), 1) + " tok/s";
    return ReportBench("bench decode", {row}, machine, flags_, console);
  }

 private:
  static constexpr int64_t kPromptChunk = 512;
  std::string path_, prompt_;
  int64_t new_tokens_ = 32, beams_ = 1;
  Settings settings_;
  RepeatFlags flags_;
};

}  // namespace

extern const Verb kBenchModel = {"model", "Kinds", "a whole model on given ids, whole or in chunks",
                                 "tern bench model books.tern --inputs ids.safetensors --chunks 640,64,64,64 --set mem_len=640 --json", Make<BenchModel>};
extern const Verb kBenchDecode = {"decode", "Kinds", "greedy decoding, one token after another",
                                  "tern bench decode books.tern --prompt-ids ids.safetensors --new-tokens 32", Make<BenchDecode>};

}  // namespace tern
