// torch zip archives: the bytes as an archive; and as the data.pkl of a sound archive with a few storages, so that
// changes reach the tensors.
#include <string>

#include "tests/fuzz/read_checkpoint.h"

namespace {

template <class... Fields>
void Put(std::string* out, Fields... fields) {
  (out->append(reinterpret_cast<const char*>(&fields), sizeof(fields)), ...);
}

class ZipWriter {
 public:
  void Add(const std::string& name, const std::string& data) {
    const auto at = static_cast<uint32_t>(out_.size()), bytes = static_cast<uint32_t>(data.size());
    const auto name_bytes = static_cast<uint16_t>(name.size());
    Put(&out_, uint32_t{0x04034b50}, uint16_t{10}, uint16_t{0}, uint16_t{0}, uint32_t{0}, uint32_t{0}, bytes, bytes,
        name_bytes, uint16_t{0});
    out_ += name + data;
    Put(&central_, uint32_t{0x02014b50}, uint16_t{10}, uint16_t{10}, uint16_t{0}, uint16_t{0}, uint32_t{0}, uint32_t{0},
        bytes, bytes, name_bytes, uint16_t{0}, uint16_t{0}, uint16_t{0}, uint16_t{0}, uint32_t{0}, at);
    central_ += name;
    ++count_;
  }
  std::string Finish() {
    const auto at = static_cast<uint32_t>(out_.size()), bytes = static_cast<uint32_t>(central_.size());
    out_ += central_;
    Put(&out_, uint32_t{0x06054b50}, uint16_t{0}, uint16_t{0}, count_, count_, bytes, at, uint16_t{0});
    return std::move(out_);
  }

 private:
  std::string out_, central_;
  uint16_t count_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tern::OpenAndRead({data, size});
  ZipWriter zip;
  zip.Add("a/data.pkl", std::string(reinterpret_cast<const char*>(data), size));
  zip.Add("a/data/0", std::string(24, '\1'));
  zip.Add("a/data/1", std::string(64, '\2'));
  zip.Add("a/data/2", "");
  const std::string archive = zip.Finish();
  tern::OpenAndRead({reinterpret_cast<const uint8_t*>(archive.data()), archive.size()});
  return 0;
}
