#include "engine/runtime/score.h"

#include <algorithm>
#include <cmath>

namespace tern {

double Score::perplexity() const { return scored > 0 ? std::exp(nll / static_cast<double>(scored)) : 0; }
double Score::bits_per_token() const { return scored > 0 ? nll / static_cast<double>(scored) / std::log(2.0) : 0; }

Scorer::Scorer(Session* session) : session_(session) { waiting_.reserve(static_cast<size_t>(session->max_tokens()) * 2 + 1); }

// Feeds the first `count` waiting tokens; each one's successor is its target.
Status Scorer::Feed(size_t count, const Listener& listener) {
  TERN_RETURN_IF_ERROR(session_->Feed({waiting_.data(), count}, LogitsMode::kTarget, {waiting_.data() + 1, count}));
  const Operand& log_probs = session_->output("log_probs");
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += log_probs.f32()[i];
  if (!std::isfinite(sum)) return Status(Code::kNumeric, "a log-probability is not finite").Where(Str("token ", session_->tokens_seen())).Hint("Check the weights with tern verify");
  score_.nll -= sum;
  score_.scored += static_cast<int64_t>(count);
  if (listener) listener({log_probs.f32(), count});
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<int64_t>(count));
  return {};
}

Status Scorer::Push(std::span<const int32_t> ids, const Listener& listener) {
  score_.tokens += static_cast<int64_t>(ids.size());
  while (!ids.empty()) {
    if (session_->room() == 0) session_->Reset();
    const size_t chunk = static_cast<size_t>(session_->room());
    const size_t take = std::min(ids.size(), chunk + 1 - std::min(waiting_.size(), chunk + 1));
    waiting_.insert(waiting_.end(), ids.begin(), ids.begin() + static_cast<int64_t>(take));
    ids = ids.subspan(take);
    if (waiting_.size() == chunk + 1) TERN_RETURN_IF_ERROR(Feed(chunk, listener));
  }
  return {};
}

Status Scorer::Finish(const Listener& listener) {
  if (waiting_.size() > 1) TERN_RETURN_IF_ERROR(Feed(waiting_.size() - 1, listener));
  waiting_.clear();
  session_->Reset();
  return {};
}

Status WindowScorer::Push(std::span<const int32_t> ids) {
  for (int32_t id : ids) {
    ++score_.tokens;
    if (!recent_.empty()) {
      session_->Reset();
      targets_.assign(recent_.size(), -1);
      targets_.back() = id;
      TERN_RETURN_IF_ERROR(session_->Feed(recent_, LogitsMode::kTarget, targets_));
      score_.nll -= session_->output("log_probs").f32()[recent_.size() - 1];
      ++score_.scored;
    }
    if (recent_.size() == window_) recent_.erase(recent_.begin());
    recent_.push_back(id);
  }
  return {};
}

}  // namespace tern
