// The official SQuAD figures: exact match and F1 after normalisation, over all questions and over those with and without an answer, and the best threshold.
#pragma once

#include <string>
#include <vector>

#include "engine/base/json.h"

namespace tern {

// Lower case, ASCII punctuation deleted, the words a, an, the replaced by a space, white space collapsed: in this order.
std::string NormalizeAnswer(const std::string& text);
double ExactMatch(const std::string& prediction, const std::vector<std::string>& golds);  // 0 or 1, the best over the golds
double F1(const std::string& prediction, const std::vector<std::string>& golds);

struct SquadQuestion {
  std::string id;
  std::vector<std::string> golds;  // empty: no answer
  std::string prediction;
  double no_answer_score = 0;      // null score - best span's score: higher means rather none
};

// {"exact", "f1", "total", "HasAns_exact", ..., "NoAns_total", "best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"}, in percent as the official script.
Json SquadFigures(const std::vector<SquadQuestion>& questions);

}  // namespace tern
