// tern tokenize: text to ids and pieces, and back; with --jsonl the library's whole contract, one request a line.
#include <algorithm>

#include "formats/tokenizer.h"
#include "formats/tokenizer_jsonl.h"
#include "tools/input.h"
#include "tools/verb.h"

namespace tern {
namespace {

constexpr int64_t kPortionBytes = 1 << 20;

class Tokenize : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &model_,
              "a .tern file, a folder, or one file of a tokenizer (tokenizer.json, .model, vocab.txt, vocab.pkl ...)");
    args.Input("TEXT", &input_, "the text, a file, or - for standard input; with --decode, ids");
    args.Text("--kind", &kind_,
              "what the files are, where that is not clear: spm albert t5 reformer bert gpt2 roberta json transfo-xl "
              "xl-pretok xl-lm1b "
              "xl-text8 xl-bytes-decimal bytes")
        .ValueName("KIND");
    args.Text("--pair", &pair_, "a second text: both are put together as the model's template says");
    args.Flag("--no-special", &no_special_,
              "without special tokens around the text; with --decode, the special tokens' names are kept out");
    args.Flag("--decode", &decode_, "the other way: ids (numbers separated by anything) to text");
    args.Flag("--ids", &ids_only_, "print only the ids, on one line; a text of any length, special tokens left out");
    args.Flag("--count", &count_,
              "print only how many ids there are, line by line, line breaks and special tokens not counted");
    args.Flag("--whole", &whole_, "with --count: the text as one, line breaks included");
    args.Flag("--jsonl", &jsonl_,
              "answer JSON requests, one a line, from standard input (formats/tokenizer_jsonl.h says which)");
  }

  Status Run(Console& console) override {
    if (decode_ + ids_only_ + count_ + jsonl_ > 1)
      return UsageError("--decode, --ids, --count and --jsonl exclude each other");
    if (whole_ && !count_) return UsageError("--whole goes with --count");
    if (jsonl_ && input_ && *input_ != "-")
      return UsageError("--jsonl reads its requests from standard input")
          .Hint("Redirect the file: tern tokenize MODEL --jsonl < FILE.");
    TERN_ASSIGN(tokenizer_, Tokenizer::Open(model_, kind_));
    TERN_ASSIGN(auto input, TextInput::Open(input_, console));
    if (jsonl_) return Requests(console, *input);
    if (count_) return Count(console, *input);
    if (ids_only_) return Ids(console, *input);
    std::string text;
    for (int64_t documents = 0; console.ok(); ++documents) {
      TERN_ASSIGN(bool more, input->Document(&text));
      if (!more) {
        if (documents > 0) break;
        text.clear();  // nothing at all is an empty text
      }
      TERN_RETURN_IF_ERROR(decode_ ? Decode(console, text) : Show(console, text));
      if (!more) break;
    }
    return {};
  }

 private:
  Status Requests(Console& console, TextInput& input) {
    std::string line;
    while (console.ok()) {
      TERN_ASSIGN(bool more, input.Line(&line));
      if (!more) break;
      console.Print(AnswerTokenizerRequest(*tokenizer_, line) + "\n");
      if (input.is_terminal()) console.Flush();
    }
    return {};
  }

  Status Show(Console& console, const std::string& text) {
    EncodeOptions options;
    options.special_tokens = !no_special_;
    options.pieces = true;
    options.offsets = console.json;
    TERN_ASSIGN(Encoding e, pair_ ? tokenizer_->EncodePair(text, *pair_, options) : tokenizer_->Encode(text, options));
    if (console.json) {
      Json spans = Json::array();
      for (const TextSpan& span : e.offsets) spans.push_back({span.begin, span.end});
      Json out = {{"ids", e.ids}, {"pieces", e.pieces}};
      if (!e.offsets.empty()) out["offsets"] = std::move(spans);
      if (pair_) out["token_type_ids"] = e.type_ids;
      console.PrintJson(out);
      return {};
    }
    for (size_t i = 0; i < e.ids.size() && console.ok(); ++i)
      console.Print(Str(e.ids[i], "\t", Printable(e.pieces[i]), "\n"));
    return {};
  }

  Status Decode(Console& console, const std::string& text) {
    std::vector<int32_t> ids;
    for (size_t at = 0; at < text.size();) {
      if (text[at] < '0' || text[at] > '9') {
        ++at;
        continue;
      }
      int64_t id = 0;
      for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
        id = std::min<int64_t>(id * 10 + (text[at] - '0'), INT32_MAX);
      if (id >= tokenizer_->vocab_size())
        return UsageError("there is no such id").Where(Str("id ", id)).Got(id, Str("below ", tokenizer_->vocab_size()));
      ids.push_back(static_cast<int32_t>(id));
    }
    DecodeOptions options;
    options.skip_special_tokens = no_special_;
    const std::string decoded = tokenizer_->Decode(ids, options);
    if (console.json)
      console.PrintJson(Json{{"text", decoded}});
    else
      console.Print(decoded + "\n");
    return {};
  }

  Status Ids(Console& console, TextInput& input) {
    if (console.json) console.Print("{\"ids\":[");
    bool first = true;
    TERN_RETURN_IF_ERROR(Stream(console, input, [&](const std::vector<int32_t>& ids) {
      for (int32_t id : ids) {
        if (!first) console.Print(console.json ? "," : " ");
        console.Print(std::to_string(id));
        first = false;
      }
    }));
    console.Print(console.json ? "]}\n" : "\n");
    return {};
  }

  Status Count(Console& console, TextInput& input) {
    int64_t count = 0;
    if (whole_) {
      TERN_RETURN_IF_ERROR(
          Stream(console, input, [&](const std::vector<int32_t>& ids) { count += static_cast<int64_t>(ids.size()); }));
    } else {
      TERN_RETURN_IF_ERROR(CountLines(console, input, &count));
    }
    if (console.json)
      console.PrintJson(Json{{"count", count}});
    else
      console.Print(Str(count, "\n"));
    return {};
  }

  Status CountLines(Console& console, TextInput& input, int64_t* count) {
    Progress progress(console, "counting", input.total_bytes(), "B");
    std::string text, part;
    auto add = [&](std::string_view line) -> Status {
      TERN_ASSIGN(int64_t n, tokenizer_->Count(line));
      *count += n;
      return {};
    };
    while (!console.cancel().cancelled()) {
      TERN_ASSIGN(bool more, input.Piece(&part, kPortionBytes));
      if (!more) break;
      text += part;
      size_t at = 0;
      for (size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
        TERN_RETURN_IF_ERROR(add(std::string_view(text).substr(at, end - at)));
      text.erase(0, at);
      if (input.document_ended() && !text.empty()) {
        TERN_RETURN_IF_ERROR(add(text));
        text.clear();
      }
      if (static_cast<int64_t>(text.size()) > kMaxWholeBytes)
        return UsageError("a line is too long").File(input.name()).Got("more", Str(kMaxWholeBytes, " bytes"));
      progress.Update(input.read_bytes());
    }
    if (console.cancel().cancelled()) return Status(Code::kCancelled, "stopped");
    return text.empty() ? Status() : add(text);
  }

  // The ids of all documents, in portions.
  template <class Use>
  Status Stream(Console& console, TextInput& input, Use use) {
    Progress progress(console, "tokenizing", input.total_bytes(), "B");
    std::string part;
    std::vector<int32_t> ids;
    auto stream = tokenizer_->NewEncodeStream();
    while (console.ok() && !console.cancel().cancelled()) {
      TERN_ASSIGN(bool more, input.Piece(&part, kPortionBytes));
      if (!more) break;
      TERN_RETURN_IF_ERROR(stream->Push(part, &ids));
      if (input.document_ended()) {
        TERN_RETURN_IF_ERROR(stream->Finish(&ids));
        stream = tokenizer_->NewEncodeStream();
      }
      use(ids);
      ids.clear();
      progress.Update(input.read_bytes());
    }
    TERN_RETURN_IF_ERROR(stream->Finish(&ids));
    use(ids);
    return {};
  }

  std::string model_, kind_;
  std::optional<std::string> input_, pair_;
  bool no_special_ = false, decode_ = false, ids_only_ = false, count_ = false, whole_ = false, jsonl_ = false;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace

extern const Verb kTokenize = {
    "tokenize", "Text", "text to ids and pieces, and back",
    "tern tokenize books.tern \"The old captain\"\ntern tokenize bert-base-uncased/vocab.txt \"Hello\" --json\n"
    "tern tokenize tokenizer.json --count < book.txt\ntern tokenize books.tern --decode \"314 449 1875\"",
    Make<Tokenize>};

}  // namespace tern
