#include "tools/corpus_flags.h"

#include "engine/base/memory.h"

#include <unistd.h>

#include <cstdio>

namespace tern {

void CorpusFlags::Declare(Arguments& args, const char* inputs, bool output_required) {
  args.Files(inputs, &options_.inputs, "files, folders or globs; .gz and .zst are unpacked; - is standard input");
  Argument& output = args.Output(&options_.output, "the folder for the results, new or empty");
  if (output_required) output.Required();
  args.Flag("--force", &options_.force, "write into a folder that is not empty");
  args.Flag("--resume", &options_.resume, "go on with a run that was killed");
  args.Flag("--yes", &options_.yes, "go on where a guard would stop");
  args.Threads(&threads_);

  args.Heading("Input");
  args.Choice("--format", &format_, {"auto", "jsonl", "csv", "tsv", "lines", "paragraphs", "file"}, "what a document is; auto goes by the file's name");
  args.Text("--text-field", &options_.text_field, "the field with the text; a.b for a field in a field").ValueName("FIELD");
  args.Text("--id-field", &options_.id_field, "the field that names the document").ValueName("FIELD");
  args.Bytes("--max-record", &options_.max_record_bytes, "longer records are set aside as malformed");
  args.Path("--report", &options_.report_html, "also write a report as one HTML file").ValueName("FILE");
}

Result<corpus::CommonOptions> CorpusFlags::Options(const char* verb, std::vector<std::pair<std::string, std::string>> parameters, Console& console) {
  options_.verb = verb;
  TERN_ASSIGN(options_.format, corpus::ParseFormat(format_));
  options_.threads = static_cast<int>(threads_);
  options_.version = TERN_VERSION;
  options_.parameters = {{"format", format_},
                         {"text-field", options_.text_field},
                         {"id-field", options_.id_field},
                         {"max-record", std::to_string(options_.max_record_bytes)}};
  options_.parameters.insert(options_.parameters.end(), parameters.begin(), parameters.end());
  options_.cancel = &console.cancel();
  options_.log = console.Log();
  options_.progress = [this, &console](const corpus::PassProgress& p) {
    if (!progress_ || stage_ != p.stage) {
      progress_.reset();
      stage_ = std::string(p.stage);
      progress_ = std::make_unique<Progress>(console, stage_, p.total_bytes, "B");
    }
    progress_->Update(p.done_bytes, Str(WithCommas(p.documents), " documents, ", HumanBytes(ResidentBytes()), " in memory"));
  };
  return options_;
}

}  // namespace tern
