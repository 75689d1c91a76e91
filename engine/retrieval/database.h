// Database: a folder of blocks (block.h) and manifest.json, which names them with their digests and says how they were made. What the manifest does not name
// is not there: a build or an append that was killed leaves the old database, or none.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/retrieval/block.h"
#include "engine/retrieval/ivf.h"

namespace tern {

struct DatabaseSettings {
  PayloadKind payload = PayloadKind::kText;
  VectorType type = VectorType::kF32;
  Metric metric = Metric::kCos;
  int64_t dim = 0, chunk = 64;       // tokens of a chunk (the embedder's)
  int64_t block_chunks = 8192;
  std::string embedder;              // its file's name, for people
  std::string embedder_digest;       // of its .tern file; of imported vectors: of their file
};

// Immutable once open; thread-safe.
class Database {
 public:
  // kIo, kMalformed, kDigest: every block's header and tables are checked; its vectors and texts by Verify.
  // kIgnore: as if there were no lists, so that damaged ones can be made anew.
  enum class Lists { kUse, kIgnore };
  static Result<std::shared_ptr<const Database>> Open(const std::string& folder, Lists lists = Lists::kUse);
  Status Verify(const std::function<void(int64_t done, int64_t total)>& progress = {}) const;

  const DatabaseSettings& settings() const { return settings_; }
  const std::string& folder() const { return folder_; }
  const Json& manifest() const { return manifest_; }
  int64_t chunks() const { return vectors_.rows(); }
  int64_t documents() const { return blocks_.empty() ? 0 : blocks_.back()->first_document() + blocks_.back()->documents(); }
  int64_t file_bytes() const { return file_bytes_; }
  int64_t block_count() const { return static_cast<int64_t>(blocks_.size()); }
  const VectorSet& vectors() const { return vectors_; }

  // 0 <= chunk < chunks(), 0 <= document < documents().
  std::string_view Payload(int64_t chunk) const;
  int64_t DocumentOf(int64_t chunk) const;
  DocumentRecord Document(int64_t document) const;
  int64_t Next(int64_t chunk) const;  // the chunk that continues it in its document; -1
  void Read(int64_t chunk, float* out) const;  // its vector [dim], as it is scored again with

  // Inverted lists beside the blocks, or null; what they probe if nothing else is said.
  const IvfIndex* lists() const { return lists_.get(); }
  int64_t nprobe() const { return nprobe_; }
  // Search through the lists (nprobe 0: as many as they were set to), or exhaustively if there are none or `exhaustive`. The metric is the database's.
  Result<std::vector<SearchHit>> Find(std::span<const float> queries, SearchOptions options, int64_t nprobe, bool exhaustive, Gang* gang) const;

 private:
  friend class DatabaseWriter;
  Database() = default;
  const Block& BlockOf(int64_t chunk) const;

  std::string folder_;
  Json manifest_;
  DatabaseSettings settings_;
  std::vector<std::shared_ptr<const Block>> blocks_;
  VectorSet vectors_;
  std::shared_ptr<const IvfIndex> lists_;
  int64_t nprobe_ = 0;
  int64_t file_bytes_ = 0;
};

// Adds members to a database's manifest (figures of a check). kIo while somebody else writes to the database, as BuildLists (recall.h) and DatabaseWriter.
Status AmendManifest(const std::string& folder, const Json& members);

// The kind of lists that a build did not come to ("q8", "pq"); empty if nothing is missing, or there is no database.
std::string UnfinishedLists(const std::string& folder);

// Builds a database, or appends to one. Blocks are complete files; a run that follows a killed one embeds only what is missing or has changed.
class DatabaseWriter {
 public:
  // Appends one vector [dim] per text, in order. The same text must give the same bits in any company.
  using Embed = std::function<Status(const std::vector<std::string>& texts, std::vector<float>* vectors)>;
  enum class Mode { kNew, kReplace, kAppend };
  // Of `parts` runs that share the work, this one makes the blocks whose number leaves `part`: whole files, and a note of them instead of the manifest, which
  // MergeShares (shares.h) makes of all notes. The same build without parts does too: it finds the blocks there.
  struct Share {
    int64_t part = 0, parts = 1;
  };

  // kUsage if there is a database already (kNew; if only its lists are missing, the build goes on, and is refused at the first chunk that is not in it), or the
  // settings are not those of the database (kAppend). The database is locked until Finish, or the writer's end: kIo for a second one (parts of a shared build
  // lock only their part). A database that is replaced stays until the first block is written.
  // `gang` outlives it.
  static Result<DatabaseWriter> Create(const std::string& folder, const DatabaseSettings& settings, Mode mode, Embed embed, Gang* gang, Share share);
  static Result<DatabaseWriter> Create(const std::string& folder, const DatabaseSettings& settings, Mode mode, Embed embed, Gang* gang) {
    return Create(folder, settings, mode, std::move(embed), gang, Share());
  }

  Status BeginDocument(const std::string& source, const std::string& id, int64_t position);
  Status AddChunk(std::string payload);
  // The last block and the manifest; `sources` is kept there. `lists`: the kind of inverted lists that are still to be built (BuildLists), or none; a build
  // that is killed before they stand may be run again.
  Status Finish(const Json& sources, const std::string& lists = {});

  const DatabaseSettings& settings() const { return settings_; }
  int64_t chunks() const { return next_chunk_; }
  int64_t documents() const { return document_ + 1; }
  int64_t embedded() const { return embedded_; }  // chunks of this run; the others were there

 private:
  DatabaseWriter() = default;
  Status FlushBlock();
  Status OtherDatabase() const;
  std::string PathOf(int64_t block) const;

  std::string folder_;
  DatabaseSettings settings_;
  Embed embed_;
  Gang* gang_ = nullptr;
  Share share_;
  std::optional<FileWriter> lock_;
  bool replacing_ = false;  // the old manifest is still there
  Json resumed_;            // blocks of the database that only lacks its lists, or null
  Json blocks_ = Json::array(), sources_ = Json::array();
  Json made_ = Json::object();  // of a share: its blocks and their digests
  BlockContent content_;
  DocumentRecord current_;
  int64_t next_chunk_ = 0, document_ = -1, embedded_ = 0, block_ = 0;
  bool document_listed_ = false;  // in content_
};

}  // namespace tern
