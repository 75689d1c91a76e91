// The Moses rules for English, as Transformer-XL's word vocabulary was used with them: punctuation made uniform, text
// cut into words, numbers split
// ("23,000" -> 23 @,@ 000, "well-known" -> well @-@ known), and words put together again. The rules are a chain of
// replacements over the whole text; each is written out as one pass, so that all is linear.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/tokenizer_replace.h"

namespace tern {

// Words of one text. `protected_words`: kept whole in any case of letters (the special tokens).
std::vector<std::string> MosesWords(std::u32string_view text, const std::vector<std::string>& protected_words);

// Words to text as they come. Each Push returns what is certain; all of it together is the detokenized text.
class MosesJoiner {
 public:
  std::string Push(std::string_view token);
  std::string Finish();

 private:
  void EndWord(std::string* out);
  void Word(std::string_view word, std::string* out);
  std::string Filter(const std::string& text, bool last);

  std::string word_;            // the tokens since the last space: "@-@" joins its neighbours
  bool space_used_ = false;     // the space behind the last token belonged to a " @-@ "
  char32_t previous_last_ = 0;  // the last character of the word before, if there is one
  bool prepend_space_ = true;   // a space goes before the next word
  bool any_out_ = false;
  std::unordered_map<std::string, int64_t> quotes_;  // how often each quotation mark stood
  StreamReplacer comma_{" @,@ ", ","}, dot_{" @.@ ", "."};
};

}  // namespace tern
