#include "formats/tokenizer_vocab_models.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "engine/base/utf8.h"
#include "formats/tokenizer_config.h"

namespace tern {
namespace {

std::string ByteToken(uint8_t byte) {
  std::string out = "<0x00>";
  out[3] = "0123456789ABCDEF"[byte >> 4];
  out[4] = "0123456789ABCDEF"[byte & 15];
  return out;
}

// Ids of <0x00>..<0xFF>, -1 where there is none.
std::vector<int32_t> ByteIds(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids(256);
  for (int b = 0; b < 256; ++b) ids[static_cast<size_t>(b)] = vocabulary.IdOf(ByteToken(static_cast<uint8_t>(b)));
  return ids;
}

Status NoUnknown(std::string_view word) {
  return Malformed(Str("'", Printable(word, 60), "' has no token, and there is no unknown token"));
}

class Unigram final : public VocabModel {
 public:
  static Result<std::unique_ptr<VocabModel>> Make(std::vector<UnigramPiece> pieces, int32_t unk_id,
                                                  bool byte_fallback) {
    if (unk_id >= static_cast<int64_t>(pieces.size()))
      return Malformed("unk_id lies outside the vocabulary").Got(unk_id, Str("below ", pieces.size()));
    std::vector<double> scores;
    double least = std::numeric_limits<double>::infinity();
    std::vector<std::pair<std::string, int32_t>> entries;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (!std::isfinite(pieces[i].score))
        return Malformed("the score of a piece is not a finite number").Where(Str("piece ", i));
      least = std::min(least, pieces[i].score);
      scores.push_back(pieces[i].score);
      entries.emplace_back(std::move(pieces[i].text), static_cast<int32_t>(i));
    }
    TERN_ASSIGN(Vocabulary vocabulary, Vocabulary::Build(std::move(entries)));
    std::unique_ptr<Unigram> model(new Unigram(std::move(vocabulary), unk_id));
    model->scores_ = std::move(scores);
    model->unk_score_ = least - 10.0;
    if (byte_fallback) model->byte_ids_ = ByteIds(model->vocabulary_);
    return std::unique_ptr<VocabModel>(std::move(model));
  }

  Status Tokenize(std::string_view word, Scratch* s, std::vector<ModelToken>* out) const override {
    const size_t size = word.size();
    s->score.assign(size + 1, 0.0);
    s->back.assign(size + 1, {-1, 0});
    const Trie& trie = vocabulary_.trie();
    for (size_t at = 0; at < size;) {
      const double here = s->score[at];
      const size_t char_bytes = std::min<size_t>(DecodeUtf8(word, at).bytes, size - at);
      bool covered = false;
      auto offer = [&](int32_t id, double score, size_t length) {
        const double candidate = score + here;
        auto& back = s->back[at + length];
        if (back.second != 0 && !(candidate > s->score[at + length])) return;
        back = {id, static_cast<int32_t>(length)};
        s->score[at + length] = candidate;
      };
      uint32_t node = Trie::kRoot;
      for (size_t i = at; i < size && trie.Step(&node, static_cast<uint8_t>(word[i]));) {
        ++i;
        const int32_t id = trie.Value(node);
        if (id < 0) continue;
        offer(id, scores_[static_cast<size_t>(id)], i - at);
        covered |= i - at == char_bytes;
      }
      if (!covered) {
        if (unk_id_ < 0) return NoUnknown(word.substr(at, char_bytes));
        offer(unk_id_, unk_score_, char_bytes);
      }
      at += char_bytes;
    }
    // Backwards; neighbouring unknowns become one.
    const size_t first = out->size();
    for (size_t end = size; end > 0;) {
      const auto [id, length] = s->back[end];
      const size_t begin = end - static_cast<size_t>(length);
      if (id == unk_id_ && out->size() > first && out->back().id == unk_id_ && out->back().begin == end)
        out->back().begin = static_cast<uint32_t>(begin);
      else
        out->push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      end = begin;
    }
    std::reverse(out->begin() + static_cast<int64_t>(first), out->end());
    if (!byte_ids_.empty()) SplitUnknown(word, first, out);
    return {};
  }

  bool unknown_keeps_text() const override { return true; }

 private:
  Unigram(Vocabulary vocabulary, int32_t unk_id) : VocabModel(std::move(vocabulary), unk_id) {}

  // Unknowns whose bytes all have tokens become those.
  void SplitUnknown(std::string_view word, size_t first, std::vector<ModelToken>* out) const {
    std::vector<ModelToken> tokens;
    bool any = false;
    for (size_t i = first; i < out->size(); ++i) {
      const ModelToken token = (*out)[i];
      const std::string_view text = word.substr(token.begin, token.end - token.begin);
      const bool bytes =
          token.id == unk_id_ && vocabulary_.IdOf(text) < 0 &&
          std::all_of(text.begin(), text.end(), [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
      any |= bytes;
      if (bytes)
        for (char c : text) tokens.push_back({byte_ids_[static_cast<uint8_t>(c)], token.begin, token.end});
      else
        tokens.push_back(token);
    }
    if (!any) return;
    out->resize(first);
    out->insert(out->end(), tokens.begin(), tokens.end());
  }

  std::vector<double> scores_;
  double unk_score_ = 0;
  std::vector<int32_t> byte_ids_;  // empty: no byte fallback
};

class WordPiece final : public VocabModel {
 public:
  static Result<std::unique_ptr<VocabModel>> Make(Vocabulary vocabulary, const std::string& unk_token,
                                                  const std::string& prefix, int64_t max_characters) {
    const int32_t unk_id = vocabulary.IdOf(unk_token);
    std::vector<std::pair<std::string_view, int32_t>> continuing;
    for (int32_t id = 0; id < vocabulary.end_id(); ++id) {
      const std::string_view token = vocabulary.TokenOf(id);
      if (token.size() > prefix.size() && token.starts_with(prefix) && vocabulary.IdOf(token) == id)
        continuing.push_back({token.substr(prefix.size()), id});
    }
    TERN_ASSIGN(Trie trie, Trie::Build(std::move(continuing)));
    std::unique_ptr<WordPiece> model(new WordPiece(std::move(vocabulary), unk_id));
    model->continuing_ = std::move(trie);
    model->max_characters_ = max_characters;
    return std::unique_ptr<VocabModel>(std::move(model));
  }

  Status Tokenize(std::string_view word, Scratch*, std::vector<ModelToken>* out) const override {
    const size_t first = out->size();
    bool whole = static_cast<int64_t>(word.size()) <= max_characters_ ||
                 std::count_if(word.begin(), word.end(),
                               [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }) <= max_characters_;
    for (size_t at = 0; whole && at < word.size();) {
      int32_t id = -1;
      const size_t length = (at == 0 ? vocabulary_.trie() : continuing_).LongestPrefix(word.substr(at), &id);
      whole = length > 0;
      if (whole) out->push_back({id, static_cast<uint32_t>(at), static_cast<uint32_t>(at + length)});
      at += length;
    }
    if (whole) return {};
    if (unk_id_ < 0) return NoUnknown(word);
    out->resize(first);
    out->push_back({unk_id_, 0, static_cast<uint32_t>(word.size())});
    return {};
  }

 private:
  WordPiece(Vocabulary vocabulary, int32_t unk_id) : VocabModel(std::move(vocabulary), unk_id) {}
  Trie continuing_;
  int64_t max_characters_ = 100;
};

class WordLevel final : public VocabModel {
 public:
  WordLevel(Vocabulary vocabulary, int32_t unk_id) : VocabModel(std::move(vocabulary), unk_id) {}
  Status Tokenize(std::string_view word, Scratch*, std::vector<ModelToken>* out) const override {
    int32_t id = vocabulary_.IdOf(word);
    if (id < 0) id = unk_id_;
    if (id < 0) return NoUnknown(word);
    out->push_back({id, 0, static_cast<uint32_t>(word.size())});
    return {};
  }
};

class Bpe final : public VocabModel {
 public:
  static Result<std::unique_ptr<VocabModel>> Make(Vocabulary vocabulary,
                                                  const std::vector<std::pair<std::string, std::string>>& merges,
                                                  const BpeOptions& options) {
    const int32_t unk_id = options.unk_token.empty() ? -1 : vocabulary.IdOf(options.unk_token);
    std::vector<MergeTable::Merge> table;
    table.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const auto& [left, right] = merges[i];
      if (right.size() < options.prefix.size())
        return Malformed("a merge is shorter than the prefix").Where(Str("merge ", i));
      const int32_t a = vocabulary.IdOf(left), b = vocabulary.IdOf(right),
                    merged = vocabulary.IdOf(left + right.substr(options.prefix.size()));
      if (a < 0 || b < 0 || merged < 0)
        return Malformed(Str("the merge of '", Printable(left, 60), "' and '", Printable(right, 60),
                             "' is not in the vocabulary"))
            .Where(Str("merge ", i));
      table.push_back({a, b, merged, static_cast<uint32_t>(i)});
    }
    std::unique_ptr<Bpe> model(new Bpe(std::move(vocabulary), unk_id));
    model->merges_.Build(table);
    model->options_ = options;
    if (options.byte_fallback) model->byte_ids_ = ByteIds(model->vocabulary_);
    return std::unique_ptr<VocabModel>(std::move(model));
  }

  Status Tokenize(std::string_view word, Scratch* s, std::vector<ModelToken>* out) const override {
    if (options_.ignore_merges)
      if (const int32_t id = vocabulary_.IdOf(word); id >= 0) {
        out->push_back({id, 0, static_cast<uint32_t>(word.size())});
        return {};
      }
    auto& symbols = s->symbols;
    symbols.clear();
    int32_t unknown_bytes = 0;  // of an unknown that is not added yet
    for (size_t at = 0; at < word.size();) {
      const size_t bytes = std::min<size_t>(DecodeUtf8(word, at).bytes, word.size() - at);
      const std::string_view character = word.substr(at, bytes);
      const int32_t length = static_cast<int32_t>(bytes);
      const int32_t id = CharacterId(character, at == 0, at + bytes == word.size());
      at += bytes;
      if (id >= 0) {
        if (unknown_bytes > 0) symbols.push_back({unk_id_, unknown_bytes});
        unknown_bytes = 0;
        symbols.push_back({id, length});
        continue;
      }
      if (!byte_ids_.empty() && std::all_of(character.begin(), character.end(),
                                            [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; })) {
        for (char c : character) symbols.push_back({byte_ids_[static_cast<uint8_t>(c)], 1});
        continue;
      }
      if (options_.unk_token.empty()) continue;  // the character vanishes
      if (unk_id_ < 0) return NoUnknown(character);
      if (unknown_bytes > 0 && !options_.fuse_unk) {
        symbols.push_back({unk_id_, unknown_bytes});
        unknown_bytes = 0;
      }
      unknown_bytes += length;
    }
    if (unknown_bytes > 0) symbols.push_back({unk_id_, unknown_bytes});
    s->merger.Run(merges_, &symbols);
    uint32_t at = 0;
    for (auto [id, bytes] : symbols) {
      out->push_back({id, at, at + static_cast<uint32_t>(bytes)});
      at += static_cast<uint32_t>(bytes);
    }
    return {};
  }

 private:
  Bpe(Vocabulary vocabulary, int32_t unk_id) : VocabModel(std::move(vocabulary), unk_id) {}
  int32_t CharacterId(std::string_view character, bool first, bool last) const {
    const bool prefix = !first && !options_.prefix.empty(), suffix = last && !options_.suffix.empty();
    if (!prefix && !suffix) return vocabulary_.IdOf(character);
    std::string name = prefix ? options_.prefix : "";
    name += character;
    if (suffix) name += options_.suffix;
    return vocabulary_.IdOf(name);
  }
  MergeTable merges_;
  BpeOptions options_;
  std::vector<int32_t> byte_ids_;
};

Result<std::vector<UnigramPiece>> ReadPieces(const Json& list) {
  std::vector<UnigramPiece> pieces;
  for (const Json& entry : list) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      return Malformed("a piece must be [text, score]").Where(Str("piece ", pieces.size()));
    pieces.push_back({entry[0].get<std::string>(), entry[1].get<double>()});
  }
  return pieces;
}

Result<std::vector<std::pair<std::string, std::string>>> ReadMerges(const Json& list) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const Json& entry : list) {
    const auto where = [&] { return Str("merge ", merges.size()); };
    if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      merges.emplace_back(entry[0].get<std::string>(), entry[1].get<std::string>());
    } else if (entry.is_string()) {
      const std::string& text = entry.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        return Malformed("a merge must be two tokens").Where(where());
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    } else {
      return Malformed("a merge must be two tokens").Where(where());
    }
  }
  return merges;
}

Result<std::unique_ptr<VocabModel>> Make(const Json& config) {
  if (!config.is_object()) return Malformed("the model must be an object");
  auto vocab = config.find("vocab");
  if (vocab == config.end()) return Malformed("the model has no vocabulary");
  TERN_ASSIGN(std::string type, ConfigString(config, "type", ""));
  if (type.empty())
    type = config.contains("merges")                      ? "BPE"
           : vocab->is_array()                            ? "Unigram"
           : config.contains("continuing_subword_prefix") ? "WordPiece"
                                                          : "WordLevel";
  if (type == "Unigram") {
    if (!vocab->is_array()) return Malformed("the vocabulary must be a list");
    TERN_ASSIGN(auto pieces, ReadPieces(*vocab));
    TERN_ASSIGN(int64_t unk, ConfigInteger(config, "unk_id", -1, 0, INT32_MAX));
    TERN_ASSIGN(bool byte_fallback, ConfigBool(config, "byte_fallback", false));
    return Unigram::Make(std::move(pieces), static_cast<int32_t>(unk), byte_fallback);
  }
  TERN_ASSIGN(Vocabulary vocabulary, Vocabulary::FromJson(*vocab));
  if (type == "WordPiece") {
    TERN_ASSIGN(std::string unk, ConfigString(config, "unk_token", "[UNK]"));
    TERN_ASSIGN(std::string prefix, ConfigString(config, "continuing_subword_prefix", "##"));
    TERN_ASSIGN(int64_t most, ConfigInteger(config, "max_input_chars_per_word", 100, 0, INT32_MAX));
    return WordPiece::Make(std::move(vocabulary), unk, prefix, most);
  }
  if (type == "WordLevel") {
    TERN_ASSIGN(std::string unk, ConfigString(config, "unk_token", "<unk>"));
    const int32_t unk_id = vocabulary.IdOf(unk);
    return std::unique_ptr<VocabModel>(new WordLevel(std::move(vocabulary), unk_id));
  }
  if (type == "BPE") {
    BpeOptions options;
    TERN_ASSIGN(const Json* list, ConfigArray(config, "merges"));
    TERN_ASSIGN(auto merges, ReadMerges(*list));
    TERN_ASSIGN(options.unk_token, ConfigString(config, "unk_token", ""));
    TERN_ASSIGN(options.prefix, ConfigString(config, "continuing_subword_prefix", ""));
    TERN_ASSIGN(options.suffix, ConfigString(config, "end_of_word_suffix", ""));
    TERN_ASSIGN(options.fuse_unk, ConfigBool(config, "fuse_unk", false));
    TERN_ASSIGN(options.byte_fallback, ConfigBool(config, "byte_fallback", false));
    TERN_ASSIGN(options.ignore_merges, ConfigBool(config, "ignore_merges", false));
    if (auto dropout = config.find("dropout");
        dropout != config.end() && dropout->is_number() && dropout->get<double>() != 0.0)
      return Malformed("merge dropout makes the result random; it is not supported").Where("dropout");
    return Bpe::Make(std::move(vocabulary), merges, options);
  }
  return Malformed(Str("unknown model '", Printable(type, 40), "'"));
}

}  // namespace

const std::string Vocabulary::kNone;

Result<Vocabulary> Vocabulary::Build(std::vector<std::pair<std::string, int32_t>> entries) {
  if (static_cast<int64_t>(entries.size()) > kMaxEntries)
    return Malformed("the vocabulary is too large").Got(entries.size(), Str("at most ", kMaxEntries));
  Vocabulary out;
  std::unordered_map<std::string_view, int32_t> last;
  int32_t end = 0;
  for (const auto& [token, id] : entries) {
    if (id < 0 || id >= 2 * kMaxEntries - 2)
      return Malformed(Str("the id of '", Printable(token, 60), "' is out of range"))
          .Got(id, Str("0 to ", 2 * kMaxEntries - 3));
    if (token.size() > kMaxTokenBytes)
      return Malformed("a token is too long").Got(Str(token.size(), " bytes"), Str("at most ", kMaxTokenBytes));
    end = std::max(end, id + 1);
    last[token] = id;
  }
  std::vector<std::pair<std::string_view, int32_t>> keys;
  for (const auto& [token, id] : last)
    if (!token.empty()) keys.push_back({token, id});
  TERN_ASSIGN(out.trie_, Trie::Build(std::move(keys)));
  out.count_ = static_cast<int64_t>(last.size());
  out.tokens_.resize(static_cast<size_t>(end));
  for (auto& [token, id] : entries) out.tokens_[static_cast<size_t>(id)] = std::move(token);
  return out;
}

Result<Vocabulary> Vocabulary::FromJson(const Json& object) {
  if (!object.is_object()) return Malformed("the vocabulary must be an object");
  std::vector<std::pair<std::string, int32_t>> entries;
  for (const auto& [token, id] : object.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX)
      return Malformed(Str("the id of '", Printable(token, 60), "' is not a number from 0"));
    entries.emplace_back(token, static_cast<int32_t>(id.get<int64_t>()));
  }
  return Build(std::move(entries));
}

Result<std::unique_ptr<VocabModel>> MakeVocabModel(const Json& config) {
  auto made = Make(config);
  if (!made.ok()) return Status(made.status()).Where("model");
  return made;
}
Result<std::unique_ptr<VocabModel>> MakeUnigram(std::vector<UnigramPiece> pieces, int32_t unk_id, bool byte_fallback) {
  return Unigram::Make(std::move(pieces), unk_id, byte_fallback);
}
Result<std::unique_ptr<VocabModel>> MakeWordPiece(Vocabulary vocabulary, const std::string& unk_token,
                                                  const std::string& prefix, int64_t max_characters) {
  return WordPiece::Make(std::move(vocabulary), unk_token, prefix, max_characters);
}
Result<std::unique_ptr<VocabModel>> MakeBpe(Vocabulary vocabulary,
                                            const std::vector<std::pair<std::string, std::string>>& merges,
                                            const BpeOptions& options) {
  return Bpe::Make(std::move(vocabulary), merges, options);
}

}  // namespace tern
