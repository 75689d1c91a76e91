// How PickleTree keeps its values. Only for pickle.cc and pickle_machine.cc.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "formats/pickle.h"

namespace tern {

struct PickleTree::Nodes {
  static constexpr uint32_t kNoList = UINT32_MAX;
  // Node 0 is None: what absent parts point to.
  struct Node {
    PickleValue::Kind kind = PickleValue::Kind::kNone;
    uint32_t length = 0;  // of a text
    union {
      int64_t integer;   // kBool, kInt
      double number;     // kFloat
      const char* text;  // kString, kBytes, kBigInt
      uint32_t list;     // containers: index of their items, shared where one was made from another; kObject: of
                         // {callable, args, state, entries}
      uint32_t global;   // kGlobal
    };
    Node() : integer(0) {}
  };
  struct Global {
    std::string name;
    uint64_t offset;
  };
  std::vector<Node> nodes;
  std::vector<std::vector<uint32_t>> lists;
  std::deque<Global> globals;
  std::vector<uint32_t> persistents;
  uint32_t root = 0, first_opaque = 0;
  uint64_t pickle_bytes = 0;

  const std::vector<uint32_t>& items(uint32_t node) const {
    static const std::vector<uint32_t> kEmpty;
    return nodes[node].list == kNoList ? kEmpty : lists[nodes[node].list];
  }
};

// Places in the list of a kObject.
enum PickleObjectPart : uint32_t { kCallablePart, kArgsPart, kStatePart, kEntriesPart };

}  // namespace tern
