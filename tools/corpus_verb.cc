#include "tools/corpus_verb.h"

#include "engine/base/memory.h"

namespace tern {

void CorpusArguments::Declare(Arguments& args, const char* inputs_name) {
  args.Files(inputs_name, &inputs_, "files, folders or patterns (.jsonl .ndjson .csv .tsv, else text; also .gz .zst); - is standard input");
  args.Output(&output_, "the folder for kept/, removed.jsonl, report.json; new or empty").ValueName("FOLDER");
  args.Flag("--force", &force_, "write into a folder that is not empty");
  args.Flag("--yes", &yes_, "go on where a guard would stop");
  args.Flag("--resume", &resume_, "go on with a run that was stopped");
  args.Threads(&threads_);
  args.Bytes("--max-memory", &max_memory_bytes_, "what buffers may take before they spill to disk (default: half of what is free)");
  args.Path("--tmp", &temporary_, "the folder for spills (default: inside the output folder)").ValueName("FOLDER");
  args.Heading("Input");
  args.Choice("--format", &format_, {"auto", "jsonl", "csv", "tsv", "lines", "paragraphs", "file"}, "how documents stand in the files");
  args.Text("--text-field", &text_field_, "the JSON field (a.b.c) or CSV column of the text").ValueName("FIELD");
  args.Text("--id-field", &id_field_, "the JSON field or CSV column of the id").ValueName("FIELD");
  args.Bytes("--max-record", &max_record_bytes_, "longer records are set aside in bad.jsonl");
}

Status CorpusArguments::Fill(Console& console, const char* verb, corpus::CommonOptions* options) {
  options->verb = verb;
  options->inputs = inputs_;
  TERN_ASSIGN(options->format, corpus::ParseFormat(format_));
  options->text_field = text_field_, options->id_field = id_field_;
  options->output = output_;
  while (options->output.size() > 1 && options->output.back() == '/') options->output.pop_back();
  options->force = force_, options->yes = yes_, options->resume = resume_;
  options->threads = static_cast<int>(threads_);
  options->max_record_bytes = max_record_bytes_, options->max_memory_bytes = max_memory_bytes_;
  options->temporary_folder = temporary_;
  options->version = TERN_VERSION;
  options->parameters = {{"format", format_}, {"text-field", text_field_}, {"id-field", id_field_}, {"max-record", std::to_string(max_record_bytes_)}, {"yes", yes_ ? "true" : "false"}};
  options->parameters.insert(options->parameters.end(), parameters.begin(), parameters.end());
  options->cancel = &console.cancel();
  options->log = console.Log();
  options->progress = [this, &console](const corpus::PassProgress& p) {
    if (!progress_ || stage_ != p.stage) {
      progress_.reset();
      stage_ = p.stage;
      progress_ = std::make_unique<Progress>(console, stage_, p.total_bytes, "B");
    }
    progress_->Update(p.done_bytes, WithCommas(p.documents) + " documents, " + HumanBytes(ResidentBytes()) + " memory");
  };
  return {};
}

Status CorpusArguments::Finish(Console& console, const Json& report, const Status& done) {
  progress_.reset();
  if (console.json && report.is_object() && done.ok()) console.PrintJson(report);
  if (console.json || !report.is_object()) return done;
  auto count = [&](const char* key) { return WithCommas(report.value(key, int64_t{0})); };
  if (report.contains("kept") && done.ok()) {
    std::string line = Str(count("documents"), " documents: ", count("kept"), " kept, ", count("removed"), " removed");
    if (report.contains("reasons"))
      for (const auto& [reason, n] : report["reasons"].items()) line += Str(line.find('(') == std::string::npos ? " (" : ", ", reason, " ", WithCommas(n.get<int64_t>()));
    if (line.find('(') != std::string::npos) line += ')';
    if (report.value("bad", int64_t{0}) > 0) line += Str("; ", count("bad"), " malformed");
    console.Print(line + "\n");
    console.Note(Str("written to ", output_));
  }
  return done;
}

}  // namespace tern
