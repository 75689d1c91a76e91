#include "engine/retrieval/database.h"

#include <sys/stat.h>

#include <algorithm>

#include "engine/retrieval/manifest.h"

namespace tern {

Result<std::vector<SearchHit>> Database::Find(std::span<const float> queries, SearchOptions options, int64_t nprobe, bool exhaustive, Gang* gang) const {
  options.metric = settings_.metric;
  if (!lists_ || exhaustive) return Search(vectors_, queries, options, gang);
  return lists_->Find(vectors_, queries, nprobe > 0 ? nprobe : nprobe_, options, gang);
}

Result<std::shared_ptr<const Database>> Database::Open(const std::string& folder, Lists use) {
  std::shared_ptr<Database> d(new Database());
  d->folder_ = folder;
  TERN_ASSIGN(d->manifest_, ReadManifest(folder));
  auto settings = ParseDatabaseSettings(d->manifest_["settings"]);
  if (!settings.ok()) return Status(settings.status()).File(folder + "/manifest.json");
  d->settings_ = *settings;
  d->vectors_.dim = settings->dim;
  int64_t number = 0, next_document = 0;
  for (const Json& entry : d->manifest_["blocks"]) {
    const std::string path = folder + "/" + BlockName(number++);
    TERN_ASSIGN(auto block, Block::Open(path));
    auto bad = [&](std::string what) { return Malformed(std::move(what)).File(path); };
    if (!entry.is_string() || entry != Hex(block->digest())) return Status(Code::kDigest, "this is not the block that the manifest names").File(path);
    if (block->dim() != settings->dim || block->kind() != settings->payload || block->type() != settings->type || block->maker() != MakerOf(*settings)) return bad("the block was made with other settings");
    if (block->first_chunk() != d->vectors_.rows()) return bad("its chunks do not follow the block before").Got(block->first_chunk(), d->vectors_.rows());
    if (block->first_document() != next_document && block->first_document() != next_document - 1) return bad("its documents do not follow the block before");
    next_document = block->first_document() + block->documents();
    d->vectors_.blocks.push_back(block->Vectors());
    d->vectors_.longest = std::max(d->vectors_.longest, block->longest());
    struct stat s;
    if (::stat(path.c_str(), &s) == 0) d->file_bytes_ += s.st_size;
    d->blocks_.push_back(std::move(block));
  }
  if (use == Lists::kUse && d->manifest_.contains("lists")) {
    const Json& lists = d->manifest_["lists"];
    TERN_ASSIGN(d->lists_, IvfIndex::Open(folder + kListsName));
    const bool good = lists.is_object() && lists.contains("nprobe") && lists["nprobe"].is_number_integer() && lists["nprobe"] >= 1;
    if (!good || d->lists_->rows() != d->chunks() || d->lists_->dim() != settings->dim || d->lists_->metric() != settings->metric)
      return Malformed("the lists do not belong to this database").File(folder + kListsName).Hint("Build them again with index lists");
    // A run that was killed between its lists and its manifest leaves the number of the lists before.
    d->nprobe_ = lists["nprobe"] <= d->lists_->lists() ? lists["nprobe"].get<int64_t>() : d->lists_->lists();
    d->file_bytes_ += d->lists_->bytes();
  }
  return std::shared_ptr<const Database>(std::move(d));
}

Status Database::Verify(const std::function<void(int64_t, int64_t)>& progress) const {
  int64_t done = 0;
  for (const auto& block : blocks_) {
    TERN_RETURN_IF_ERROR(block->Verify());
    if (progress) progress(++done, block_count());
  }
  return lists_ ? lists_->Verify() : Status();
}

const Block& Database::BlockOf(int64_t chunk) const {
  auto it = std::upper_bound(blocks_.begin(), blocks_.end(), chunk, [](int64_t v, const auto& b) { return v < b->first_chunk(); });
  return **(it - 1);
}

std::string_view Database::Payload(int64_t chunk) const {
  const Block& b = BlockOf(chunk);
  return b.Payload(chunk - b.first_chunk());
}

int64_t Database::DocumentOf(int64_t chunk) const {
  const Block& b = BlockOf(chunk);
  return b.DocumentOf(chunk - b.first_chunk());
}

DocumentRecord Database::Document(int64_t document) const {
  auto it = std::upper_bound(blocks_.begin(), blocks_.end(), document, [](int64_t v, const auto& b) { return v < b->first_document(); });
  const Block& b = **(it - 1);
  return b.Document(document - b.first_document());
}

int64_t Database::Next(int64_t chunk) const { return chunk + 1 < chunks() && DocumentOf(chunk + 1) == DocumentOf(chunk) ? chunk + 1 : -1; }

void Database::Read(int64_t chunk, float* out) const {
  const Block& b = BlockOf(chunk);
  const VectorBlock v = b.Vectors();
  const int64_t row = chunk - b.first_chunk();
  if (v.f16) Kernels().f16_to_f32(v.f16 + row * settings_.dim, settings_.dim, out);
  else UnpackRow(v.packed, row, out);
}

}  // namespace tern
