#include "engine/runtime/embed.h"

namespace tern {

EncoderInput InputOf(const Encoding& e) { return {e.ids, e.type_ids, e.attention_mask}; }

Status ForBatches(const std::vector<Encoding>& requests, int64_t rows, const std::function<Status(size_t, size_t)>& run) {
  size_t begin = 0;
  int64_t sum = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const int64_t n = static_cast<int64_t>(requests[i].ids.size());
    if (i > begin && sum + n > rows) {
      TERN_RETURN_IF_ERROR(run(begin, i));
      begin = i, sum = 0;
    }
    sum += n;
  }
  return begin < requests.size() ? run(begin, requests.size()) : Status();
}

Result<std::unique_ptr<Embedder>> Embedder::Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel) {
  std::unique_ptr<Embedder> e(new Embedder());
  TERN_ASSIGN(e->tokenizer_, model->NeedTokenizer());
  EncoderOptions options;
  options.threads = threads, options.entry = "embed", options.cancel = cancel;
  const auto* network = dynamic_cast<const EncoderNetwork*>(&model->network());
  if (network && network->encoder().head != EncoderHead::kNone)
    return UsageError("the model has a task head; sentence vectors come from a bare encoder").File(model->file().path());
  TERN_ASSIGN(e->session_, EncoderSession::Create(model, options));
  return e;
}

int64_t Embedder::width() const { return session_->network().encoder().d_model; }

Status Embedder::Embed(const std::vector<std::string>& texts, std::vector<float>* vectors) {
  std::vector<Encoding> requests;
  EncodeOptions options;
  options.max_length = session_->longest();
  for (const std::string& text : texts) {
    TERN_ASSIGN(Encoding e, tokenizer_->Encode(text, options));
    requests.push_back(std::move(e));
  }
  return ForBatches(requests, kBatchRows, [&](size_t begin, size_t end) -> Status {
    std::vector<EncoderInput> batch;
    for (size_t i = begin; i < end; ++i) batch.push_back(InputOf(requests[i]));
    TERN_RETURN_IF_ERROR(session_->Run(batch));
    const Operand& out = session_->output("embeddings");
    for (int64_t r = 0; r < out.rows; ++r) vectors->insert(vectors->end(), out.f32() + r * out.stride, out.f32() + r * out.stride + out.cols);
    return {};
  });
}

}  // namespace tern
