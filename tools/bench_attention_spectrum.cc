// tern bench attention --spectrum M TEXT: how much of an attention matrix the best approximation of rank r holds (Eckart and Young 1936): the share of the r
// largest squared singular values. An analysis beside inference: nothing here runs a model at low rank.
#include <algorithm>
#include <cmath>
#include <map>

#include "engine/base/file.h"
#include "engine/kernels/attention.h"
#include "engine/runtime/embed.h"
#include "engine/runtime/encoder_session.h"
#include "engine/runtime/named_run.h"
#include "models/performer.h"
#include "tools/attention_work.h"
#include "tools/chart.h"
#include "tools/eigenvalues.h"
#include "tools/input.h"

namespace tern {
namespace {

// One head: energy[r-1] is the share of rank r.
struct HeadSpectrum {
  int64_t layer = 0, head = 0;
  std::vector<double> energy;
  int64_t RankFor(double share) const {
    size_t r = 0;
    while (r + 1 < energy.size() && energy[r] < share) ++r;
    return static_cast<int64_t>(r) + 1;
  }
  double At(int64_t rank) const { return energy.empty() ? 0 : energy[static_cast<size_t>(std::min<int64_t>(rank, static_cast<int64_t>(energy.size())) - 1)]; }
};

// Sees the attention ops of one run and repeats them with unit vectors as values: what comes out is the matrix of attention weights itself.
class Watcher : public OpObserver {
 public:
  void Before(const OpCall& call) override {
    std::visit([&](const auto& op) { See(op, call); }, call.op.spec);
  }
  const std::vector<HeadSpectrum>& heads() const { return heads_; }
  const Status& status() const { return status_; }
  int64_t layers() const { return layers_; }

 private:
  struct Rows {
    std::vector<float> data;  // [rows, width]
    int64_t rows = 0, width = 0;
  };
  static Rows Take(const Operand& o, int64_t begin, int64_t end) {
    Rows r{{}, end - begin, o.cols};
    for (int64_t i = begin; i < end; ++i) r.data.insert(r.data.end(), o.f32() + i * o.stride, o.f32() + i * o.stride + o.cols);
    return r;
  }

  template <class Other>
  void See(const Other&, const OpCall&) {}
  void See(const AppendKvOp&, const OpCall& call) { keys_[call.op.state] = Take(call.in(0), 0, call.in(0).rows); }
  void See(const AttendCausalOp& op, const OpCall& call) {
    AttentionArgs a;
    a.scale = op.scale, a.causal = true;
    Layer(call, Take(call.in(0), 0, call.in(0).rows), keys_[call.op.state], op.heads, a, 0);
  }
  void See(const AttendXlOp& op, const OpCall& call) {
    AttentionArgs a;
    a.scale = 1 / std::sqrt(static_cast<float>(op.head_width)), a.causal = true, a.window = op.window;
    a.max_distance = op.distances - 1;
    a.u = call.in(1).f32(), a.v = call.in(2).f32();
    a.distances = reinterpret_cast<const float*>(call.in(3).data);
    if (call.state().initial_row >= 0) return Fail("the spectrum of this model's memory is not supported", "--set mem_len=0 leaves it out");
    Layer(call, Take(call.in(0), 0, call.in(0).rows), keys_[call.op.state], op.heads, a, call.run.position);
  }
  void See(const AttendPackedOp& op, const OpCall& call) {
    AttentionArgs a;
    a.scale = 1 / std::sqrt(static_cast<float>(op.head_width));
    const int64_t rows = call.in(3).i32()[1];
    Layer(call, Take(call.in(0), 0, rows), Take(call.in(1), 0, rows), op.heads, a, 0);
  }
  // The exact attention that random features stand for.
  void See(const FavorOp& op, const OpCall& call) {
    AttentionArgs a;
    a.scale = 1 / std::sqrt(static_cast<float>(op.head_width)), a.causal = op.causal;
    Layer(call, Take(call.in(0), 0, call.in(0).rows), Take(call.in(1), 0, call.in(1).rows), op.heads, a, 0);
  }

  void Fail(const char* what, const char* hint) {
    if (status_.ok()) status_ = UsageError(what).Hint(hint);
  }

  // `before`: keys of zeros that stand before the others (an empty Transformer-XL memory).
  void Layer(const OpCall& call, const Rows& q, const Rows& k, int64_t heads, AttentionArgs a, int64_t before) {
    const int64_t width = q.width / heads, n = q.rows, s = before + k.rows;
    if (k.rows == 0 || k.width != q.width) return Fail("the attention of this model is not known to the spectrum", "Encoders, GPT-2, Transformer-XL and Performers are");
    auto panels = Allocate(KvBytes(s, width, s, DType::f32)), workspace = Allocate(AttentionWorkspaceBytes(width, s, DType::f32));
    if (!panels.ok() || !workspace.ok()) {
      status_ = panels.ok() ? workspace.status() : panels.status();
      return;
    }
    std::vector<float> units(static_cast<size_t>(s * s)), zeros(static_cast<size_t>(width)), weights(static_cast<size_t>(n * s));
    for (int64_t j = 0; j < s; ++j) units[static_cast<size_t>(j * s + j)] = 1;
    const float *distances = a.distances, *u = a.u, *v = a.v;
    const int64_t table_bytes = distances ? DistancePanelsBytes(a.max_distance, width) : 0;
    for (int64_t h = 0; h < heads; ++h) {
      a.kv = MakeKvPanels(panels->data(), s, width, s, DType::f32);
      for (int64_t j = 0; j < before; ++j) AppendKv(a.kv, j, 1, zeros.data(), 0, units.data() + j * s, s);
      AppendKv(a.kv, before, k.rows, k.data.data() + h * width, k.width, units.data() + before * s, s);
      a.q = q.data.data() + h * width, a.q_stride = q.width;
      a.out = weights.data(), a.out_stride = s;
      a.n_tokens = n, a.q_position = before, a.last_key = s - 1;
      if (distances) a.distances = reinterpret_cast<const float*>(reinterpret_cast<const uint8_t*>(distances) + h * table_bytes), a.u = u + h * width, a.v = v + h * width;
      call.run.model->attention().attend(a, 0, n, workspace->data());
      heads_.push_back({layers_, h, Energy(weights, n, s)});
    }
    ++layers_;
  }

  static std::vector<double> Energy(const std::vector<float>& weights, int64_t n, int64_t s) {
    std::vector<double> gram(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0;
        const float *a = weights.data() + i * s, *b = weights.data() + j * s;
        for (int64_t c = 0; c < s; ++c) sum += static_cast<double>(a[c]) * b[c];
        gram[static_cast<size_t>(i * n + j)] = sum;
      }
    std::vector<double> energy = SymmetricEigenvalues(&gram, n);
    double total = 0;
    for (double& e : energy) total += e = std::max(e, 0.0);
    double sum = 0;
    for (double& e : energy) sum += e, e = total > 0 ? sum / total : 1;
    return energy;
  }

  std::map<int32_t, Rows> keys_;  // per state
  std::vector<HeadSpectrum> heads_;
  Status status_;
  int64_t layers_ = 0;
};

// The first `length` tokens of the text through the model, once.
Status Watch(const SpectrumFlags& flags, const std::shared_ptr<const Model>& model, const std::string& text, Watcher* watcher, int64_t* tokens, Console& console) {
  TERN_ASSIGN(const Tokenizer* tokenizer, model->NeedTokenizer());
  const Network& network = model->network();
  const int threads = static_cast<int>(flags.threads);
  if (dynamic_cast<const EncoderNetwork*>(&network)) {
    EncoderOptions options;
    options.threads = threads, options.cancel = &console.cancel(), options.observer = watcher;
    TERN_ASSIGN(auto session, EncoderSession::Create(model, options));
    TERN_ASSIGN(Encoding e, tokenizer->Encode(text, {}));
    EncoderInput input = InputOf(e);
    *tokens = std::min({flags.length, session->longest(), static_cast<int64_t>(input.ids.size())});
    const size_t n = static_cast<size_t>(*tokens);
    input.ids = input.ids.first(n);
    if (!input.type_ids.empty()) input.type_ids = input.type_ids.first(n);
    if (!input.mask.empty()) input.mask = input.mask.first(n);
    return session->Run({&input, 1});
  }
  std::vector<int32_t> ids;
  TERN_RETURN_IF_ERROR(tokenizer->EncodeIds(text, false, &ids));
  *tokens = std::min(flags.length, static_cast<int64_t>(ids.size()));
  if (const SegmentRule rule = network.segments(); rule.length > 0) *tokens = std::min(*tokens, rule.length);
  if (*tokens == 0) return UsageError("the text has no tokens");
  ids.resize(static_cast<size_t>(*tokens));
  const std::vector<std::string> entries = network.entries();
  if (std::find(entries.begin(), entries.end(), "step") == entries.end() && dynamic_cast<const PerformerNetwork*>(&network)) {
    EntryOptions entry;
    entry.entry = "encode", entry.tokens = *tokens;
    TERN_ASSIGN(auto run, NamedRun::Create(model, entry, threads, &console.cancel()));
    run->Observe(watcher);
    run->Bind("input_ids", ids.data());
    return run->Run({*tokens, 0, 0, 0});
  }
  SessionOptions options;
  options.threads = threads, options.cancel = &console.cancel(), options.observer = watcher;
  options.plans = {{*tokens, LogitsMode::kLast, false}};
  TERN_ASSIGN(auto session, Session::Create(model, options));
  return session->Feed(ids, LogitsMode::kLast);
}

std::string Percent(double share) { return Fixed(100 * share, 1) + "%"; }

std::string Picture(const Watcher& watcher, int64_t tokens, const std::string& foot) {
  ChartPanel curves{Str("energy that rank r holds (mean of the heads), ", tokens, " tokens"), true, false, {}, {}};
  ChartPanel ranks{"rank that holds 90 %, by layer", false, false, {}, {}};
  ChartLine least{"least head", {}}, median{"median head", {}}, most{"most head", {}};
  for (int64_t l = 0; l < watcher.layers(); ++l) {
    ChartLine line{Str("layer ", l), {}};
    std::vector<double> needed;
    std::vector<const HeadSpectrum*> heads;
    for (const HeadSpectrum& h : watcher.heads())
      if (h.layer == l) heads.push_back(&h), needed.push_back(static_cast<double>(h.RankFor(0.9)));
    for (int64_t r = 1; r <= tokens; r += std::max<int64_t>(1, r / 16)) {
      double sum = 0;
      for (const HeadSpectrum* h : heads) sum += h->At(r);
      line.points.push_back({static_cast<double>(r), sum / static_cast<double>(heads.size())});
    }
    curves.lines.push_back(std::move(line));
    std::sort(needed.begin(), needed.end());
    const double x = static_cast<double>(l);
    least.points.push_back({x, needed.front()}), median.points.push_back({x, needed[needed.size() / 2]}), most.points.push_back({x, needed.back()});
  }
  ranks.lines = {std::move(least), std::move(median), std::move(most)};
  return LineChart("tern bench attention --spectrum", foot, {curves, ranks});
}

}  // namespace

Status ReportSpectrum(const SpectrumFlags& flags, Console& console) {
  ModelOptions options;
  options.settings = flags.settings;
  options.log = console.Log();
  TERN_ASSIGN(auto model, Model::Open(flags.model, options));
  TERN_ASSIGN(auto input, TextInput::Open(flags.text, console));
  std::string text;
  TERN_RETURN_IF_ERROR(input->Document(&text).status());
  Watcher watcher;
  int64_t tokens = 0;
  TERN_RETURN_IF_ERROR(Watch(flags, model, text, &watcher, &tokens, console));
  TERN_RETURN_IF_ERROR(watcher.status());
  if (watcher.heads().empty()) return UsageError("no attention of this model is known to the spectrum").File(flags.model).Hint("Encoders, GPT-2, Transformer-XL and Performers are");
  const std::string foot = Str(flags.model, ", ", tokens, " tokens; share of the squared singular values of the attention weights");
  if (flags.svg) {
    TERN_ASSIGN(FileWriter writer, FileWriter::Create(*flags.svg));
    TERN_RETURN_IF_ERROR(writer.Write(Picture(watcher, tokens, foot)));
    TERN_RETURN_IF_ERROR(writer.Commit());
  }
  constexpr int64_t kRanks[] = {1, 4, 16, 64};
  if (console.json) {
    Json rows = Json::array();
    for (const HeadSpectrum& h : watcher.heads()) {
      Json energy = Json::object();
      for (int64_t r = 1; r <= tokens; r *= 2) energy[std::to_string(r)] = h.At(r);
      rows.push_back({{"layer", h.layer}, {"head", h.head}, {"energy", energy}, {"rank_90", h.RankFor(0.9)}, {"rank_99", h.RankFor(0.99)}});
    }
    console.PrintJson({{"verb", "bench attention"}, {"spectrum", rows}, {"tokens", tokens}, {"model", flags.model}});
    return {};
  }
  std::vector<std::vector<std::string>> table = {{"layer", "head", "rank 1", "rank 4", "rank 16", "rank 64", "90 % at rank", "99 % at rank"}};
  for (const HeadSpectrum& h : watcher.heads()) {
    table.push_back({std::to_string(h.layer), std::to_string(h.head)});
    for (int64_t r : kRanks) table.back().push_back(r <= tokens ? Percent(h.At(r)) : "");
    table.back().push_back(std::to_string(h.RankFor(0.9)));
    table.back().push_back(std::to_string(h.RankFor(0.99)));
  }
  console.Print(Table(table, console));
  console.Note(foot);
  return {};
}

}  // namespace tern
