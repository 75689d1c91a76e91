#include "engine/base/status.h"

#include <doctest/doctest.h>

using namespace tern;

TEST_CASE("a message has file, place, what, got and expected, hint, on one line") {
  Status s = Malformed("wrong shape").Where("tensor 'w'").Got("[2, 3]", "[3, 2]").Hint("Convert it again").File("m.tern");
  CHECK(s.message() == "m.tern: tensor 'w': wrong shape (got [2, 3], expected [3, 2]). Convert it again");
  CHECK(s.code() == Code::kMalformed);
  CHECK(Status().ok());
}

TEST_CASE("the innermost caller's place stays") {
  CHECK(Malformed("x").File("inner").File("outer").file() == "inner");
}

TEST_CASE("file content in messages cannot drive a terminal") {
  CHECK(Printable("a\x1b[31mb\n\xff") == "a\\x1b[31mb\\x0a\\xff");
  CHECK(Printable("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // right-to-left override
  CHECK(Printable("\xc3\xa9") == "\xc3\xa9");
}

TEST_CASE("Result and the macros carry failures") {
  auto half = [](int x) -> Result<int> {
    if (x % 2) return UsageError("odd");
    return x / 2;
  };
  auto quarter = [&](int x) -> Result<int> {
    TERN_ASSIGN(int h, half(x));
    return half(h);
  };
  CHECK(*quarter(8) == 2);
  CHECK(quarter(6).status().what() == "odd");
  CHECK(!quarter(3).ok());
}
