#include "tools/corpus/inputs.h"

#include <dirent.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string_view>

#include "engine/base/file.h"

namespace tern::corpus {
namespace {

std::string_view BaseName(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

bool EndsWith(std::string_view text, std::string_view end) { return text.size() >= end.size() && text.substr(text.size() - end.size()) == end; }

std::string_view WithoutPacking(std::string_view name) {
  for (std::string_view end : {".gz", ".zst"})
    if (EndsWith(name, end) && name.size() > end.size()) return name.substr(0, name.size() - end.size());
  return name;
}

Format FormatByName(std::string_view path) {
  std::string_view name = WithoutPacking(BaseName(path));
  if (EndsWith(name, ".jsonl") || EndsWith(name, ".ndjson")) return Format::kJsonl;
  if (EndsWith(name, ".csv")) return Format::kCsv;
  if (EndsWith(name, ".tsv")) return Format::kTsv;
  return Format::kLines;
}

// Regular files below `folder` with a name we know, sorted. Links to folders are not followed.
void AddFolder(const std::string& folder, int depth, std::vector<std::string>* out) {
  DIR* dir = depth < 32 ? ::opendir(folder.c_str()) : nullptr;
  if (!dir) return;
  std::vector<std::string> names;
  while (struct dirent* entry = ::readdir(dir))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    std::string path = folder + (EndsWith(folder, "/") ? "" : "/") + name;
    struct stat s;
    if (::lstat(path.c_str(), &s) != 0) continue;
    if (S_ISDIR(s.st_mode)) AddFolder(path, depth + 1, out);
    if (!IsRegularFile(path)) continue;
    std::string_view plain = WithoutPacking(name);
    for (std::string_view end : {".jsonl", ".ndjson", ".csv", ".tsv", ".txt"})
      if (EndsWith(plain, end)) out->push_back(path);
  }
}

Status AddPattern(const std::string& pattern, std::vector<std::string>* out) {
  glob_t found{};
  int code = ::glob(pattern.c_str(), 0, nullptr, &found);  // sorted
  for (size_t i = 0; code == 0 && i < found.gl_pathc; ++i)
    if (!IsFolder(found.gl_pathv[i])) out->emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (code != 0) return IoError("no file matches this pattern").File(pattern);
  return {};
}

}  // namespace

namespace {

// Files, folders, patterns -> files. A folder that a run of ours wrote stands for what it kept.
Result<std::vector<std::string>> FindPaths(const std::vector<std::string>& inputs, bool references) {
  std::vector<std::string> paths;
  int standard_inputs = 0;
  for (std::string input : inputs) {
    if (input == "-") {
      if (++standard_inputs > 1 || references) return UsageError(references ? "standard input cannot be a reference" : "standard input is given twice");
      paths.push_back(input);
    } else if (IsFolder(input)) {
      if (references && FileExists(input + "/manifest.json") && IsFolder(input + "/kept")) input += "/kept";
      size_t before = paths.size();
      AddFolder(input, 0, &paths);
      if (paths.size() == before) return IoError("the folder holds no .jsonl, .ndjson, .csv, .tsv or .txt files (also .gz, .zst)").File(input);
    } else if (FileExists(input)) {
      paths.push_back(input);
    } else if (input.find_first_of("*?[") != std::string::npos) {
      TERN_RETURN_IF_ERROR(AddPattern(input, &paths));
    } else {
      return IoError(Str("cannot open: ", std::strerror(ENOENT))).File(input);
    }
  }
  return paths;
}

}  // namespace

Result<std::vector<Source>> FindSources(const CommonOptions& options) {
  TERN_ASSIGN(std::vector<std::string> references, FindPaths(options.references, true));
  TERN_ASSIGN(std::vector<std::string> paths, FindPaths(options.inputs, false));
  if (paths.empty()) return UsageError("no inputs").Hint("Name files, folders or patterns, or - for standard input");
  const size_t reference_count = references.size();
  paths.insert(paths.begin(), references.begin(), references.end());
  std::vector<Source> sources;
  std::map<std::string, int> uses;
  for (const std::string& path : paths) {
    Source s;
    s.path = path;
    s.reference = sources.size() < reference_count;
    s.index = static_cast<int64_t>(s.reference ? sources.size() : sources.size() - reference_count);
    s.format = options.format;
    if (EndsWith(WithoutPacking(path), ".parquet") && options.format == Format::kAuto)
      return Malformed("Parquet is not read").File(path).Hint("Convert it to JSONL first, for example with pandas: read_parquet(..).to_json(.., orient='records', lines=True)");
    if (path == "-") {
      s.kept_name = options.format == Format::kJsonl ? "stdin.jsonl" : options.format == Format::kCsv ? "stdin.csv" : options.format == Format::kTsv ? "stdin.tsv" : options.format == Format::kAuto ? "stdin" : "stdin.txt";
    } else {
      if (s.format == Format::kAuto) s.format = FormatByName(path);
      s.kept_name = std::string(WithoutPacking(BaseName(path)));
    }
    if (!s.reference) ++uses[s.kept_name];
    sources.push_back(std::move(s));
  }
  bool twice = std::any_of(uses.begin(), uses.end(), [](const auto& use) { return use.second > 1; });
  if (twice)
    for (Source& s : sources) s.kept_name = Str(s.index, "-", s.kept_name);
  return sources;
}

}  // namespace tern::corpus
