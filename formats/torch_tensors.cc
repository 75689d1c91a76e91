#include "formats/torch_tensors.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "engine/base/checked.h"
#include "engine/base/utf8.h"
#include "formats/safetensors.h"
#include "formats/tensor_name.h"

namespace tern {
namespace {

using Kind = PickleValue::Kind;

constexpr int kMaxModuleDepth = 64, kMaxAttributeDepth = 8;
constexpr uint64_t kMaxVisits = 1 << 20;
constexpr size_t kMaxAttributeItems = 4096, kMaxAttributeText = 64 << 10;

bool IsText(const PickleValue& v) {
  return v.is(Kind::kString) || v.is(Kind::kBytes);
}

bool IsModule(const PickleValue& v) {
  return v.is(Kind::kObject) && v.state().Find("_modules").is(Kind::kDict);
}

// The object that a tensor was rebuilt from, without the Parameter around it; none() if `v` is no tensor.
PickleValue TensorIn(PickleValue v) {
  for (int wraps = 0; wraps < 4 && v.is(Kind::kObject); ++wraps) {
    const std::string_view name = v.class_name();
    if (name == "torch._utils._rebuild_tensor_v2" || name == "torch._utils._rebuild_tensor") return v;
    const bool parameter = name == "torch._utils._rebuild_parameter" || name == "torch.nn.parameter.Parameter" ||
                           name == "torch._utils._rebuild_parameter_with_state";
    if (!parameter || v.size() == 0) break;
    v = v[0];
  }
  return {};
}

std::string Join(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : Str(path, ".", name);
}

// Appends without the linear search of ordered_json; keys of one dict are distinct here (see Keys).
void Put(Json* object, std::string_view key, Json value) {
  static_cast<std::vector<Json::object_t::value_type>&>(object->get_ref<Json::object_t&>())
      .emplace_back(std::string(key), std::move(value));
}

class Collector {
 public:
  Collector(const PickleTree& tree, const TorchStorages& storages) : tree_(tree), storages_(storages) {}

  Result<TorchContent> Run() {
    PickleValue root = tree_.root();
    if (IsModule(root)) {
      TERN_ASSIGN(content_.attributes, Module(root, "", 0));
    } else if (root.is(Kind::kDict)) {
      TERN_ASSIGN(content_.attributes, RootDict(root));
    } else if (!TensorIn(root).none()) {
      return Malformed("the file holds one tensor without a name, not a state dict or module");
    } else {
      TERN_RETURN_IF_ERROR(CheckOpaque());
      return Malformed("the file holds neither a state dict nor a module").Hint("Save model.state_dict()");
    }
    TERN_RETURN_IF_ERROR(CheckOpaque());
    std::stable_partition(content_.tensors.begin(), content_.tensors.end(),
                          [](const TorchTensor& t) { return !t.attribute; });
    return std::move(content_);
  }

 private:
  // Classes of somebody's program are tolerated only around modules: a state dict needs none.
  Status CheckOpaque() const {
    PickleValue opaque = tree_.first_opaque();
    if (opaque.none() || modules_ > 0) return {};
    return Malformed(Str("refuses name '", Printable(opaque.text()), "' at offset ", opaque.offset()))
        .Hint("A state dict needs no such name; nothing in it is executed");
  }

  // A checkpoint of a training run holds the state dict beside other things.
  Result<Json> RootDict(const PickleValue& root) {
    PickleValue wrapped;
    std::string_view wrapper;
    bool direct = false;
    for (size_t i = 0; i < root.size(); ++i) direct |= !TensorIn(root[i]).none();
    for (std::string_view name : {"state_dict", "model_state_dict", "model", "module", "net"}) {
      PickleValue v = root.Find(name);
      if (direct || !wrapped.none() || !(IsModule(v) || (v.is(Kind::kDict) && HasTensor(v, 0)))) continue;
      wrapped = v;
      wrapper = name;
    }
    if (wrapped.none()) return Dict(root, "", 0);
    Result<Json> inner = IsModule(wrapped) ? Module(wrapped, "", 0) : Dict(wrapped, "", 0);
    if (!inner.ok()) return inner;
    collecting_ = false;
    for (size_t i = 0; i < std::min(root.size(), kMaxAttributeItems); ++i) {
      if (!IsText(root.key(i)) || root.key(i).text() == wrapper || inner->contains(root.key(i).text())) continue;
      TERN_RETURN_IF_ERROR(AddAttribute(&*inner, root.key(i).text(), root[i], "", 0));
    }
    return inner;
  }

  bool HasTensor(const PickleValue& dict, int depth) {
    for (size_t i = 0; i < dict.size() && ++visits_ <= kMaxVisits; ++i)
      if (!TensorIn(dict[i]).none() || IsModule(dict[i]) ||
          (depth < 3 && dict[i].is(Kind::kDict) && HasTensor(dict[i], depth + 1)))
        return true;
    return false;
  }

  Status Visit(int depth, const std::string& path) {
    if (depth > kMaxModuleDepth)
      return Malformed(Str("nesting deeper than ", kMaxModuleDepth)).Where(Str("module '", path.substr(0, 80), "...'"));
    if (++visits_ > kMaxVisits)
      return Malformed(Str("more than ", kMaxVisits, " values, counted as often as they are shared"));
    return {};
  }

  // A (nested) dict of tensors. Gives what else it holds.
  Result<Json> Dict(const PickleValue& dict, const std::string& path, int depth) {
    TERN_RETURN_IF_ERROR(Visit(depth, path));
    Json here = Json::object();
    std::set<std::string> keys;
    for (size_t i = 0; i < dict.size(); ++i) {
      TERN_RETURN_IF_ERROR(Visit(depth, path));
      const PickleValue key = dict.key(i), value = dict[i];
      std::string name = key.is(Kind::kInt) ? std::to_string(key.integer()) : std::string(key.text());
      const bool named = IsText(key) || key.is(Kind::kInt);
      const bool tensor = !TensorIn(value).none(), module = IsModule(value), nested = value.is(Kind::kDict);
      if (!named && (tensor || module))
        return Malformed("a tensor stands under a key that is not a string").Where(Str("dict '", path, "'"));
      if (!named) continue;
      if (!keys.insert(name).second) return Malformed(Str("the key '", Printable(Join(path, name)), "' stands twice"));
      if (tensor) {
        TERN_RETURN_IF_ERROR(Add(value, Join(path, name), false));
      } else if (module || nested) {
        auto inner = module ? Module(value, Join(path, name), depth + 1) : Dict(value, Join(path, name), depth + 1);
        if (!inner.ok()) return inner;
        if (!inner->empty() && IsAttributeName(name) && here.size() < kMaxAttributeItems)
          Put(&here, name, std::move(*inner));
      } else {
        TERN_RETURN_IF_ERROR(AddAttribute(&here, name, value, path, 0));
      }
    }
    return here;
  }

  // torch.nn.Module.__dict__: parameters and buffers by name, then the modules inside, as state_dict() orders them.
  // Gives the plain attributes.
  Result<Json> Module(const PickleValue& module, const std::string& path, int depth) {
    TERN_RETURN_IF_ERROR(Visit(depth, path));
    ++modules_;
    const PickleValue state = module.state();
    TERN_RETURN_IF_ERROR(Named(state.Find("_parameters"), path, {}));
    TERN_RETURN_IF_ERROR(Named(state.Find("_buffers"), path, state.Find("_non_persistent_buffers_set")));
    Json here = Json::object();
    if (IsPrintable(module.class_name())) Put(&here, "_class", std::string(module.class_name()));
    std::set<std::string> keys{"_class"};
    for (size_t i = 0; i < state.size(); ++i) {
      const std::string name(state.key(i).text());
      if (IsPrivate(name) || !keys.insert(name).second) continue;
      TERN_RETURN_IF_ERROR(AddAttribute(&here, name, state[i], path, 0));
    }
    const PickleValue inside = state.Find("_modules");
    for (size_t i = 0; i < inside.size(); ++i) {
      if (inside[i].none()) continue;
      const std::string name(inside.key(i).text());
      if (!IsModule(inside[i]))
        return Malformed("a part of a module is no module").Where(Str("module '", Printable(Join(path, name)), "'"));
      if (!keys.insert(name).second)
        return Malformed(Str("the module '", Printable(Join(path, name)), "' stands twice"));
      TERN_ASSIGN(Json inner, Module(inside[i], Join(path, name), depth + 1));
      if (IsAttributeName(name)) Put(&here, name, std::move(inner));
    }
    return here;
  }

  // The tensors of _parameters or _buffers; None stands for one that the module was built without.
  Status Named(const PickleValue& dict, const std::string& path, const PickleValue& not_saved) {
    for (size_t i = 0; i < dict.size(); ++i) {
      TERN_RETURN_IF_ERROR(Visit(0, path));
      if (dict[i].none()) continue;
      const std::string name = Join(path, dict.key(i).text());
      if (TensorIn(dict[i]).none())
        return Malformed("a parameter or buffer is no tensor").Where(Str("tensor '", Printable(name), "'"));
      bool attribute = false;
      for (size_t j = 0; j < std::min(not_saved.size(), kMaxAttributeItems); ++j)
        attribute |= not_saved[j].text() == dict.key(i).text();
      TERN_RETURN_IF_ERROR(Add(dict[i], name, attribute));
    }
    return {};
  }

  static bool IsPrivate(std::string_view name) { return name.empty() || name[0] == '_'; }  // hooks, caches and the like
  static bool IsPrintable(std::string_view text) {
    return !text.empty() && text.size() <= kMaxTensorNameBytes && CheckTensorName(text).ok();
  }
  static bool IsAttributeName(std::string_view text) { return IsPrintable(text); }

  Status AddAttribute(Json* here, std::string_view name, const PickleValue& value, const std::string& path, int depth) {
    if (!IsAttributeName(name) || here->size() >= kMaxAttributeItems) return {};
    TERN_ASSIGN(auto json, Attribute(value, Join(path, name), depth));
    if (json) Put(here, name, std::move(*json));
    return {};
  }

  // What JSON can say of a value, nullopt otherwise. Tensors on the way are collected as attributes.
  Result<std::optional<Json>> Attribute(const PickleValue& value, const std::string& path, int depth) {
    TERN_RETURN_IF_ERROR(Visit(0, path));
    const auto nothing = [] { return std::optional<Json>(); };
    if (depth > kMaxAttributeDepth) return nothing();
    switch (value.kind()) {
      case Kind::kNone:
        return std::optional<Json>(nullptr);
      case Kind::kBool:
        return std::optional<Json>(value.boolean());
      case Kind::kInt:
        return std::optional<Json>(value.integer());
      case Kind::kFloat:
        return std::isfinite(value.number()) ? std::optional<Json>(value.number()) : nothing();
      case Kind::kString:
      case Kind::kBytes:
        if (value.text().size() > kMaxAttributeText || !IsUtf8(value.text())) return nothing();
        return std::optional<Json>(std::string(value.text()));
      case Kind::kTuple:
      case Kind::kList:
      case Kind::kSet:
        return ListAttribute(value, path, depth);
      case Kind::kDict:
        return DictAttribute(value, path, depth);
      case Kind::kObject:
        return ObjectAttribute(value, path, depth);
      default:
        return nothing();
    }
  }
  Result<std::optional<Json>> ListAttribute(const PickleValue& list, const std::string& path, int depth) {
    Json out = Json::array();
    bool complete = list.size() <= kMaxAttributeItems;
    for (size_t i = 0; i < list.size(); ++i) {
      // Long lists of plain numbers are no hyper-parameters, but may hold tensors.
      if (!complete && !list[i].is(Kind::kObject)) {
        TERN_RETURN_IF_ERROR(Visit(0, path));
        continue;
      }
      TERN_ASSIGN(auto item, Attribute(list[i], Str(path, ".", i), depth + 1));
      complete = complete && item.has_value();
      if (complete) out.push_back(std::move(*item));
    }
    return complete ? std::optional<Json>(std::move(out)) : std::nullopt;
  }
  Result<std::optional<Json>> DictAttribute(const PickleValue& dict, const std::string& path, int depth) {
    Json out = Json::object();
    std::set<std::string_view> keys;
    for (size_t i = 0; i < dict.size(); ++i) {
      TERN_RETURN_IF_ERROR(Visit(0, path));
      if (!IsText(dict.key(i)) || IsPrivate(dict.key(i).text()) || !keys.insert(dict.key(i).text()).second) continue;
      TERN_RETURN_IF_ERROR(AddAttribute(&out, dict.key(i).text(), dict[i], path, depth + 1));
    }
    return std::optional<Json>(std::move(out));
  }
  Result<std::optional<Json>> ObjectAttribute(const PickleValue& object, const std::string& path, int depth) {
    if (!TensorIn(object).none()) {
      if (collecting_) TERN_RETURN_IF_ERROR(Add(object, path, true));
      return std::optional<Json>();
    }
    // Objects may point back to one another.
    if (!object.state().is(Kind::kDict) || !open_.insert(object.id()).second) return std::optional<Json>();
    auto inner = DictAttribute(object.state(), path, depth);
    open_.erase(object.id());
    TERN_ASSIGN(auto out, std::move(inner));
    if (out && IsPrintable(object.class_name()) && !out->contains("_class"))
      Put(&*out, "_class", std::string(object.class_name()));
    return out;
  }

  Status Add(const PickleValue& value, std::string name, bool attribute) {
    auto fail = [&name](Status s) { return std::move(s).Where(Str("tensor '", Printable(name), "'")); };
    if (Status s = CheckTensorName(name); !s.ok()) return fail(std::move(s));
    if (content_.tensors.size() >= kMaxCheckpointTensors)
      return Malformed("too many tensors").Got("more", Str("at most ", kMaxCheckpointTensors));
    auto view = View(TensorIn(value));
    if (!view.ok()) return fail(view.status());
    if (!names_.insert(name).second) return fail(Malformed("the name stands twice"));
    content_.tensors.push_back({std::move(name), *view, attribute});
    return {};
  }

  // _rebuild_tensor[_v2](storage, offset, size, stride, ...)
  Result<StridedView> View(const PickleValue& tensor) const {
    if (tensor.size() < 4 || !tensor[0].is(Kind::kPersistent) || !tensor[1].is(Kind::kInt) ||
        !tensor[2].is(Kind::kTuple) || !tensor[3].is(Kind::kTuple))
      return Malformed("the arguments that rebuild it are not storage, offset, size, stride");
    TERN_ASSIGN(TorchStorageId id, ReadTorchStorageId(tensor[0]));
    auto it = storages_.find(id.key);
    if (it == storages_.end()) return Malformed(Str("its storage '", Printable(id.key), "' is missing"));
    if (it->second.type != id.type)
      return Malformed(Str("its storage '", Printable(id.key), "' is used with two types"));
    StridedView view{id.type, {}, {}, tensor[1].integer(), it->second.bytes};
    if (id.is_view) {
      const uint64_t size = static_cast<uint64_t>(DTypeBytes(id.type)), begin = static_cast<uint64_t>(id.view_offset),
                     count = static_cast<uint64_t>(id.view_elements);
      const uint64_t stored = view.storage.size() / size;
      if (begin > stored || count > stored - begin)
        return Malformed("its storage is a view outside of another storage");
      view.storage = view.storage.subspan(begin * size, count * size);
    }
    const PickleValue size = tensor[2], stride = tensor[3];
    if (size.size() > static_cast<size_t>(Shape::kMaxRank))
      return Malformed("too many dimensions").Got(size.size(), Str("at most ", Shape::kMaxRank));
    if (size.size() != stride.size())
      return Malformed("size and stride differ in their number").Got(stride.size(), size.size());
    for (size_t i = 0; i < size.size(); ++i) {
      if (!size[i].is(Kind::kInt) || !stride[i].is(Kind::kInt)) return Malformed("a dimension or stride is no integer");
      view.shape.Push(size[i].integer());
      view.stride[i] = stride[i].integer();
    }
    TERN_RETURN_IF_ERROR(view.Check());
    return view;
  }

  const PickleTree& tree_;
  const TorchStorages& storages_;
  TorchContent content_;
  std::set<std::string> names_;
  std::set<uint32_t> open_;  // objects that the walk is inside of
  uint64_t visits_ = 0;
  int64_t modules_ = 0;
  bool collecting_ = true;
};

std::optional<DType> StorageType(std::string_view name) {
  for (std::string_view prefix : {"torch.cuda.", "torch."}) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    if (name == "FloatStorage") return DType::f32;
    if (name == "DoubleStorage") return DType::f64;
    if (name == "HalfStorage") return DType::f16;
    if (name == "BFloat16Storage") return DType::bf16;
    if (name == "LongStorage") return DType::i64;
    if (name == "IntStorage") return DType::i32;
    if (name == "ShortStorage") return DType::i16;
    if (name == "CharStorage") return DType::i8;
    if (name == "ByteStorage") return DType::u8;
    if (name == "BoolStorage") return DType::boolean;
    break;
  }
  return std::nullopt;
}

}  // namespace

bool IsTorchModuleId(const PickleValue& id) {
  return id.size() >= 2 && id[0].text() == "module";
}

Result<TorchStorageId> ReadTorchStorageId(const PickleValue& id) {
  if (id.size() < 5 || id.size() > 6 || id[0].text() != "storage" || !id[1].is(Kind::kGlobal) || !IsText(id[2]) ||
      !id[4].is(Kind::kInt))
    return Malformed("a persistent id is not ('storage', class, key, location, elements)");
  TorchStorageId out;
  auto type = StorageType(id[1].text());
  if (!type) return Malformed(Str("unsupported storage class '", Printable(id[1].text()), "'"));
  out.type = *type;
  out.key = id[2].text();
  out.elements = id[4].integer();
  if (out.elements < 0 || !CheckedMul(out.elements, DTypeBytes(out.type)))
    return Malformed(Str("the element count ", out.elements, " of storage '", Printable(out.key), "' is out of range"));
  if (id.size() == 6 && !id[5].none()) {
    const PickleValue view = id[5];
    if (!view.is(Kind::kTuple) || view.size() != 3 || !view[1].is(Kind::kInt) || !view[2].is(Kind::kInt) ||
        view[1].integer() < 0 || view[2].integer() < 0)
      return Malformed("a storage view is not (key, offset, elements)");
    out.is_view = true;
    out.view_offset = view[1].integer();
    out.view_elements = view[2].integer();
  }
  return out;
}

Result<TorchContent> CollectTorchTensors(const PickleTree& tree, const TorchStorages& storages) {
  return Collector(tree, storages).Run();
}

}  // namespace tern
