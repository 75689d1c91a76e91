// The program around the verbs: finds the verb, parses, runs, reports.
#include "tools/verb.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "tools/signals.h"

namespace tern {
namespace {

std::vector<std::string> Names(std::span<const Verb* const> verbs) {
  std::vector<std::string> names;
  for (const Verb* verb : verbs) names.emplace_back(verb->name);
  return names;
}

const Verb* Find(std::span<const Verb* const> verbs, std::string_view name) {
  for (const Verb* verb : verbs) {
    if (name == verb->name) return verb;
  }
  return nullptr;
}

// A usage error names the verb, so that one knows which --help to read.
Status InVerb(Status status, const std::string& path) {
  if (status.code() != Code::kUsage || !status.file().empty()) return status;
  return Status(Code::kUsage, status.message()).Where(path);
}

Status RunWords(std::span<const std::string> words, Console& console) {
  if (words.empty()) {
    std::string overview = HelpOverview(console);
    for (size_t at = 0, end; at < overview.size(); at = end + 1) {
      end = std::min(overview.find('\n', at), overview.size());
      console.Note(std::string_view(overview).substr(at, end - at));
    }
    return UsageError("no verb given").Hint("'tern help' lists them");
  }
  std::string first = words[0] == "--version" ? "version" : words[0] == "--help" || words[0] == "-h" ? "help" : words[0];
  if (first.starts_with('-')) return UsageError("the verb comes first, before " + Printable(first, 60)).Hint("'tern help' lists the verbs");
  std::span<const Verb* const> verbs = AllVerbs();
  const Verb* verb = Find(verbs, first);
  std::string path = first;
  words = words.subspan(1);
  if (!verb) {
    std::string near = NearestName(first, Names(verbs));
    return UsageError("there is no verb \"" + Printable(first, 60) + "\"").Hint(near.empty() ? "'tern help' lists the verbs" : "Did you mean " + near + "?");
  }
  while (!verb->kinds.empty()) {
    if (!words.empty() && (words[0] == "--help" || words[0] == "-h")) {
      console.Print(HelpText(*verb, path, console));
      return {};
    }
    std::string one_of;
    for (const std::string& name : Names(verb->kinds)) one_of += (one_of.empty() ? "" : ", ") + name;
    if (words.empty() || words[0].starts_with('-')) return UsageError("say which: " + one_of).Where(path);
    const Verb* kind = Find(verb->kinds, words[0]);
    if (!kind) {
      std::string near = NearestName(words[0], Names(verb->kinds));
      return UsageError("there is no \"" + Printable(words[0], 60) + "\" (one of: " + one_of + ")").Where(path).Hint(near.empty() ? "" : "Did you mean " + near + "?");
    }
    path += Str(" ", kind->name);
    verb = kind;
    words = words.subspan(1);
  }
  std::unique_ptr<Command> command = verb->make();
  Arguments table = DeclareAll(*command, console);
  bool help = false;
  Status parsed = ParseArguments(table, words, &help);
  if (!parsed.ok()) return InVerb(std::move(parsed), path);
  if (help) {
    console.Print(HelpText(*verb, path, console));
    return {};
  }
  return InVerb(command->Run(console), path);
}

Status RunGuarded(std::span<const std::string> words, Console& console) {
  try {
    return RunWords(words, console);
  } catch (const std::bad_alloc&) {
    return MemoryError("out of memory");
  } catch (const std::exception& error) {
    return InternalError(Str("unexpected: ", error.what())).Hint("Please report this");
  } catch (...) {
    return InternalError("unexpected exception").Hint("Please report this");
  }
}

}  // namespace

int RunCommandLine(int argc, char** argv) {
  InstallSignalHandlers();
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  Console console;
  for (const std::string& word : words) {  // errors of the parser itself are to be JSON too
    if (word == "--") break;
    if (word == "--json") console.json = true;
    if (word == "-q" || word == "--quiet") console.quiet = true;
  }
  if (console.json) ReportBusErrorsAsJson();
  Status status = RunGuarded(words, console);
  console.Flush();
  if (console.closed()) return 141;  // the reader has gone: nobody to tell
  if (!console.ok()) status = console.status();
  // A verb that stopped early without saying so has not done its work either.
  if (console.signal() != 0 && (status.ok() || status.code() == Code::kCancelled)) {
    if (!console.quiet) console.Note("tern: stopped");
    return 128 + console.signal();
  }
  if (status.ok()) return 0;
  console.Error(status);
  return console.closed() ? 141 : static_cast<int>(status.code());
}

}  // namespace tern
