#include <cstdio>
#include <filesystem>

#include "engine/retrieval/database.h"
#include "engine/retrieval/manifest.h"
#include "engine/retrieval/shares.h"

namespace tern {

Result<DatabaseWriter> DatabaseWriter::Create(const std::string& folder, const DatabaseSettings& settings, Mode mode, Embed embed, Gang* gang, Share share) {
  if (share.parts < 1 || share.parts > kMostShares || share.part < 0 || share.part >= share.parts)
    return UsageError("the share of a build is out of range").Got(Str(share.part, "/", share.parts), Str("0/N to N-1/N, N at most ", kMostShares));
  DatabaseWriter w;
  w.share_ = share;
  w.folder_ = folder, w.settings_ = settings, w.embed_ = std::move(embed), w.gang_ = gang;
  if (settings.block_chunks < 1 || settings.block_chunks > (1 << 20)) return UsageError("the chunks of a block are out of range").Got(settings.block_chunks, Str("1 to ", 1 << 20));
  if (mode == Mode::kAppend) {
    TERN_RETURN_IF_ERROR(ReadManifest(folder).status());
    TERN_ASSIGN(w.lock_, LockDatabase(folder));
    TERN_ASSIGN(auto old, Database::Open(folder, Database::Lists::kIgnore));
    TERN_RETURN_IF_ERROR(old->Verify());
    if (IdentityJson(old->settings()) != IdentityJson(settings)) return UsageError("the database was made with other settings, or another embedder").File(folder).Got(DumpJson(SettingsJson(settings)), DumpJson(SettingsJson(old->settings())));
    w.blocks_ = old->manifest()["blocks"], w.sources_ = old->manifest()["sources"];
    w.block_ = old->block_count(), w.next_chunk_ = old->chunks(), w.document_ = old->documents() - 1;
  } else {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return IoError(Str("cannot make the folder: ", error.message())).File(folder);
    TERN_RETURN_IF_ERROR(CheckNoOtherFiles(folder));
    TERN_ASSIGN(w.lock_, LockDatabase(folder, share.parts > 1 ? Str("lock-", share.part, "-of-", share.parts) : "lock"));
    if (mode == Mode::kNew && FileExists(folder + "/manifest.json")) {
      if (UnfinishedLists(folder).empty()) return UsageError("there is a database already").File(folder).Hint("index add appends to it; --overwrite replaces it");
      TERN_ASSIGN(Json old, ReadManifest(folder));
      w.resumed_ = old["blocks"];
    }
    w.replacing_ = mode == Mode::kReplace;
  }
  w.content_.first_chunk = w.next_chunk_;
  return w;
}

Status DatabaseWriter::OtherDatabase() const {
  return UsageError("there is a database of other texts, or with other settings").File(folder_).Hint(Str("--overwrite replaces it; index lists --type ", UnfinishedLists(folder_), " builds the lists it lacks"));
}

std::string DatabaseWriter::PathOf(int64_t block) const { return folder_ + "/" + BlockName(block); }

Status DatabaseWriter::BeginDocument(const std::string& source, const std::string& id, int64_t position) {
  current_ = {source.substr(0, 65536), id.substr(0, 65536), position, -1};
  return {};
}

Status DatabaseWriter::AddChunk(std::string payload) {
  if (current_.first_chunk < 0) {  // its first: documents without chunks are not counted
    current_.first_chunk = next_chunk_;
    ++document_;
    document_listed_ = false;
  }
  if (content_.chunks.empty()) content_.first_chunk = next_chunk_, content_.first_document = document_;
  if (!document_listed_) content_.documents.push_back(current_), document_listed_ = true;
  content_.chunks.push_back({std::move(payload), document_});
  ++next_chunk_;
  if (static_cast<int64_t>(content_.chunks.size()) == settings_.block_chunks) return FlushBlock();
  return {};
}

Status DatabaseWriter::FlushBlock() {
  if (content_.chunks.empty()) return {};
  content_.kind = settings_.payload, content_.type = settings_.type, content_.dim = settings_.dim;
  content_.maker = MakerOf(settings_);
  const std::string path = PathOf(block_);
  std::shared_ptr<const Block> there;
  if (FileExists(path)) {
    auto opened = Block::Open(path);
    if (opened.ok() && (*opened)->dim() == settings_.dim && (*opened)->Verify().ok() && (*opened)->SameText(content_)) there = *opened;
  }
  // Of a database that only lacks its lists nothing is replaced.
  const size_t number = static_cast<size_t>(block_);
  if (!resumed_.is_null() && (!there || number >= resumed_.size() || resumed_[number] != Hex(there->digest()))) return OtherDatabase();
  if (!there && block_ % share_.parts != share_.part) {  // another's
    ++block_;
    content_ = BlockContent();
    document_listed_ = false;
    return {};
  }
  if (!there) {
    std::vector<std::string> texts;
    for (const auto& c : content_.chunks) texts.push_back(c.payload);
    content_.vectors.clear();
    TERN_RETURN_IF_ERROR(embed_(texts, &content_.vectors));
    if (static_cast<int64_t>(content_.vectors.size()) != static_cast<int64_t>(texts.size()) * settings_.dim) return InternalError("the embedder gave another number of vectors");
    if (replacing_) std::remove((folder_ + "/manifest.json").c_str());  // from now on its blocks are replaced
    replacing_ = false;
    TERN_RETURN_IF_ERROR(WriteBlock(path, content_, gang_));
    embedded_ += static_cast<int64_t>(texts.size());
    TERN_ASSIGN(there, Block::Open(path));
  }
  blocks_.push_back(Hex(there->digest()));
  made_[BlockName(block_)] = blocks_.back();
  ++block_;
  content_ = BlockContent();
  document_listed_ = false;
  return {};
}

Status DatabaseWriter::Finish(const Json& sources, const std::string& lists) {
  TERN_RETURN_IF_ERROR(FlushBlock());
  if (next_chunk_ == 0) return UsageError("there is no text: the database would be empty").File(folder_);
  if (!resumed_.is_null() && blocks_ != resumed_) return OtherDatabase();
  if (share_.parts > 1) {
    TERN_RETURN_IF_ERROR(WriteShare(folder_, {share_.part, share_.parts, SettingsJson(settings_), next_chunk_, document_ + 1, block_, made_, sources, lists}));
    lock_.reset();
    return {};
  }
  for (const Json& s : sources) sources_.push_back(s);
  TERN_RETURN_IF_ERROR(PublishDatabase(folder_, NewManifest(settings_, next_chunk_, document_ + 1, blocks_, sources_), block_, lists));
  lock_.reset();
  return {};
}

}  // namespace tern
