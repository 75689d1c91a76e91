// Flags of verbs that let a RETRO model read from a database.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/runtime/retriever.h"
#include "tools/index_input.h"
#include "tools/verb.h"

namespace tern {

struct RetrievalFlags {
  std::optional<std::string> index;
  std::string embedder;
  std::vector<std::string> exclude;
  double max_leakage = 1;
  bool off = false, show = false;

  void Declare(Arguments& args) {
    args.Heading("Retrieval");
    args.Path("--index", &index, "a RETRO model reads its neighbours from this database (tern index build)");
    args.Path("--embedder", &embedder, "the encoder the database was made with");
    args.Texts("--exclude", &exclude, "leave out what this source (as `index search` names it) brought in").ValueName("SOURCE");
    args.Real("--max-leakage", &max_leakage, 0, 1, "leave out neighbours that hold a longer run of a chunk's own tokens than this share of it");
    args.Flag("--no-retrieval", &off, "run the model without neighbours, although a database is named");
    args.Flag("--show-neighbors", &show, "say what was found for every chunk (stderr)");
    args.Heading("Options");
  }
  bool on() const { return index && !off; }

  // Null without a database.
  Result<std::unique_ptr<Retriever>> Open(std::shared_ptr<const Model> model, int64_t threads, Console& console) const {
    if (!on()) return std::unique_ptr<Retriever>();
    TERN_ASSIGN(auto database, Database::Open(*index));
    TERN_ASSIGN(IndexEmbedder e, EmbedderOf(*database, embedder, threads, console));
    TERN_ASSIGN(auto retriever, Retriever::Create(std::move(model), database, e.model, static_cast<int>(threads), &console.cancel()));
    SearchFilter filter;
    filter.sources = exclude, filter.max_overlap = max_leakage;
    retriever->Filter(std::move(filter));
    if (show)
      retriever->OnFetch([&console, database](const Retriever::Fetched& f) {
        for (const SearchHit& h : f.hits) {
          if (h.id < 0) continue;
          std::string text(database->Payload(h.id));
          for (char& c : text)
            if (c == '\n') c = ' ';
          console.Note(Str("chunk ", f.chunk, ": ", Fixed(h.score, 3), " ", Printable(database->Document(database->DocumentOf(h.id)).source, 80), " id ", h.id, ": ",
                           database->settings().payload == PayloadKind::kText ? Printable(text, 160) : ""));
        }
      });
    return retriever;
  }
};

}  // namespace tern
