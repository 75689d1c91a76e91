// tern bench model: a whole model on given ids: a decoder whole or in chunks that carry the state, an encoder on a batch.
#include "tools/bench_model.h"

#include "tools/bench_encoder_decoder.h"

#include <algorithm>
#include <optional>

#include "engine/graph/cost.h"
#include "engine/runtime/encoder_session.h"
#include "engine/runtime/named_run.h"
#include "engine/runtime/tensor_neighbors.h"
#include "models/performer.h"

namespace tern {

Result<Ids> ReadIds(const Safetensors& file, const std::string& path, const std::string& name, bool negative_allowed) {
  const ConstTensor* tensor = file.Find(name);
  if (!tensor) return UsageError("no such tensor").File(path).Where(name);
  if (tensor->type != DType::i64 && tensor->type != DType::i32) {
    return Malformed("ids must be integers").File(path).Where(name).Got(SafetensorsTypeName(tensor->type), "I64 or I32");
  }
  if (tensor->shape.rank() != 2 || tensor->shape.elements() == 0) {
    return Malformed("ids must be [B, T]").File(path).Where(name).Got(tensor->shape.ToString(), "two dimensions, not empty");
  }
  Ids ids{tensor->shape[0], tensor->shape[1], {}};
  const int64_t n = tensor->shape.elements();
  ids.values.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t id = tensor->type == DType::i64 ? static_cast<const int64_t*>(tensor->data)[i] : static_cast<const int32_t*>(tensor->data)[i];
    if (id > INT32_MAX || (id < 0 && !negative_allowed)) return Malformed("not an id").File(path).Where(name).Got(id, "0 or more");
    ids.values.push_back(static_cast<int32_t>(std::max<int64_t>(id, -1)));
  }
  return ids;
}

std::vector<int32_t> Columns(const Ids& ids, int64_t begin, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < ids.batch; ++b) {
    auto row = ids.values.begin() + b * ids.tokens + begin;
    out.insert(out.end(), row, row + count);
  }
  return out;
}

Result<std::shared_ptr<const Model>> OpenModel(const std::string& path, const Settings& settings, Console& console) {
  ModelOptions options;
  options.settings = settings;
  options.log = console.Log();
  return Model::Open(path, options);
}

StepCost CostOf(const Model& model, const EntryOptions& entry, double visible) {
  StepCost cost;
  Builder builder;
  model.network().Build(entry, builder);
  if (!builder.status().ok()) return cost;
  const Graph graph = std::move(builder).TakeGraph();
  std::vector<int64_t> lengths;
  for (const Length& length : graph.lengths) lengths.push_back(length.capacity);
  const Cost run = RunCost(graph, lengths, visible);
  cost.flops = run.flops;
  double stored = 0, wide = 0;  // the cost counts weights as f32; the file may hold them narrower
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

void AddMemory(Json* json, double load_seconds, const MemoryUse& memory, const Model& model, const RepeatFlags& flags) {
  (*json)["load_seconds"] = load_seconds;
  (*json)["arena_bytes"] = memory.arena, (*json)["state_bytes"] = memory.state, (*json)["weights_bytes"] = memory.weights;
  (*json)["target"] = model.kernels().target, (*json)["threads"] = flags.threads;
}

namespace {

// The labels that `count` columns from `begin` predict, as the public implementation shifts them: within the piece, the last position predicts nothing.
std::vector<int32_t> Targets(const Ids& labels, int64_t begin, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t b = 0; b < labels.batch; ++b) {
    for (int64_t t = 0; t < count; ++t) out.push_back(t + 1 < count ? labels.values[static_cast<size_t>(b * labels.tokens + begin + t + 1)] : -1);
  }
  return out;
}

class BenchModel : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &path_, "a .tern file");
    args.Heading("Work");
    args.Path("--inputs", &inputs_, "a safetensors file: input_ids [B, T]; with labels [B, T] a decoder's loss per token is computed; encoders also take "
                                    "attention_mask and token_type_ids, a RETRO retrieved [B, l, k, R]").Required();
    args.Integers("--chunks", &chunks_, 1, 1 << 20, "feed the sequence in pieces of these lengths, the state carried along");
    args.Choice("--logits", &logits_, {"all", "last"}, "which positions' outputs are wanted (without labels)");
    args.Set(&settings_);
    flags_.Declare(args);
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(Safetensors file, Safetensors::Open(inputs_));
    TERN_ASSIGN(ids_, ReadIds(file, inputs_, "input_ids"));
    begin_ns_ = NowNs();
    TERN_ASSIGN(auto model, OpenModel(path_, settings_, console));
    if (dynamic_cast<const EncoderDecoderNetwork*>(&model->network())) {
      if (!chunks_.empty()) return UsageError("an encoder-decoder takes its sequence whole").Where("--chunks");
      EncoderDecoderWork work{"bench model", ids_, {}, {}, 0, 1, static_cast<double>(begin_ns_)};
      if (file.Find("attention_mask")) {
        TERN_ASSIGN(work.mask, ReadIds(file, inputs_, "attention_mask"));
      }
      if (file.Find("decoder_input_ids")) {
        TERN_ASSIGN(work.decoder_ids, ReadIds(file, inputs_, "decoder_input_ids"));
      }
      if (work.mask.values.size() % work.ids.values.size() != 0) return Malformed("differs from input_ids in shape").File(inputs_).Where("attention_mask");
      if (work.decoder_ids.tokens > 0 && work.decoder_ids.batch != ids_.batch) return Malformed("has another batch than input_ids").File(inputs_).Where("decoder_input_ids");
      return BenchEncoderDecoder(model, work, flags_, console);
    }
    if (dynamic_cast<const EncoderNetwork*>(&model->network())) return Encode(file, model, console);
    const std::vector<std::string> entries = model->network().entries();
    const auto* performer = dynamic_cast<const PerformerNetwork*>(&model->network());
    if (performer && std::find(entries.begin(), entries.end(), "step") == entries.end()) return Whole(performer->performer(), model, console);
    return Feed(file, model, console);
  }

 private:
  Status Encode(const Safetensors& file, const std::shared_ptr<const Model>& model, Console& console) {
    if (!chunks_.empty()) return UsageError("an encoder takes its sequence whole").Where("--chunks");
    EncoderOptions options;
    options.threads = static_cast<int>(flags_.threads), options.cancel = &console.cancel();
    TERN_ASSIGN(auto session, EncoderSession::Create(model, options));
    const double load_seconds = static_cast<double>(NowNs() - begin_ns_) * 1e-9;
    Ids types, mask;
    for (auto [name, into] : {std::pair("token_type_ids", &types), std::pair("attention_mask", &mask)}) {
      if (!file.Find(name)) continue;
      TERN_ASSIGN(*into, ReadIds(file, inputs_, name));
      if (into->batch != ids_.batch || into->tokens != ids_.tokens) return Malformed("differs from input_ids in shape").File(inputs_).Where(name);
    }
    const std::vector<uint8_t> mask_bytes(mask.values.begin(), mask.values.end());
    std::vector<EncoderInput> batch;
    for (int64_t b = 0; b < ids_.batch; ++b) {
      const auto at = static_cast<size_t>(b * ids_.tokens), count = static_cast<size_t>(ids_.tokens);
      EncoderInput input{std::span<const int32_t>(ids_.values).subspan(at, count)};
      if (!types.values.empty()) input.type_ids = std::span<const int32_t>(types.values).subspan(at, count);
      if (!mask_bytes.empty()) input.mask = std::span<const uint8_t>(mask_bytes).subspan(at, count);
      batch.push_back(input);
    }
    BenchRow row;
    TERN_ASSIGN(row.measured, Repeat(flags_, console.cancel(), [&] { return session->Run(batch); }));
    EntryOptions entry;
    entry.entry = "encode", entry.batch = ids_.batch, entry.tokens = session->rows();
    return Report(row, CostOf(*model, entry, static_cast<double>(ids_.tokens)), ids_.tokens, load_seconds, session->memory(), *model, console);
  }

  // A Performer that is not causal: its sequences whole.
  Status Whole(const PerformerConfig& config, const std::shared_ptr<const Model>& model, Console& console) {
    if (!chunks_.empty()) return UsageError("the model takes its sequence whole").Where("--chunks");
    if (config.cross_attend) return UsageError("the model attends to a context, which bench does not make").File(path_);
    if (ids_.tokens > config.max_positions) return UsageError("the sequence is too long").File(inputs_).Got(ids_.tokens, Str("at most ", config.max_positions, " tokens"));
    for (int32_t id : ids_.values)
      if (id < 0 || id >= config.vocab_size) return UsageError("a token id lies outside the vocabulary").File(inputs_).Got(id, Str("0 to ", config.vocab_size - 1));
    EntryOptions entry;
    entry.entry = "encode", entry.batch = ids_.batch, entry.tokens = ids_.tokens, entry.chunk = 1;
    TERN_ASSIGN(auto run, NamedRun::Create(model, entry, static_cast<int>(flags_.threads), &console.cancel()));
    const double load_seconds = static_cast<double>(NowNs() - begin_ns_) * 1e-9;
    run->Bind("input_ids", ids_.values.data());
    BenchRow row;
    TERN_ASSIGN(row.measured, Repeat(flags_, console.cancel(), [&] { return run->Run({ids_.tokens, 0, 0, 0}); }));
    return Report(row, CostOf(*model, entry, static_cast<double>(ids_.tokens)), ids_.tokens, load_seconds, run->memory(), *model, console);
  }

  Status Feed(const Safetensors& file, const std::shared_ptr<const Model>& model, Console& console) {
    Ids labels;
    const bool scored = file.Find("labels") != nullptr;
    if (scored) {
      TERN_ASSIGN(labels, ReadIds(file, inputs_, "labels", true));
      if (labels.batch != ids_.batch || labels.tokens != ids_.tokens) return Malformed("differs from input_ids in shape").File(inputs_).Where("labels");
    }
    std::vector<int64_t> pieces = chunks_;
    const SegmentRule rule = model->network().segments();
    if (pieces.empty() && rule.recurrent)  // full segments, and what is left
      for (int64_t at = 0; at < ids_.tokens; at += rule.length) pieces.push_back(std::min(rule.length, ids_.tokens - at));
    if (pieces.empty()) pieces = {ids_.tokens};
    int64_t total = 0;
    for (int64_t piece : pieces) total += piece;
    if (total > ids_.tokens) return UsageError("the chunks are longer than the sequence").Where("--chunks").Got(total, Str("at most ", ids_.tokens));

    const LogitsMode mode = scored ? LogitsMode::kTarget : logits_ == "last" ? LogitsMode::kLast : LogitsMode::kAll;
    SessionOptions options;
    options.threads = static_cast<int>(flags_.threads), options.batch = ids_.batch, options.cancel = &console.cancel();
    options.call_is_segment = true;
    std::optional<TensorNeighbors> neighbors;
    if (const ConstTensor* retrieved = file.Find("retrieved")) {
      TERN_ASSIGN(neighbors, TensorNeighbors::Create(*retrieved, model->network().vocab_size()));
      if (neighbors->batch() != ids_.batch) return UsageError("the inputs have different batches").File(inputs_).Where("retrieved").Got(neighbors->batch(), ids_.batch);
      options.retrieval = neighbors->Options(ids_.tokens);
    }
    std::vector<int64_t> distinct = pieces;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (int64_t piece : distinct) options.plans.push_back({piece, mode, false});
    if (chunks_.empty()) options.context = 0;  // nothing follows
    TERN_ASSIGN(auto session, Session::Create(model, options));
    const double load_seconds = static_cast<double>(NowNs() - begin_ns_) * 1e-9;

    std::vector<std::vector<int32_t>> fed, targets;
    StepCost cost;
    int64_t at = 0;
    for (int64_t piece : pieces) {
      fed.push_back(Columns(ids_, at, piece));
      targets.push_back(scored ? Targets(labels, at, piece) : std::vector<int32_t>{});
      EntryOptions entry;
      entry.batch = ids_.batch, entry.tokens = piece, entry.chunk = distinct.back(), entry.logits = mode;
      if (neighbors) entry.entry = "retrieve", entry.neighbors = options.retrieval.neighbors, entry.neighbor_length = options.retrieval.length;
      const StepCost one = CostOf(*model, entry, static_cast<double>(at) + static_cast<double>(piece) / 2);
      cost.flops += one.flops, cost.bytes += one.bytes;
      at += piece;
    }
    std::vector<std::vector<double>> chunk_seconds;
    auto pass = [&]() -> Status {
      session->Reset();
      std::vector<double> seconds;
      for (size_t i = 0; i < fed.size(); ++i) {
        const int64_t begin = NowNs();
        TERN_RETURN_IF_ERROR(session->Feed(fed[i], mode, targets[i]));
        seconds.push_back(static_cast<double>(NowNs() - begin) * 1e-9);
      }
      chunk_seconds.push_back(std::move(seconds));
      return {};
    };
    BenchRow row;
    TERN_ASSIGN(row.measured, Repeat(flags_, console.cancel(), pass));
    if (!chunks_.empty()) {  // warm-up, and batches too short to count, stand first
      const size_t kept = std::min(chunk_seconds.size(), row.measured.seconds.size());
      chunk_seconds.erase(chunk_seconds.begin(), chunk_seconds.end() - static_cast<int64_t>(kept));
      row.json["chunk_seconds"] = chunk_seconds;
    }
    return Report(row, cost, total, load_seconds, session->memory(), *model, console);
  }

  Status Report(BenchRow& row, const StepCost& cost, int64_t tokens, double load_seconds, const MemoryUse& memory, const Model& model, Console& console) {
    TERN_ASSIGN(const Machine machine, MeasureMachine(flags_.threads, model.kernels(), model.file().mapped()->bytes()));
    Json json = CommonJson("bench model", row.measured, machine);
    if (row.json.is_object()) json.update(row.json);
    json["tokens"] = tokens * ids_.batch;
    AddMemory(&json, load_seconds, memory, model, flags_);
    row.json = std::move(json);
    row.work = Str(ids_.batch, "x", tokens, " tokens", chunks_.empty() ? "" : Str(" in ", chunks_.size(), " chunks"));
    row.extra = WithCommas(static_cast<int64_t>(static_cast<double>(tokens * ids_.batch) / row.measured.Median())) + " tok/s";
    // With eight-bit weights the limit is that of int8, although attention and the rest stay f32.
    Machine limits = machine;
    const auto tensors = model.file().tensors();
    const bool q8 = std::any_of(tensors.begin(), tensors.end(), [](const TensorRecord& t) { return t.type == DType::i8 && t.layout == Layout::kPanel16; });
    if (q8) {
      limits.fma_gflops = static_cast<double>(flags_.threads) * PeakQ8Gops(model.kernels());
      row.json["machine"]["q8_gops"] = limits.fma_gflops;
    }
    SetBound(&row, cost.flops, cost.bytes, limits);
    if (q8 && row.bound == "FMA") row.bound = "int8";
    return ReportBench("bench model", {row}, machine, flags_, console);
  }

  std::string path_, inputs_, logits_ = "all";
  std::vector<int64_t> chunks_;
  Settings settings_;
  RepeatFlags flags_;
  Ids ids_;
  int64_t begin_ns_ = 0;
};

}  // namespace

extern const Verb kBenchModel = {"model", "Kinds", "a whole model on given ids, whole or in chunks",
                                 "tern bench model books.tern --inputs ids.safetensors --chunks 640,64,64,64 --set mem_len=640 --json", Make<BenchModel>};

}  // namespace tern
