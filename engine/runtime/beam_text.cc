#include "engine/runtime/beam_text.h"

#include <algorithm>

namespace tern {
namespace {

// New tokens that fit behind the prompt; the last one is never fed.
int64_t Room(const Session& session, int64_t prompt) {
  const SegmentRule rule = session.model().network().segments();
  if (rule.length == 0 || rule.recurrent) return INT64_MAX;
  const int64_t context = session.options().context < 0 ? rule.context : session.options().context;
  return std::max<int64_t>(0, (rule.one_by_one ? std::min(context, rule.length) : rule.length) - prompt + 1);
}

Status Prefill(Session& session, std::span<const int32_t> prompt) {
  std::vector<int32_t> ids;
  while (!prompt.empty()) {
    const size_t count = std::min(prompt.size(), static_cast<size_t>(session.room()));
    if (count == 0) return UsageError("the text is longer than the model's context").Got(Str(prompt.size(), " tokens more"), Str("at most ", session.tokens_seen()));
    ids.clear();
    for (int64_t lane = 0; lane < session.options().batch; ++lane) ids.insert(ids.end(), prompt.begin(), prompt.begin() + static_cast<int64_t>(count));
    TERN_RETURN_IF_ERROR(session.Feed(ids, LogitsMode::kLast));
    prompt = prompt.subspan(count);
  }
  return {};
}

}  // namespace

Result<Decoded> SearchText(Session& session, std::span<const int32_t> prompt, BeamOptions options) {
  if (session.options().retrieval.neighbors > 0) return UsageError("beam search does not go with retrieval");
  if (prompt.empty()) return UsageError("there is nothing to begin from").Hint("Give a prompt");
  if (session.options().batch != options.beams) return InternalError("beams are the lanes of the session");
  options.new_tokens = std::min(options.new_tokens, Room(session, static_cast<int64_t>(prompt.size())));
  // Hypotheses have room from the start: running, next and finished ones, and thrice as many to choose from.
  const double needed = 6.0 * static_cast<double>(options.beams) * 4.0 * static_cast<double>(static_cast<int64_t>(prompt.size()) + options.new_tokens);
  if (needed > static_cast<double>(AvailableMemory()))
    return MemoryError("so many new tokens of so many beams would exceed memory").Got(Str(options.beams, " beams of ", options.new_tokens, " tokens"), "fewer");
  TERN_RETURN_IF_ERROR(Prefill(session, prompt));
  BeamSearch search(options, session.model().network().vocab_size(), session.model().kernels(), prompt);
  while (!search.done()) {
    const Operand& logits = session.output("logits");
    TERN_RETURN_IF_ERROR(search.Step(logits.f32(), logits.stride));
    if (search.done()) break;
    TERN_RETURN_IF_ERROR(session.Reorder(search.parents()));
    TERN_RETURN_IF_ERROR(session.Feed(search.tokens(), LogitsMode::kLast));
  }
  const auto best = search.best();
  Decoded out{{best.begin() + static_cast<int64_t>(prompt.size()), best.end()}, search.best_score(), false};
  out.ended = !out.ids.empty() && out.ids.back() == options.eos_id;
  return out;
}

}  // namespace tern
