#include "engine/runtime/generate.h"

#include <algorithm>
#include <chrono>

namespace tern {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Passes text on, but holds back what could be the beginning of a stop text.
class StopFilter {
 public:
  StopFilter(const std::vector<std::string>& stop, const std::function<bool(std::string_view)>& sink) : stop_(stop), sink_(sink) {}

  // False: stop now. `found` tells whether a stop text was the reason.
  bool Push(std::string_view text, bool* found) {
    held_ += text;
    for (const std::string& s : stop_) {
      if (s.empty()) continue;
      if (size_t at = held_.find(s); at != std::string::npos) {
        *found = true;
        held_.resize(at);
        Flush();
        return false;
      }
    }
    size_t keep = 0;
    for (const std::string& s : stop_)
      for (size_t n = std::min(s.size(), held_.size()); n > keep; --n)
        if (std::string_view(held_).ends_with(std::string_view(s).substr(0, n))) keep = n;
    std::string ready = held_.substr(0, held_.size() - keep);
    held_.erase(0, ready.size());
    return ready.empty() || !sink_ || sink_(ready);
  }
  void Flush() {
    if (!held_.empty() && sink_) sink_(held_);
    held_.clear();
  }

 private:
  const std::vector<std::string>& stop_;
  const std::function<bool(std::string_view)>& sink_;
  std::string held_;
};

}  // namespace

std::vector<PlanRequest> GeneratePlans(int64_t chunk) {
  std::vector<PlanRequest> plans{{1, LogitsMode::kLast}};
  if (chunk > 1) plans.push_back({chunk, LogitsMode::kLast});
  return plans;
}

Conversation::Conversation(Session* session, const SamplerOptions& options)
    : session_(session), sampler_(options, session->model().network().vocab_size(), session->model().kernels()) {}

Status Conversation::Prefill(std::span<const int32_t> tokens) {
  while (!tokens.empty()) {
    const size_t room = static_cast<size_t>(session_->room());
    if (room == 0) return UsageError("the text is longer than the model's context").Got(Str(tokens.size(), " tokens more"), Str("at most ", session_->tokens_seen()));
    const size_t count = std::min(room, tokens.size());
    TERN_RETURN_IF_ERROR(session_->Feed(tokens.first(count), LogitsMode::kLast));
    tokens = tokens.subspan(count);
  }
  return {};
}

Result<GenerateReport> Conversation::Generate(std::span<const int32_t> prompt, const GenerateOptions& options, const Tokenizer* tokenizer,
                                              const std::function<bool(std::string_view)>& on_text) {
  const Network& network = session_->model().network();
  GenerateReport report;
  report.prompt_tokens = static_cast<int64_t>(prompt.size());
  std::vector<int32_t> feed = pending_;
  feed.insert(feed.end(), prompt.begin(), prompt.end());
  if (feed.empty() && network.eos_token_id() >= 0) feed.push_back(static_cast<int32_t>(network.eos_token_id()));
  if (feed.empty()) return UsageError("there is nothing to begin from").Hint("Give a prompt");
  for (int32_t id : prompt) sampler_.Accept(id);

  std::unique_ptr<TokenDecoder> decoder = tokenizer && on_text ? tokenizer->NewTokenDecoder() : nullptr;
  StopFilter filter(options.stop, on_text);
  report.ids.reserve(static_cast<size_t>(std::min<int64_t>(options.new_tokens, 1 << 20)));

  double begin = Seconds();
  Status fed = Prefill(feed);
  if (!fed.ok() && fed.code() != Code::kCancelled) return fed;
  pending_.clear();
  report.prefill_seconds = Seconds() - begin;
  begin = Seconds();
  using End = GenerateReport::End;
  if (!fed.ok()) report.end = End::kCancelled;
  bool go = fed.ok();
  while (go && static_cast<int64_t>(report.ids.size()) < options.new_tokens) {
    if (!pending_.empty()) {
      if (session_->room() == 0) {
        report.end = End::kContext;
        break;
      }
      Status s = session_->Feed(pending_, LogitsMode::kLast);
      if (s.code() == Code::kCancelled) {
        report.end = End::kCancelled;
        break;
      }
      if (!s.ok()) return s;
      pending_.clear();
    }
    const Operand& logits = session_->output("logits");
    const int32_t id = sampler_.Sample({logits.f32(), static_cast<size_t>(logits.cols)});
    if (id < 0) return Status(Code::kNumeric, "the logits are not finite").Hint("Check the weights with tern verify");
    if (!options.ignore_eos && id == network.eos_token_id()) {
      report.end = End::kEos;
      break;
    }
    sampler_.Accept(id);
    pending_.push_back(id);
    report.ids.push_back(id);
    bool found = false;
    if (decoder && !filter.Push(decoder->Push(id), &found)) {
      report.end = found ? End::kStop : End::kListener;
      go = false;
    }
  }
  if (decoder && go) {
    bool found = false;
    if (filter.Push(decoder->Finish(), &found)) filter.Flush();
    else if (found) report.end = End::kStop;
  }
  report.step_seconds = Seconds() - begin;
  return report;
}

Status Conversation::Save(const std::string& path) const { return session_->Save(path, {{"pending", pending_}, {"sampler", sampler_.State()}}); }

Status Conversation::Restore(const std::string& path) {
  TERN_ASSIGN(Json extra, session_->Restore(path));
  if (!extra.is_object() || !extra.contains("pending") || !extra["pending"].is_array() || !extra.contains("sampler"))
    return Malformed("this state was not saved by a conversation").File(path);
  pending_.clear();
  for (const Json& id : extra["pending"]) {
    if (!id.is_number_integer() || id < 0 || id >= session_->model().network().vocab_size()) return Malformed("a pending token lies outside the vocabulary").File(path);
    pending_.push_back(static_cast<int32_t>(id.get<int64_t>()));
  }
  Status s = sampler_.Restore(extra["sampler"]);
  return s.ok() ? s : std::move(s).File(path);
}

}  // namespace tern
