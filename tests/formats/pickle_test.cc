#include "formats/pickle.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>

namespace tern {
namespace {

using Kind = PickleValue::Kind;
using namespace std::string_literals;

std::span<const uint8_t> Bytes(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

// What is wrong with a pickle, or "".
std::string ErrorOf(const std::string& pickle, PickleGlobals globals = PickleGlobals::kData,
                    const PickleLimits& limits = {}) {
  auto tree = ParsePickle(Bytes(pickle), globals, limits);
  if (tree.ok()) return "";
  CHECK(tree.status().code() == Code::kMalformed);
  return tree.status().message();
}
#define CHECK_ERROR(pickle, fragment)                   \
  do {                                                  \
    std::string message = ErrorOf(pickle);              \
    CAPTURE(message);                                   \
    CHECK(message.find(fragment) != std::string::npos); \
  } while (0)

std::string Text(const std::string& s) {
  return "\x8c"s + static_cast<char>(s.size()) + s;
}

TEST_CASE("pickle: every kind of value") {
  // (None, True, -2, 300, 70000, 2**40, -1.5, 'é', b'b', (), [1], {'k': 2}, {3})
  const std::string pickle =
      "\x80\x04(N\x88J\xfe\xff\xff\xffM\x2c\x01J\x70\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01"s +
      "G\xbf\xf8\x00\x00\x00\x00\x00\x00"s + Text("\xc3\xa9") + "C\x01"s + "b" + ")" + "]K\x01" + "a" + "}" +
      Text("k") + "K\x02s\x8f(K\x03\x90" + "t.";
  auto tree = ParsePickle(Bytes(pickle), PickleGlobals::kData);
  REQUIRE_MESSAGE(tree.ok(), tree.status().message());
  PickleValue v = (*tree)->root();
  REQUIRE(v.is(Kind::kTuple));
  REQUIRE(v.size() == 13);
  CHECK(v[0].none());
  CHECK(v[1].boolean());
  CHECK(v[2].integer() == -2);
  CHECK(v[3].integer() == 300);
  CHECK(v[4].integer() == 70000);
  CHECK(v[5].integer() == int64_t{1} << 40);
  CHECK(v[6].number() == -1.5);
  CHECK(v[7].text() == "\xc3\xa9");
  CHECK(v[8].is(Kind::kBytes));
  CHECK(v[8].text() == "b");
  CHECK(v[9].size() == 0);
  CHECK(v[10][0].integer() == 1);
  CHECK(v[11].Find("k").integer() == 2);
  CHECK(v[11].Find("l").none());
  CHECK(v[12].is(Kind::kSet));
  CHECK(v[12][0].integer() == 3);
  CHECK((*tree)->pickle_bytes() == pickle.size());
}

TEST_CASE("pickle: long integers, negative and beyond 64 bits") {
  auto root = [](const std::string& pickle) {
    auto tree = ParsePickle(Bytes(pickle), PickleGlobals::kData);
    REQUIRE_MESSAGE(tree.ok(), tree.status().message());
    return *tree;
  };
  CHECK(root("\x80\x02\x8a\x00."s)->root().integer() == 0);
  CHECK(root("\x80\x02\x8a\x01\xff."s)->root().integer() == -1);
  CHECK(root("\x80\x02\x8a\x02\xff\x00."s)->root().integer() == 255);
  CHECK(root("\x80\x02\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."s)->root().integer() == INT64_MIN);
  const std::string big = "\x80\x02\x8a\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09."s;
  auto tree = root(big);
  CHECK(tree->root().is(Kind::kBigInt));
  CHECK(tree->root().text().size() == 9);
  CHECK(root("\x80\x02\x8b\x02\x00\x00\x00\x34\x12."s)->root().integer() == 0x1234);
}

TEST_CASE("pickle: the memo shares values, containers may even hold themselves") {
  auto tree = ParsePickle(Bytes("\x80\x02]q\x00h\x00h\x00\x86q\x01h\x01\x86."s), PickleGlobals::kData);
  CHECK_FALSE(tree.ok());  // STOP with two values
  tree = ParsePickle(Bytes("\x80\x02]q\x00h\x00"s + "a."), PickleGlobals::kData);
  REQUIRE(tree.ok());
  PickleValue list = (*tree)->root();
  CHECK(list.size() == 1);
  CHECK(list[0].id() == list.id());
}

TEST_CASE("pickle: OrderedDict, Counter and set become containers, unknown classes opaque objects") {
  const std::string ordered =
      "\x80\x02"
      "ccollections\nOrderedDict\nq\x00)R"s +
      Text("a") + "K\x01s."s;
  auto tree = ParsePickle(Bytes(ordered), PickleGlobals::kData);
  REQUIRE_MESSAGE(tree.ok(), tree.status().message());
  CHECK((*tree)->root().is(Kind::kDict));
  CHECK((*tree)->root().Find("a").integer() == 1);
  // Python 2: OrderedDict([['a', 1], ['b', 2]])
  const std::string pairs =
      "\x80\x02"
      "ccollections\nOrderedDict\n]("
      "]("s +
      Text("a") +
      "K\x01"
      "e](" +
      Text("b") +
      "K\x02"
      "ee\x85R."s;
  tree = ParsePickle(Bytes(pairs), PickleGlobals::kData);
  REQUIRE_MESSAGE(tree.ok(), tree.status().message());
  CHECK((*tree)->root().Find("b").integer() == 2);
  const std::string counter =
      "\x80\x02"
      "ccollections\nCounter\n}"s +
      Text("w") + "K\x07s\x85R."s;
  tree = ParsePickle(Bytes(counter), PickleGlobals::kData);
  REQUIRE_MESSAGE(tree.ok(), tree.status().message());
  CHECK((*tree)->root().Find("w").integer() == 7);

  const std::string object =
      "\x80\x04"
      "cvocabulary\nVocab\n)\x81}"s +
      Text("size") + "K\x05sb."s;
  CHECK(ErrorOf(object).find("refuses name 'vocabulary.Vocab' at offset 2") != std::string::npos);
  tree = ParsePickle(Bytes(object), PickleGlobals::kOpaque);
  REQUIRE_MESSAGE(tree.ok(), tree.status().message());
  PickleValue v = (*tree)->root();
  CHECK(v.is(Kind::kObject));
  CHECK(v.class_name() == "vocabulary.Vocab");
  CHECK(v.state().Find("size").integer() == 5);
  CHECK((*tree)->first_opaque().text() == "vocabulary.Vocab");
  CHECK((*tree)->first_opaque().offset() == 2);
}

TEST_CASE("pickle: names that run code are refused in every mode and by every opcode") {
  const std::string call = Text("touch /dev/null") + "\x85R.";
  for (PickleGlobals mode : {PickleGlobals::kData, PickleGlobals::kOpaque}) {
    auto refused = [mode](const std::string& pickle, const std::string& name) {
      std::string message = ErrorOf(pickle, mode);
      CAPTURE(message);
      CHECK(message.find("refuses name '" + name + "'") != std::string::npos);
    };
    refused(
        "\x80\x02"
        "cos\nsystem\n"s +
            call,
        "os.system");
    refused(
        "\x80\x02"
        "cposix\nsystem\n."s,
        "posix.system");
    refused("\x80\x04"s + Text("os") + Text("system") + "\x93" + call, "os.system");
    refused("\x80\x02(ios\nsystem\n."s, "os.system");
    refused("\x80\x02(cos\nsystem\no."s, "os.system");
    refused(
        "\x80\x02"
        "csubprocess\nPopen\n)\x81."s,
        "subprocess.Popen");
    refused(
        "\x80\x02"
        "c__builtin__\neval\n"s +
            call,
        "__builtin__.eval");
    refused(
        "\x80\x02"
        "cbuiltins\n__import__\n"s +
            call,
        "builtins.__import__");
    refused(
        "\x80\x02"
        "cos.path\njoin\n."s,
        "os.path.join");
  }
  CHECK_ERROR(
      "\x80\x02"
      "ctorch\nload\n."s,
      "refuses name 'torch.load'");
  CHECK_ERROR(
      "\x80\x02"
      "ctorch.hub\nload\n."s,
      "refuses name 'torch.hub.load'");
}

TEST_CASE("pickle: opcodes outside of the short list are named") {
  CHECK_ERROR("\x80\x02\x82\x01."s, "opcode EXT1");
  CHECK_ERROR("\x80\x02I5\n."s, "opcode INT");
  CHECK_ERROR("\x80\x02g0\n."s, "opcode GET");
  CHECK_ERROR("\x80\x02P1\n."s, "opcode PERSID");
  CHECK_ERROR("\x80\x04N2."s, "opcode DUP");
  CHECK_ERROR("\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x00."s, "opcode BYTEARRAY8");
  CHECK_ERROR("\x80\x04NN}\x92."s, "opcode NEWOBJ_EX");
  CHECK_ERROR("\x80\x02\xee."s, "opcode number 238");
}

TEST_CASE("pickle: whatever is inconsistent is refused where it stands") {
  CHECK_ERROR(""s, "without STOP");
  CHECK_ERROR("\x80\x02N"s, "without STOP");
  CHECK_ERROR("\x80"s, "ends too early");
  CHECK_ERROR("\x80\x07N."s, "pickle protocol");
  CHECK_ERROR("\x80\x02."s, "STOP with 0 values");
  CHECK_ERROR("\x80\x02NN."s, "STOP with 2 values");
  CHECK_ERROR("\x80\x02(N."s, "STOP");
  CHECK_ERROR("\x80\x02t."s, "TUPLE without its MARK");
  CHECK_ERROR("\x80\x02(e."s, "APPENDS without its MARK");
  CHECK_ERROR("\x80\x02](N\x86."s, "too few values");  // would reach below the mark
  CHECK_ERROR(
      "\x80\x02K\x01K\x02"
      "a."s,
      "APPEND on an int");
  CHECK_ERROR("\x80\x02]K\x01K\x02s."s, "SETITEM on a list");
  CHECK_ERROR(
      "\x80\x02}(N"
      "u."s,
      "without value");
  CHECK_ERROR("\x80\x02h\x00."s, "memo has no number 0");
  CHECK_ERROR("\x80\x02Nr\xff\xff\xff\xff."s, "memo index");
  CHECK_ERROR("\x80\x02N)R."s, "REDUCE calls None");
  CHECK_ERROR("\x80\x02]NR."s, "arguments that are None");
  CHECK_ERROR("\x80\x02]Nb."s, "BUILD on a list");
  CHECK_ERROR("\x80\x02NQ."s, "persistent id that is None");
  CHECK_ERROR("\x80\x04NN\x93."s, "without two strings");
  CHECK_ERROR(
      "\x80\x02"
      "cos"s,
      "name without end");
  CHECK_ERROR("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN."s, "a frame of 18446744073709551615 bytes");
  CHECK_ERROR("\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x80."s, "string is too long");
  CHECK_ERROR("\x80\x02X\xff\xff\xff\x00."s, "ends too early");
  CHECK_ERROR("\x80\x02\x8b\xff\xff\xff\x7f."s, "integer is too long");
}

TEST_CASE("pickle: limits hold") {
  PickleLimits limits;
  limits.max_ops = 10;
  CHECK(ErrorOf("\x80\x02"s + std::string(100, 'N') + ".", PickleGlobals::kData, limits)
            .find("more than 10 pickle operations") != std::string::npos);
  limits = {};
  limits.max_depth = 5;
  CHECK(ErrorOf("\x80\x02"s + std::string(6, '('), PickleGlobals::kData, limits).find("nesting deeper than 5") !=
        std::string::npos);
  limits = {};
  limits.max_values = 50;
  CHECK(ErrorOf("\x80\x02"s + std::string(100, ')') + ".", PickleGlobals::kData, limits).find("more than 50 values") !=
        std::string::npos);
  limits = {};
  limits.max_items = 5;
  CHECK(ErrorOf("\x80\x02](NNNNNNe."s, PickleGlobals::kData, limits).find("more than 5 items") != std::string::npos);
  CHECK(ErrorOf("\x80\x02"s + std::string(5000, '(')).find("nesting deeper than 1000") != std::string::npos);
}

TEST_CASE("pickle: every prefix of a pickle is refused, and no changed byte does harm") {
  const std::string pickle =
      "\x80\x04"
      "ccollections\nOrderedDict\n)R("s +
      Text("a") +
      "]K\x01"
      "a" +
      Text("b") + "(NK\x02\x88t" + Text("c") + "G\xbf\xf8\x00\x00\x00\x00\x00\x00u."s;
  REQUIRE(ErrorOf(pickle).empty());
  for (size_t n = 0; n < pickle.size(); ++n) CHECK_FALSE(ErrorOf(pickle.substr(0, n)).empty());
  for (size_t i = 0; i < pickle.size(); ++i)
    for (int value = 0; value < 256; ++value) {
      std::string changed = pickle;
      changed[i] = static_cast<char>(value);
      auto tree = ParsePickle(Bytes(changed), PickleGlobals::kOpaque);
      if (tree.ok()) CHECK((*tree)->root().size() <= pickle.size());
    }
}

TEST_CASE("LoadTorchObject: a plain pickle must be all there is, other files are named") {
  auto message = [](const std::string& bytes) {
    auto tree = LoadTorchObject(Bytes(bytes));
    return tree.ok() ? std::string() : tree.status().message();
  };
  CHECK(message("\x80\x02}."s).empty());
  CHECK(message("\x80\x02}.x"s).find("1 bytes lie behind the pickle") != std::string::npos);
  CHECK(message("\x89PNG\r\n\x1a\n-------------------------"s).find("a PNG picture") != std::string::npos);
  CHECK(message("").find("empty") != std::string::npos);
}

}  // namespace
}  // namespace tern
