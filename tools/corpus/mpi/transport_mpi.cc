// tern_mpi.so: the transport over MPI, a library of its own so that the program runs where there is no MPI.
#include <mpi.h>

#include <algorithm>
#include <cstdint>

#include "tools/corpus/transport.h"

namespace tern::corpus {
namespace {

// MPI counts in int: longer messages go in pieces. A failure of MPI itself ends all ranks (MPI_ERRORS_ARE_FATAL, the default).
constexpr int64_t kPiece = int64_t{1} << 28;

class MpiTransport : public Transport {
 public:
  MpiTransport() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm local;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
    MPI_Comm_size(local, &local_size_);
    MPI_Comm_free(&local);
  }
  ~MpiTransport() override { MPI_Finalize(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_size() const override { return local_size_; }

  void Swap(const Message& message, std::vector<std::string>* in, std::vector<std::string>* notes, bool* any_more) override {
    struct Header {
      int64_t bytes, note_bytes, more;
    };
    const size_t n = static_cast<size_t>(size_), self = static_cast<size_t>(rank_);
    std::vector<Header> mine(n), theirs(n);
    for (size_t r = 0; r < n; ++r) mine[r] = {static_cast<int64_t>(message.out[r].size()), static_cast<int64_t>(message.note.size()), message.more};
    MPI_Alltoall(mine.data(), sizeof(Header), MPI_BYTE, theirs.data(), sizeof(Header), MPI_BYTE, MPI_COMM_WORLD);
    in->assign(n, {});
    notes->assign(n, {});
    *any_more = false;
    std::vector<MPI_Request> requests;
    auto each_piece = [&](int64_t bytes, auto&& f) {
      for (int64_t at = 0; at < bytes; at += kPiece) f(at, static_cast<int>(std::min(kPiece, bytes - at)), &requests.emplace_back());
    };
    for (size_t r = 0; r < n; ++r) {
      *any_more = *any_more || theirs[r].more != 0;
      (*in)[r].resize(static_cast<size_t>(theirs[r].bytes));
      (*notes)[r].resize(static_cast<size_t>(theirs[r].note_bytes));
      if (r == self) continue;
      const int peer = static_cast<int>(r);
      each_piece(theirs[r].bytes, [&](int64_t at, int count, MPI_Request* q) { MPI_Irecv((*in)[r].data() + at, count, MPI_BYTE, peer, 0, MPI_COMM_WORLD, q); });
      each_piece(theirs[r].note_bytes, [&](int64_t at, int count, MPI_Request* q) { MPI_Irecv((*notes)[r].data() + at, count, MPI_BYTE, peer, 1, MPI_COMM_WORLD, q); });
    }
    for (size_t r = 0; r < n; ++r) {
      if (r == self) continue;
      const int peer = static_cast<int>(r);
      each_piece(mine[r].bytes, [&](int64_t at, int count, MPI_Request* q) { MPI_Isend(message.out[r].data() + at, count, MPI_BYTE, peer, 0, MPI_COMM_WORLD, q); });
      each_piece(mine[r].note_bytes, [&](int64_t at, int count, MPI_Request* q) { MPI_Isend(message.note.data() + at, count, MPI_BYTE, peer, 1, MPI_COMM_WORLD, q); });
    }
    (*in)[self] = message.out[self];
    (*notes)[self] = message.note;
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  }

 private:
  int rank_ = 0, size_ = 1, local_size_ = 1;
};

}  // namespace

extern "C" Transport* tern_open_mpi() {
  int provided;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) return nullptr;
  return new MpiTransport();
}

}  // namespace tern::corpus
