#include "tools/corpus/output.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "engine/base/utf8.h"
#include "tools/corpus/ranks.h"

namespace tern::corpus {
namespace {

namespace fs = std::filesystem;

constexpr char kWorkName[] = ".tern-work";
constexpr const char* kListNames[] = {"removed.jsonl", "clusters.jsonl", "pairs.jsonl", "spans.jsonl", "bad.jsonl", "leak.jsonl", "annotations.jsonl", "difficulty.jsonl"};

Status MakeFolder(const std::string& path, bool* made) {
  *made = ::mkdir(path.c_str(), 0777) == 0;
  if (*made || (errno == EEXIST && IsFolder(path))) return {};
  return IoError(Str("cannot create the folder: ", std::strerror(errno))).File(path);
}

// Whether the folder holds anything but our own work folder.
bool HoldsSomething(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return false;
  bool found = false;
  while (struct dirent* entry = ::readdir(dir)) {
    std::string_view name = entry->d_name;
    if (name != "." && name != ".." && name != kWorkName) found = true;
  }
  ::closedir(dir);
  return found;
}

Json ReadJsonOrNull(const std::string& path) {
  auto text = ReadFile(path, 64 << 20);
  if (!text.ok()) return nullptr;
  auto json = ParseJson(*text);
  return json.ok() ? *json : Json(nullptr);
}

Json ParametersJson(const CommonOptions& options) {
  Json out = Json::object();
  for (const auto& [key, value] : options.parameters) out[key] = ReplaceInvalidUtf8(value);
  return out;
}

Json ManifestJson(const CommonOptions& options, const Corpus& corpus) {
  Json inputs = Json::array();
  for (const Source& s : corpus.sources()) {  // references first, without a name under kept/
    char digest[17];
    std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(s.digest));
    inputs.push_back(Json{{"file", ReplaceInvalidUtf8(s.path)}, {"format", FormatName(s.format)}, {"kept", s.reference ? Json(nullptr) : Json(s.kept_name)}, {"bytes", s.bytes}, {"xxh3", digest}, {"documents", s.documents}, {"bad", s.bad}});
  }
  return Json{{"tern", options.version}, {"verb", options.verb}, {"parameters", ParametersJson(options)}, {"inputs", inputs}};
}

Status WriteWhole(const std::string& path, std::string_view text) {
  TERN_ASSIGN(FileWriter w, FileWriter::Create(path));
  TERN_RETURN_IF_ERROR(w.Write(text));
  return w.Commit();
}

Status Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return IoError(Str("cannot rename to its final name: ", std::strerror(errno))).File(to);
  return {};
}

void RemoveAll(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

Result<std::unique_ptr<OutputFolder>> OutputFolder::Create(const CommonOptions& options) {
  if (options.output.empty()) return UsageError("no output folder").Hint("Name a new or empty one with -o");
  std::unique_ptr<OutputFolder> out(new OutputFolder());
  out->path_ = options.output;
  out->work_ = options.output + "/" + kWorkName;
  if (options.ranks && !options.ranks->alone()) out->ranks_ = options.ranks;
  if (out->root()) TERN_RETURN_IF_ERROR(out->CreateFolder(options));
  if (!out->ranks_) return out;
  TERN_ASSIGN(std::string complete, out->ranks_->FromRoot(out->complete_ ? "complete" : ""));
  out->complete_ = !complete.empty();
  return out;
}

Status OutputFolder::CreateFolder(const CommonOptions& options) {
  if (FileExists(path_) && !IsFolder(path_)) return UsageError("the output is not a folder").File(path_);
  Json report = ReadJsonOrNull(path_ + "/report.json");
  const bool stopped = report.is_object() && report.contains("stopped");
  const bool unfinished = IsFolder(work_);
  if (!options.force && !options.resume && !stopped && HoldsSomething(path_))
    return UsageError("the output folder is not empty").File(path_).Hint("Name a new one, or give --force to replace what this verb writes");
  if (!options.force && !options.resume && unfinished && !stopped)
    return UsageError("the output folder holds an unfinished run").File(path_).Hint("--resume goes on with it, --force starts anew");
  if (options.resume && !options.force && report.is_object() && !stopped) {
    Json manifest = ReadJsonOrNull(path_ + "/manifest.json");
    if (!manifest.is_object() || manifest.value("verb", "") != options.verb || !manifest.contains("parameters") || manifest["parameters"] != ParametersJson(options))
      return UsageError("the output folder holds the result of another command").File(path_).Hint("Name another folder, or give --force");
    // A run killed after its last name and before its last step left its work behind.
    if (unfinished) RemoveAll(work_);
    complete_ = true;
    return {};
  }
  TERN_RETURN_IF_ERROR(MakeFolder(path_, &created_));
  bool made;
  TERN_RETURN_IF_ERROR(MakeFolder(work_, &made));
  std::string lock = work_ + "/lock";
  lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) return IoError(Str("cannot create: ", std::strerror(errno))).File(lock);
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    lock_ = -1, created_ = false;  // what is there belongs to the other run
    return IoError("another run is writing into this folder").File(path_).Hint("Wait for it to end");
  }
  RemoveAll(work_ + "/kept");
  if (!options.resume) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(work_, ignored))
      if (entry.path().filename() != "lock") RemoveAll(entry.path().string());
  }
  return {};
}

bool OutputFolder::root() const { return !ranks_ || ranks_->root(); }

// A run that fails leaves nothing; one that fails among its last renames leaves what they replaced.
OutputFolder::~OutputFolder() {
  if (lock_ < 0) return;
  kept_.reset();
  lists_.clear();
  if (naming_ && !published_) ::unlink((work_ + "/lock").c_str());
  else if (!published_) RemoveAll(work_);
  if (created_) ::rmdir(path_.c_str());
  ::close(lock_);
}

void OutputFolder::OpenKept(const Corpus& corpus) {
  kept_corpus_ = &corpus;
  next_source_ = corpus.own_begin_source();
}

Status OutputFolder::AdvanceTo(const Corpus& corpus, size_t source) {
  while (next_source_ <= source && next_source_ < corpus.own_end_source()) {
    if (kept_) TERN_RETURN_IF_ERROR(kept_->Commit());
    kept_.reset();
    bool made;
    TERN_RETURN_IF_ERROR(MakeFolder(work_ + "/kept", &made));
    const Source& s = corpus.sources()[next_source_];
    if (s.reference) {
      ++next_source_;
      continue;
    }
    TERN_ASSIGN(FileWriter w, FileWriter::Create(work_ + "/kept/" + s.kept_name));
    TERN_RETURN_IF_ERROR(w.Write(s.csv_header));
    kept_.emplace(std::move(w));
    ++next_source_;
  }
  return {};
}

void OutputFolder::Keep(const Block& block, const Record& record) {
  if (block.format != Format::kParagraphs) return KeepBytes(record.raw);
  copies_.append(run_);
  run_ = {};
  AppendKept(block, record, &copies_);
}

void OutputFolder::KeepBytes(std::string_view bytes) {
  if (!run_.empty() && run_.data() + run_.size() == bytes.data()) {
    run_ = std::string_view(run_.data(), run_.size() + bytes.size());
    return;
  }
  copies_.append(run_);
  run_ = bytes;
}

Status OutputFolder::EndBlock(const Block& block) {
  TERN_RETURN_IF_ERROR(AdvanceTo(*kept_corpus_, static_cast<size_t>(block.file)));
  TERN_RETURN_IF_ERROR(kept_->Write(copies_));
  TERN_RETURN_IF_ERROR(kept_->Write(run_));
  copies_.clear();
  run_ = {};
  return {};
}

Status OutputFolder::Append(const char* name, std::string_view lines) {
  if (!root()) return kept_lists_[name].Append(work_, lines.data(), static_cast<int64_t>(lines.size())).status();
  auto it = lists_.find(name);
  if (it == lists_.end()) {
    TERN_ASSIGN(FileWriter w, FileWriter::Create(work_ + "/" + name));
    it = lists_.emplace(name, std::move(w)).first;
  }
  return it->second.Write(lines);
}

namespace {

// Lines that begin with {"doc":N, or {"doc":null,: N + shift instead.
std::string Shifted(std::string_view lines, int64_t shift) {
  constexpr std::string_view kStart = "{\"doc\":";
  std::string out;
  while (!lines.empty()) {
    const size_t end = lines.find('\n') + 1;
    std::string_view rest = lines.substr(kStart.size(), end - kStart.size());
    int64_t doc;
    auto [behind, error] = std::from_chars(rest.data(), rest.data() + rest.size(), doc);
    if (error == std::errc()) {
      AppendParts(&out, kStart, doc + shift);
      rest.remove_prefix(static_cast<size_t>(behind - rest.data()));
    } else {
      out += kStart;
    }
    out += rest;
    lines.remove_prefix(end);
  }
  return out;
}

}  // namespace

Status OutputFolder::GatherList(const char* name, int64_t shift_docs) {
  if (!ranks_) return {};
  SpillFile* own = root() ? nullptr : &kept_lists_[name];
  for (int sender = 1; sender < ranks_->size(); ++sender) {
    int64_t at = 0;
    std::string bytes;
    auto fill = [&](int to, size_t piece, std::string* out) -> Status {
      if (ranks_->rank() != sender || to != 0 || at == own->size()) return {};
      // Whole lines; a line is longer than a piece only if an id is.
      for (int64_t size = static_cast<int64_t>(piece);; size *= 2) {
        bytes.resize(static_cast<size_t>(std::min(size, own->size() - at)));
        TERN_RETURN_IF_ERROR(own->Read(at, bytes.data(), static_cast<int64_t>(bytes.size())));
        const size_t end = bytes.rfind('\n');
        if (end == std::string::npos) continue;
        bytes.resize(end + 1);
        break;
      }
      at += static_cast<int64_t>(bytes.size());
      *out = shift_docs == 0 ? bytes : Shifted(bytes, shift_docs);
      return {};
    };
    TERN_RETURN_IF_ERROR(ranks_->Exchange(fill, [&](int, std::string_view lines) { return Append(name, lines); }));
  }
  kept_lists_.erase(name);
  return {};
}

Status OutputFolder::AppendBad(const Corpus& corpus, const Block& block) {
  std::string lines;
  for (size_t i = 0; i < block.records.size(); ++i) {
    if (!block.records[i].bad) continue;
    const int64_t shown = corpus.ShownDoc(block.DocOf(i));
    lines += "{\"doc\":";
    lines += shown < 0 ? "null" : std::to_string(shown);
    lines += ",\"file\":";
    AppendJsonString(ReplaceInvalidUtf8(corpus.sources()[static_cast<size_t>(block.file)].path), &lines);
    lines += Str(",\"line\":", block.LineOf(i), ",\"offset\":", block.records[i].offset, ",\"error\":");
    AppendJsonString(block.records[i].bad, &lines);
    lines += "}\n";
  }
  return Append("bad.jsonl", lines);
}

Status OutputFolder::Publish(const CommonOptions& options, const Corpus& corpus, const Json& report, bool kept, const std::vector<std::string>& lists) {
  if (kept && kept_corpus_) {
    TERN_RETURN_IF_ERROR(AdvanceTo(*kept_corpus_, kept_corpus_->own_end_source()));
    if (kept_) TERN_RETURN_IF_ERROR(kept_->Commit());
    kept_.reset();
  }
  if (ranks_) TERN_RETURN_IF_ERROR(ranks_->Barrier());
  if (!root()) return {};
  for (auto& [name, writer] : lists_)
    if (std::find(lists.begin(), lists.end(), name) != lists.end()) TERN_RETURN_IF_ERROR(writer.Commit());
  TERN_RETURN_IF_ERROR(WriteWhole(work_ + "/manifest.json", DumpJson(ManifestJson(options, corpus), 1) + "\n"));
  TERN_RETURN_IF_ERROR(WriteWhole(work_ + "/report.json", DumpJson(report, 1) + "\n"));
  // Everything is complete and on disk; now the names. report.json goes first and comes back last: with it, the folder is whole.
  naming_ = true;
  ::unlink((path_ + "/report.json").c_str());
  // What a former run kept goes in any case: it is not what this report tells of.
  std::string old = work_ + "/replaced";
  RemoveAll(old);
  if (FileExists(path_ + "/kept")) TERN_RETURN_IF_ERROR(Rename(path_ + "/kept", old));
  if (kept && kept_corpus_) TERN_RETURN_IF_ERROR(Rename(work_ + "/kept", path_ + "/kept"));
  for (const char* name : kListNames) {
    std::string to = path_ + "/" + name;
    if (std::find(lists.begin(), lists.end(), name) == lists.end()) ::unlink(to.c_str());
  }
  for (const std::string& name : lists)
    if (lists_.count(name)) TERN_RETURN_IF_ERROR(Rename(work_ + "/" + name, path_ + "/" + name));
  lists_.clear();
  for (const char* name : {"manifest.json", "report.json"}) TERN_RETURN_IF_ERROR(Rename(work_ + "/" + name, path_ + "/" + name));
  RemoveAll(work_);
  published_ = true;
  created_ = false;
  return {};
}

Status OutputFolder::Commit(const CommonOptions& options, const Corpus& corpus, const Json& report) {
  std::vector<std::string> all;
  for (const auto& [name, writer] : lists_) all.push_back(name);
  return Publish(options, corpus, report, true, all);
}

Status OutputFolder::CommitStopped(const CommonOptions& options, const Corpus& corpus, Json report, std::string_view why, const std::vector<std::string>& lists) {
  report["stopped"] = why;
  kept_.reset();
  return Publish(options, corpus, report, false, lists);
}

}  // namespace tern::corpus
