#include "tools/corpus/html_report.h"

#include <doctest/doctest.h>

#include <string>

namespace tern::corpus {

TEST_CASE("texts are escaped, marks stand where they belong, long texts are cut around the first mark") {
  HtmlReport page("a < b");
  page.Text("caption & more", "x <script> \"y\" \x01z", {{2, 10}});
  page.Text("long", std::string(5000, 'a') + "MARK" + std::string(5000, 'b'), {{5000, 5004}}, 1000);
  std::string html = page.Finish();
  CHECK(html.find("<title>a &lt; b</title>") != std::string::npos);
  CHECK(html.find("caption &amp; more") != std::string::npos);
  CHECK(html.find("x <mark>&lt;script&gt;</mark> &quot;y&quot; \xef\xbf\xbdz") != std::string::npos);
  CHECK(html.find("<mark>MARK</mark>") != std::string::npos);
  CHECK(html.size() < 4000);
}

TEST_CASE("a difference marks the words that only one side has") {
  HtmlReport page("d");
  page.Difference("left", "the old cat sat", "right", "the cat sat\ndown");
  std::string html = page.Finish();
  CHECK(html.find("<pre>the <mark>old </mark>cat sat</pre>") != std::string::npos);
  CHECK(html.find("<pre>the cat sat\n<mark>down</mark></pre>") != std::string::npos);
}

TEST_CASE("lengths fall into powers of two") {
  LengthHistogram lengths;
  for (int64_t bytes : {0, 1, 1023, 1024}) lengths.Add(bytes, bytes == 1024);
  auto bars = lengths.Bars();
  REQUIRE(bars.size() == 11);
  CHECK(bars.front().first == 2);
  CHECK(bars[9].first == 1);
  CHECK(bars[10].second == 1);
  CHECK(bars[10].label == "from 1 KiB");
}

}  // namespace tern::corpus
