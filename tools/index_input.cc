#include "tools/index_input.h"

#include <sys/stat.h>

#include <algorithm>
#include <numeric>

#include "engine/retrieval/chunker.h"
#include "engine/retrieval/foreign.h"
#include "tools/corpus/corpus.h"

namespace tern {

std::string DigestText(const Model& model) { return DigestText(model.file().digest()); }

std::string DigestText(uint64_t digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += kDigits[digest >> shift & 15];
  return out;
}

Result<IndexEmbedder> IndexEmbedder::Open(const std::string& path, int64_t threads, Console& console) {
  IndexEmbedder e;
  ModelOptions options;
  options.log = console.Log();
  TERN_ASSIGN(e.model, Model::Open(path, options));
  TERN_ASSIGN(e.embedder, Embedder::Create(e.model, static_cast<int>(threads), &console.cancel()));
  return e;
}

Status IndexEmbedder::Embed(const std::vector<std::string>& texts, std::vector<float>* vectors, const std::function<void(int64_t)>& progress) const {
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return texts[a].size() > texts[b].size(); });
  const size_t width = static_cast<size_t>(embedder->width()), before = vectors->size();
  vectors->resize(before + texts.size() * width);
  std::vector<std::string> some;
  std::vector<float> out;
  for (size_t begin = 0; begin < texts.size(); begin += 256) {
    const size_t end = std::min(texts.size(), begin + 256);
    some.clear(), out.clear();
    for (size_t i = begin; i < end; ++i) some.push_back(texts[order[i]]);
    TERN_RETURN_IF_ERROR(embedder->Embed(some, &out));
    for (size_t i = begin; i < end; ++i) std::copy_n(out.begin() + static_cast<int64_t>((i - begin) * width), width, vectors->begin() + static_cast<int64_t>(before + order[i] * width));
    if (progress) progress(static_cast<int64_t>(end));
  }
  return {};
}

namespace {

Status IndexMegatron(const std::string& path, const Tokenizer* generator, Chunker* chunker, DatabaseWriter* writer, const CancelToken* cancel) {
  if (!generator) return UsageError("a Megatron dataset holds ids of a tokenizer that must be named").File(path).Hint("Say --tokenizer FILE");
  TERN_ASSIGN(MegatronDataset data, MegatronDataset::Open(path));
  for (int64_t i = 0; i < data.documents(); ++i) {
    if (cancel && cancel->cancelled()) return {Code::kCancelled, "cancelled"};
    auto ids = data.Document(i);
    if (!ids.ok()) return Status(ids.status()).File(path);
    TERN_RETURN_IF_ERROR(writer->BeginDocument(path, "", i));
    TERN_RETURN_IF_ERROR(chunker->Add(generator->Decode(*ids)));
    TERN_RETURN_IF_ERROR(chunker->EndDocument());
  }
  return {};
}

// Size and time of every file: an index of a text that was changed behind the reader would hold neither the old one nor the new one.
std::vector<std::string> StatesOf(const corpus::Corpus& corpus) {
  std::vector<std::string> out;
  for (const corpus::Source& s : corpus.sources()) {
    struct stat state;
    const bool file = s.path != "-" && ::stat(s.path.c_str(), &state) == 0 && S_ISREG(state.st_mode);
    out.push_back(file ? Str(state.st_ino, " ", state.st_size, " ", state.st_mtim.tv_sec, ".", state.st_mtim.tv_nsec) : "");
  }
  return out;
}

}  // namespace

Result<Json> IndexTexts(corpus::CommonOptions options, const Tokenizer& tokenizer, const Tokenizer* generator, DatabaseWriter* writer) {
  TERN_ASSIGN(Chunker chunker, Chunker::Create(tokenizer, writer->settings().chunk, [&](std::string chunk) { return writer->AddChunk(std::move(chunk)); }));
  Json sources = Json::array();
  for (const std::string& input : options.inputs)
    if (input.ends_with(".idx")) {
      TERN_RETURN_IF_ERROR(IndexMegatron(input, generator, &chunker, writer, options.cancel));
      sources.push_back({{"path", input}, {"kind", "megatron"}});
    }
  std::erase_if(options.inputs, [](const std::string& input) { return input.ends_with(".idx"); });
  if (options.inputs.empty() && !sources.empty()) return sources;
  TERN_ASSIGN(auto corpus, corpus::Corpus::Open(options));
  const std::vector<std::string> before = StatesOf(*corpus);
  int open_file = -1;  // of which lines are being joined
  auto in_order = [&](corpus::Block& block) -> Status {
    const bool whole = options.format == corpus::Format::kAuto && block.format == corpus::Format::kLines;
    const std::string& path = corpus->sources()[static_cast<size_t>(block.file)].path;
    for (size_t i = 0; i < block.records.size(); ++i) {
      const corpus::Record& r = block.records[i];
      if (r.bad) continue;
      if (!whole || open_file != block.file) {
        TERN_RETURN_IF_ERROR(chunker.EndDocument());
        std::string id;
        if (auto parsed = ParseJson(r.id_json); parsed.ok() && !whole) id = parsed->is_string() ? parsed->get<std::string>() : parsed->is_null() ? "" : DumpJson(*parsed);
        TERN_RETURN_IF_ERROR(writer->BeginDocument(path, id, whole ? 1 : block.LineOf(i)));
        open_file = whole ? block.file : -1;
      }
      TERN_RETURN_IF_ERROR(chunker.Add(whole ? std::string(r.text) + "\n" : std::string(r.text)));
    }
    return {};
  };
  TERN_RETURN_IF_ERROR(corpus->Pass({.stage = "indexing", .only_pass = true}, {}, in_order));
  TERN_RETURN_IF_ERROR(chunker.EndDocument());
  TERN_RETURN_IF_ERROR(corpus->CheckBadShare());
  const std::vector<std::string> after = StatesOf(*corpus);
  for (size_t i = 0; i < before.size(); ++i)
    if (before[i] != after[i]) return IoError("the file changed while it was being indexed").File(corpus->sources()[i].path).Hint("Run again when nothing writes to it: only what has changed is embedded again");
  for (const corpus::Source& s : corpus->sources()) sources.push_back({{"path", s.path}, {"bytes", s.bytes}, {"xxh3", s.digest}, {"documents", s.documents}, {"malformed", s.bad}});
  return sources;
}

Result<IndexEmbedder> EmbedderOf(const Database& database, const std::string& path, int64_t threads, Console& console) {
  if (path.empty()) return UsageError("the query needs the embedder the database was made with").Hint(Str("Say --embedder FILE; it was ", Printable(database.settings().embedder)));
  TERN_ASSIGN(IndexEmbedder e, IndexEmbedder::Open(path, threads, console));
  if (database.settings().payload == PayloadKind::kText && DigestText(*e.model) != database.settings().embedder_digest)
    return UsageError("this is not the embedder that the database was made with").File(path).Got(DigestText(*e.model), database.settings().embedder_digest);
  if (e.embedder->width() != database.settings().dim)
    return UsageError("the embedder's vectors have another width than the database's").File(path).Got(e.embedder->width(), database.settings().dim);
  return e;
}

}  // namespace tern
