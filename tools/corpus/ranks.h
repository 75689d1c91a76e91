// Ranks: the processes that share one run (mpirun -n R tern dedup ..). Each reads whole files of its own; records, sets and clusters go from rank to rank
// by a few collective calls, which all ranks make in the same order.
//
// A failure needs no agreement: the rank that fails leaves with Fail, and the others get its Status from the collective call they are in or come to next.
// One process alone is the case of one rank: every call then gives back what it was given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/partitioned.h"
#include "tools/corpus/transport.h"

namespace tern::corpus {

class Ranks {
 public:
  Ranks() = default;  // alone
  explicit Ranks(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}
  // The ranks mpirun has started, or one alone if it has not. kUsage under mpirun if this build knows no MPI.
  static Result<std::unique_ptr<Ranks>> Open();

  int rank() const { return transport_ ? transport_->rank() : 0; }
  int size() const { return transport_ ? transport_->size() : 1; }
  int local_size() const { return transport_ ? transport_->local_size() : 1; }
  bool alone() const { return size() == 1; }
  bool root() const { return rank() == 0; }

  // out[r] goes to rank r; what is given back came from each rank.
  Result<std::vector<std::string>> Swap(const std::vector<std::string>& out);
  Result<std::vector<std::string>> Gather(std::string_view own);  // every rank's bytes, to all
  Result<std::string> FromRoot(std::string_view text);            // what the root gave
  Result<int64_t> Sum(int64_t own);
  Status Barrier();

  // Streams of any length in bounded pieces. fill appends whole items for rank `to`, about `piece` bytes, and appends nothing when there are no more; drain
  // gets the pieces of each rank in the order they were sent.
  using Fill = std::function<Status(int to, size_t piece, std::string* out)>;
  using Drain = std::function<Status(int from, std::string_view bytes)>;
  Status Exchange(const Fill& fill, const Drain& drain);

  // The lists of all ranks one behind the other, to all.
  template <class T>
  Result<std::vector<T>> Concatenate(std::vector<T> own) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (alone()) return own;
    TERN_ASSIGN(std::vector<std::string> all, Gather({reinterpret_cast<const char*>(own.data()), own.size() * sizeof(T)}));
    return Joined<T>(all);
  }
  // Each item to the rank that owner(item) names; what came to this rank, in the order of the senders.
  template <class T, class Owner>
  Result<std::vector<T>> Route(std::vector<T> items, Owner&& owner) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (alone()) return items;
    std::vector<std::string> out(static_cast<size_t>(size()));
    for (const T& item : items) out[static_cast<size_t>(owner(item))].append(reinterpret_cast<const char*>(&item), sizeof(T));
    TERN_ASSIGN(std::vector<std::string> in, Swap(out));
    return Joined<T>(in);
  }

  // Tells the others that this rank ends with `status`. Does nothing after a failure that came from another rank, or alone.
  void Fail(const Status& status);

 private:
  template <class T>
  static std::vector<T> Joined(const std::vector<std::string>& parts) {
    size_t bytes = 0, at = 0;
    for (const std::string& p : parts) bytes += p.size();
    std::vector<T> out(bytes / sizeof(T));
    for (const std::string& p : parts) {
      if (!p.empty()) std::memcpy(static_cast<void*>(out.data() + at), p.data(), p.size());
      at += p.size() / sizeof(T);
    }
    return out;
  }
  Status Step(const Transport::Message& message, std::vector<std::string>* in, bool* any_more);

  std::unique_ptr<Transport> transport_;
  bool failed_ = false;
};

// Standard output and error lead nowhere from now on: for ranks other than the root, which speaks for all.
void SilenceThisProcess();

// Partition p to rank p % R. change(&record) is called for every record before it is sent (documents get their numbers in the whole corpus). The order inside
// a partition is lost. Alone nothing moves.
template <class T, class Change>
Status ShareOut(Ranks& ranks, std::unique_ptr<Partitioned<T>>* store, int64_t budget_bytes, const std::string& folder, Change&& change) {
  if (ranks.alone()) return {};
  struct Head {
    int64_t partition, count;
  };
  const int64_t partitions = (*store)->partitions(), size = ranks.size();
  struct Stream {
    int64_t partition;
    std::vector<T> records;
    size_t sent = 0;
  };
  std::vector<Stream> streams;
  for (int64_t r = 0; r < size; ++r) streams.push_back({r - size, {}});
  auto received = std::make_unique<Partitioned<T>>(partitions, budget_bytes, folder);
  auto fill = [&](int to, size_t piece, std::string* out) -> Status {
    Stream& s = streams[static_cast<size_t>(to)];
    while (out->size() < piece) {
      if (s.sent == s.records.size()) {
        if (s.partition + size >= partitions) break;
        s.partition += size;
        TERN_ASSIGN(s.records, (*store)->Take(s.partition));
        s.sent = 0;
        for (T& record : s.records) change(&record);
        continue;
      }
      const size_t n = std::min(s.records.size() - s.sent, (piece - out->size()) / sizeof(T) + 1);
      const Head head{s.partition, static_cast<int64_t>(n)};
      out->append(reinterpret_cast<const char*>(&head), sizeof head);
      out->append(reinterpret_cast<const char*>(s.records.data() + s.sent), n * sizeof(T));
      s.sent += n;
    }
    return {};
  };
  auto drain = [&](int, std::string_view bytes) -> Status {
    while (bytes.size() >= sizeof(Head)) {
      Head head;
      std::memcpy(&head, bytes.data(), sizeof head);
      bytes.remove_prefix(sizeof head);
      for (int64_t i = 0; i < head.count; ++i, bytes.remove_prefix(sizeof(T))) {
        T record;
        std::memcpy(static_cast<void*>(&record), bytes.data(), sizeof(T));
        TERN_RETURN_IF_ERROR(received->Append(head.partition, record));
      }
    }
    return {};
  };
  TERN_RETURN_IF_ERROR(ranks.Exchange(fill, drain));
  *store = std::move(received);
  return {};
}

}  // namespace tern::corpus
