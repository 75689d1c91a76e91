// EncoderSession: batches of sequences of any lengths through an encoder, packed without padding. A batch costs what its tokens cost, and the numbers of
// a sequence do not depend on its neighbours (every kernel gives a row the same bits in any company). A large batch goes through the network in groups of
// whole sequences: what passes from op to op then stays in cache, and the arena is that of a group. Used by one thread at a time.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/parallel.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/session.h"
#include "models/encoder.h"

namespace tern {

// One request. Positions count from 0 (RoBERTa: from its own rule); rows that are masked out are left out of the batch, which is exact.
struct EncoderInput {
  std::span<const int32_t> ids;
  std::span<const int32_t> type_ids = {};   // empty: all 0
  std::span<const uint8_t> mask = {};       // empty: all 1
};

struct EncoderOptions {
  int threads = 0;
  std::string entry = "encode";             // or "embed"
  LogitsMode logits = LogitsMode::kAll;     // kLast with a masked-LM head: only the rows that Run is asked for
  bool trace = false;
  int64_t memory_limit = 0;                 // bytes; 0: what the system has left
  const CancelToken* cancel = nullptr;
  OpObserver* observer = nullptr;
};

class EncoderSession {
 public:
  // kUsage if the model is no encoder.
  static Result<std::unique_ptr<EncoderSession>> Create(std::shared_ptr<const Model> model, const EncoderOptions& options);

  // kUsage for ids or types out of range, or a sequence longer than the positions. The plan grows to the largest batch seen and is kept; a batch that fits
  // allocates nothing. `selected`: (sequence, position) pairs of the rows wanted with LogitsMode::kLast.
  struct Place {
    int64_t sequence, position;
  };
  Status Run(std::span<const EncoderInput> batch, std::span<const Place> selected = {});

  // Outputs of the last Run, by the names of models/encoder.h. Valid until the next.
  const Operand& output(std::string_view name) const;
  std::vector<std::string> output_names() const;
  // Whether this output has a row per token (else one per sequence, or per selected row).
  bool per_token(std::string_view name) const;
  // The row of a token in per-token outputs; -1 if it was masked out.
  int64_t RowOf(int64_t sequence, int64_t position) const { return row_of_[static_cast<size_t>(token_begin_[static_cast<size_t>(sequence)] + position)]; }
  int64_t rows() const { return static_cast<int64_t>(ids_.size()); }

  const EncoderNetwork& network() const { return *network_; }
  const Model& model() const { return *model_; }
  int64_t longest() const;  // tokens a sequence may have
  const MemoryUse& memory() const { return memory_; }
  int threads() const { return gang_->threads(); }

 private:
  EncoderSession() = default;
  struct Gathered {
    std::string name;
    int8_t length = 0;  // what its rows count, as Dim::length: 0 tokens, 1 sequences, 3 selected tokens
    std::vector<float> values;
    Operand operand;
  };
  // Sequences [begin, end) of the packed batch, and `selected` of its rows.
  struct Group {
    int64_t begin, end, selected;
  };
  Status Pack(std::span<const EncoderInput> batch);
  void MakeGroups(int64_t sequences);
  Status Grow(int64_t rows, int64_t sequences);
  Status RunGroup(const Group& group);
  Status PrepareGathered();
  void Gather(const Group& group);
  Status RunWhole(std::span<const EncoderInput> batch);

  std::shared_ptr<const Model> model_;
  const EncoderNetwork* network_ = nullptr;
  EncoderOptions options_;
  std::unique_ptr<Gang> gang_;
  std::unique_ptr<Executor> executor_;
  Region arena_;
  MemoryUse memory_;
  int64_t row_capacity_ = 0, sequence_capacity_ = 0;
  // The packed batch, and the part of it that counts from the beginning of a group.
  std::vector<int32_t> ids_, types_, positions_, starts_, first_rows_, selected_, group_starts_, group_first_rows_, group_selected_;
  std::vector<size_t> places_;  // of group_selected_ in selected_
  std::vector<float> key_bias_;
  std::vector<int64_t> row_of_, token_begin_;
  std::vector<Group> groups_;

  // Outputs of more than one group are gathered here; also those of a network that cannot take a packed batch (Reformer, whose chunks are counted within a
  // sequence): its sequences run one after the other.
  bool whole_ = false, gathers_ = false;
  std::unique_ptr<Session> session_;
  std::vector<Gathered> gathered_;
};

}  // namespace tern
