// The parts of the tokenizers on their own: patterns, tries, long texts in portions, texts that are no text,
// vocabularies of the original code.
#include <doctest/doctest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/base/utf8.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_pattern.h"
#include "formats/tokenizer_regex.h"
#include "formats/tokenizer_replace.h"
#include "formats/tokenizer_trie.h"
#include "formats/tokenizer_xl_vocabulary.h"

namespace tern {
namespace {

std::unique_ptr<Tokenizer> Golden(const std::string& name, const std::string& kind = "") {
  auto made = Tokenizer::Open(std::string(TERN_SOURCE_DIR) + "/tests/golden/tokenizers/" + name, kind);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  return std::move(made).value();
}

// Matches and what lies between them, with bars.
std::string Cut(const std::string& pattern, const std::string& text) {
  auto regex = Regex::Compile(pattern);
  REQUIRE_MESSAGE(regex.ok(), regex.status().message());
  std::vector<std::pair<size_t, size_t>> matches;
  REQUIRE(regex->FindAll(text, &matches).ok());
  std::string out;
  size_t at = 0;
  for (auto [begin, end] : matches) {
    if (begin > at) out += text.substr(at, begin - at) + "|";
    if (end > begin) out += text.substr(begin, end - begin) + "|";
    at = end;
  }
  if (at < text.size()) out += text.substr(at) + "|";
  if (!out.empty()) out.pop_back();
  return out;
}

TEST_CASE("regular expressions cut as the engines do") {
  const std::string llama =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  CHECK(Cut(llama, "Hello world!! It's 12345 'LL don'T  \n\n  end  ") ==
        "Hello| world|!!| It|'s| |123|45| '|LL| don|'T|  \n\n| | end|  ");
  CHECK(Cut(llama, "\u65E5\u672C\u8A9E \u00E7a 1 \u00BD") == "\u65E5\u672C\u8A9E| \u00E7a| |1| |\u00BD");
  CHECK(Cut("[A-Z][a-z]*?[a-z]|\\d+?", "aaaa ab Zebra zoo! ab") == "aaaa ab |Ze|bra zoo! ab");
  CHECK(Cut("a{2,3}|[^a-c\\s]+", "aaaa ab Zebra zoo! ab") == "aaa|a ab |Ze|b|r|a |zoo!| ab");
  CHECK(Cut("\\w+(?=!)", "xxxy xx ab!") == "xxxy xx |ab|!");
  CHECK(Cut("^ab|ab$|x*+y", "xxxy xx ab!") == "xxxy| xx ab!");
  for (const char* bad : {"(", ")", "[a", "*", "a{5,2}", "\\p{Klingon}", "(?<=a)b", "(a)\\1", "\\"})
    CHECK_FALSE(Regex::Compile(bad).ok());
}

TEST_CASE("the quick GPT-2 splitter is the pattern") {
  auto regex = Regex::Compile("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");
  REQUIRE(regex.ok());
  std::mt19937 random(7);
  const std::vector<std::string> parts = {"a", "'s",     "'re",    " ",      "  ", "\n", "1", "\u00BD",
                                          "!", "\u00E9", "\u3000", "\u65E5", "'",  "\t", "_"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (uint32_t n = random() % 12; n-- > 0;) text += parts[random() % parts.size()];
    std::vector<std::pair<size_t, size_t>> quick, slow;
    FindGpt2Words(text, &quick);
    REQUIRE(regex->FindAll(text, &slow).ok());
    CHECK_MESSAGE(quick == slow, text);
  }
}

TEST_CASE("a pattern that backtracks is stopped") {
  auto regex = Regex::Compile("(?:(?:a|a)+)+b");
  REQUIRE(regex.ok());
  std::vector<std::pair<size_t, size_t>> matches;
  CHECK_FALSE(regex->FindAll(std::string(60, 'a'), &matches).ok());
}

TEST_CASE("a trie finds what was put in and nothing else") {
  std::mt19937 random(3);
  std::map<std::string, int32_t> want;
  while (want.size() < 3000) {
    std::string key;
    for (uint32_t n = 1 + random() % 6; n-- > 0;)
      key += static_cast<char>(random() % 4 == 0 ? random() % 256 : 'a' + random() % 5);
    want.emplace(key, static_cast<int32_t>(want.size()));
  }
  std::vector<std::pair<std::string_view, int32_t>> entries(want.begin(), want.end());
  auto trie = Trie::Build(entries);
  REQUIRE(trie.ok());
  for (const auto& [key, value] : want) CHECK(trie->Find(key) == value);
  for (int round = 0; round < 20000; ++round) {
    std::string key;
    for (uint32_t n = 1 + random() % 6; n-- > 0;) key += static_cast<char>('a' + random() % 6);
    auto it = want.find(key);
    CHECK(trie->Find(key) == (it == want.end() ? -1 : it->second));
    size_t longest = 0;
    for (size_t n = 1; n <= key.size(); ++n)
      if (want.count(key.substr(0, n))) longest = n;
    CHECK(trie->LongestPrefix(key) == longest);
  }
  CHECK_FALSE(Trie::Build({{"a", 0}, {"a", 1}}).ok());
  CHECK_FALSE(Trie::Build({{"", 0}}).ok());
}

// Prose-like text, the same on every machine.
std::string Prose(size_t bytes) {
  const std::vector<std::string> words = {
      "the",   "old",   "captain", "looked",    "at",    "sea", "and", "said,",  "\u201CWell.\u201D",
      "1,000", "don't", "\n",      "caf\u00E9", "again", "of",  "it;", "U.S.A.", "\u65E5\u672C",
      "  ",    "x"};
  std::string out;
  uint32_t state = 12345;
  while (out.size() < bytes) {
    state = state * 1664525 + 1013904223;
    out += words[(state >> 16) % words.size()];
    out += (state >> 28) == 0 ? "\n" : " ";
  }
  return out;
}

TEST_CASE("a long text in portions gives the ids of one call") {
  const std::string text = Prose(300000);
  for (const char* name : {"spm-books4k", "spm-bpe-options", "albert-small", "t5", "bert-uncased", "gpt2", "roberta",
                           "transfo-xl-words-resaved", "reformer-bytes", "json-unigram-bytes"}) {
    CAPTURE(std::string(name));
    auto tokenizer = Golden(name, std::string(name) == "reformer-bytes" ? "bytes" : "");
    std::vector<int32_t> whole, parts;
    REQUIRE(tokenizer->EncodeIds(text, false, &whole).ok());
    auto stream = tokenizer->NewEncodeStream();
    uint32_t state = 1;
    for (size_t at = 0; at < text.size();) {
      state = state * 1664525 + 1013904223;
      const size_t bytes = 1 + (state >> 12) % 40000;
      REQUIRE(stream->Push(std::string_view(text).substr(at, bytes), &parts).ok());
      at += bytes;
    }
    REQUIRE(stream->Finish(&parts).ok());
    CHECK(parts == whole);
    auto count = tokenizer->Count(text);
    REQUIRE(count.ok());
    CHECK(*count == static_cast<int64_t>(whole.size()));
  }
}

TEST_CASE("bytes that are no text") {
  const std::string odd[] = {std::string("\xFF"), std::string("a\0b", 3), "\xED\xA0\x80",
                             "\xC0\xAF",          "\xEF\xBB\xBFx",        "a\r\nb",
                             "\xF0\x9F\x91",      std::string(3, '\x80')};
  for (const char* name : {"spm-books4k", "bert-uncased", "gpt2", "t5", "transfo-xl-words-resaved"}) {
    auto tokenizer = Golden(name);
    for (const std::string& text : odd) {
      EncodeOptions options;
      options.offsets = options.pieces = true;
      auto e = tokenizer->Encode(text, options);
      REQUIRE(e.ok());
      const std::string decoded = tokenizer->Decode(e->ids);
      CHECK(IsUtf8(decoded));
      for (int32_t id : e->ids) CHECK((id >= 0 && id < tokenizer->vocab_size()));
    }
  }
  // Bytes come back as they went in, where they are text.
  auto bytes = Golden("reformer-bytes", "bytes");
  auto e = bytes->Encode("a\u00E9\u65E5\n");
  REQUIRE(e.ok());
  CHECK(bytes->Decode(e->ids) == "a\u00E9\u65E5\n");
}

TEST_CASE("a serialized tokenizer that was damaged is refused") {
  const std::string bytes = Golden("bert-uncased")->Serialize();
  auto open = [](const std::string& b) {
    return Tokenizer::Deserialize({reinterpret_cast<const uint8_t*>(b.data()), b.size()}).status().code();
  };
  CHECK(open(bytes) == Code::kOk);
  for (size_t cut : {size_t{0}, size_t{7}, size_t{12}, bytes.size() / 2, bytes.size() - 1})
    CHECK(open(bytes.substr(0, cut)) == Code::kMalformed);
  std::string flipped = bytes;
  flipped[bytes.size() / 2] ^= 1;
  CHECK(open(flipped) == Code::kDigest);
}

TEST_CASE("vocabularies of the original code") {
  // A pickled Corpus of the original classes: their names stay inert.
  static constexpr char kCorpus[] =
      "\200\002cdata_utils\012Corpus\012q\000)\201q\001}q\002(X\007\000\000\000datasetq\003X\006\000\000"
      "\000enwik8q\004X\005\000\000\000vocabq\005cutils.vocabulary\012Vocab\012q\006)\201q\007}q\010(X\007"
      "\000\000\000idx2symq\011]q\012(X\002\000\000\00097q\013X\002\000\000\00098q\014eX\012\000\000\000low"
      "er_caseq\015\210ubub.";
  auto vocabulary = XlVocabulary::FromPickle({reinterpret_cast<const uint8_t*>(kCorpus), sizeof kCorpus - 1});
  REQUIRE_MESSAGE(vocabulary.ok(), vocabulary.status().message());
  CHECK(vocabulary->symbols == std::vector<std::string>{"97", "98"});
  CHECK(vocabulary->dataset == "enwik8");
  CHECK(vocabulary->lower_case);
  auto list = XlVocabulary::FromText("<S>\n<UNK>  7\n  word\t3\nword\n");
  REQUIRE(list.ok());
  CHECK(list->symbols == std::vector<std::string>{"<S>", "<UNK>", "word"});
  CHECK(list->unk_id == 1);

  XlVocabulary letters;
  letters.symbols = {"_", "a", "b"};
  letters.lower_case = true;
  TokenizerFiles files;
  files.kind = "xl-text8";
  files.files.emplace_back("symbols", letters.Serialize());
  auto text8 = MakeTokenizer(std::move(files));
  REQUIRE(text8.ok());
  auto e = (*text8)->Encode("  aB  b\n ");
  REQUIRE(e.ok());
  CHECK(e->ids == std::vector<int32_t>{1, 2, 0, 0, 2});
  CHECK((*text8)->Decode(e->ids) == "ab  b");
  CHECK((*text8)->Encode("c").status().code() == Code::kMalformed);
}

TEST_CASE("windows share the stride and cover the context") {
  auto bert = Golden("bert-uncased");
  const std::string context = Prose(1500);
  auto windows = bert->EncodeWindows("Who?", context, 64, 16);
  REQUIRE(windows.ok());
  REQUIRE(windows->size() > 2);
  for (size_t i = 0; i + 1 < windows->size(); ++i) {
    const auto &a = (*windows)[i], &b = (*windows)[i + 1];
    CHECK(a.encoding.ids.size() == 64);
    for (int64_t k = 0; k < 16; ++k)
      CHECK(a.encoding.offsets[static_cast<size_t>(a.last_context_token - 15 + k)] ==
            b.encoding.offsets[static_cast<size_t>(b.first_context_token + k)]);
  }
  CHECK_FALSE(bert->EncodeWindows("Who?", context, 8, 16).ok());
}

TEST_CASE("replacements over portions are those over the whole") {
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (uint32_t n = random() % 40; n-- > 0;) text += " .,'nts"[random() % 7];
    CleanUp whole, parts;
    const std::string want = whole.Push(text, true);
    std::string got;
    for (size_t at = 0; at < text.size();) {
      const size_t bytes = 1 + random() % 5;
      got += parts.Push(std::string_view(text).substr(at, bytes), false);
      at += bytes;
    }
    got += parts.Push("", true);
    CHECK(got == want);
  }
}

}  // namespace
}  // namespace tern
