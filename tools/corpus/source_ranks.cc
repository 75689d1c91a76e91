// The sources of a run over several ranks.
#include <sys/stat.h>

#include <cstring>

#include "engine/base/hash.h"
#include "tools/corpus/inputs.h"
#include "tools/corpus/ranks.h"

namespace tern::corpus {
namespace {

uint64_t DigestOf(const std::vector<Source>& sources) {
  std::string names;
  for (const Source& s : sources) names += s.path, names += '\0', names += FormatName(s.format), names += s.reference ? "\1" : "\2";
  return Xxh3({reinterpret_cast<const uint8_t*>(names.data()), names.size()});
}

// The first source of every rank, and the end.
std::vector<uint64_t> Starts(const std::vector<Source>& sources, int ranks) {
  std::vector<double> ends;
  double total = 0;
  size_t pipes = 0;  // behind the last pipe
  for (size_t i = 0; i < sources.size(); ++i) {
    struct stat s;
    const bool regular = sources[i].path != "-" && ::stat(sources[i].path.c_str(), &s) == 0;
    if (sources[i].path == "-") pipes = i + 1;
    ends.push_back(total += regular ? static_cast<double>(s.st_size) + 1 : 1);
  }
  std::vector<uint64_t> starts{0};
  size_t at = 0;
  for (int r = 1; r < ranks; ++r) {
    // A source belongs to the rank in whose share its middle lies.
    while (at < sources.size() && (at < pipes || (ends[at] + (at ? ends[at - 1] : 0)) / 2 < total * r / ranks)) ++at;
    starts.push_back(at);
  }
  starts.push_back(sources.size());
  return starts;
}

template <class T>
void Put(const T& value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}
void PutText(const std::string& text, std::string* out) {
  Put(text.size(), out);
  *out += text;
}
template <class T>
void Get(std::string_view* in, T* value) {
  std::memcpy(value, in->data(), sizeof *value);
  in->remove_prefix(sizeof *value);
}
void GetText(std::string_view* in, std::string* text) {
  size_t size;
  Get(in, &size);
  text->assign(in->substr(0, size));
  in->remove_prefix(size);
}

}  // namespace

Status ShareSources(Ranks& ranks, const std::vector<Source>& sources, size_t* begin, size_t* end) {
  *begin = 0, *end = sources.size();
  if (ranks.alone()) return {};
  std::vector<uint64_t> told{DigestOf(sources)};
  for (uint64_t start : Starts(sources, ranks.size())) told.push_back(start);
  TERN_ASSIGN(std::string text, ranks.FromRoot({reinterpret_cast<const char*>(told.data()), told.size() * 8}));
  std::vector<uint64_t> root(text.size() / 8);
  std::memcpy(root.data(), text.data(), text.size());
  if (root[0] != told[0]) return UsageError(Str("rank ", ranks.rank(), " sees other inputs than rank 0")).Hint("All ranks must see the same files under the same names");
  *begin = root[static_cast<size_t>(ranks.rank()) + 1], *end = root[static_cast<size_t>(ranks.rank()) + 2];
  return {};
}

Status TellSources(Ranks& ranks, std::vector<Source>* sources, size_t begin, size_t end) {
  if (ranks.alone()) return {};
  std::string own;
  for (size_t i = begin; i < end; ++i) {
    const Source& s = (*sources)[i];
    Put(s.format, &own), Put(s.bytes, &own), Put(s.packed_bytes, &own), Put(s.digest, &own), Put(s.documents, &own), Put(s.bad, &own);
    PutText(s.kept_name, &own), PutText(s.csv_header, &own);
  }
  TERN_ASSIGN(std::vector<std::string> all, ranks.Gather(own));
  size_t next = 0;
  for (std::string_view in : all)
    for (; !in.empty(); ++next) {
      Source& s = (*sources)[next];
      Get(&in, &s.format), Get(&in, &s.bytes), Get(&in, &s.packed_bytes), Get(&in, &s.digest), Get(&in, &s.documents), Get(&in, &s.bad);
      GetText(&in, &s.kept_name), GetText(&in, &s.csv_header);
    }
  return {};
}

}  // namespace tern::corpus
