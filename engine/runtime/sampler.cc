#include "engine/runtime/sampler.h"

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"

namespace tern {

Status CheckSamplerOptions(const SamplerOptions& o) {
  auto range = [](const char* name, double got, const char* expected) { return UsageError(Str(name, " is out of range")).Got(got, expected); };
  if (!(o.temperature >= 0 && o.temperature <= 100)) return range("temperature", o.temperature, "0 to 100");
  if (o.top_k < 0) return range("top_k", static_cast<double>(o.top_k), "0 or more");
  if (!(o.top_p > 0 && o.top_p <= 1)) return range("top_p", o.top_p, "more than 0, at most 1");
  if (!(o.min_p >= 0 && o.min_p <= 1)) return range("min_p", o.min_p, "0 to 1");
  if (!(o.repetition_penalty >= 0.01 && o.repetition_penalty <= 100)) return range("repetition_penalty", o.repetition_penalty, "0.01 to 100");
  if (o.repetition_window < 0 || o.repetition_window > (1 << 20)) return range("repetition_window", static_cast<double>(o.repetition_window), "0 to 1048576");
  return {};
}

Sampler::Sampler(const SamplerOptions& options, int64_t vocab_size, const KernelTable& kernels)
    : options_(options),
      kernels_(kernels),
      logits_(static_cast<size_t>(vocab_size)),
      weights_(static_cast<size_t>(vocab_size)),
      values_(static_cast<size_t>(vocab_size)),
      indices_(static_cast<size_t>(vocab_size)),
      recent_(static_cast<size_t>(options.repetition_window), -1) {}

void Sampler::Accept(int32_t id) {
  if (!recent_.empty()) recent_[static_cast<size_t>(accepted_ % static_cast<int64_t>(recent_.size()))] = id;
  ++accepted_;
}

void Sampler::Penalize() {
  if (options_.repetition_penalty == 1) return;
  const float penalty = static_cast<float>(options_.repetition_penalty);
  for (size_t i = 0; i < recent_.size(); ++i) {
    const int32_t id = recent_[i];
    if (id < 0 || id >= static_cast<int32_t>(logits_.size())) continue;
    // Once per token, however often it stands in the window.
    if (std::find(recent_.begin(), recent_.begin() + static_cast<int64_t>(i), id) != recent_.begin() + static_cast<int64_t>(i)) continue;
    float& l = logits_[static_cast<size_t>(id)];
    l = l > 0 ? l / penalty : l * penalty;
  }
}

// Fills values_/indices_ with the tokens that survive the filters, most likely first, and weights_ with their weights; returns how many.
int64_t Sampler::Candidates(double total, float top) {
  const int64_t v = static_cast<int64_t>(logits_.size());
  const float inverse = static_cast<float>(1 / options_.temperature);
  const int64_t most = options_.top_k > 0 ? std::min(options_.top_k, v) : v;
  // Without top_k a few hundred tokens nearly always hold all of top_p: look at more only when they do not.
  for (int64_t look = std::min<int64_t>(most, options_.top_k > 0 ? most : 256);; look = std::min(most, look * 8)) {
    kernels_.top_k(logits_.data(), v, look, values_.data(), indices_.data());
    double within = 0;
    for (int64_t i = 0; i < look; ++i) {
      weights_[static_cast<size_t>(i)] = static_cast<float>(std::exp(static_cast<double>((values_[static_cast<size_t>(i)] - top) * inverse)));
      within += weights_[static_cast<size_t>(i)];
    }
    const double whole = options_.top_k > 0 ? within : total;  // top_p is a share of what top_k left
    int64_t count = look;
    double sum = 0;
    bool reached = options_.top_p >= 1 && look == most;
    if (options_.top_p < 1)
      for (int64_t i = 0; i < look; ++i)
        if ((sum += weights_[static_cast<size_t>(i)]) >= options_.top_p * whole) {
          count = i + 1, reached = true;
          break;
        }
    if (!reached && look < most) continue;
    while (count > 1 && weights_[static_cast<size_t>(count - 1)] < options_.min_p * weights_[0]) --count;
    return count;
  }
}

int32_t Sampler::Sample(std::span<const float> logits) {
  std::copy(logits.begin(), logits.end(), logits_.begin());
  Penalize();
  const int64_t v = static_cast<int64_t>(logits_.size());
  const int32_t best = static_cast<int32_t>(kernels_.argmax(logits_.data(), v));
  const float top = best < 0 ? 0 : logits_[static_cast<size_t>(best)];
  if (best < 0 || !std::isfinite(top)) return -1;
  if (options_.temperature == 0) return best;
  const float inverse = static_cast<float>(1 / options_.temperature);
  double total = 0;
  for (int64_t i = 0; i < v; ++i) weights_[static_cast<size_t>(i)] = (logits_[static_cast<size_t>(i)] - top) * inverse;
  kernels_.exp(weights_.data(), v, weights_.data());
  for (int64_t i = 0; i < v; ++i) total += weights_[static_cast<size_t>(i)];
  const double u = RandomUniform(options_.seed, draws_++);
  if (options_.top_k == 0 && options_.top_p >= 1 && options_.min_p == 0) {  // nothing to filter: the whole distribution, by id
    double left = u * total;
    for (int64_t i = 0; i < v; ++i)
      if ((left -= weights_[static_cast<size_t>(i)]) < 0) return static_cast<int32_t>(i);
    return best;
  }
  const int64_t count = Candidates(total, top);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += weights_[static_cast<size_t>(i)];
  double left = u * sum;
  for (int64_t i = 0; i < count; ++i)
    if ((left -= weights_[static_cast<size_t>(i)]) < 0) return indices_[static_cast<size_t>(i)];
  return indices_[0];
}

Json Sampler::State() const {
  Json recent = Json::array();
  const int64_t n = static_cast<int64_t>(recent_.size());
  for (int64_t i = std::max<int64_t>(0, accepted_ - n); i < accepted_; ++i) recent.push_back(recent_[static_cast<size_t>(i % n)]);
  return {{"draws", draws_}, {"recent", recent}};
}

Status Sampler::Restore(const Json& state) {
  if (!state.is_object() || !state.contains("draws") || !state["draws"].is_number_unsigned() || !state.contains("recent") || !state["recent"].is_array())
    return Malformed("the sampler's part is damaged");
  draws_ = state["draws"].get<uint64_t>();
  for (const Json& id : state["recent"]) {
    if (!id.is_number_integer()) return Malformed("the sampler's part is damaged");
    Accept(static_cast<int32_t>(id.get<int64_t>()));
  }
  return {};
}

}  // namespace tern
