#include "engine/runtime/answer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/runtime/classify.h"
#include "engine/runtime/embed.h"

namespace tern {
namespace {

struct Candidate {
  double score;
  int64_t begin, end;  // code points
};

// The n largest of a window's logits, larger first, lower index on ties.
std::vector<size_t> Largest(const std::vector<float>& logits, int64_t n) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t keep = std::min(order.size(), static_cast<size_t>(n));
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(keep), order.end(),
                    [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  order.resize(keep);
  return order;
}

void AddCandidates(const WindowLogits& w, const AnswerOptions& options, std::vector<Candidate>* all) {
  const auto ends = Largest(w.end, options.n_best);
  for (size_t s : Largest(w.start, options.n_best))
    for (size_t e : ends) {
      const int64_t start = static_cast<int64_t>(s), end = static_cast<int64_t>(e);
      const bool inside = start >= w.first_context_token && end <= w.last_context_token;
      if (!inside || end < start || end - start + 1 > options.max_answer_tokens) continue;
      all->push_back({static_cast<double>(w.start[s]) + static_cast<double>(w.end[e]), w.offsets[s].first, w.offsets[e].second});
    }
}

// Softmax over the scores of those that stay.
void SetProbabilities(std::vector<Answer>* best) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const Answer& a : *best) top = std::max(top, a.score);
  for (const Answer& a : *best) sum += std::exp(a.score - top);
  for (Answer& a : *best) a.probability = std::exp(a.score - top) / sum;
}

}  // namespace

Answers ChooseAnswers(const std::vector<WindowLogits>& windows, const std::string& context, const AnswerOptions& options) {
  Answers out;
  out.null_score = std::numeric_limits<double>::infinity();
  out.best_score = -out.null_score;
  std::vector<Candidate> all;
  for (const WindowLogits& w : windows) {
    if (!w.start.empty()) out.null_score = std::min(out.null_score, static_cast<double>(w.start[0]) + static_cast<double>(w.end[0]));
    AddCandidates(w, options, &all);
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.score > b.score; });

  const std::vector<int64_t> bytes = CodePointOffsets(context);
  const int64_t characters = static_cast<int64_t>(bytes.size()) - 1;
  for (const Candidate& c : all) {
    if (static_cast<int64_t>(out.best.size()) >= options.n_best) break;
    Answer a;
    a.begin = bytes[static_cast<size_t>(std::clamp<int64_t>(c.begin, 0, characters))];
    a.end = bytes[static_cast<size_t>(std::clamp<int64_t>(c.end, 0, characters))];
    // A word-initial piece carries the space before it; an answer does not.
    while (a.begin < a.end && (context[static_cast<size_t>(a.begin)] == ' ' || context[static_cast<size_t>(a.begin)] == '\n' || context[static_cast<size_t>(a.begin)] == '\t')) ++a.begin;
    if (a.begin >= a.end) continue;
    // Two windows, or two pairs of tokens, may mean the same words.
    if (std::any_of(out.best.begin(), out.best.end(), [&](const Answer& b) { return b.begin == a.begin && b.end == a.end; })) continue;
    a.text = context.substr(static_cast<size_t>(a.begin), static_cast<size_t>(a.end - a.begin));
    a.score = c.score;
    out.best.push_back(std::move(a));
  }
  if (!out.best.empty()) out.best_score = out.best[0].score;
  if (options.may_be_empty || out.best.empty()) {
    Answer none;
    none.score = std::isfinite(out.null_score) ? out.null_score : 0;
    const bool wins = out.best.empty() || out.null_score - out.best_score > options.null_threshold;
    if (wins) out.best.insert(out.best.begin(), none);
    else if (options.may_be_empty) {
      // The rest stays in the order of scores; the threshold only decides who comes first.
      auto at = std::find_if(out.best.begin() + 1, out.best.end(), [&](const Answer& a) { return a.score < none.score; });
      out.best.insert(at, none);
    }
    if (static_cast<int64_t>(out.best.size()) > options.n_best) out.best.pop_back();
  }
  SetProbabilities(&out.best);
  return out;
}

Result<std::unique_ptr<QuestionAnswerer>> QuestionAnswerer::Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel) {
  std::unique_ptr<QuestionAnswerer> q(new QuestionAnswerer());
  EncoderOptions options;
  options.threads = threads, options.cancel = cancel;
  const std::string path = model->file().path();
  TERN_ASSIGN(q->session_, EncoderSession::Create(model, options));
  if (q->session_->network().encoder().head != EncoderHead::kQuestion) return UsageError("the model has no question-answering head").File(path);
  TERN_ASSIGN(q->tokenizer_, model->NeedTokenizer());
  return q;
}

Result<Answers> QuestionAnswerer::Ask(const std::string& question, const std::string& context, const AnswerOptions& options) {
  const int64_t max_length = std::min(options.max_length, session_->longest());
  // Leading white space of a question is cut by the public scripts: some questions have lots of it, and truncation would then eat the context.
  const size_t from = std::min(question.find_first_not_of(" \t\n\r"), question.size());
  TERN_ASSIGN(std::vector<TextWindow> cut, tokenizer_->EncodeWindows(question.substr(from), context, max_length, std::min(options.stride, max_length / 2)));
  std::vector<Encoding> encodings;
  for (const TextWindow& w : cut) encodings.push_back(w.encoding);
  std::vector<WindowLogits> windows;
  TERN_RETURN_IF_ERROR(ForBatches(encodings, kBatchRows, [&](size_t begin, size_t end) -> Status {
    std::vector<EncoderInput> batch;
    for (size_t i = begin; i < end; ++i) batch.push_back(InputOf(encodings[i]));
    TERN_RETURN_IF_ERROR(session_->Run(batch));
    const Operand &start = session_->output("start_logits"), &stop = session_->output("end_logits");
    for (size_t i = begin; i < end; ++i) {
      WindowLogits w;
      w.first_context_token = cut[i].first_context_token, w.last_context_token = cut[i].last_context_token;
      for (size_t t = 0; t < encodings[i].ids.size(); ++t) {
        const int64_t row = session_->RowOf(static_cast<int64_t>(i - begin), static_cast<int64_t>(t));
        const float none = -std::numeric_limits<float>::infinity();  // padding that the tokenizer's file asked for
        w.start.push_back(row < 0 ? none : start.f32()[row * start.stride]);
        w.end.push_back(row < 0 ? none : stop.f32()[row * stop.stride]);
        const TextSpan span = t < encodings[i].offsets.size() ? encodings[i].offsets[t] : TextSpan{};
        w.offsets.push_back({span.begin, span.end});
      }
      windows.push_back(std::move(w));
    }
    return {};
  }));
  return ChooseAnswers(windows, context, options);
}

}  // namespace tern
