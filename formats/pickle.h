// Python pickles without Python: a symbolic machine that builds inert values and calls nothing.
//
// A global name becomes a symbol, a call an object {callable, args}, BUILD attaches a state; there is nothing to
// execute. Opcodes outside the short list (docs: python pickletools, protocols 2 to 5) are an error that names them.
// Names of modules that can run code are refused in every mode.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"

namespace tern {

struct PickleLimits {
  uint64_t max_ops = 50'000'000;
  uint64_t max_memo = 4 << 20;
  uint64_t max_values = 4 << 20;
  uint64_t max_containers = 2 << 20;  // that are not empty
  uint64_t max_items = 16 << 20;      // in all containers together
  uint64_t max_string_bytes = 16 << 20;
  int max_depth = 1000;  // of containers under construction (MARKs)
};

// Which global names may stand in a pickle.
enum class PickleGlobals {
  kData,    // only the names that data needs: OrderedDict, Counter, set, torch's tensors and storages, numpy arrays
  kOpaque,  // others too, as inert symbols and objects (a pickled module, a re-saved tokenizer)
};

class PickleTree;

// A value of a tree: a cheap handle, valid as long as the tree lives. Values may be shared and even cyclic: bound every
// walk.
class PickleValue {
 public:
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kBigInt,
    kFloat,
    kString,
    kBytes,
    kTuple,
    kList,
    kDict,
    kSet,
    kGlobal,      // a symbol "module.name"
    kObject,      // callable(args) or an instance of it, with perhaps items and a state; nothing was called
    kPersistent,  // a persistent id: a tuple whose first item says of what
  };

  PickleValue() = default;
  Kind kind() const;
  bool is(Kind k) const { return kind() == k; }
  bool none() const { return is(Kind::kNone); }

  bool boolean() const;     // kBool (else false)
  int64_t integer() const;  // kInt, kBool (else 0)
  double number() const;    // kFloat, kInt, kBool (else 0)
  // kString: the text, as stored (UTF-8, not yet checked). kBytes: bytes, also the str of Python 2. kBigInt:
  // little-endian two's complement. kGlobal: "module.name". Else empty.
  std::string_view text() const;

  // kTuple, kList, kSet: the items. kDict: the values (see key). kObject: args. kPersistent: the id. Else 0.
  size_t size() const;
  PickleValue operator[](size_t i) const;  // REQUIRES: i < size()
  PickleValue key(size_t i) const;         // kDict; REQUIRES: i < size()
  // The last value stored under this string key of a kDict (as Python would have it); none() if absent. Linear.
  PickleValue Find(std::string_view key) const;

  // kObject. An OrderedDict, defaultdict or Counter is a kDict itself, a set a kSet, a torch.Size a kTuple; a state
  // that was attached to those is dropped.
  PickleValue callable() const;  // a kGlobal (or whatever stood there)
  PickleValue state() const;     // what BUILD attached; none() without
  PickleValue entries() const;   // a kDict of what SETITEMS stored on it; none() without
  // The class name of a kObject ("module.name") if its callable is a global, or a ('module', class, ...) persistent id
  // around one; else empty.
  std::string_view class_name() const;

  uint64_t offset() const;               // kGlobal: where in the pickle the name stands, for messages
  uint32_t id() const { return node_; }  // equal for the same shared value

 private:
  friend class PickleTree;
  friend class PickleMachine;
  PickleValue(const PickleTree* tree, uint32_t node) : tree_(tree), node_(node) {}
  const PickleTree* tree_ = nullptr;
  uint32_t node_ = 0;
};

// Owns the values of one pickle. Strings point into the bytes that were parsed, which must outlive it. Immutable, so
// safe to share between threads.
class PickleTree {
 public:
  PickleTree(const PickleTree&) = delete;
  PickleTree& operator=(const PickleTree&) = delete;
  ~PickleTree();
  PickleValue root() const;
  uint64_t pickle_bytes() const;  // how many of the given bytes the pickle took, STOP included
  // The first global that PickleGlobals::kData would have refused; none() if there is none.
  PickleValue first_opaque() const;
  // Every persistent id of the pickle (a kPersistent each), in the order of the pickle.
  size_t persistent_count() const;
  PickleValue persistent(size_t i) const;

 private:
  friend class PickleMachine;
  friend class PickleValue;
  struct Nodes;
  PickleTree();
  std::unique_ptr<Nodes> nodes_;
};
using PicklePtr = std::shared_ptr<const PickleTree>;

// Parses the one pickle that begins at bytes[0]; what follows its STOP is not looked at. base_offset is added to
// offsets in messages. Errors: kMalformed, with the offset, the opcode or name refused, or the limit hit.
Result<PicklePtr> ParsePickle(std::span<const uint8_t> bytes, PickleGlobals globals, const PickleLimits& limits = {},
                              uint64_t base_offset = 0);

// The object that a file holds: of a torch.save file (zip or legacy; its tensors stay inert persistent ids) or of a
// plain pickle. For vocabularies and other plain objects. `bytes` must outlive the tree.
Result<PicklePtr> LoadTorchObject(std::span<const uint8_t> bytes, PickleGlobals globals = PickleGlobals::kOpaque,
                                  const PickleLimits& limits = {});

}  // namespace tern
