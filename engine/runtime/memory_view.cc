#include "engine/runtime/memory_view.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/base/checked.h"

namespace tern {

MemoryStats::MemoryStats(const Session* session) : session_(session) {
  const Plan& plan = session->plan();
  for (const Op& op : plan.graph.ops)
    if (const auto* update = std::get_if<UpdateMemoryOp>(&op.spec)) {
      Layer layer;
      layer.memory = update->memory;
      layer.state_offset = plan.state_offset[static_cast<size_t>(op.state)];
      layer.heads.resize(static_cast<size_t>(update->memory.heads));
      layers_.push_back(std::move(layer));
    }
}

void MemoryStats::Look(int64_t tokens) {
  if (layers_.empty()) return;
  const int64_t begin = session_->segment_begin(), end = session_->tokens_seen() - begin;
  const LongTermMemory& first = layers_[0].memory;
  absorbed_ = std::max<int64_t>(0, begin - first.short_memory);
  // A memory that starts anew holds what came since; its segments are all full (models/README.md).
  if (first.calls_per_fit > 0 && absorbed_ > 0) absorbed_ = (CeilDiv(absorbed_, first.length) - 1) % first.calls_per_fit * first.length + first.length;
  if (absorbed_ == 0) return;
  for (Layer& layer : layers_) {
    const LongTermMemory& m = layer.memory;
    const LongTermMemoryLayout at(m);
    const float* lane = reinterpret_cast<const float*>(session_->state_data() + layer.state_offset);
    double square = 0;
    layer.largest = 0;
    for (int64_t i = 0; i < m.basis * m.width(); ++i) {
      const double v = lane[at.b + i];
      square += v * v, layer.largest = std::max(layer.largest, std::abs(v));
    }
    layer.rms = std::sqrt(square / static_cast<double>(m.basis * m.width()));
    for (int64_t h = 0; h < m.heads; ++h) {
      Head& head = layer.heads[static_cast<size_t>(h)];
      for (int64_t q = std::max<int64_t>(0, end - tokens); q < end; ++q) {
        const float* look = lane + at.looks + (h * m.queries + q) * 2;
        const double mu = look[0], sigma = std::sqrt(std::max(0.0, static_cast<double>(look[1])));
        head.mu += mu, head.sigma += sigma;
        for (int64_t i = 0; i < kPoints && sigma > 0; ++i) {
          const double z = ((static_cast<double>(i) + 0.5) / kPoints - mu) / sigma;
          head.density[static_cast<size_t>(i)] += std::exp(-0.5 * z * z) * 0.39894228040143267794 / sigma;
        }
      }
    }
    layer.queries += std::min(tokens, end);
  }
}

std::vector<MemoryStats::Layer> MemoryStats::Finish() const {
  std::vector<Layer> out = layers_;
  for (Layer& layer : out) {
    const double by = layer.queries > 0 ? 1 / static_cast<double>(layer.queries) : 0;
    for (Head& head : layer.heads) {
      head.mu *= by, head.sigma *= by;
      for (double& d : head.density) d *= by;
    }
  }
  return out;
}

double MemoryStats::TokensAgo(const LongTermMemory& m, double t) {
  t = std::clamp(t, 1e-300, 1.0);
  const double k = std::floor(std::log(t) / std::log(m.tau)), inside = (t / std::pow(m.tau, k) - m.tau) / (1 - m.tau);
  return (k + 1 - std::clamp(inside, 0.0, 1.0)) * static_cast<double>(m.length);
}

std::string MemorySvg(const std::vector<MemoryStats::Layer>& layers, int64_t absorbed) {
  constexpr int kLeft = 70, kTop = 64, kWidth = 150, kHeight = 70, kGap = 12;
  int64_t columns = 1;
  double most = 1e-9;
  for (const auto& layer : layers) {
    columns = std::max(columns, static_cast<int64_t>(layer.heads.size()));
    for (const auto& head : layer.heads)
      for (double d : head.density) most = std::max(most, d);
  }
  // However few heads: the lines of text have room.
  const int64_t width = std::max<int64_t>(760, kLeft + columns * (kWidth + kGap) + 20), height = kTop + static_cast<int64_t>(layers.size()) * (kHeight + kGap) + 46;
  auto number = [](double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", v);
    return std::string(text);
  };
  std::string svg = Str("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", height, "\" font-family=\"sans-serif\" font-size=\"11\">\n",
                        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"", kLeft, "\" y=\"20\" font-size=\"14\">Where in the past the long-term memory is read</text>\n",
                        "<text x=\"", kLeft, "\" y=\"36\" fill=\"#555\">mean attention density over ", absorbed, " tokens held; left: the oldest, right: the newest; dotted: where segments end</text>\n");
  for (int64_t h = 0; h < columns; ++h) svg += Str("<text x=\"", kLeft + h * (kWidth + kGap), "\" y=\"", kTop - 6, "\">head ", h, "</text>\n");
  for (size_t l = 0; l < layers.size(); ++l) {
    const int64_t y = kTop + static_cast<int64_t>(l) * (kHeight + kGap);
    svg += Str("<text x=\"8\" y=\"", y + kHeight / 2, "\">layer ", layers[l].memory.layer, "</text>\n");
    for (size_t h = 0; h < layers[l].heads.size(); ++h) {
      const int64_t x = kLeft + static_cast<int64_t>(h) * (kWidth + kGap);
      svg += Str("<rect x=\"", x, "\" y=\"", y, "\" width=\"", kWidth, "\" height=\"", kHeight, "\" fill=\"#f4f6f8\"/>\n");
      double t = layers[l].memory.tau;
      for (int k = 1; k <= 5; ++k, t *= layers[l].memory.tau)
        svg += Str("<line x1=\"", number(static_cast<double>(x) + t * kWidth), "\" x2=\"", number(static_cast<double>(x) + t * kWidth), "\" y1=\"", y, "\" y2=\"", y + kHeight,
                   "\" stroke=\"#bbb\" stroke-dasharray=\"1,3\"/>\n");
      const auto& density = layers[l].heads[h].density;
      svg += Str("<path fill=\"#3b76af\" fill-opacity=\"0.55\" stroke=\"#28537d\" d=\"M", x, " ", y + kHeight);
      for (size_t i = 0; i < density.size(); ++i)
        svg += " L" + number(static_cast<double>(x) + (static_cast<double>(i) + 0.5) * kWidth / static_cast<double>(density.size())) + " " +
               number(static_cast<double>(y + kHeight) - density[i] / most * (kHeight - 4));
      svg += Str(" L", x + kWidth, " ", y + kHeight, " Z\"><title>layer ", layers[l].memory.layer, " head ", h, ": mu ", number(layers[l].heads[h].mu * 100), " %, sigma ",
                 number(layers[l].heads[h].sigma * 100), " % of the memory</title></path>\n");
    }
  }
  const int64_t foot = kTop + static_cast<int64_t>(layers.size()) * (kHeight + kGap) + 12;
  if (!layers.empty()) {
    const LongTermMemory& m = layers[0].memory;
    svg += Str("<text x=\"", kLeft, "\" y=\"", foot, "\" fill=\"#555\">the last segment of ", m.length, " tokens fills the right ", number(100 * (1 - m.tau)), " %, the one before it ",
               number(100 * m.tau * (1 - m.tau)), " %, and so on; density up to ", number(most), "</text>\n");
  }
  return svg + "</svg>\n";
}

}  // namespace tern
