// tern forward: the model as a function on named tensors.
#include "engine/runtime/forward.h"

#include "formats/safetensors.h"
#include "tools/model_options.h"

namespace tern {
namespace {

class ForwardVerb : public Command {
 public:
  void Declare(Arguments& args) override {
    model_.Declare(args);
    args.Path("--inputs", &inputs_, "a .safetensors file of named inputs (input_ids ...)").Required();
    args.Path("--outputs", &outputs_, "where the outputs are written (.safetensors)").Required();
    args.Integers("--chunks", &chunks_, 1, 1 << 24, "feed the sequence in pieces of these lengths, state carried along");
    args.Integer("--generate", &generate_, 0, 1 << 24, "also decode at most N tokens: greedy_ids, beamK_ids").ValueName("N");
    args.Integers("--beams", &beams_, 1, 1000, "with --generate: numbers of beams; 1 is greedy").ValueName("K,K");
    args.Flag("--trace", &trace_, "also write inner values (hidden_states.N)");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto model, model_.Open(console));
    auto inputs = Safetensors::Open(inputs_);
    if (!inputs.ok()) return inputs.status();
    std::vector<NamedInput> named;
    for (const auto& item : inputs->items()) named.push_back({item.name, item.tensor});
    ForwardOptions options;
    options.chunks = chunks_;
    options.generate = generate_;
    options.beams = beams_;
    options.threads = static_cast<int>(model_.threads);
    options.trace = trace_;
    options.cancel = &console.cancel();
    auto out = Forward(model, named, options);
    if (!out.ok()) return Status(out.status()).File(inputs_);
    std::vector<Safetensors::Item> items;
    Json listed = Json::array();
    for (const NamedTensor& t : *out) {
      items.push_back({t.name, {t.bytes.data(), t.type, t.shape}});
      listed.push_back({{"name", t.name}, {"type", DTypeName(t.type)}, {"shape", std::vector<int64_t>(t.shape.begin(), t.shape.end())}});
    }
    TERN_RETURN_IF_ERROR(WriteSafetensors(outputs_, items));
    if (console.json) console.PrintJson({{"outputs", outputs_}, {"tensors", listed}});
    else
      for (const NamedTensor& t : *out) console.Print(Str(t.name, " ", t.shape, "\n"));
    return {};
  }

 private:
  ModelFlags model_;
  std::string inputs_, outputs_;
  std::vector<int64_t> chunks_, beams_;
  int64_t generate_ = 0;
  bool trace_ = false;
};

}  // namespace

extern const Verb kForward = {"forward", "Models", "run the model as a function on named tensors",
                              "tern forward m.tern --inputs in.safetensors --outputs out.safetensors --chunks 8,8,4", Make<ForwardVerb>};

}  // namespace tern
