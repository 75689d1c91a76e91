#include "engine/runtime/classify.h"

#include <algorithm>

#include "engine/base/utf8.h"
#include "engine/runtime/embed.h"

namespace tern {
namespace {

// Softmax of a row of logits, likeliest first, lower label on ties.
std::vector<LabelScore> Ranked(const KernelTable& kernels, const float* row, int64_t n) {
  std::vector<float> p(static_cast<size_t>(n));
  kernels.softmax(row, n, p.data());
  std::vector<LabelScore> scores;
  for (int64_t i = 0; i < n; ++i) scores.push_back({i, p[static_cast<size_t>(i)]});
  std::stable_sort(scores.begin(), scores.end(), [](const LabelScore& a, const LabelScore& b) { return a.probability > b.probability; });
  return scores;
}

}  // namespace

std::vector<int64_t> CodePointOffsets(std::string_view text) {
  std::vector<int64_t> offsets;
  for (size_t i = 0; i < text.size(); i += DecodeUtf8(text, i).bytes) offsets.push_back(static_cast<int64_t>(i));
  offsets.push_back(static_cast<int64_t>(text.size()));
  return offsets;
}

Result<std::unique_ptr<Classifier>> Classifier::Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel) {
  std::unique_ptr<Classifier> c(new Classifier());
  EncoderOptions options;
  options.threads = threads, options.cancel = cancel;
  const std::string path = model->file().path();
  TERN_ASSIGN(c->session_, EncoderSession::Create(model, options));
  const EncoderHead head = c->session_->network().encoder().head;
  if (head != EncoderHead::kSequence && head != EncoderHead::kToken && head != EncoderHead::kChoice) return UsageError("the model has no classification head").File(path);
  TERN_ASSIGN(c->tokenizer_, model->NeedTokenizer());
  return c;
}

bool Classifier::per_token() const { return session_->network().encoder().head == EncoderHead::kToken; }

bool Classifier::chooses() const { return session_->network().encoder().head == EncoderHead::kChoice; }

std::string Classifier::LabelName(int64_t label) const {
  const auto& labels = session_->network().encoder().labels;
  return label >= 0 && static_cast<size_t>(label) < labels.size() ? labels[static_cast<size_t>(label)] : Str("LABEL_", label);
}

Result<std::vector<std::vector<LabelScore>>> Classifier::Classify(const std::vector<Request>& requests) {
  EncodeOptions options;
  options.max_length = session_->longest();
  std::vector<Encoding> encodings;
  for (const Request& r : requests) {
    TERN_ASSIGN(Encoding e, r.has_pair ? tokenizer_->EncodePair(r.text, r.pair, options) : tokenizer_->Encode(r.text, options));
    encodings.push_back(std::move(e));
  }
  std::vector<std::vector<LabelScore>> out;
  TERN_RETURN_IF_ERROR(ForBatches(encodings, kBatchRows, [&](size_t begin, size_t end) -> Status {
    std::vector<EncoderInput> batch;
    for (size_t i = begin; i < end; ++i) batch.push_back(InputOf(encodings[i]));
    TERN_RETURN_IF_ERROR(session_->Run(batch));
    const Operand& logits = session_->output("logits");
    for (int64_t r = 0; r < logits.rows; ++r) out.push_back(Ranked(session_->model().kernels(), logits.f32() + r * logits.stride, logits.cols));
    return {};
  }));
  return out;
}

Result<std::vector<LabelScore>> Classifier::Choose(const std::string& text, const std::vector<std::string>& choices) {
  if (choices.empty()) return UsageError("there is nothing to choose from");
  EncodeOptions options;
  options.max_length = session_->longest();
  std::vector<Encoding> encodings;
  for (const std::string& choice : choices) {
    TERN_ASSIGN(Encoding e, tokenizer_->EncodePair(text, choice, options));
    encodings.push_back(std::move(e));
  }
  std::vector<float> scores;
  TERN_RETURN_IF_ERROR(ForBatches(encodings, kBatchRows, [&](size_t begin, size_t end) -> Status {
    std::vector<EncoderInput> batch;
    for (size_t i = begin; i < end; ++i) batch.push_back(InputOf(encodings[i]));
    TERN_RETURN_IF_ERROR(session_->Run(batch));
    const Operand& logits = session_->output("logits");
    for (int64_t r = 0; r < logits.rows; ++r) scores.push_back(logits.f32()[r * logits.stride]);
    return {};
  }));
  return Ranked(session_->model().kernels(), scores.data(), static_cast<int64_t>(scores.size()));
}

Result<std::vector<TokenLabel>> Classifier::ClassifyTokens(const std::string& text) {
  EncodeOptions options;
  options.max_length = session_->longest();
  options.offsets = true;
  TERN_ASSIGN(Encoding e, tokenizer_->Encode(text, options));
  const EncoderInput input = InputOf(e);
  TERN_RETURN_IF_ERROR(session_->Run({&input, 1}));
  const Operand& logits = session_->output("logits");
  const std::vector<int64_t> bytes = CodePointOffsets(text);
  const int64_t characters = static_cast<int64_t>(bytes.size()) - 1;
  std::vector<TokenLabel> out;
  for (size_t i = 0; i < e.ids.size() && i < e.offsets.size(); ++i) {
    const int64_t row = session_->RowOf(0, static_cast<int64_t>(i));
    if (row < 0 || tokenizer_->IsSpecial(e.ids[i])) continue;
    TokenLabel t;
    t.begin = bytes[static_cast<size_t>(std::clamp<int64_t>(e.offsets[i].begin, 0, characters))];
    t.end = bytes[static_cast<size_t>(std::clamp<int64_t>(e.offsets[i].end, 0, characters))];
    t.text = text.substr(static_cast<size_t>(t.begin), static_cast<size_t>(std::max<int64_t>(0, t.end - t.begin)));
    t.score = Ranked(session_->model().kernels(), logits.f32() + row * logits.stride, logits.cols)[0];
    out.push_back(std::move(t));
  }
  return out;
}

}  // namespace tern
