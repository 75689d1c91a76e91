#include "tools/perplexity_rule.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "engine/runtime/score.h"

namespace tern {
namespace {

class PerplexityRule : public corpus::RuleSet {
 public:
  PerplexityRule(std::shared_ptr<const Model> model, const Tokenizer* tokenizer, PerplexityRange range, const CancelToken* cancel)
      : model_(std::move(model)), tokenizer_(tokenizer), range_(range), cancel_(cancel) {}

  std::string_view name() const override { return "ppl"; }
  std::string_view summary() const override { return "perplexity by a model"; }
  std::vector<std::string_view> reasons() const override { return {"perplexity_too_low", "perplexity_too_high"}; }

  corpus::Verdict Judge(corpus::TextUnits& units) const override {
    auto perplexity = Measure(units.text());
    if (!perplexity.ok()) {
      std::lock_guard lock(mutex_);
      if (failure_.ok()) failure_ = perplexity.status();
      return {};
    }
    if (*perplexity < range_.least) return {"perplexity_too_low", *perplexity, range_.least};
    if (*perplexity > range_.most) return {"perplexity_too_high", *perplexity, range_.most};
    return {};
  }

  Status failure() const override {
    std::lock_guard lock(mutex_);
    return failure_;
  }

  // A session that no thread uses now.
  Result<std::unique_ptr<Session>> Take() const {
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Session> session = std::move(idle_.back());
        idle_.pop_back();
        return session;
      }
    }
    SessionOptions options;
    options.threads = 1;
    options.plans = {{model_->network().preferred_chunk(), LogitsMode::kTarget}};
    options.cancel = cancel_;
    return Session::Create(model_, options);
  }
  void GiveBack(std::unique_ptr<Session> session) const {
    std::lock_guard lock(mutex_);
    idle_.push_back(std::move(session));
  }

 private:
  // NaN, which no limit is above or below, for a text without a scored token.
  Result<double> Measure(std::string_view text) const {
    std::vector<int32_t> ids;
    TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(text, false, &ids));
    if (ids.size() < 2) return std::numeric_limits<double>::quiet_NaN();
    TERN_ASSIGN(auto session, Take());
    Scorer scorer(session.get());
    TERN_RETURN_IF_ERROR(scorer.Push(ids));
    TERN_RETURN_IF_ERROR(scorer.Finish());
    double perplexity = scorer.score().perplexity();
    GiveBack(std::move(session));
    return perplexity;
  }

  std::shared_ptr<const Model> model_;
  const Tokenizer* tokenizer_;
  PerplexityRange range_;
  const CancelToken* cancel_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Session>> idle_;
  mutable Status failure_;
};

// One side of the range: empty text is `otherwise`.
Result<double> ParseSide(std::string_view text, double otherwise) {
  if (text.empty()) return otherwise;
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0)
    return UsageError("not a perplexity").Got(Printable(text), "a number of at least 0");
  return value;
}

}  // namespace

Result<PerplexityRange> ParsePerplexityRange(const std::string& text) {
  size_t colon = text.find(':');
  if (colon == std::string::npos || text.size() == 1) return UsageError("not a range").Got(Printable(text), "LEAST:MOST, either may be left out");
  PerplexityRange range;
  TERN_ASSIGN(range.least, ParseSide(std::string_view(text).substr(0, colon), 0));
  TERN_ASSIGN(range.most, ParseSide(std::string_view(text).substr(colon + 1), std::numeric_limits<double>::infinity()));
  if (range.least > range.most) return UsageError("the range is empty").Got(Printable(text), "LEAST:MOST");
  return range;
}

Result<std::unique_ptr<corpus::RuleSet>> MakePerplexityRule(const std::string& model_path, PerplexityRange range, const CancelToken* cancel) {
  TERN_ASSIGN(auto model, Model::Open(model_path));
  TERN_ASSIGN(const Tokenizer* tokenizer, model->NeedTokenizer());
  auto rule = std::make_unique<PerplexityRule>(model, tokenizer, range, cancel);
  TERN_ASSIGN(auto session, rule->Take());  // says at once if the model cannot score
  rule->GiveBack(std::move(session));
  return std::unique_ptr<corpus::RuleSet>(std::move(rule));
}

}  // namespace tern
