#include "engine/runtime/squad.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "engine/base/utf8.h"

namespace tern {
namespace {

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string w; in >> w;) words.push_back(w);
  return words;
}

bool IsWordByte(unsigned char c) { return c == '_' || c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Lower case of the letters that answers are written in: Latin, Greek, Cyrillic, one code point to one.
char32_t Lower(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9) || (c >= 0x410 && c <= 0x42f)) return c + 32;
  if (c >= 0x400 && c <= 0x40f) return c + 80;
  const bool pairs_even = (c >= 0x100 && c <= 0x137) || (c >= 0x14a && c <= 0x177) || (c >= 0x460 && c <= 0x481) || (c >= 0x48a && c <= 0x4bf) || (c >= 0x1e00 && c <= 0x1eff);
  const bool pairs_odd = (c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e);
  if (c != 0x130 && c != 0x131 && pairs_even && c % 2 == 0) return c + 1;
  if (pairs_odd && c % 2 == 1) return c + 1;
  return c;
}

double OneF1(const std::string& prediction, const std::string& gold) {
  const auto a = Words(NormalizeAnswer(gold)), b = Words(NormalizeAnswer(prediction));
  if (a.empty() || b.empty()) return a.empty() && b.empty() ? 1 : 0;
  std::map<std::string, int64_t> count;
  for (const auto& w : a) ++count[w];
  int64_t same = 0;
  for (const auto& w : b)
    if (count[w]-- > 0) ++same;
  if (same == 0) return 0;
  const double precision = static_cast<double>(same) / static_cast<double>(b.size()), recall = static_cast<double>(same) / static_cast<double>(a.size());
  return 2 * precision * recall / (precision + recall);
}

// Golds that are empty after normalisation do not count; none left: the empty answer is right.
std::vector<std::string> Usable(const std::vector<std::string>& golds) {
  std::vector<std::string> out;
  for (const std::string& g : golds)
    if (!NormalizeAnswer(g).empty()) out.push_back(g);
  return out.empty() ? std::vector<std::string>{""} : out;
}

// The threshold on no_answer_score at which answering "none" above it scores best.
void BestThreshold(const std::vector<SquadQuestion>& questions, const std::vector<double>& scores, const char* name, Json* out) {
  std::vector<size_t> order(questions.size());
  double current = 0;
  for (size_t i = 0; i < order.size(); ++i) order[i] = i, current += questions[i].golds.empty() ? 1 : 0;  // answering nothing at all
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return questions[a].no_answer_score < questions[b].no_answer_score; });
  double best = current, threshold = 0;
  for (size_t i : order) {
    const SquadQuestion& q = questions[i];
    current += q.golds.empty() ? (q.prediction.empty() ? 0 : -1) : scores[i];
    if (current > best) best = current, threshold = q.no_answer_score;
  }
  (*out)[std::string("best_") + name] = 100 * best / static_cast<double>(questions.size());
  (*out)[std::string("best_") + name + "_thresh"] = threshold;
}

}  // namespace

std::string NormalizeAnswer(const std::string& text) {
  std::string lower;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = DecodeUtf8(text, i);
    i += c.bytes;
    const bool punctuation = (c.code >= 33 && c.code <= 47) || (c.code >= 58 && c.code <= 64) || (c.code >= 91 && c.code <= 96) || (c.code >= 123 && c.code <= 126);
    if (!punctuation) AppendUtf8(Lower(c.code), &lower);
  }
  std::string without;
  for (size_t i = 0; i < lower.size();) {
    if (!IsWordByte(static_cast<unsigned char>(lower[i]))) {
      without += lower[i++];
      continue;
    }
    size_t end = i;
    while (end < lower.size() && IsWordByte(static_cast<unsigned char>(lower[end]))) ++end;
    const std::string word = lower.substr(i, end - i);
    without += word == "a" || word == "an" || word == "the" ? " " : word;
    i = end;
  }
  std::string out;
  for (const std::string& w : Words(without)) out += (out.empty() ? "" : " ") + w;
  return out;
}

double ExactMatch(const std::string& prediction, const std::vector<std::string>& golds) {
  for (const std::string& g : Usable(golds))
    if (NormalizeAnswer(g) == NormalizeAnswer(prediction)) return 1;
  return 0;
}

double F1(const std::string& prediction, const std::vector<std::string>& golds) {
  double best = 0;
  for (const std::string& g : Usable(golds)) best = std::max(best, OneF1(prediction, g));
  return best;
}

Json SquadFigures(const std::vector<SquadQuestion>& questions) {
  Json out = Json::object();
  std::vector<double> exact, f1;
  for (const SquadQuestion& q : questions) exact.push_back(ExactMatch(q.prediction, q.golds)), f1.push_back(F1(q.prediction, q.golds));
  auto part = [&](const char* prefix, auto&& in) {
    double e = 0, f = 0, n = 0;
    for (size_t i = 0; i < questions.size(); ++i)
      if (in(questions[i])) e += exact[i], f += f1[i], n += 1;
    if (n == 0) return;
    out[Str(prefix, "exact")] = 100 * e / n;
    out[Str(prefix, "f1")] = 100 * f / n;
    out[Str(prefix, "total")] = static_cast<int64_t>(n);
  };
  auto none = [](const SquadQuestion& q) { return Usable(q.golds)[0].empty(); };
  part("", [](const SquadQuestion&) { return true; });
  part("HasAns_", [&](const SquadQuestion& q) { return !none(q); });
  part("NoAns_", none);
  if (std::any_of(questions.begin(), questions.end(), none)) {
    std::vector<SquadQuestion> usable = questions;
    for (SquadQuestion& q : usable)
      if (none(q)) q.golds.clear();
    BestThreshold(usable, exact, "exact", &out);
    BestThreshold(usable, f1, "f1", &out);
  }
  return out;
}

}  // namespace tern
