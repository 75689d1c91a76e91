#include "engine/retrieval/shares.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "engine/retrieval/manifest.h"

namespace tern {
namespace {

constexpr uint64_t kMostNoteBytes = 256 << 20;

bool IsNote(const std::string& name) { return name.starts_with("share-") && name.ends_with(".json"); }

Result<std::vector<std::string>> NotesIn(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (IsNote(it->path().filename().string())) out.push_back(it->path().string());
  if (error) return IoError(Str("cannot list the folder: ", error.message())).File(folder);
  std::sort(out.begin(), out.end());
  return out;
}

Result<ShareNote> ReadShare(const std::string& path) {
  TERN_ASSIGN(std::string text, ReadFile(path, kMostNoteBytes));
  auto json = ParseJson(text);
  if (!json.ok()) return Status(json.status()).File(path);
  const Json& j = *json;
  auto number = [&](const char* key, int64_t least, int64_t most) -> int64_t {
    return j.contains(key) && j[key].is_number_integer() && j[key] >= least && j[key] <= most ? j[key].get<int64_t>() : -1;
  };
  if (!j.is_object()) return Malformed("this is no note of a share").File(path);
  ShareNote n;
  n.part = number("part", 0, kMostShares - 1), n.parts = number("parts", 2, kMostShares);
  n.chunks = number("chunks", 1, int64_t{1} << 40), n.documents = number("documents", 1, int64_t{1} << 40), n.blocks = number("blocks", 1, 1 << 20);
  if (n.part < 0 || n.parts < 0 || n.part >= n.parts || n.chunks < 0 || n.documents < 0 || n.blocks < 0 || !j.contains("settings") || !j["settings"].is_object() || !j.contains("made") ||
      !j["made"].is_object() || !j.contains("sources") || !j["sources"].is_array() || !j.contains("lists") || !j["lists"].is_string())
    return Malformed("this is no note of a share, or a field of it is out of range").File(path);
  n.settings = j["settings"], n.made = j["made"], n.sources = j["sources"], n.lists = j["lists"].get<std::string>();
  if (!n.lists.empty() && !ListTypeOf(n.lists)) return Malformed("the lists are of an unknown kind").File(path).Where("field 'lists'").Got(Printable(n.lists, 40), "f32, q8 or pq");
  return n;
}

// The block's digest, if it is whole; what is wrong with it otherwise.
Result<uint64_t> Verified(const std::string& path) {
  TERN_ASSIGN(auto block, Block::Open(path));
  TERN_RETURN_IF_ERROR(block->Verify());
  return block->digest();
}

Status Copy(const std::string& from, const std::string& to) {
  TERN_ASSIGN(auto file, MappedFile::Open(from));
  TERN_ASSIGN(FileWriter w, FileWriter::Create(to, file->bytes().size()));
  TERN_RETURN_IF_ERROR(w.Write(file->bytes().data(), file->bytes().size()));
  return w.Commit();
}

struct Share {
  std::string path, folder;
  ShareNote note;
};

// All shares of one build, in order; the first note of a share counts.
Result<std::vector<Share>> Gather(const std::string& into, const std::vector<std::string>& folders) {
  std::vector<std::optional<Share>> found;
  const Share* first = nullptr;
  for (const std::string& folder : folders) {
    TERN_ASSIGN(auto notes, NotesIn(folder));
    for (const std::string& path : notes) {
      TERN_ASSIGN(ShareNote note, ReadShare(path));
      if (found.empty()) found.resize(static_cast<size_t>(note.parts));
      if (first) {
        const ShareNote& a = first->note;
        const bool settings = note.parts == a.parts && note.settings == a.settings, texts = note.sources == a.sources && note.chunks == a.chunks && note.documents == a.documents && note.blocks == a.blocks && note.lists == a.lists;
        if (!settings || !texts) return UsageError(settings ? "the shares were made of different texts" : "the shares were made with different settings").File(path).Where(Str("beside ", first->path)).Hint("Build the share again");
      }
      auto& place = found[static_cast<size_t>(note.part)];
      if (!place) place = Share{path, folder, std::move(note)};
      if (!first) first = &*place;
    }
  }
  if (!first) return UsageError("there are no shares").File(into).Hint("index build --block I/N makes them");
  std::vector<Share> shares;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!found[i]) return UsageError(Str("share ", i, " of ", found.size(), " is missing")).File(into).Hint(Str("Run index build --block ", i, "/", found.size()));
    shares.push_back(std::move(*found[i]));
  }
  return shares;
}

}  // namespace

Status WriteShare(const std::string& folder, const ShareNote& n) {
  TERN_ASSIGN(FileWriter w, FileWriter::Create(Str(folder, "/share-", n.part, "-of-", n.parts, ".json")));
  TERN_RETURN_IF_ERROR(w.Write(DumpJson({{"part", n.part}, {"parts", n.parts}, {"settings", n.settings}, {"chunks", n.chunks}, {"documents", n.documents}, {"blocks", n.blocks}, {"made", n.made}, {"sources", n.sources}, {"lists", n.lists}}) + "\n"));
  return w.Commit();
}

Result<MergeReport> MergeShares(const std::string& folder, const std::vector<std::string>& from) {
  // A database that only lacks its lists may be made again of its own shares: a build over several runs that was stopped goes on so.
  auto refused = [&]() -> Status {
    if (!FileExists(folder + "/manifest.json")) return {};
    const std::string lists = UnfinishedLists(folder);
    if (lists.empty()) return UsageError("there is a database already").File(folder).Hint("Merge into a new folder");
    return from.empty() ? Status() : UsageError("there is a database already, whose lists are not finished").File(folder).Hint(Str("index lists --type ", lists, " builds them; or merge into a new folder"));
  };
  TERN_RETURN_IF_ERROR(refused());
  std::vector<std::string> folders = from;
  if (IsFolder(folder)) folders.insert(folders.begin(), folder);
  TERN_ASSIGN(const std::vector<Share> shares, Gather(folder, folders));
  const ShareNote& all = shares[0].note;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return IoError(Str("cannot make the folder: ", error.message())).File(folder);
  TERN_RETURN_IF_ERROR(CheckNoOtherFiles(folder));
  TERN_ASSIGN(FileWriter lock, LockDatabase(folder));
  TERN_RETURN_IF_ERROR(refused());  // somebody may have been faster
  MergeReport report{static_cast<int64_t>(shares.size()), all.blocks, 0};
  Json blocks = Json::array();
  for (int64_t b = 0; b < report.blocks; ++b) {
    const Share& share = shares[static_cast<size_t>(b % report.shares)];
    const std::string name = BlockName(b), to = folder + "/" + name, source = share.folder + "/" + name;
    if (!share.note.made.contains(name) || !share.note.made[name].is_string()) return Malformed(Str("the share does not name ", name)).File(share.path);
    const Json& wanted = share.note.made[name];
    if (share.folder != folder) {
      auto there = Verified(to);
      if (!there.ok() || Hex(*there) != wanted) {
        TERN_RETURN_IF_ERROR(Copy(source, to));
        ++report.copied;
      }
    }
    TERN_ASSIGN(uint64_t digest, Verified(to));
    if (Hex(digest) != wanted) return Status(Code::kDigest, "this is not the block that the share made").File(to).Got(Hex(digest), wanted.get<std::string>());
    blocks.push_back(wanted);
  }
  if (FileExists(folder + "/manifest.json")) {
    TERN_ASSIGN(Json old, ReadManifest(folder));
    if (old["blocks"] != blocks) return UsageError("there is a database of other texts, or with other settings").File(folder).Hint("Merge into a new folder");
  }
  auto settings = ParseDatabaseSettings(all.settings);
  if (!settings.ok()) return Status(settings.status()).File(shares[0].path);
  TERN_RETURN_IF_ERROR(PublishDatabase(folder, NewManifest(*settings, all.chunks, all.documents, blocks, all.sources), report.blocks, all.lists));
  return report;
}

Status PublishDatabase(const std::string& folder, Json manifest, int64_t blocks, const std::string& lists) {
  if (!lists.empty()) manifest["unfinished"] = lists;
  TERN_RETURN_IF_ERROR(WriteManifest(folder, std::move(manifest)));
  std::remove((folder + kListsName).c_str());
  std::remove((folder + kListsName + ".new").c_str());
  for (int64_t extra = blocks; FileExists(folder + "/" + BlockName(extra)); ++extra) std::remove((folder + "/" + BlockName(extra)).c_str());
  TERN_ASSIGN(auto notes, NotesIn(folder));
  for (const std::string& path : notes) std::remove(path.c_str());
  return {};
}

}  // namespace tern
