#include "engine/runtime/convert_plan.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace tern {
namespace {

using Kind = ConvertProblem::Kind;

std::string Quoted(std::string_view name) {
  return Str("'", Printable(name), "'");
}

// Edits between two names, given up (as `most` + 1) beyond `most`: only the band around the diagonal is looked at.
size_t EditDistance(std::string_view a, std::string_view b, size_t most) {
  if (a.size() > b.size()) std::swap(a, b);
  if (b.size() - a.size() > most) return most + 1;
  std::vector<size_t> row(a.size() + 1);
  for (size_t i = 0; i <= a.size(); ++i) row[i] = i;
  for (size_t j = 1; j <= b.size(); ++j) {
    const size_t first = j > most ? j - most : 1, last = std::min(a.size(), j + most);
    size_t diagonal = row[first - 1];
    size_t least = row[first - 1] = first == 1 ? j : most + 1;
    for (size_t i = first; i <= last; ++i) {
      const size_t above = i == j + most ? most + 1 : row[i];
      row[i] = std::min({above + 1, row[i - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
      least = std::min(least, row[i]);
    }
    if (least > most) return most + 1;
  }
  return std::min(row[a.size()], most + 1);
}

class Planner {
 public:
  Planner(const std::vector<WeightSpec>& manifest, const Import& import, const std::vector<SourceTensor>& source)
      : manifest_(manifest), import_(import), source_(source), used_(source.size(), false) {
    for (size_t i = 0; i < source.size(); ++i) by_name_.emplace(source[i].name, i);
    for (const ImportRule& rule : import.rules) rules_.emplace(rule.name, &rule);
  }

  ConvertPlan Run(const std::vector<std::string>& allow_extra) {
    MarkKnown();
    for (size_t w = 0; w < manifest_.size(); ++w) PlanTensor(w);
    for (size_t i = 0; i < source_.size(); ++i) {
      if (used_[i] || source_[i].attribute) continue;
      const std::string& name = source_[i].name;
      auto matches = [&](const std::string& glob) { return MatchesGlob(glob, name); };
      if (std::any_of(import_.ignore.begin(), import_.ignore.end(), matches) ||
          std::any_of(allow_extra.begin(), allow_extra.end(), matches))
        plan_.unused.push_back(name);
      else
        extra_.push_back(i);
    }
    std::sort(plan_.twins.begin(), plan_.twins.end());
    plan_.twins.erase(std::unique(plan_.twins.begin(), plan_.twins.end()), plan_.twins.end());
    SuggestNames();
    for (size_t i : extra_)
      plan_.problems.push_back(
          {Kind::kExtra, source_[i].name, Str("extra: ", Quoted(source_[i].name), " ", source_[i].shape)});
    std::stable_sort(plan_.problems.begin(), plan_.problems.end(),
                     [](const ConvertProblem& a, const ConvertProblem& b) { return a.kind < b.kind; });
    return std::move(plan_);
  }

 private:
  // All alternatives of a rule are known names, also those not taken (both names of a tied pair).
  void MarkKnown() {
    for (const ImportRule& rule : import_.rules)
      for (const ImportRule::Part& part : rule.parts)
        for (const std::string& name : part.alternatives)
          if (auto it = by_name_.find(name); it != by_name_.end()) used_[it->second] = true;
  }

  void PlanTensor(size_t w) {
    const WeightSpec& weight = manifest_[w];
    auto rule = rules_.find(weight.name);
    ConvertPlan::Tensor tensor{w};
    if (rule == rules_.end()) return Missing(weight, {});
    for (const ImportRule::Part& part : rule->second->parts) {
      const size_t* found = nullptr;
      for (const std::string& name : part.alternatives) {
        auto it = by_name_.find(name);
        if (it == by_name_.end()) continue;
        if (!found)
          found = &it->second;
        else if (source_[*found].shape == source_[it->second].shape)
          plan_.twins.emplace_back(*found, it->second);
      }
      if (found) {
        tensor.parts.push_back({*found, part.first_row, part.rows, part.transposed});
        continue;
      }
      if (!rule->second->otherwise) return Missing(weight, part.alternatives);
      tensor.parts.clear();
      tensor.values = rule->second->otherwise();
      if (static_cast<int64_t>(tensor.values.size()) != weight.shape.elements())
        return Missing(weight, part.alternatives);
      break;
    }
    if (!tensor.parts.empty() && !CheckParts(weight, &tensor)) return;
    plan_.tensors.push_back(std::move(tensor));
  }

  void Missing(const WeightSpec& weight, const std::vector<std::string>& alternatives) {
    std::string text = Str("missing: ", alternatives.empty() ? Quoted(weight.name) : Quoted(alternatives.front()));
    for (size_t i = 1; i < std::min<size_t>(alternatives.size(), 3); ++i) text += " or " + Quoted(alternatives[i]);
    text += Str(" ", weight.shape, ", the model's ", Quoted(weight.name));
    wanted_.emplace_back(plan_.problems.size(), alternatives.empty() ? weight.name : alternatives.front());
    plan_.problems.push_back({Kind::kMissing, weight.name, std::move(text)});
  }

  bool CheckParts(const WeightSpec& weight, ConvertPlan::Tensor* tensor) {
    bool types = true;
    for (const ConvertPlan::Part& part : tensor->parts) {
      const SourceTensor& t = source_[part.source];
      if (IsFloat(t.type) || t.q8) continue;
      types = false;
      plan_.problems.push_back(
          {Kind::kWrongType, t.name,
           Str("wrong type: ", Quoted(t.name), " (got ", DTypeName(t.type), ", expected floating point)")});
    }
    if (!types) return false;
    if (Reshaped(weight, tensor)) return true;
    int64_t rows = 0;
    bool fits = true;
    for (ConvertPlan::Part& part : tensor->parts) {
      fits = fits && PartFits(weight.shape, &part);
      rows += part.rows;
    }
    if (fits && rows == (weight.shape.rank() == 0 ? 1 : weight.shape[0])) return true;
    std::string got;
    for (const ConvertPlan::Part& part : tensor->parts)
      got += (got.empty() ? "" : " + ") + Quoted(source_[part.source].name) + " " +
             source_[part.source].shape.ToString() + (part.transposed ? " transposed" : "");
    plan_.problems.push_back(
        {Kind::kMisshapen, source_[tensor->parts[0].source].name,
         Str("other shape: the model's ", Quoted(weight.name), " (got ", got, ", expected ", weight.shape, ")")});
    return false;
  }

  // Fills in part->rows.
  bool PartFits(const Shape& ours, ConvertPlan::Part* part) const {
    Shape theirs = source_[part->source].shape;
    if (part->transposed) {
      if (theirs.rank() != 2) return false;
      std::swap(theirs[0], theirs[1]);
    }
    const bool one_expert = ours.rank() == 3 && theirs.rank() == 2;
    if (one_expert) {
      part->rows = 1;
      return part->first_row == 0 && theirs[0] == ours[1] && theirs[1] == ours[2];
    }
    if (theirs.rank() == 3 && ours.rank() == 2 && !part->transposed) theirs = {theirs[0], theirs[1] * theirs[2]};  // a convolution's kernel, as it lies
    if (theirs.rank() != ours.rank()) return false;
    for (int i = 1; i < ours.rank(); ++i)
      if (theirs[i] != ours[i]) return false;
    const int64_t all = theirs.rank() == 0 ? 1 : theirs[0];
    if (part->first_row < 0 || part->first_row > all) return false;
    if (part->rows < 0) part->rows = all - part->first_row;
    return part->rows <= all - part->first_row;
  }

  // A vector kept with dimensions of one around it, taken whole.
  bool Reshaped(const WeightSpec& weight, ConvertPlan::Tensor* tensor) const {
    ConvertPlan::Part& part = tensor->parts[0];
    const Shape& theirs = source_[part.source].shape;
    if (weight.role != Role::kVector || tensor->parts.size() != 1 || part.transposed || part.rows >= 0 ||
        theirs == weight.shape)
      return false;
    auto squeezed = [](const Shape& shape) {
      std::vector<int64_t> dims;
      for (int64_t d : shape)
        if (d != 1) dims.push_back(d);
      return dims;
    };
    if (squeezed(theirs) != squeezed(weight.shape)) return false;
    part.flat = true;
    part.rows = weight.shape.rank() == 0 ? 1 : weight.shape[0];
    return true;
  }

  // For each missing tensor the extra one whose name is nearest. Work is bounded: a hostile checkpoint has many long
  // names.
  void SuggestNames() {
    constexpr size_t kMostMissing = 100, kMostExtra = 500, kFarthest = 12;
    for (size_t m = 0; m < std::min(wanted_.size(), kMostMissing); ++m) {
      const auto& [problem, name] = wanted_[m];
      size_t best = std::clamp<size_t>(name.size() / 3, 3, kFarthest) + 1;
      const std::string* nearest = nullptr;
      for (size_t e = 0; e < std::min(extra_.size(), kMostExtra); ++e) {
        const std::string& candidate = source_[extra_[e]].name;
        if (size_t d = EditDistance(name, candidate, best - 1); d < best) best = d, nearest = &candidate;
      }
      if (nearest) plan_.problems[problem].text += Str("; the nearest name is ", Quoted(*nearest));
    }
  }

  const std::vector<WeightSpec>& manifest_;
  const Import& import_;
  const std::vector<SourceTensor>& source_;
  std::unordered_map<std::string_view, const ImportRule*> rules_;
  std::map<std::string_view, size_t> by_name_;
  std::vector<bool> used_;
  std::vector<size_t> extra_;
  std::vector<std::pair<size_t, std::string>> wanted_;  // problem number, name
  ConvertPlan plan_;
};

}  // namespace

bool MatchesGlob(std::string_view pattern, std::string_view name) {
  // Greedy with one point to return to: linear for each star.
  size_t p = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++, mark = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1, n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

ConvertPlan PlanConversion(const std::vector<WeightSpec>& manifest, const Import& import,
                           const std::vector<SourceTensor>& source, const std::vector<std::string>& allow_extra) {
  return Planner(manifest, import, source).Run(allow_extra);
}

Import ImportByName(const std::vector<WeightSpec>& manifest) {
  Import import;
  for (const WeightSpec& w : manifest) {
    ImportRule rule{w.name, {}, {}};
    if (w.role == Role::kExperts && w.shape.rank() == 3)
      for (int64_t e = 0; e < w.shape[0]; ++e) rule.parts.push_back({{Str(w.name, ".", e)}});
    else
      rule.parts.push_back({{w.name}});
    import.rules.push_back(std::move(rule));
  }
  return import;
}

Status ConvertPlan::status() const {
  if (problems.empty()) return {};
  std::map<Kind, int64_t> counts;
  for (const ConvertProblem& p : problems) ++counts[p.kind];
  std::string what;
  for (auto [kind, count] : counts) {
    const char* word = kind == Kind::kMissing     ? " missing"
                       : kind == Kind::kMisshapen ? " of another shape"
                       : kind == Kind::kWrongType ? " of a wrong type"
                                                  : " extra";
    what += (what.empty() ? "" : ", ") + Str(count, word);
  }
  Status status(Code::kIncomplete, Str("the tensors do not fit the model: ", what, "; ", problems.front().text));
  if (counts.size() == 1 && counts.contains(Kind::kExtra))
    return std::move(status).Hint("--allow-extra 'GLOB' leaves extra tensors out");
  return status;
}

}  // namespace tern
