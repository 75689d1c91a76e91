// ExpertPager: keeps in memory only the experts that tokens choose. Weights stay in the mapped file; the range of a chosen expert is asked for as soon as the
// router has decided, and with a bound the experts that were used longest ago leave. Purely advice to the system: a result never depends on it.
//
// One pager per model, shared by its sessions; thread-safe. Allocates at construction only.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "formats/model_file.h"

namespace tern {

class ExpertPager {
 public:
  struct Options {
    int64_t memory = 0;     // bytes of experts that may be resident; 0: no bound
    bool prefetch = false;  // ask for what the previous token chose in the next layer, before its router has decided
  };
  struct Stats {
    int64_t experts = 0;   // in the model
    int64_t touched = 0;   // distinct ones that were needed so far
    int64_t requests = 0, hits = 0;  // a request is one expert needed by one layer of one step; a hit was resident
    int64_t prefetched = 0;          // asked for ahead of their router
    int64_t bytes_read = 0;          // of requested and prefetched experts that were not in memory
    int64_t evictions = 0;
    int64_t resident_bytes = 0;      // of the experts that the pager holds
  };

  ExpertPager(std::shared_ptr<const ModelFile> file, const Options& options) : file_(std::move(file)), options_(options) {}

  // Before use, layer by layer in the order in which a stack computes them; `groups`: the file's group of each expert. Nothing of an expert is read before
  // it is needed, and no neighbour is read with it. Returns the layer's number; kUsage if the bound is smaller than an expert.
  Result<int32_t> AddLayer(std::string_view stack, std::span<const std::string> groups);

  // Of the ascending `experts` of `layer`, puts those that are resident first and says how many of the first fit at once: at least one.
  int64_t Wave(int32_t layer, std::span<int32_t> experts);
  // These will be read now; they stay until the next call needs their room.
  void Need(int32_t layer, std::span<const int32_t> experts);
  void PrefetchAfter(int32_t layer);

  Stats stats() const;
  int64_t memory() const { return options_.memory; }

 private:
  struct Expert {
    ByteRange range;
    bool resident = false, touched = false;
    int32_t newer = -1, older = -1;  // the list of resident ones
  };
  struct Layer {
    std::string stack;
    int32_t first = 0, next = 0;  // first expert; the layer that is computed after this one
    std::vector<int32_t> last;    // what was needed last, at most kRemembered
  };
  void Fetch(int32_t expert);
  void Use(int32_t expert);
  void Unlink(int32_t expert);
  void MakeRoom(int64_t bytes);

  std::shared_ptr<const ModelFile> file_;
  Options options_;
  mutable std::mutex mutex_;
  std::vector<Expert> experts_;
  std::vector<Layer> layers_;
  int32_t newest_ = -1, oldest_ = -1;
  Stats stats_;
};

}  // namespace tern
