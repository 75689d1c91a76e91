// tern verify MODEL: reads every byte of a model file once and says whether it is what was written.
#include "formats/model_file.h"
#include "tools/verb.h"

namespace tern {
namespace {

class Verify : public Command {
 public:
  void Declare(Arguments& args) override {
    args.File("MODEL", &model_, "a .tern file");
    args.Flag("--allow-nan", &allow_nan_, "NaN and infinity in the weights are no failure");
  }

  Status Run(Console& console) override {
    TERN_ASSIGN(auto file, ModelFile::Open(model_));
    Progress bar(console, "verifying", static_cast<int64_t>(file->file_bytes()), "B");
    ModelFile::VerifyOptions options;
    options.cancel = &console.cancel();
    options.release_pages = true;
    options.progress = [&](uint64_t done, uint64_t) { bar.Update(static_cast<int64_t>(done)); };
    std::vector<ModelFile::NonFinite> found;
    TERN_RETURN_IF_ERROR(file->Verify(options, &found));
    TERN_RETURN_IF_ERROR(file->mapped()->CheckUnchanged());

    Json listed = Json::array();
    std::vector<std::vector<std::string>> rows = {{"tensor", "NaN", "infinite"}};
    for (const ModelFile::NonFinite& n : found) {
      listed.push_back({{"tensor", n.tensor}, {"nan", n.nan}, {"infinite", n.infinite}});
      rows.push_back({Printable(n.tensor), WithCommas(n.nan), WithCommas(n.infinite)});
    }
    if (!found.empty() && !allow_nan_) {
      if (console.json)
        console.error_detail = {{"non_finite", listed}};
      else
        console.Print(Table(rows, console));
      return Status(Code::kNumeric, Str(found.size(), found.size() == 1 ? " tensor holds" : " tensors hold",
                                        " NaN or infinity, e.g. '", Printable(found[0].tensor), "'; the digests agree"))
          .File(model_)
          .Hint("The source had them too: train or download it again");
    }
    if (console.json) {
      console.PrintJson({{"file", model_},
                         {"ok", true},
                         {"version", file->version()},
                         {"digest", HexDigest(file->digest())},
                         {"bytes", file->file_bytes()},
                         {"tensors", file->tensors().size()},
                         {"blobs", file->blobs().size()},
                         {"non_finite", listed}});
    } else {
      if (!found.empty()) console.Print(Table(rows, console));
      console.Print(Str(Printable(model_, 4096), ": ", HumanBytes(static_cast<int64_t>(file->file_bytes())), ", ",
                        file->tensors().size(), " tensors, all digests agree",
                        found.empty() ? ", no NaN or infinity" : "", " (", HexDigest(file->digest()), ")\n"));
    }
    return {};
  }

 private:
  std::string model_;
  bool allow_nan_ = false;
};

}  // namespace

extern const Verb kVerify = {"verify", "Models",
                             "check every digest of a model file, and its weights for NaN and infinity",
                             "tern verify models/zoo/books-xl.tern", Make<Verify>};

}  // namespace tern
