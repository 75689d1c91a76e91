// Model: one `.tern` file, opened: its network, its weights as they lie in the mapping, its tokenizer. Immutable; shared by threads and sessions.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/packed.h"
#include "engine/runtime/expert_pager.h"
#include "formats/model_file.h"
#include "formats/tokenizer.h"
#include "models/registry.h"

namespace tern {

struct ModelOptions {
  std::vector<std::pair<std::string, std::string>> settings;  // run-time settings of the network: {"mem_len", "640"}
  bool verify = false;                                        // check every digest before use
  int64_t expert_memory = 0;  // bytes of experts that may be resident (mixtures of experts); 0: no bound
  bool prefetch = false;      // experts of the previous token are asked for ahead of the router
  std::string target;                                         // kernels: avx512, avx2, baseline; empty: TERN_TARGET, else the best there is
  LogSink log;
};

// A weight of the file, as an op sees it: rows of `type`, or panels.
struct BoundWeight {
  const TensorRecord* record = nullptr;
  const void* data = nullptr;
  int32_t layer = -1;  // of an expert: its layer at the pager
};

class Model {
 public:
  // kIo, kMalformed, kDigest as ModelFile::Open; kMalformed also if a tensor of the architecture is missing, extra or misshapen; kUsage for a setting.
  static Result<std::shared_ptr<const Model>> Open(const std::string& path, const ModelOptions& options = {});

  // The same file with one run-time setting changed: shares the mapping and the tokenizer. kUsage for a setting that is not one.
  Result<std::shared_ptr<const Model>> With(std::string_view key, std::string_view value) const;

  const ModelFile& file() const { return *file_; }
  const Network& network() const { return *network_; }
  const KernelTable& kernels() const { return *kernels_; }
  const AttentionKernels& attention() const { return *attention_; }
  // Null if the file has none: what needs text then says so.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  // kMalformed that says how to get one.
  Result<const Tokenizer*> NeedTokenizer() const;
  BoundWeight Find(const std::string& name) const;
  // The matrices of a weight that is one per expert, in order; empty for any other.
  std::span<const BoundWeight> Experts(const std::string& name) const;
  int64_t weight_bytes() const { return weight_bytes_; }
  int64_t expert_bytes() const { return expert_bytes_; }  // of weight_bytes, those of experts
  // Null if the model has no experts. What it does changes no result, so a shared model stays as it is.
  ExpertPager* pager() const { return pager_.get(); }

  // Constants of a plan (position tables), computed by the first session that needs this key and shared from then on. `make` fills `bytes` bytes.
  template <class Make>
  Result<std::shared_ptr<const Region>> Constants(const std::string& key, int64_t bytes, Make&& make) const {
    std::lock_guard<std::mutex> lock(constants_mutex_);
    auto& slot = constants_[key];
    if (std::shared_ptr<const Region> there = slot.lock()) return there;
    TERN_ASSIGN(Region region, Region::Create(bytes));
    TERN_RETURN_IF_ERROR(make(region.data()));
    auto made = std::make_shared<const Region>(std::move(region));
    slot = made;
    return made;
  }

 private:
  Model() = default;
  Status Bind();
  Status AddExperts(const ModelOptions& options);
  uint64_t DenseBytes() const;  // what lies before the first group

  std::shared_ptr<const ModelFile> file_;
  std::shared_ptr<const Network> network_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  const KernelTable* kernels_ = nullptr;
  const AttentionKernels* attention_ = nullptr;
  int64_t weight_bytes_ = 0, expert_bytes_ = 0;
  std::unique_ptr<ExpertPager> pager_;
  std::unordered_map<std::string, std::vector<BoundWeight>> experts_;
  mutable std::mutex constants_mutex_;
  mutable std::unordered_map<std::string, std::weak_ptr<const Region>> constants_;
};

}  // namespace tern
