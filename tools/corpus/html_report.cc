#include "tools/corpus/html_report.h"

#include <algorithm>
#include <bit>

#include "engine/base/file.h"
#include "engine/base/utf8.h"
#include "tools/corpus/corpus.h"

namespace tern::corpus {
namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f6f4;padding:.8em;margin:.3em 0 1em;font:13px/1.45 ui-monospace,monospace}"
    "mark{background:#ffd8a8;color:inherit}.c{color:#666;font-size:.9em;margin:1em 0 0}.b{height:.7em;background:#3b7dd8}.b2{background:#d9822b}"
    ".t td{border:0;padding:.1em .6em;vertical-align:middle}.w{width:24em}.s{display:grid;grid-template-columns:1fr 1fr;gap:1em}.s>div{min-width:0}"
    ".k{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em;background:#3b7dd8}.k.b2{background:#d9822b}summary{cursor:pointer}"
    "@media(max-width:50em){.s{grid-template-columns:1fr}.w{width:50%}}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#242424}td,th{border-color:#444}mark{background:#7a4d12}.c{color:#999}}";

constexpr size_t kMostDiffWords = 500;

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

bool LooksLikeNumber(std::string_view cell) {
  return !cell.empty() && (cell == "-" || (cell.find_first_not_of("0123456789.,-+% eKMGTB") == std::string_view::npos && cell.find_first_of("0123456789") != std::string_view::npos));
}

// A long whole number with a comma before every three digits; anything else as it is.
std::string Grouped(std::string cell) {
  if (cell.find_first_not_of("0123456789") != std::string::npos) return cell;
  for (size_t i = cell.size(); i > 3;) cell.insert(i -= 3, ",");
  return cell;
}

// White-space separated pieces, each with the white space behind it.
std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t at = 0; at < text.size() && words.size() < kMostDiffWords;) {
    size_t end = std::min(text.find_first_of(" \t\r\n", at), text.size());
    end = std::min(text.find_first_not_of(" \t\r\n", end), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

std::string_view Bare(std::string_view word) { return word.substr(0, word.find_last_not_of(" \t\r\n") + 1); }

// Which words of each belong to a longest common subsequence.
void CommonWords(const std::vector<std::string_view>& a, const std::vector<std::string_view>& b, std::vector<char>* in_a, std::vector<char>* in_b) {
  size_t n = a.size(), m = b.size();
  std::vector<uint16_t> best((n + 1) * (m + 1), 0);  // of the rests a[i..], b[j..]
  auto at = [&](size_t i, size_t j) -> uint16_t& { return best[i * (m + 1) + j]; };
  for (size_t i = n; i-- > 0;)
    for (size_t j = m; j-- > 0;)
      at(i, j) = Bare(a[i]) == Bare(b[j]) ? static_cast<uint16_t>(at(i + 1, j + 1) + 1) : std::max(at(i + 1, j), at(i, j + 1));
  in_a->assign(n, 0);
  in_b->assign(m, 0);
  for (size_t i = 0, j = 0; i < n && j < m;) {
    if (Bare(a[i]) == Bare(b[j])) {
      (*in_a)[i++] = (*in_b)[j++] = 1;
    } else if (at(i + 1, j) >= at(i, j + 1)) {
      ++i;
    } else {
      ++j;
    }
  }
}

void AppendMarkedWords(const std::vector<std::string_view>& words, const std::vector<char>& common, std::string* out) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (!common[i] && (i == 0 || common[i - 1])) *out += "<mark>";
    AppendHtml(words[i], out);
    if (!common[i] && (i + 1 == words.size() || common[i + 1])) *out += "</mark>";
  }
  if (words.size() == kMostDiffWords) *out += " &hellip;";
}

}  // namespace

void AppendHtml(std::string_view text, std::string* out) {
  for (char c : text) {
    switch (c) {
      case '&': *out += "&amp;"; break;
      case '<': *out += "&lt;"; break;
      case '>': *out += "&gt;"; break;
      case '"': *out += "&quot;"; break;
      default:
        // HTML has no place for other control characters.
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) *out += "\xef\xbf\xbd";
        else *out += c;
    }
  }
}

HtmlReport::HtmlReport(std::string_view title) {
  body_ = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>";
  AppendHtml(title, &body_);
  body_ += Str("</title><style>", kStyle, "</style></head><body>\n<h1>");
  AppendHtml(title, &body_);
  body_ += "</h1>\n";
}

void HtmlReport::Heading(std::string_view text) {
  body_ += "<h2>";
  AppendHtml(text, &body_);
  body_ += "</h2>\n";
}

void HtmlReport::Paragraph(std::string_view text) {
  body_ += "<p>";
  AppendHtml(text, &body_);
  body_ += "</p>\n";
}

void HtmlReport::Table(const std::vector<std::vector<std::string>>& rows, size_t counts) {
  body_ += "<table>\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    body_ += "<tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const char* tag = r == 0 ? "th" : "td";
      // A heading stands as the cells below it do.
      const std::string& sample = r == 0 && rows.size() > 1 && c < rows[1].size() ? rows[1][c] : rows[r][c];
      body_ += Str("<", tag, LooksLikeNumber(sample) ? " class=\"n\">" : ">");
      AppendHtml(c < counts ? rows[r][c] : Grouped(rows[r][c]), &body_);
      body_ += Str("</", tag, ">");
    }
    body_ += "</tr>\n";
  }
  body_ += "</table>\n";
}

void HtmlReport::Bars(std::string_view caption, const std::vector<std::string>& series, const std::vector<Bar>& bars) {
  int64_t most = 1;
  for (const Bar& bar : bars) most = std::max({most, bar.first, bar.second});
  body_ += "<p class=\"c\">";
  AppendHtml(caption, &body_);
  if (series.size() > 1) {
    body_ += "<span class=\"k\"></span>";
    AppendHtml(series[0], &body_);
    body_ += "<span class=\"k b2\"></span>";
    AppendHtml(series[1], &body_);
  }
  body_ += bars.empty() ? ": none" : "";
  body_ += "</p>\n";
  if (bars.empty()) return;
  body_ += "<table class=\"t\">\n";
  auto width = [&](int64_t value) { return value == 0 ? 0 : std::max<int64_t>(value * 100 / most, 1); };
  for (const Bar& bar : bars) {
    body_ += "<tr><td class=\"n\">";
    AppendHtml(bar.label, &body_);
    body_ += Str("</td><td class=\"w\"><div class=\"b\" style=\"width:", width(bar.first), "%\"></div>");
    if (series.size() > 1) body_ += Str("<div class=\"b b2\" style=\"width:", width(bar.second), "%\"></div>");
    body_ += Str("</td><td class=\"n\">", Grouped(std::to_string(bar.first)));
    if (series.size() > 1) body_ += Str("</td><td class=\"n\">", Grouped(std::to_string(bar.second)));
    body_ += "</td></tr>\n";
  }
  body_ += "</table>\n";
}

void HtmlReport::Text(std::string_view caption, std::string_view text, const std::vector<std::pair<size_t, size_t>>& marks, size_t most_bytes) {
  size_t begin = 0, end = text.size();
  if (text.size() > most_bytes) {
    size_t around = marks.empty() ? 0 : marks[0].first;
    begin = around > most_bytes / 4 ? around - most_bytes / 4 : 0;
    end = std::min(text.size(), begin + most_bytes);
    while (begin > 0 && IsContinuation(text[begin])) --begin;
    while (end < text.size() && IsContinuation(text[end])) --end;
  }
  body_ += "<p class=\"c\">";
  AppendHtml(caption, &body_);
  body_ += "</p><pre>";
  if (begin > 0) body_ += "&hellip; ";
  size_t at = begin;
  for (auto [from, to] : marks) {
    from = std::clamp(from, at, end);
    to = std::clamp(to, from, end);
    if (to == from) continue;
    AppendHtml(text.substr(at, from - at), &body_);
    body_ += "<mark>";
    AppendHtml(text.substr(from, to - from), &body_);
    body_ += "</mark>";
    at = to;
  }
  AppendHtml(text.substr(at, end - at), &body_);
  if (end < text.size()) body_ += " &hellip;";
  body_ += "</pre>\n";
}

void HtmlReport::Difference(std::string_view left_caption, std::string_view left, std::string_view right_caption, std::string_view right) {
  auto a = SplitWords(left), b = SplitWords(right);
  std::vector<char> in_a, in_b;
  CommonWords(a, b, &in_a, &in_b);
  body_ += "<div class=\"s\"><div><p class=\"c\">";
  AppendHtml(left_caption, &body_);
  body_ += "</p><pre>";
  AppendMarkedWords(a, in_a, &body_);
  body_ += "</pre></div><div><p class=\"c\">";
  AppendHtml(right_caption, &body_);
  body_ += "</p><pre>";
  AppendMarkedWords(b, in_b, &body_);
  body_ += "</pre></div></div>\n";
}

void HtmlReport::Inputs(std::string_view caption, const Corpus& corpus) {
  constexpr size_t kMost = 30;
  Heading(caption);
  std::vector<std::vector<std::string>> rows = {{"file", "format", "documents", "malformed", "bytes"}};
  for (const Source& s : corpus.sources()) {
    if (rows.size() > kMost) break;
    rows.push_back({s.path + (s.reference ? " (reference)" : ""), FormatName(s.format), std::to_string(s.documents), std::to_string(s.bad), std::to_string(s.bytes)});
  }
  Table(rows, 1);
  if (corpus.sources().size() > kMost) Paragraph(Str("and ", corpus.sources().size() - kMost, " more"));
}

void HtmlReport::Parameters(const CommonOptions& options) {
  if (options.parameters.empty()) return;
  body_ += "<details><summary>Parameters</summary>\n";
  std::vector<std::vector<std::string>> rows = {{"parameter", "value"}};
  for (const auto& [name, value] : options.parameters) rows.push_back({name, value});
  Table(rows, 2);
  body_ += "</details>\n";
}

std::string HtmlReport::Finish() const { return ReplaceInvalidUtf8(body_) + "</body></html>\n"; }

Status HtmlReport::Write(const std::string& path) const {
  TERN_ASSIGN(FileWriter writer, FileWriter::Create(path));
  TERN_RETURN_IF_ERROR(writer.Write(Finish()));
  return writer.Commit();
}

void LengthHistogram::Add(int64_t bytes, bool second) { ++counts_[bytes <= 0 ? 0 : std::bit_width(static_cast<uint64_t>(bytes)) - 1][second]; }

std::vector<HtmlReport::Bar> LengthHistogram::Bars() const {
  std::vector<HtmlReport::Bar> bars;
  for (int i = 0; i < 63; ++i) {
    if (bars.empty() && counts_[i][0] + counts_[i][1] == 0) continue;
    const char* unit = i < 10 ? "B" : i < 20 ? "KiB" : i < 30 ? "MiB" : "GiB";
    bars.push_back({Str("from ", i == 0 ? 0 : int64_t{1} << (i % 10), " ", unit), counts_[i][0], counts_[i][1]});
  }
  while (!bars.empty() && bars.back().first + bars.back().second == 0) bars.pop_back();
  return bars;
}

}  // namespace tern::corpus
