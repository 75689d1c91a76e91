// StreamReplacer: text in portions, every occurrence of one string replaced by another, as one replacement over the
// whole text would do it.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace tern {

class StreamReplacer {
 public:
  StreamReplacer(std::string from, std::string to) : from_(std::move(from)), to_(std::move(to)) {}

  // Appends to *out what is certain; the beginning of a possible match is held back, unless `last`.
  void Push(std::string_view text, bool last, std::string* out) {
    held_ += text;
    size_t begin = 0;
    for (size_t at; (at = held_.find(from_, begin)) != std::string::npos; begin = at + from_.size()) {
      out->append(held_, begin, at - begin);
      out->append(to_);
    }
    size_t keep = last ? 0 : std::min(held_.size() - begin, from_.size() - 1);
    while (keep > 0 && held_.compare(held_.size() - keep, keep, from_, 0, keep) != 0) --keep;
    out->append(held_, begin, held_.size() - keep - begin);
    held_.erase(0, held_.size() - keep);
  }

 private:
  std::string from_, to_, held_;
};

// Hugging Face's clean_up_tokenization: no space before English punctuation and contractions.
class CleanUp {
 public:
  // What is certain after `text`.
  std::string Push(std::string_view text, bool last) {
    std::string current(text), next;
    for (StreamReplacer& replacer : replacers_) {
      next.clear();
      replacer.Push(current, last, &next);
      current.swap(next);
    }
    return current;
  }

 private:
  std::vector<StreamReplacer> replacers_ = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                            {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                            {" 've", "'ve"}, {" 're", "'re"}};
};

}  // namespace tern
