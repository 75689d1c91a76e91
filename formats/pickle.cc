#include "formats/pickle.h"

#include "formats/pickle_nodes.h"

namespace tern {

using Kind = PickleValue::Kind;

PickleTree::PickleTree() : nodes_(std::make_unique<Nodes>()) {}
PickleTree::~PickleTree() = default;
PickleValue PickleTree::root() const {
  return {this, nodes_->root};
}
uint64_t PickleTree::pickle_bytes() const {
  return nodes_->pickle_bytes;
}
PickleValue PickleTree::first_opaque() const {
  return {this, nodes_->first_opaque};
}
size_t PickleTree::persistent_count() const {
  return nodes_->persistents.size();
}
PickleValue PickleTree::persistent(size_t i) const {
  return {this, nodes_->persistents[i]};
}

Kind PickleValue::kind() const {
  return tree_ ? tree_->nodes_->nodes[node_].kind : Kind::kNone;
}

bool PickleValue::boolean() const {
  return is(Kind::kBool) && tree_->nodes_->nodes[node_].integer != 0;
}

int64_t PickleValue::integer() const {
  return is(Kind::kInt) || is(Kind::kBool) ? tree_->nodes_->nodes[node_].integer : 0;
}

double PickleValue::number() const {
  return is(Kind::kFloat) ? tree_->nodes_->nodes[node_].number : static_cast<double>(integer());
}

std::string_view PickleValue::text() const {
  if (is(Kind::kString) || is(Kind::kBytes) || is(Kind::kBigInt)) {
    const auto& node = tree_->nodes_->nodes[node_];
    return {node.text, node.length};
  }
  if (is(Kind::kGlobal)) return tree_->nodes_->globals[tree_->nodes_->nodes[node_].global].name;
  return {};
}

uint64_t PickleValue::offset() const {
  return is(Kind::kGlobal) ? tree_->nodes_->globals[tree_->nodes_->nodes[node_].global].offset : 0;
}

size_t PickleValue::size() const {
  switch (kind()) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
    case Kind::kPersistent:
      return tree_->nodes_->items(node_).size();
    case Kind::kDict:
      return tree_->nodes_->items(node_).size() / 2;
    case Kind::kObject:
      return PickleValue(tree_, tree_->nodes_->items(node_)[kArgsPart]).size();
    default:
      return 0;
  }
}

PickleValue PickleValue::operator[](size_t i) const {
  const auto& items = tree_->nodes_->items(node_);
  if (is(Kind::kObject)) return PickleValue(tree_, items[kArgsPart])[i];
  return {tree_, items[is(Kind::kDict) ? 2 * i + 1 : i]};
}

PickleValue PickleValue::key(size_t i) const {
  return {tree_, tree_->nodes_->items(node_)[2 * i]};
}

PickleValue PickleValue::Find(std::string_view name) const {
  if (!is(Kind::kDict)) return {};
  for (size_t i = size(); i-- > 0;) {
    PickleValue k = key(i);
    if ((k.is(Kind::kString) || k.is(Kind::kBytes)) && k.text() == name) return (*this)[i];
  }
  return {};
}

PickleValue PickleValue::callable() const {
  return is(Kind::kObject) ? PickleValue(tree_, tree_->nodes_->items(node_)[kCallablePart]) : PickleValue();
}
PickleValue PickleValue::state() const {
  return is(Kind::kObject) ? PickleValue(tree_, tree_->nodes_->items(node_)[kStatePart]) : PickleValue();
}
PickleValue PickleValue::entries() const {
  return is(Kind::kObject) ? PickleValue(tree_, tree_->nodes_->items(node_)[kEntriesPart]) : PickleValue();
}

std::string_view PickleValue::class_name() const {
  PickleValue c = callable();
  // Legacy files announce a module's class as the persistent id ('module', class, source file, source text).
  if (c.is(Kind::kPersistent) && c.size() >= 2 && c[0].text() == "module") c = c[1];
  return c.is(Kind::kGlobal) ? c.text() : std::string_view();
}

}  // namespace tern
