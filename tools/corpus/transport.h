// Transport: how the processes of one run reach each other. One collective step is all there is; ranks.h builds everything on it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tern::corpus {

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_size() const = 0;  // ranks on this machine, this one included

  // Called by all ranks alike: rank r receives out[r] of rank s as (*in)[s], of any length, and every note. *any_more: whether some rank has more to come.
  struct Message {
    std::string_view note;             // to all; empty: nothing went wrong
    bool more = false;
    std::vector<std::string_view> out;  // by rank
  };
  virtual void Swap(const Message& message, std::vector<std::string>* in, std::vector<std::string>* notes, bool* any_more) = 0;
};

// The one symbol of the library tern_mpi.so. Null if MPI cannot start.
extern "C" Transport* tern_open_mpi();
inline constexpr char kMpiLibrary[] = "tern_mpi.so", kMpiSymbol[] = "tern_open_mpi";

}  // namespace tern::corpus
