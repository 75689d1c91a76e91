#include "formats/zip.h"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace tern {
namespace {

// A stored zip archive, field by field; a test breaks one.
struct Entry {
  std::string name, data, local_name, extra, central_extra;
  uint16_t flags = 0, local_flags = 0, method = 0, local_method = 0;
  uint32_t crc = 0x1234, local_crc = 0x1234, size = 0, local_size = 0, compressed = 0;
  uint32_t header_offset = 0;  // set by Build unless moved
  bool moved = false;
  std::string descriptor;
};
Entry Make(const std::string& name, const std::string& data) {
  Entry e;
  e.name = e.local_name = name;
  e.data = data;
  e.size = e.local_size = e.compressed = static_cast<uint32_t>(data.size());
  return e;
}

template <class... Fields>
std::string Pack(Fields... fields) {
  std::string out;
  (out.append(reinterpret_cast<const char*>(&fields), sizeof(fields)), ...);
  return out;
}

struct End {
  uint16_t disk = 0, comment = 0;
  int entries_more = 0, bytes_more = 0, offset_more = 0;
  std::string before, after, zip64;
};

std::string Build(std::vector<Entry> entries, const End& end = {}) {
  std::string out = end.before, central;
  for (Entry& e : entries) {
    if (!e.moved) e.header_offset = static_cast<uint32_t>(out.size());
    out +=
        Pack(uint32_t{0x04034b50}, uint16_t{10}, e.local_flags, e.local_method, uint32_t{0}, e.local_crc, e.local_size,
             e.local_size, static_cast<uint16_t>(e.local_name.size()), static_cast<uint16_t>(e.extra.size()));
    out += e.local_name + e.extra + e.data + e.descriptor;
    central +=
        Pack(uint32_t{0x02014b50}, uint16_t{10}, uint16_t{10}, e.flags, e.method, uint32_t{0}, e.crc, e.compressed,
             e.size, static_cast<uint16_t>(e.name.size()), static_cast<uint16_t>(e.central_extra.size()), uint16_t{0},
             uint16_t{0}, uint16_t{0}, uint32_t{0}, e.header_offset);
    central += e.name + e.central_extra;
  }
  const auto at = static_cast<uint32_t>(out.size());
  const auto count = static_cast<uint16_t>(static_cast<int>(entries.size()) + end.entries_more);
  out += central + end.zip64;
  out += Pack(uint32_t{0x06054b50}, end.disk, end.disk, count, count,
              static_cast<uint32_t>(static_cast<int>(central.size()) + end.bytes_more),
              static_cast<uint32_t>(static_cast<int>(at) + end.offset_more), end.comment);
  return out + end.after;
}

std::span<const uint8_t> Bytes(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
std::string ErrorOf(const std::string& zip) {
  auto archive = ZipArchive::Parse(Bytes(zip));
  if (archive.ok()) return "";
  CHECK(archive.status().code() == Code::kMalformed);
  return archive.status().message();
}
void CheckError(const std::string& zip, const std::string& fragment) {
  std::string message = ErrorOf(zip);
  CAPTURE(message);
  CAPTURE(fragment);
  CHECK(message.find(fragment) != std::string::npos);
}
void CheckChanged(const std::function<void(Entry&)>& change, const std::string& fragment) {
  Entry e = Make("a/data.pkl", "hello");
  change(e);
  CheckError(Build({Make("a/version", "3"), e}), fragment);
}

TEST_CASE("zip: stored entries, with and without descriptors and extra fields") {
  Entry plain = Make("a/x", "hello"), described = Make("a/y", "world!"), empty = Make("a/z", "");
  plain.extra = Pack(uint16_t{0x4246}, uint16_t{3}) + "ZZZ";
  described.flags = described.local_flags = 0x0808;
  described.local_crc = described.local_size = 0;
  for (const std::string& descriptor : {Pack(uint32_t{0x08074b50}, uint32_t{0x1234}, uint32_t{6}, uint32_t{6}),
                                        Pack(uint32_t{0x1234}, uint32_t{6}, uint32_t{6}),
                                        Pack(uint32_t{0x08074b50}, uint32_t{0x1234}, uint64_t{6}, uint64_t{6}),
                                        Pack(uint32_t{0x1234}, uint64_t{6}, uint64_t{6})}) {
    described.descriptor = descriptor;
    const std::string zip = Build({plain, described, empty});
    auto archive = ZipArchive::Parse(Bytes(zip));
    REQUIRE_MESSAGE(archive.ok(), archive.status().message());
    REQUIRE(archive->Find("a/y") != nullptr);
    CHECK(std::string(archive->Find("a/y")->data.begin(), archive->Find("a/y")->data.end()) == "world!");
    CHECK(archive->Find("a/x")->data.size() == 5);
    CHECK(archive->Find("a/z")->data.empty());
    CHECK(archive->Find("x") == nullptr);
  }
  CHECK(ErrorOf(Build({})).empty());
}

TEST_CASE("zip: sizes of 64 bits") {
  Entry wide = Make("a/x", "hello");
  wide.size = wide.compressed = wide.local_size = 0xffffffff;
  wide.central_extra = Pack(uint16_t{1}, uint16_t{16}, uint64_t{5}, uint64_t{5});
  wide.extra = wide.central_extra;
  CHECK(ErrorOf(Build({wide})).empty());
  Entry lie = wide;
  lie.central_extra = Pack(uint16_t{1}, uint16_t{16}, uint64_t{1} << 63, uint64_t{1} << 63);
  lie.extra = lie.central_extra;
  CheckError(Build({lie}), "remain before the central directory");
  lie.extra = wide.extra;
  CheckError(Build({lie}), "differ in the size");
  lie.central_extra = Pack(uint16_t{1}, uint16_t{8}, uint64_t{5});
  CheckError(Build({lie}), "lacks its zip64 sizes");
  lie.central_extra = Pack(uint16_t{1}, uint16_t{100}, uint64_t{5});
  CheckError(Build({lie}), "ends too early");
  lie.central_extra = wide.central_extra + wide.central_extra;
  CheckError(Build({lie}), "two zip64 fields");

  auto record = [](uint64_t entries, uint64_t bytes, uint64_t offset, uint64_t at) {
    return Pack(uint32_t{0x06064b50}, uint64_t{44}, uint16_t{45}, uint16_t{45}, uint32_t{0}, uint32_t{0}, entries,
                entries, bytes, offset) +
           Pack(uint32_t{0x07064b50}, uint32_t{0}, at, uint32_t{1});
  };
  // One entry "a/x" of 5 bytes: local header 30 + 3 + 5 = 38, central 46 + 3 = 49.
  End end;
  end.zip64 = record(1, 49, 38, 87);
  CHECK(ErrorOf(Build({Make("a/x", "hello")}, end)).empty());
  end.zip64 = record(1, 49, 38, 80);
  CheckError(Build({Make("a/x", "hello")}, end), "not where its locator says");
  end.zip64 = record(2, 49, 38, 87);
  CheckError(Build({Make("a/x", "hello")}, end), "contradicts");
  end.entries_more = 0xffff - 1;
  end.zip64 = record(uint64_t{1} << 40, 49, 38, 87);
  CheckError(Build({Make("a/x", "hello")}, end), "too many zip entries");
  end.zip64 = record(60000, 49, 38, 87);
  CheckError(Build({Make("a/x", "hello")}, end), "needs at least 46 bytes each");
}

TEST_CASE("zip: every rule has its message") {
  CheckError("PK\x03\x04", "too short for a zip");
  CheckChanged([](Entry& e) { e.method = e.local_method = 8; }, "is compressed (method 8)");
  CheckChanged([](Entry& e) { e.local_method = 8; }, "differ in the method");
  CheckChanged([](Entry& e) { e.flags = e.local_flags = 1; }, "is encrypted");
  CheckChanged([](Entry& e) { e.flags = e.local_flags = 1 << 6; }, "unknown flag bits");
  CheckChanged([](Entry& e) { e.local_flags = 1; }, "differ in the flags");
  CheckChanged([](Entry& e) { e.local_name = "a/data.pk2"; }, "differ in the name");
  CheckChanged([](Entry& e) { e.local_crc = 7; }, "differ in the CRC");
  CheckChanged([](Entry& e) { e.local_size = 4; }, "differ in the size");
  CheckChanged([](Entry& e) { e.compressed = 4; }, "its two sizes differ");
  CheckChanged([](Entry& e) { e.size = e.compressed = e.local_size = 4; }, "a gap of 1 bytes");
  CheckChanged([](Entry& e) { e.size = e.compressed = e.local_size = 6; }, "remain before the central directory");
  CheckChanged([](Entry& e) { e.size = e.compressed = e.local_size = 0xfffffff0; },
               "remain before the central directory");
  CheckChanged([](Entry& e) { e.moved = true, e.header_offset = 0; }, "differ in the name");
  CheckChanged([](Entry& e) { e.moved = true, e.header_offset = 1; }, "no local header");
  CheckChanged([](Entry& e) { e.moved = true, e.header_offset = 0x7fffffff; }, "lies behind the end");
  CheckChanged([](Entry& e) { e.flags = e.local_flags = 8; }, "data descriptor is missing");
  CheckChanged([](Entry& e) { e.flags = e.local_flags = 8, e.descriptor = std::string(16, 'x'); },
               "data descriptor is damaged");
  CheckChanged(
      [](Entry& e) { e.flags = e.local_flags = 8, e.descriptor = Pack(uint32_t{0x1234}, uint32_t{5}, uint32_t{6}); },
      "contradicts");
  for (const char* name : {"/a/x", "../x", "a/../x", "a//x", "./x", "a\\x", "C:x", "a/x/", "", "a\nb", "a\x1b[2J"})
    CheckChanged([name](Entry& e) { e.name = e.local_name = name; }, "the zip entry name");
  CheckError(Build({Make("a/x", "1"), Make("a/x", "1")}), "stands twice");
  CheckError(Build({Make("a/x", "1")}, {.before = "junk"}), "before the first zip entry");
  CheckError(Build({Make("a/x", "1")}, {.after = "junk"}), "no zip end record");
  CheckError(Build({Make("a/x", "1")}, {.comment = 5}), "has a comment");
  CheckError(Build({Make("a/x", "1")}, {.disk = 1}), "split over several files");
  CheckError(Build({Make("a/x", "1")}, {.entries_more = 1}), "needs at least 46");
  CheckError(Build({Make("a/x", "1"), Make("a/y", "1")}, {.entries_more = -1}), "behind the last entry");
  CheckError(Build({Make("a/x", "1")}, {.bytes_more = 1}), "does not end at the end record");
  CheckError(Build({Make("a/x", "1")}, {.offset_more = 1}), "does not end at the end record");
}

TEST_CASE("zip: two entries over the same bytes are refused") {
  // The second entry's header lies inside the data of the first.
  const std::string inner = Build({Make("a/y", "1")}).substr(0, 34);
  Entry outer = Make("a/x", inner), hidden = Make("a/y", "1");
  std::string zip = Build({outer});
  const size_t central = 33 + inner.size();
  hidden.header_offset = 33;
  std::string second = Pack(uint32_t{0x02014b50}, uint16_t{10}, uint16_t{10}, uint16_t{0}, uint16_t{0}, uint32_t{0},
                            hidden.crc, uint32_t{1}, uint32_t{1}, uint16_t{3}, uint16_t{0}, uint16_t{0}, uint16_t{0},
                            uint16_t{0}, uint32_t{0}, uint32_t{33}) +
                       "a/y";
  zip = zip.substr(0, central + 49) + second +
        Pack(uint32_t{0x06054b50}, uint16_t{0}, uint16_t{0}, uint16_t{2}, uint16_t{2}, uint32_t{98},
             static_cast<uint32_t>(central), uint16_t{0});
  CheckError(zip, "overlaps the entry 'a/y'");
}

TEST_CASE("zip: every prefix is refused") {
  const std::string zip = Build({Make("a/version", "3"), Make("a/data.pkl", "hello")});
  REQUIRE(ErrorOf(zip).empty());
  for (size_t n = 0; n < zip.size(); ++n) CHECK_FALSE(ErrorOf(zip.substr(0, n)).empty());
}

}  // namespace
}  // namespace tern
