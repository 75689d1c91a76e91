// HtmlReport: what a data tool did, as one self-contained HTML page: no scripts, nothing loaded. Every text is escaped; the same content gives the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status.h"

namespace tern::corpus {

class Corpus;
struct CommonOptions;

class HtmlReport {
 public:
  HtmlReport() = default;                        // a part of a page, for Append
  explicit HtmlReport(std::string_view title);
  void Append(const HtmlReport& part) { body_ += part.body_; }

  void Heading(std::string_view text);
  void Paragraph(std::string_view text);
  // The first row is the heading; cells that look like numbers stand to the right, long ones with commas.
  void Table(const std::vector<std::vector<std::string>>& rows, size_t counts = 0);  // columns from `counts` on: long numbers with commas
  // Bars, one a label, of one or two series (named by `series`).
  struct Bar {
    std::string label;
    int64_t first = 0, second = 0;
  };
  void Bars(std::string_view caption, const std::vector<std::string>& series, const std::vector<Bar>& bars);
  // A text (valid UTF-8) of which `marks`, byte ranges that do not overlap, in order, are highlighted. At most `most_bytes` around the first mark are shown.
  void Text(std::string_view caption, std::string_view text, const std::vector<std::pair<size_t, size_t>>& marks, size_t most_bytes = 4000);
  // Two texts side by side, the words that only one of them has marked (of their first 500 words).
  void Difference(std::string_view left_caption, std::string_view left, std::string_view right_caption, std::string_view right);

  // The inputs of a run, and its parameters if there are any (folded away).
  void Inputs(std::string_view caption, const Corpus& corpus);
  void Parameters(const CommonOptions& options);

  std::string Finish() const;                    // the page
  Status Write(const std::string& path) const;   // through a temporary

 private:
  std::string body_;
};

// &, <, >, quotes and control characters as HTML needs them. Appends.
void AppendHtml(std::string_view text, std::string* out);

// Histograms of byte lengths: powers of two, "1 KB" and the like.
class LengthHistogram {
 public:
  void Add(int64_t bytes, bool second);
  std::vector<HtmlReport::Bar> Bars() const;  // from the first bin that holds something to the last

 private:
  int64_t counts_[64][2] = {};
};

}  // namespace tern::corpus
