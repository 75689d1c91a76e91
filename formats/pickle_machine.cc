// The machine behind ParsePickle: one function per group of opcodes, a stack of node numbers, a memo. Protocols 2 to 5.
#include <algorithm>
#include <cstring>
#include <map>

#include "engine/base/bytes.h"
#include "formats/pickle.h"
#include "formats/pickle_names.h"
#include "formats/pickle_nodes.h"

namespace tern {

using Kind = PickleValue::Kind;

namespace {

std::string_view KindName(Kind kind) {
  constexpr std::string_view kNames[] = {"None",     "a bool",   "an int",    "a long int",     "a float",
                                         "a string", "bytes",    "a tuple",   "a list",         "a dict",
                                         "a set",    "a global", "an object", "a persistent id"};
  return kNames[static_cast<size_t>(kind)];
}

constexpr uint64_t kMaxNameBytes = 1024;
constexpr uint64_t kMaxIntegerBytes = 1024;

}  // namespace

class PickleMachine {
 public:
  PickleMachine(std::span<const uint8_t> bytes, PickleGlobals globals, const PickleLimits& limits, uint64_t base)
      : reader_(bytes, base), policy_(globals), limits_(limits), tree_(new PickleTree()), n_(*tree_->nodes_) {
    // No more values than operations: address space only, memory comes with use.
    n_.nodes.reserve(std::min<uint64_t>(limits_.max_values, bytes.size()) + 1);
    n_.nodes.emplace_back();
  }

  Result<PicklePtr> Run() {
    for (uint64_t ops = 0; !stopped_; ++ops) {
      at_ = reader_.offset();
      auto code = reader_.Read<uint8_t>();
      if (!code.ok()) return Malformed("the pickle ends without STOP").Where(Str("offset ", at_));
      op_ = *code;
      Status s = ops < limits_.max_ops ? Step() : Malformed(Str("more than ", limits_.max_ops, " pickle operations"));
      if (!s.ok()) return std::move(s).Where(Str("offset ", at_));
    }
    n_.pickle_bytes = reader_.position();
    return PicklePtr(std::move(tree_));
  }

 private:
  using Node = PickleTree::Nodes::Node;
  static constexpr uint32_t kNoList = PickleTree::Nodes::kNoList;

  Status Step() {
    switch (static_cast<char>(op_)) {
      case '\x80':
        return Proto();
      case '\x95':
        return Frame();
      case '.':
        return Stop();
      case '(':
        return Mark();
      case '0':
        return Pop();
      case '1':
        return PopMark();
      case 'N':
        return Push(0);
      case '\x88':
        return Integer(Kind::kBool, 1);
      case '\x89':
        return Integer(Kind::kBool, 0);
      case 'J':
        return FixedInteger<int32_t>();
      case 'K':
        return FixedInteger<uint8_t>();
      case 'M':
        return FixedInteger<uint16_t>();
      case '\x8a':
        return LongInteger<uint8_t>();
      case '\x8b':
        return LongInteger<uint32_t>();
      case 'G':
        return Float();
      case 'X':
        return Text<uint32_t>(Kind::kString);
      case '\x8c':
        return Text<uint8_t>(Kind::kString);
      case '\x8d':
        return Text<uint64_t>(Kind::kString);
      case 'T':
      case 'B':
        return Text<uint32_t>(Kind::kBytes);
      case 'U':
      case 'C':
        return Text<uint8_t>(Kind::kBytes);
      case ')':
        return Container(Kind::kTuple, {});
      case ']':
        return Container(Kind::kList, {});
      case '}':
        return Container(Kind::kDict, {});
      case '\x8f':
        return Container(Kind::kSet, {});
      case 't':
        return TupleToMark();
      case '\x85':
        return TupleOf(1);
      case '\x86':
        return TupleOf(2);
      case '\x87':
        return TupleOf(3);
      case 'a':
        return Append();
      case 'e':
        return AddToMark(Kind::kList);
      case '\x90':
        return AddToMark(Kind::kSet);
      case 's':
        return SetItem();
      case 'u':
        return SetItems();
      case 'q':
        return PutAt<uint8_t>();
      case 'r':
        return PutAt<uint32_t>();
      case '\x94':
        return Put(memo_.size());
      case 'h':
        return GetAt<uint8_t>();
      case 'j':
        return GetAt<uint32_t>();
      case 'c':
        return GlobalByLines();
      case '\x93':
        return GlobalByStack();
      case 'R':
      case '\x81':
        return Call();
      case 'b':
        return Build();
      case 'Q':
        return Persistent();
      case 'i':
        TERN_RETURN_IF_ERROR(GlobalByLines());
        [[fallthrough]];  // a refused name is told first
      default:
        return Malformed(Str("the pickle opcode ", PickleOpcodeName(op_), " is not on the short list that is read"));
    }
  }

  // Framing.
  Status Proto() {
    TERN_ASSIGN(uint8_t version, reader_.Read<uint8_t>());
    if (version < 2 || version > 5) return Malformed("pickle protocol").Got(static_cast<int>(version), "2 to 5");
    return {};
  }
  Status Frame() {
    TERN_ASSIGN(uint64_t length, reader_.Read<uint64_t>());
    if (length > reader_.remaining())
      return Malformed(Str("a frame of ", length, " bytes, ", reader_.remaining(), " remain"));
    return {};
  }
  Status Stop() {
    if (stack_.size() != 1 || !marks_.empty())
      return Malformed(Str("STOP with ", stack_.size(), " values on the stack"));
    n_.root = stack_.back();
    stopped_ = true;
    return {};
  }

  // The stack. Values above the innermost mark belong to it.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Status Need(size_t count) const {
    if (stack_.size() - floor() < count)
      return Malformed(Str(PickleOpcodeName(op_), " finds too few values on the stack"));
    return {};
  }
  Status Push(uint32_t node) {
    if (stack_.size() >= limits_.max_memo)
      return Malformed(Str("more than ", limits_.max_memo, " values on the stack"));
    stack_.push_back(node);
    return {};
  }
  uint32_t Take() {
    uint32_t node = stack_.back();
    stack_.pop_back();
    return node;
  }
  Status Mark() {
    if (marks_.size() >= static_cast<size_t>(limits_.max_depth))
      return Malformed(Str("nesting deeper than ", limits_.max_depth));
    marks_.push_back(stack_.size());
    return {};
  }
  Status NeedMark(size_t below) {
    if (marks_.empty() || marks_.back() < below + (marks_.size() > 1 ? marks_[marks_.size() - 2] : 0))
      return Malformed(Str(PickleOpcodeName(op_), " without its MARK"));
    return {};
  }
  // The values above the innermost mark, which is removed.
  std::vector<uint32_t> TakeToMark() {
    std::vector<uint32_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  Status Pop() {
    // Python pops a bare mark, too.
    if (stack_.size() == floor() && !marks_.empty()) {
      marks_.pop_back();
      return {};
    }
    TERN_RETURN_IF_ERROR(Need(1));
    stack_.pop_back();
    return {};
  }
  Status PopMark() {
    TERN_RETURN_IF_ERROR(NeedMark(0));
    TakeToMark();
    return {};
  }

  // New values.
  Result<uint32_t> New(const Node& node) {
    if (n_.nodes.size() > limits_.max_values) return Malformed(Str("more than ", limits_.max_values, " values"));
    n_.nodes.push_back(node);
    return static_cast<uint32_t>(n_.nodes.size() - 1);
  }
  Status PushNew(const Node& node) {
    TERN_ASSIGN(uint32_t index, New(node));
    return Push(index);
  }
  Status Integer(Kind kind, int64_t value) {
    Node node;
    node.kind = kind;
    node.integer = value;
    return PushNew(node);
  }
  template <class T>
  Status FixedInteger() {
    TERN_ASSIGN(T value, reader_.Read<T>());
    return Integer(Kind::kInt, value);
  }
  template <class Length>
  Status LongInteger() {
    TERN_ASSIGN(Length length, reader_.Read<Length>());
    if (static_cast<uint64_t>(length) > kMaxIntegerBytes)
      return Malformed("an integer is too long")
          .Got(Str(static_cast<uint64_t>(length), " bytes"), Str("at most ", kMaxIntegerBytes));
    TERN_ASSIGN(std::string_view digits, reader_.Text(length));
    if (digits.size() > 8) return TextNode(Kind::kBigInt, digits);
    uint64_t value = 0;
    for (size_t i = 0; i < digits.size(); ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(digits[i])) << (8 * i);
    if (!digits.empty() && digits.size() < 8 && (digits.back() & 0x80)) value |= ~uint64_t{0} << (8 * digits.size());
    return Integer(Kind::kInt, static_cast<int64_t>(value));
  }
  Status Float() {
    TERN_ASSIGN(uint64_t bits, reader_.Read<uint64_t>());  // big-endian, alone in the format
    bits = __builtin_bswap64(bits);
    Node node;
    node.kind = Kind::kFloat;
    std::memcpy(&node.number, &bits, 8);
    return PushNew(node);
  }
  template <class Length>
  Status Text(Kind kind) {
    TERN_ASSIGN(Length length, reader_.Read<Length>());
    if (static_cast<uint64_t>(length) > limits_.max_string_bytes)
      return Malformed("a string is too long")
          .Got(Str(static_cast<uint64_t>(length), " bytes"), Str("at most ", limits_.max_string_bytes));
    TERN_ASSIGN(std::string_view text, reader_.Text(length));
    return TextNode(kind, text);
  }
  Status TextNode(Kind kind, std::string_view text) {
    Node node;
    node.kind = kind;
    node.length = static_cast<uint32_t>(text.size());
    node.text = text.data();
    return PushNew(node);
  }

  // Containers.
  Result<uint32_t> NewList(std::vector<uint32_t> items) {
    TERN_RETURN_IF_ERROR(Count(items.size()));
    if (n_.lists.size() >= limits_.max_containers)
      return Malformed(Str("more than ", limits_.max_containers, " containers"));
    n_.lists.push_back(std::move(items));
    return static_cast<uint32_t>(n_.lists.size() - 1);
  }
  Status Count(size_t items) {
    items_ += items;
    if (items_ > limits_.max_items) return Malformed(Str("more than ", limits_.max_items, " items in containers"));
    return {};
  }
  Result<uint32_t> NewContainer(Kind kind, std::vector<uint32_t> items) {
    Node node;
    node.kind = kind;
    node.list = kNoList;
    if (!items.empty()) {
      TERN_ASSIGN(node.list, NewList(std::move(items)));
    }
    return New(node);
  }
  Status Container(Kind kind, std::vector<uint32_t> items) {
    TERN_ASSIGN(uint32_t node, NewContainer(kind, std::move(items)));
    return Push(node);
  }
  Status TupleToMark() {
    TERN_RETURN_IF_ERROR(NeedMark(0));
    return Container(Kind::kTuple, TakeToMark());
  }
  Status TupleOf(size_t count) {
    TERN_RETURN_IF_ERROR(Need(count));
    std::vector<uint32_t> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return Container(Kind::kTuple, std::move(items));
  }
  Status AddItems(uint32_t container, std::span<const uint32_t> items) {
    if (items.empty()) return {};
    if (n_.nodes[container].list == kNoList) {
      TERN_ASSIGN(n_.nodes[container].list, NewList({}));
    }
    TERN_RETURN_IF_ERROR(Count(items.size()));
    auto& list = n_.lists[n_.nodes[container].list];
    list.insert(list.end(), items.begin(), items.end());
    return {};
  }
  Status Unfit(uint32_t node) const {
    return Malformed(Str(PickleOpcodeName(op_), " on ", KindName(n_.nodes[node].kind)));
  }
  Status Append() {
    TERN_RETURN_IF_ERROR(Need(2));
    uint32_t item = Take();
    if (n_.nodes[stack_.back()].kind != Kind::kList) return Unfit(stack_.back());
    return AddItems(stack_.back(), {&item, 1});
  }
  Status AddToMark(Kind kind) {
    TERN_RETURN_IF_ERROR(NeedMark(1));
    auto items = TakeToMark();
    if (n_.nodes[stack_.back()].kind != kind) return Unfit(stack_.back());
    return AddItems(stack_.back(), items);
  }
  // The dict that SETITEM(S) writes to: the value itself, or the entries of an object.
  Result<uint32_t> DictOf(uint32_t node) {
    if (n_.nodes[node].kind == Kind::kDict) return node;
    if (n_.nodes[node].kind != Kind::kObject) return Unfit(node);
    const uint32_t parts = n_.nodes[node].list;
    if (n_.lists[parts][kEntriesPart] == 0) {
      TERN_ASSIGN(uint32_t entries, NewContainer(Kind::kDict, {}));
      n_.lists[parts][kEntriesPart] = entries;
    }
    return n_.lists[parts][kEntriesPart];
  }
  Status SetItem() {
    TERN_RETURN_IF_ERROR(Need(3));
    uint32_t value = Take(), key = Take();
    TERN_ASSIGN(uint32_t dict, DictOf(stack_.back()));
    const uint32_t pair[] = {key, value};
    return AddItems(dict, pair);
  }
  Status SetItems() {
    TERN_RETURN_IF_ERROR(NeedMark(1));
    auto items = TakeToMark();
    if (items.size() % 2 != 0) return Malformed("SETITEMS with a key without value");
    TERN_ASSIGN(uint32_t dict, DictOf(stack_.back()));
    return AddItems(dict, items);
  }

  // The memo.
  Status Put(uint64_t index) {
    TERN_RETURN_IF_ERROR(Need(1));
    if (index >= limits_.max_memo) return Malformed("memo index").Got(index, Str("below ", limits_.max_memo));
    if (index >= memo_.size()) memo_.resize(index + 1, kNoList);
    memo_[index] = stack_.back();
    return {};
  }
  template <class Index>
  Status PutAt() {
    TERN_ASSIGN(Index index, reader_.Read<Index>());
    return Put(index);
  }
  template <class Index>
  Status GetAt() {
    TERN_ASSIGN(Index index, reader_.Read<Index>());
    if (index >= memo_.size() || memo_[index] == kNoList)
      return Malformed(Str("the memo has no number ", static_cast<uint64_t>(index)));
    return Push(memo_[index]);
  }

  // Names.
  Result<std::string_view> Line() {
    const uint64_t limit = std::min(reader_.remaining(), kMaxNameBytes + 1);
    TERN_ASSIGN(std::string_view text, ByteReader(reader_).Text(limit));
    size_t end = text.find('\n');
    if (end == std::string_view::npos) return Malformed("a name without end, or too long");
    TERN_RETURN_IF_ERROR(reader_.Skip(end + 1));
    return text.substr(0, end);
  }
  Status GlobalByLines() {
    TERN_ASSIGN(std::string_view module, Line());
    TERN_ASSIGN(std::string_view name, Line());
    return Global(module, name);
  }
  Status GlobalByStack() {
    TERN_RETURN_IF_ERROR(Need(2));
    const Node &name = n_.nodes[Take()], &module = n_.nodes[Take()];
    if (name.kind != Kind::kString || module.kind != Kind::kString)
      return Malformed("STACK_GLOBAL without two strings");
    if (name.length > kMaxNameBytes || module.length > kMaxNameBytes) return Malformed("a name is too long");
    return Global({module.text, module.length}, {name.text, name.length});
  }
  Status Global(std::string_view module, std::string_view name) {
    std::string full = Str(module, ".", name);
    auto [it, fresh] = global_nodes_.try_emplace(full, 0);
    if (!fresh) return Push(it->second);
    const PickleName kind = ClassifyPickleName(module, name);
    if (kind == PickleName::kRefused || (kind == PickleName::kOpaque && policy_ == PickleGlobals::kData))
      return Malformed(Str("refuses name '", Printable(full), "' at offset ", at_))
          .Hint("Nothing in a pickle is executed; this name is not needed for data");
    Node node;
    node.kind = Kind::kGlobal;
    node.global = static_cast<uint32_t>(n_.globals.size());
    n_.globals.push_back({std::move(full), at_});
    TERN_ASSIGN(uint32_t index, New(node));
    it->second = index;
    if (kind == PickleName::kOpaque && n_.first_opaque == 0) n_.first_opaque = index;
    return Push(index);
  }

  // Calls that are never made.
  Status Call() {  // REDUCE and NEWOBJ: callable, args -> what the call would have given
    TERN_RETURN_IF_ERROR(Need(2));
    const uint32_t args = Take(), callable = Take();
    if (n_.nodes[args].kind != Kind::kTuple)
      return Malformed(Str(PickleOpcodeName(op_), " with arguments that are ", KindName(n_.nodes[args].kind)));
    const Kind kind = n_.nodes[callable].kind;
    if (kind != Kind::kGlobal && kind != Kind::kPersistent)
      return Malformed(Str(PickleOpcodeName(op_), " calls ", KindName(kind)));
    if (kind == Kind::kGlobal) {
      const std::string& name = n_.globals[n_.nodes[callable].global].name;
      if (name == "collections.OrderedDict" || name == "collections.Counter") return DictFrom(args);
      if (name == "collections.defaultdict") return Container(Kind::kDict, {});
      if (name == "torch.Size") return SameItems(Kind::kTuple, args);
      if (name == "builtins.set" || name == "__builtin__.set" || name == "builtins.frozenset" ||
          name == "__builtin__.frozenset")
        return SameItems(Kind::kSet, args);
    }
    Node node;
    node.kind = Kind::kObject;
    TERN_ASSIGN(node.list, NewList({callable, args, 0, 0}));
    return PushNew(node);
  }
  // A container of `kind` over the items of the one argument; the list itself is shared, so that a chain of such calls
  // costs nothing.
  Status SameItems(Kind kind, uint32_t args) {
    const auto& items = n_.items(args);
    if (items.empty()) return Container(kind, {});
    const Node& from = n_.nodes[items[0]];
    if (items.size() != 1 || (from.kind != Kind::kList && from.kind != Kind::kTuple && from.kind != Kind::kSet))
      return Malformed("a set or size is made from something else than a list");
    Node node = from;
    node.kind = kind;
    return PushNew(node);
  }
  Status DictFrom(uint32_t args) {
    const auto& items = n_.items(args);
    if (items.empty()) return Container(Kind::kDict, {});
    const Node from = n_.nodes[items[0]];
    if (items.size() == 1 && from.kind == Kind::kDict) return PushNew(from);
    if (items.size() != 1 || from.kind != Kind::kList)
      return Malformed("an OrderedDict or Counter is made from something else than a dict or list");
    // Python 2 wrote OrderedDict([[key, value], ...]).
    std::vector<uint32_t> pairs;
    for (uint32_t item : n_.items(items[0])) {
      const auto pair_kind = n_.nodes[item].kind;
      if ((pair_kind != Kind::kList && pair_kind != Kind::kTuple) || n_.items(item).size() != 2)
        return Malformed("an OrderedDict is made from items that are no pairs");
      pairs.insert(pairs.end(), n_.items(item).begin(), n_.items(item).end());
    }
    return Container(Kind::kDict, std::move(pairs));
  }
  Status Build() {
    TERN_RETURN_IF_ERROR(Need(2));
    const uint32_t state = Take(), target = stack_.back();
    const Kind kind = n_.nodes[target].kind;
    if (kind == Kind::kObject)
      n_.lists[n_.nodes[target].list][kStatePart] = state;
    else if (kind != Kind::kDict && kind != Kind::kSet)
      return Unfit(target);
    return {};
  }
  Status Persistent() {
    TERN_RETURN_IF_ERROR(Need(1));
    const Node id = n_.nodes[Take()];
    if (id.kind != Kind::kTuple) return Malformed(Str("a persistent id that is ", KindName(id.kind)));
    Node node = id;
    node.kind = Kind::kPersistent;
    TERN_ASSIGN(uint32_t index, New(node));
    n_.persistents.push_back(index);
    return Push(index);
  }

  ByteReader reader_;
  const PickleGlobals policy_;
  const PickleLimits limits_;
  std::unique_ptr<PickleTree> tree_;
  PickleTree::Nodes& n_;
  std::vector<uint32_t> stack_, memo_;
  std::vector<size_t> marks_;
  std::map<std::string, uint32_t, std::less<>> global_nodes_;
  uint64_t items_ = 0, at_ = 0;
  uint8_t op_ = 0;
  bool stopped_ = false;
};

Result<PicklePtr> ParsePickle(std::span<const uint8_t> bytes, PickleGlobals globals, const PickleLimits& limits,
                              uint64_t base_offset) {
  return PickleMachine(bytes, globals, limits, base_offset).Run();
}

}  // namespace tern
