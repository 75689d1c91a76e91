#include "engine/runtime/calibrate.h"

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"
#include "engine/runtime/encoder_session.h"

namespace tern {
namespace {

constexpr int64_t kMostSplits = 16;

class ColumnObserver : public OpObserver {
 public:
  explicit ColumnObserver(ColumnMaxima* columns) : columns_(*columns) {}
  void Before(const OpCall& call) override {
    if (!std::holds_alternative<MatMulOp>(call.op.spec) || !call.in(1).weight.record) return;
    const Operand& x = call.in(0);
    std::vector<float>& max = columns_.of[call.in(1).weight.record->name];
    max.resize(static_cast<size_t>(x.cols));
    for (int64_t r = 0; r < x.rows; ++r)
      for (size_t c = 0; c < max.size(); ++c) max[c] = std::max(max[c], std::fabs(x.f32()[r * x.stride + static_cast<int64_t>(c)]));
  }

 private:
  ColumnMaxima& columns_;
};

}  // namespace

Result<ColumnMaxima> MeasureColumns(const std::shared_ptr<const Model>& model, const CancelToken* cancel) {
  ColumnMaxima columns;
  if (!dynamic_cast<const EncoderNetwork*>(&model->network())) return columns;
  ColumnObserver observer(&columns);
  EncoderOptions options;
  options.cancel = cancel, options.observer = &observer;
  TERN_ASSIGN(auto session, EncoderSession::Create(model, options));

  std::vector<int32_t> frame;  // what stands around a text
  if (const Tokenizer* t = model->tokenizer()) TERN_RETURN_IF_ERROR(t->EncodeIds("", true, &frame));
  const auto vocabulary = static_cast<uint64_t>(session->network().vocab_size());
  frame.erase(std::remove_if(frame.begin(), frame.end(), [&](int32_t id) { return static_cast<uint64_t>(id) >= vocabulary; }), frame.end());
  const auto before = static_cast<std::ptrdiff_t>((frame.size() + 1) / 2);

  Rng rng(1);
  std::vector<std::vector<int32_t>> texts;
  std::vector<EncoderInput> batch;
  for (int64_t words : {1, 2, 3, 5, 8, 13, 20, 30, 50}) {
    std::vector<int32_t> ids(frame.begin(), frame.begin() + before);
    for (int64_t i = 0; i < words; ++i) ids.push_back(static_cast<int32_t>(rng.Below(vocabulary)));
    ids.insert(ids.end(), frame.begin() + before, frame.end());
    ids.resize(std::min(ids.size(), static_cast<size_t>(session->longest())));
    texts.push_back(std::move(ids));
  }
  for (const auto& ids : texts) batch.push_back({ids});
  TERN_RETURN_IF_ERROR(session->Run(batch));
  return columns;
}

std::vector<int32_t> ChooseSplits(const std::vector<float>& maxima) {
  const int64_t k = static_cast<int64_t>(maxima.size());
  const int64_t splits = std::min<int64_t>(kMostSplits, k / 8) / 4 * 4;  // K stays a multiple of four
  std::vector<int32_t> copies(maxima.size(), 1), sources;
  for (int64_t i = 0; i < splits; ++i) {
    size_t largest = 0;
    auto part = [&](size_t c) { return maxima[c] / static_cast<float>(copies[c]); };
    for (size_t c = 1; c < maxima.size(); ++c)
      if (part(c) > part(largest)) largest = c;
    ++copies[largest];
    sources.push_back(static_cast<int32_t>(largest));
  }
  std::sort(sources.begin(), sources.end());
  return sources;
}

}  // namespace tern
