#include "tests/reference/switch_checkpoint.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "formats/safetensors.h"

namespace tern {
namespace {

struct Writer {
  const SwitchShape& s;
  std::vector<std::pair<std::string, Shape>> order;
  std::map<std::string, std::vector<float>> tensors;
  Rng rng{s.seed};

  void Add(const std::string& name, Shape shape, double scale, double mean = 0) {
    std::vector<float>& values = tensors[name];
    values.resize(static_cast<size_t>(shape.elements()));
    for (float& v : values) v = static_cast<float>(mean + scale * rng.Normal());
    order.emplace_back(name, shape);
  }
  void Norm(const std::string& name) { Add(name, {s.d_model}, 0.1, 1); }
  void Attention(const std::string& prefix) {
    const int64_t inner = s.heads * s.d_kv;
    Add(prefix + "q.weight", {inner, s.d_model}, std::pow(s.d_model * s.d_kv, -0.5));  // q k^T about 1: there is no division by the head's width
    for (const char* m : {"k", "v"}) Add(prefix + m + ".weight", {inner, s.d_model}, std::pow(s.d_model, -0.5));
    Add(prefix + "o.weight", {s.d_model, inner}, s.attends ? std::pow(inner, -0.5) : 0);
  }
  void FeedForward(const std::string& prefix) {
    Add(prefix + "wi.weight", {s.d_ff, s.d_model}, std::pow(s.d_model, -0.5));
    Add(prefix + "wo.weight", {s.d_model, s.d_ff}, std::pow(s.d_ff, -0.5));
  }
  void Stack(const std::string& stack) {
    const bool decoder = stack == "decoder";
    for (int64_t l = 0; l < s.layers; ++l) {
      const std::string block = Str(stack, ".block.", l, ".layer."), mlp = block + (decoder ? "2." : "1.");
      if (l == 0) Add(block + "0.SelfAttention.relative_attention_bias.weight", {32, s.heads}, 0.5);
      Attention(block + "0.SelfAttention."), Norm(block + "0.layer_norm.weight");
      if (decoder) Attention(block + "1.EncDecAttention."), Norm(block + "1.layer_norm.weight");
      Norm(mlp + "layer_norm.weight");
      if (!s.every_layer && l % 2 == 0) {
        FeedForward(mlp + "mlp.");
        continue;
      }
      Add(mlp + "mlp.router.classifier.weight", {s.experts, s.d_model}, 2 * std::pow(s.d_model, -0.5));
      for (int64_t e = 0; e < s.experts; ++e) FeedForward(Str(mlp, "mlp.experts.expert_", e, "."));
    }
    Norm(stack + ".final_layer_norm.weight");
  }
};

}  // namespace

std::map<std::string, std::vector<float>> WriteSwitchCheckpoint(const std::string& folder, const SwitchShape& s) {
  std::filesystem::create_directories(folder);
  Writer w{s, {}, {}};
  w.Add("shared.weight", {s.vocabulary, s.d_model}, 1);
  w.Stack("encoder");
  if (!s.encoder_only) w.Stack("decoder");
  std::vector<Safetensors::Item> items;
  for (const auto& [name, shape] : w.order) items.push_back({name, ConstTensor{w.tensors[name].data(), DType::f32, shape}});
  Status written = WriteSafetensors(folder + "/model.safetensors", items);
  REQUIRE_MESSAGE(written.ok(), written.message());
  const int64_t sparse = s.every_layer ? s.layers : s.layers / 2;
  const Json config = {{"model_type", "switch_transformers"},
                       {"architectures", {s.encoder_only ? "SwitchTransformersEncoderModel" : "SwitchTransformersForConditionalGeneration"}},
                       {"vocab_size", s.vocabulary},
                       {"d_model", s.d_model},
                       {"d_kv", s.d_kv},
                       {"d_ff", s.d_ff},
                       {"num_heads", s.heads},
                       {"num_layers", s.layers},
                       {"num_decoder_layers", s.layers},
                       {"num_sparse_encoder_layers", sparse},
                       {"num_sparse_decoder_layers", sparse},
                       {"num_experts", s.experts},
                       {"expert_capacity", s.capacity},
                       {"capacity_policy", s.policy},
                       {"decoder_start_token_id", 0},
                       {"pad_token_id", 0},
                       {"eos_token_id", 1}};
  std::ofstream(folder + "/config.json") << DumpJson(config);
  return std::move(w.tensors);
}

}  // namespace tern
