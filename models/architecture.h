// Architecture: what Tern knows about one kind of model, read three ways: as the manifest (names, shapes, roles that convert, load and inspect check
// against), as the graph that is planned and run, and as the cost. No kernel and no file is known here.
//
// An architecture is an entry of the registry (registry.h). Parsing a config gives a Network: the immutable description of one model. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "engine/graph/builder.h"

namespace tern {

// What a graph is built for.
struct EntryOptions {
  std::string entry = "step";  // "step": a decoder's new tokens, with its state
  int64_t batch = 1;
  int64_t tokens = 1;          // capacity of T, new tokens per lane and call
  int64_t chunk = 1;           // the most tokens any plan of this session takes: sizes the state
  // Encoder-decoders ("encode", "decode"): sequences read at once, the longest of them, and what the decoder's lanes have room for.
  int64_t sources = 1, source_tokens = 1, positions = 1;
  enum class Logits { kAll, kLast, kTarget, kNone } logits = Logits::kAll;
  // Retrieval (RETRO's entry "retrieve"): neighbours of a chunk, and tokens of each; both size the state.
  int64_t neighbors = 0, neighbor_length = 0;
  bool trace = false;          // also give inner values, named as in Hugging Face (hidden_states.N)
  // Networks whose state grows with the text (SegmentRule::one_by_one): positions it holds. 0: nothing is kept; -1: the network's own choice.
  int64_t context = -1;
};

// A tensor of a foreign checkpoint, as an importer sees it.
struct ForeignTensor {
  std::string name;
  Shape shape;
  bool attribute = false;  // no parameter or buffer: a tensor that a pickled module carries beside them
};

// Where one tensor of ours comes from: parts concatenated along dimension 0. Each part takes the first of its alternatives that the checkpoint has
// (the names of a tied pair: files hold one or the other).
struct ImportRule {
  struct Part {
    std::vector<std::string> alternatives;
    int64_t first_row = 0, rows = -1;  // rows of the foreign tensor; -1: all of it
    bool transposed = false;           // the foreign tensor is [in, out]
  };
  std::string name;  // ours, as the manifest has it
  std::vector<Part> parts;
  // Values to use where no alternative is there (f32, row-major, as many as the manifest's shape has); empty: then the tensor is missing.
  std::function<std::vector<float>()> otherwise;
};

struct Import {
  std::vector<ImportRule> rules;
  std::vector<std::string> ignore;  // foreign names that are known and not needed; '*' stands for any characters
};

// Decoders whose positions count from the start of a segment. A call of Session::Feed stays within one.
struct SegmentRule {
  int64_t length = 0;      // tokens of a full segment; 0: there are none, every call is a segment of its own (Transformer-XL)
  bool recurrent = false;  // a full segment is followed by another; else the context ends with it (GPT-2)
  // The first call of a segment takes many tokens, every later one a single token per lane (Reformer): a text is read whole or not at all.
  bool one_by_one = false;
  int64_t first = 0;       // of such a network: the most tokens of a first call,
  int64_t context = 0;     // and the positions that decoding remembers unless told otherwise
};

class Network {
 public:
  virtual ~Network() = default;

  virtual std::string_view architecture() const = 0;
  // The canonical config: what a .tern file keeps, and what Architecture::parse accepts again.
  virtual Json config() const = 0;
  virtual std::vector<std::string> entries() const = 0;
  // Builds one entry. Inputs and outputs are named in the architecture's own header.
  virtual void Build(const EntryOptions& options, Builder& b) const = 0;
  virtual Result<Import> ImportFrom(const std::vector<ForeignTensor>& checkpoint) const = 0;
  // A copy with run-time settings changed (--set mem_len=640). A setting that would change weights, or is unknown, is refused with those that exist.
  virtual Result<std::shared_ptr<const Network>> WithSetting(std::string_view key, std::string_view value) const = 0;

  virtual int64_t vocab_size() const = 0;
  virtual int64_t eos_token_id() const { return -1; }  // -1: none
  virtual int64_t preferred_chunk() const { return 128; }  // tokens fed at once when a long text is streamed
  virtual SegmentRule segments() const { return {}; }
  // Rows that the first T tokens of a segment take, padding included: the run-time value of the graph's second length, "S", where it has one.
  virtual int64_t padded_length(int64_t tokens) const { return tokens; }
  // Recurrent segments of given lengths (a forward call's pieces): whether one of `tokens` may follow `seen` tokens whose last segment had `previous`.
  virtual Status CheckSegment(int64_t /*seen*/, int64_t /*previous*/, int64_t /*tokens*/) const { return {}; }
  // Whether splitting a text into chunks changes nothing but rounding (Transformer-XL with same_length).
  virtual bool chunk_invariant() const { return true; }
};

struct Architecture {
  std::string_view name;     // "transformer-xl"
  std::string_view summary;  // one line for lists
  // Whether a foreign config (config.json, or the attributes of a pickled module) describes this architecture.
  bool (*recognizes)(const Json& foreign_config);
  // From a foreign config, or from our canonical one ("architecture" is then set). All fields are range-checked. The checkpoint's tensors may decide what
  // configs leave out; empty when there is none.
  Result<std::shared_ptr<const Network>> (*parse)(const Json& config, const std::vector<ForeignTensor>& checkpoint);
};

// The tensors a Network needs, by building it once. Names are unique.
Result<std::vector<WeightSpec>> MakeManifest(const Network& network);

}  // namespace tern
