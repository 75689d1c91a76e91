// What the kinds of `tern index` share: texts from the corpus readers, cut into chunks and embedded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/retrieval/database.h"
#include "engine/runtime/embed.h"
#include "tools/corpus/options.h"
#include "tools/verb.h"

namespace tern {

std::string DigestText(uint64_t digest);     // as manifests say it
std::string DigestText(const Model& model);  // of its file

// An embedder whose vectors go into a database, or that asks one: the same function of a text in both.
struct IndexEmbedder {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Embedder> embedder;
  static Result<IndexEmbedder> Open(const std::string& path, int64_t threads, Console& console);
  // Longest first, so that a batch holds texts of about one length.
  Status Embed(const std::vector<std::string>& texts, std::vector<float>* vectors, const std::function<void(int64_t done)>& progress = {}) const;
};

// Feeds every document of the inputs to the writer: a record, or (text files, if the format is not said) a whole file. Inputs that end in .idx are Megatron
// datasets, whose tokens `generator` turns back into text. Gives the manifest's "sources".
Result<Json> IndexTexts(corpus::CommonOptions options, const Tokenizer& tokenizer, const Tokenizer* generator, DatabaseWriter* writer);

// Opens the database's embedder; kUsage if it is not the one the database was made with (where that is known: imported vectors
// name none), or makes vectors of another width.
Result<IndexEmbedder> EmbedderOf(const Database& database, const std::string& path, int64_t threads, Console& console);

}  // namespace tern
