// tern plan: what a session will need, to the byte, before anything is loaded.
#include <algorithm>

#include "engine/base/file.h"
#include "engine/graph/cost.h"
#include "engine/runtime/encoder_decoder_session.h"
#include "tools/model_options.h"

namespace tern {
namespace {

class PlanVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Integer("--context", &context_, 1, 1 << 24, "tokens fed at once (the prompt's chunk)").ValueName("N");
    args.Integer("--batch", &batch_, 1, 65536, "sequences side by side").ValueName("B");
    args.Integer("--new-tokens", &new_tokens_, 1, 1 << 24, "of an encoder-decoder: tokens to be written").ValueName("N");
    args.Integer("--beams", &beams_, 1, 1000, "of an encoder-decoder: beams per sequence").ValueName("K");
    args.Choice("--logits", &logits_, {"last", "all", "target"}, "which outputs are wanted");
    args.Flag("--map", &map_, "list every buffer: offset, bytes, the operations during which it lives");
    args.Path("--svg", &svg_, "draw the arena, operations against offsets");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, model_.Open(console));
    SessionOptions options;
    options.threads = static_cast<int>(model_.threads);
    options.batch = batch_;
    const LogitsMode mode = logits_ == "all" ? LogitsMode::kAll : logits_ == "target" ? LogitsMode::kTarget : LogitsMode::kLast;
    const int64_t tokens = context_.value_or(model->network().preferred_chunk());
    const bool pair = dynamic_cast<const EncoderDecoderNetwork*>(&model->network()) != nullptr;
    options.plans = {{tokens, mode}};
    if (tokens > 1) options.plans.push_back({1, mode});
    if (model->network().segments().one_by_one) {
      options.context = mode == LogitsMode::kLast ? tokens : 0;  // room to go on is planned where text is generated
      for (PlanRequest& p : options.plans) p.entry = model->network().entries()[0];
    }
    EncoderDecoderOptions pair_options;
    pair_options.threads = options.threads, pair_options.beams = beams_, pair_options.positions = new_tokens_, pair_options.logits = mode;
    TERN_ASSIGN(SessionPlan plan, pair ? PlanEncoderDecoder(*model, pair_options, batch_, tokens) : PlanSession(*model, options));
    for (const Plan& p : plan.plans) TERN_RETURN_IF_ERROR(CheckPlan(p));
    if (svg_) {
      TERN_ASSIGN(FileWriter w, FileWriter::Create(*svg_));
      TERN_RETURN_IF_ERROR(w.Write(PlanToSvg(plan.plans[0])));
      TERN_RETURN_IF_ERROR(w.Commit());
    }
    if (console.json) Machine(*model, plan, tokens, console);
    else Human(*model, plan, tokens, console);
    return {};
  }

 private:
  // With as many experts in memory as --expert-memory lets in.
  int64_t Bounded(const Model& model, const MemoryUse& m) const {
    const int64_t most = model_.expert_memory > 0 ? std::min(model_.expert_memory, model.expert_bytes()) : model.expert_bytes();
    return m.peak() - model.expert_bytes() + most;
  }

  // The run-time lengths at capacity: the tokens asked for, and what follows from the batch.
  static std::vector<int64_t> Lengths(const Plan& p) {
    std::vector<int64_t> out;
    for (const Length& length : p.graph.lengths) out.push_back(length.capacity);
    return out;
  }

  // The longest a query can see: what the state keeps, and the chunk itself.
  static double Visible(const Plan& p, int64_t tokens) {
    int64_t keep = 0;
    for (const StateSpec& s : p.graph.states) keep = std::max(keep, s.keep);
    return static_cast<double>(std::max<int64_t>(1, keep + (keep > 0 ? 0 : tokens / 2)));
  }

  void Machine(const Model& model, const SessionPlan& plan, int64_t tokens, Console& console) {
    const MemoryUse& m = plan.memory;
    Json j = {{"model", model.file().path()}, {"architecture", model.network().architecture()}, {"batch", batch_}, {"tokens", tokens},
              {"memory", {{"weights", m.weights}, {"constants", m.constants}, {"state", m.state}, {"arena", m.arena}, {"constants_arena", m.constants_arena}, {"peak", m.peak()}}},
              {"available", AvailableMemory()}};
    if (model.pager()) j["experts"] = {{"bytes", model.expert_bytes()}, {"count", model.pager()->stats().experts}, {"peak_without", m.peak() - model.expert_bytes()}, {"peak_bounded", Bounded(model, m)}};
    Json plans = Json::array();
    for (size_t i = 0; i < plan.plans.size(); ++i) {
      const int64_t t = i == 0 ? tokens : 1;
      const Cost c = RunCost(plan.plans[i].graph, Lengths(plan.plans[i]), Visible(plan.plans[i], t));
      Json one = {{"tokens", t}, {"flops", c.flops}};
      one.update(PlanToJson(plan.plans[i]));
      plans.push_back(one);
    }
    j["plans"] = plans;
    Json states = Json::array();
    for (size_t i = 0; i < plan.plans[0].graph.states.size(); ++i) {
      const StateSpec& s = plan.plans[0].graph.states[i];
      states.push_back({{"name", s.name}, {"rule", StateRuleName(s.rule)}, {"keep", s.keep}, {"offset", plan.plans[0].state_offset[i]}});
    }
    j["states"] = states;
    console.PrintJson(j);
  }

  void Human(const Model& model, const SessionPlan& plan, int64_t tokens, Console& console) {
    const MemoryUse& m = plan.memory;
    auto line = [&](const char* name, int64_t bytes, const std::string& note) {
      std::string padded = WithCommas(bytes);
      padded.insert(0, padded.size() < 16 ? 16 - padded.size() : 0, ' ');
      console.Print(Str(name, std::string(12 - std::string_view(name).size(), ' '), padded, "  ", note, "\n"));
    };
    const Phase& run = plan.plans[0].run;
    console.Print(Str(model.file().path(), ": ", model.network().architecture(), ", ", batch_, " x ", tokens, " tokens at once\n\n"));
    line("weights", m.weights, "mapped from the file, shared by all sessions");
    line("tables", m.constants, "computed once, shared by all sessions");
    line("state", m.state, Str(plan.plans[0].graph.states.size(), " parts; kept from call to call"));
    line("arena", m.arena, Str(run.ops.size(), " operations; live bytes at most ", WithCommas(run.bound_bytes)));
    line("peak", m.peak(), HumanBytes(m.peak()));
    if (model.pager()) {
      line("experts", model.expert_bytes(), Str(WithCommas(model.pager()->stats().experts), " experts, of the weights; read as tokens choose them"));
      line("no expert", m.peak() - model.expert_bytes(), "peak while no expert is in memory");
      if (model_.expert_memory > 0) line("bounded", Bounded(model, m), Str("peak with --expert-memory ", HumanBytes(model_.expert_memory)));
    }
    const Cost c = RunCost(plan.plans[0].graph, Lengths(plan.plans[0]), Visible(plan.plans[0], tokens));
    console.Print(Str("\nwork         ", Fixed(c.flops / static_cast<double>(tokens * batch_) * 1e-6, 2), " MFLOP per token\n"));
    if (!map_) return;
    for (const Plan& p : plan.plans) {
      std::vector<std::vector<std::string>> rows{{"offset", "bytes", "first", "last", "buffer"}};
      auto sorted = p.run.placements;
      std::sort(sorted.begin(), sorted.end(), [](const Placement& a, const Placement& b) { return a.offset != b.offset ? a.offset < b.offset : a.first < b.first; });
      for (const Placement& x : sorted)
        rows.push_back({WithCommas(x.offset), WithCommas(x.bytes), Str(x.first), Str(x.last),
                        p.graph.ops[static_cast<size_t>(x.op)].name + (x.value < 0 ? " (scratch)" : "")});
      console.Print("\n" + Table(rows, console));
    }
  }

  ModelFlags model_;
  std::optional<int64_t> context_;
  std::optional<std::string> svg_;
  int64_t batch_ = 1, new_tokens_ = 128, beams_ = 1;
  std::string logits_ = "last";
  bool map_ = false;
};

}  // namespace

extern const Verb kPlan = {"plan", "Models", "the memory a model needs, before it is loaded", "tern plan books.tern --context 128\ntern plan books.tern --svg arena.svg", Make<PlanVerb>};

}  // namespace tern
