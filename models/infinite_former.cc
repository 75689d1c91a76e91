#include "models/infinite_former.h"

#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "models/config.h"
#include "models/infinite_former_config.h"
#include "models/infinite_former_import.h"

namespace tern {
namespace {

using Config = InfiniteFormerConfig;
using Scope = Builder::Scope;

class InfiniteFormer : public InfiniteFormerNetwork {
 public:
  explicit InfiniteFormer(Config config) : c_(std::move(config)) {}

  std::string_view architecture() const override { return kInfiniteFormerName; }
  const InfiniteFormerConfig& infinite() const override { return c_; }
  Json config() const override { return WriteInfiniteFormerConfig(c_); }
  std::vector<std::string> entries() const override { return {"step"}; }
  void Build(const EntryOptions& options, Builder& b) const override { c_.on_gpt2() ? BuildGpt2(options, b) : BuildXl(options, b); }
  Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const override { return ImportInfiniteFormer(c_, checkpoint); }
  Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const override;

  int64_t vocab_size() const override { return c_.vocab_size(); }
  int64_t eos_token_id() const override { return c_.on_gpt2() ? c_.gpt2.eos_token_id : -1; }
  int64_t preferred_chunk() const override { return c_.segment(); }
  SegmentRule segments() const override { return {c_.segment(), true}; }
  Status CheckSegment(int64_t seen, int64_t previous, int64_t tokens) const override;
  bool chunk_invariant() const override { return false; }

 private:
  void BuildGpt2(const EntryOptions& options, Builder& b) const;
  void BuildXl(const EntryOptions& options, Builder& b) const;
  LongTermMemory Memory(const EntryOptions& options, int64_t layer) const;
  Value Tables(Builder& b) const;
  struct LayerMemory {
    int32_t state;
    Value out;  // the projection of what is read
  };
  LayerMemory Update(Builder& b, const LongTermMemory& m, Value tables) const;

  Config c_;
};

// The memory of one layer, in one session.
LongTermMemory InfiniteFormer::Memory(const EntryOptions& options, int64_t layer) const {
  LongTermMemory m = c_.memory;
  m.batch = options.batch, m.layer = layer, m.layers = c_.n_layers();
  m.queries = std::max(options.chunk, c_.segment());
  return m;
}

Value InfiniteFormer::Tables(Builder& b) const {
  const LongTermMemory& m = c_.memory;
  Value fit, update, samples, centers, widths;
  if (m.imported) {
    Scope scope(b, "memory_tables");
    fit = b.Vector("fit", m.length, m.basis), update = b.Vector("update", m.samples + m.length, m.basis), samples = b.Vector("samples", m.samples, m.basis);
    centers = b.Vector("centers", m.basis), widths = b.Vector("widths", m.basis);
  }
  return b.MemoryTables(m, fit, update, samples, centers, widths);
}

// The rows of earlier segments enter layer `m.layer`'s memory.
InfiniteFormer::LayerMemory InfiniteFormer::Update(Builder& b, const LongTermMemory& m, Value tables) const {
  Scope scope(b, "memory");
  const int64_t a = m.width();
  StateSpec spec{"long_term", StateRule::kRefit};
  spec.lanes = m.batch, spec.elements = LongTermMemoryLayout(m).elements;
  const int32_t state = b.State("long_term", spec);
  Builder::MemoryWeights w;
  w.key = b.Matrix("key", a, a), w.value = b.Matrix("value", a, a);
  if (m.affines) w.mu = b.Vector("mu", 1, m.basis), w.sigma = b.Vector("sigma", 1, m.basis);
  if (m.mask == MemoryMask::kConvolution) w.mask_weight = b.Matrix("mask.weight", a, 3 * a), w.mask_bias = b.Vector("mask.bias", a);
  if (m.mask == MemoryMask::kAffine) w.mask_weight = b.Matrix("mask.weight", m.length, m.length), w.mask_bias = b.Vector("mask.bias", m.length);
  b.UpdateMemory(state, m, tables, w);
  return {state, b.Matrix("out", c_.d_model(), a)};
}

void InfiniteFormer::BuildGpt2(const EntryOptions& options, Builder& b) const {
  const Gpt2Config& g = c_.gpt2;
  Dim rows = b.AddLength("T", options.tokens) * options.batch;
  Value ids = b.Input("input_ids", DType::i32, rows, 1);
  Value words = b.Table("embed.words", g.vocab_size, g.d_model);
  Value x = b.Embed(ids, {{words, {}, {}}}, g.d_model, 1);
  x = b.AddPositions(x, b.Table("embed.positions", g.n_positions, g.d_model));
  if (c_.host == MemoryHost::kDocument) x = b.AddLookup(x, b.Input("token_type_ids", DType::i32, rows, 1), words);
  const Value tables = Tables(b);
  for (int64_t l = 0; l < g.n_layers; ++l) {
    if (options.trace) b.Output(Str("hidden_states.", l), x);
    Scope layer(b, "layers", l);
    const LongTermMemory m = Memory(options, l);
    const LayerMemory memory = Update(b, m, tables);
    Value in = Gpt2Norm(b, "attention_norm", x, g.layer_norm_epsilon);
    b.RememberRows(memory.state, m, c_.host == MemoryHost::kDocument ? in : x);
    Value qkv = Gpt2Linear(b, "qkv", in, 3 * g.d_model);
    Value o = Gpt2Linear(b, "o", Gpt2Attention(b, g, options, l, qkv), g.d_model);
    x = b.Add(x, b.Add(o, b.MatMul(b.AttendMemory(memory.state, m, b.Columns(qkv, 0, g.d_model), tables), memory.out)));
    x = Gpt2FeedForward(b, g, x);
  }
  Gpt2Outputs(b, g, options, rows, x, true);
}

void InfiniteFormer::BuildXl(const EntryOptions& options, Builder& b) const {
  const TransformerXlConfig& xl = c_.xl;
  Dim rows = b.AddLength("T", options.tokens) * options.batch;
  Value ids = b.Input("input_ids", DType::i32, rows, 1);
  Builder::Cluster words{b.Table("embed.table.0", xl.vocab_size, xl.d_embed), {}, {}};
  if (xl.projected()) words.projection = b.Matrix("embed.projection.0", xl.d_model, xl.d_embed);
  Value x = b.Embed(ids, {words}, xl.d_model, static_cast<float>(std::sqrt(static_cast<double>(xl.d_model))));
  const Value sinusoid = XlSinusoid(b, xl, options);
  const Value tables = c_.long_term_attention ? Tables(b) : Value{};
  for (int64_t l = 0; l < xl.n_layers; ++l) {
    if (options.trace) b.Output(Str("hidden_states.", l), x);
    Scope layer(b, "layers", l);
    if (!c_.long_term_attention) {
      x = XlLayer(b, xl, options, x, sinusoid, {});
      continue;
    }
    const LongTermMemory m = Memory(options, l);
    const LayerMemory memory = Update(b, m, tables);
    b.RememberRows(memory.state, m, x);
    x = XlLayer(b, xl, options, x, sinusoid, [&](Value q, Value o) { return b.Add(o, b.MatMul(b.AttendMemory(memory.state, m, q, tables), memory.out)); });
  }
  if (options.trace) b.Output(Str("hidden_states.", xl.n_layers), x);

  using Logits = EntryOptions::Logits;
  if (options.logits == Logits::kNone) return b.Output("hidden", x);
  Value head = b.Matrix("head", xl.vocab_size, xl.d_model);
  if (options.logits == Logits::kTarget) {
    Value targets = b.Input("targets", DType::i32, rows, 1);
    return b.Output("log_probs", b.TargetLogProb(x, {{head, {}, {}}}, {}, {}, false, targets));
  }
  if (options.logits == Logits::kAll) b.Output("last_hidden_state", x);
  if (options.logits == Logits::kLast) x = b.LastRows(x, options.batch);
  b.Output("logits", b.MatMul(x, head));
}

// The tables exist for updates of exactly L rows; the public code fails on anything else.
Status InfiniteFormer::CheckSegment(int64_t seen, int64_t previous, int64_t tokens) const {
  const LongTermMemory& m = c_.memory;
  auto bad = [](std::string what) { return UsageError(std::move(what)); };
  if (c_.on_gpt2()) {
    if (tokens > m.length) return bad("a block is longer than the model's").Got(tokens, Str("at most ", m.length));
    if (seen == 0) return {};
    const bool short_first = c_.host == MemoryHost::kDocument && seen == previous && previous >= 2;
    if (previous == m.length || short_first) return {};
    return bad("every block but the last must be full").Got(Str("one of ", previous, " tokens"), Str(m.length, c_.host == MemoryHost::kDocument ? " (the first at least 2)" : ""));
  }
  if (!c_.long_term_attention || seen <= m.short_memory) return {};
  const int64_t rows = std::min(seen, m.capacity()) - m.short_memory;
  const bool first = seen - previous <= m.short_memory;
  if (rows == m.length || (first && rows >= 2)) return {};
  return bad("the long-term memory takes whole segments once it has begun")
      .Got(Str(rows, " rows are older than mem_len"), Str(m.length, " (augment_len)"))
      .Hint("Feed full segments until the memories are full");
}

Result<std::shared_ptr<const Network>> InfiniteFormer::WithSetting(std::string_view key, std::string_view value) const {
  Config c = c_;
  const bool resets = c.on_gpt2() && c.host == MemoryHost::kGpt2 && c.memory.calls_per_fit != 1;
  if (key == "mem_threshold" && resets) {
    TERN_ASSIGN(c.mem_threshold, SettingInt(key, value, 0, int64_t{1} << 40));
    c.memory.calls_per_fit = CeilDiv(c.mem_threshold, c.memory.length);
  } else if (key == "sticky_choice" && c.memory.sticky) {
    if (value != "systematic" && value != "draws") return UsageError(Str("--set ", key, " is one of two rules")).Got(Printable(value, 64), "systematic or draws");
    c.memory.choice = value == "draws" ? StickyChoice::kDraws : StickyChoice::kSystematic;
  } else if (key == "sticky_seed" && c.memory.sticky) {
    TERN_ASSIGN(int64_t seed, SettingInt(key, value, 0, INT64_MAX));
    c.memory.seed = static_cast<uint64_t>(seed);
    c.memory.choice = StickyChoice::kDraws;
  } else {
    std::string known = resets ? "mem_threshold" : "";
    if (c.memory.sticky) known += known.empty() ? "sticky_choice, sticky_seed" : ", sticky_choice, sticky_seed";
    return UsageError(Str("--set ", Printable(key, 64), ": no such run-time setting")).Hint(known.empty() ? "This model has none" : "This model has " + known);
  }
  return std::shared_ptr<const Network>(std::make_shared<InfiniteFormer>(std::move(c)));
}

Result<std::shared_ptr<const Network>> Parse(const Json& json, const std::vector<ForeignTensor>& checkpoint) {
  TERN_ASSIGN(Config c, ReadInfiniteFormerConfig(json, checkpoint));
  return std::shared_ptr<const Network>(std::make_shared<InfiniteFormer>(std::move(c)));
}

}  // namespace

const Architecture kInfiniteFormer{kInfiniteFormerName, "infinity-former: unbounded continuous long-term memory, on Transformer-XL or GPT-2 (MemTransformerLM, GPT2LMHeadModel)",
                                   RecognizesInfiniteFormer, Parse};

}  // namespace tern
