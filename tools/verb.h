// Verb: one word of the command line, one file. Arguments: one table per verb, from which the parser, --help and the completions are made, so
// that they cannot drift apart.
//
//   class Inspect : public Command {                               // tools/inspect.cc
//    public:
//     void Declare(Arguments& args) override {
//       args.File("MODEL", &model_, "a .tern file");
//       args.Flag("--tensors", &tensors_, "list every tensor");
//     }
//     Status Run(Console& console) override { ... console.Print(...); return {}; }
//    private:
//     std::string model_;
//     bool tensors_ = false;
//   };
//   const Verb kInspect = {"inspect", "Models", "show what is inside a model file", "tern inspect books.tern --tensors", Make<Inspect>};
//
// tools/tern.cc lists the verbs. Every verb also takes -h/--help, --json, -q/--quiet and -v/--verbose (engine: Console).
// A failed Status becomes the message on stderr (with --json also {"error":...} on stdout) and its code the exit code; nothing else to do.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status.h"
#include "tools/output.h"

namespace tern {

// What the words after a flag or in a place are: the completions offer files, folders or the choices.
enum class Expects { kNothing, kText, kFile, kFolder, kChoice };

// One flag or one place of the table. Members return *this so that a declaration reads as one line.
struct Argument {
  std::string name;        // "--type", or the place's name in capitals: "MODEL"
  char letter = 0;         // 'o' for -o
  std::string value_name;  // "N", "FILE"; empty: takes no value
  std::string help;
  std::string heading;     // the group it stands under in --help
  std::string shown_default;
  std::vector<std::string> choices;
  Expects expects = Expects::kNothing;
  bool required = false, repeated = false;
  std::function<Status(const std::string& value)> store;  // checks and stores one value; the message needs no flag name

  Argument& Required() { required = true; return *this; }
  Argument& Letter(char c) { letter = c; return *this; }
  Argument& ValueName(std::string name_) { value_name = std::move(name_); return *this; }
  bool is_place() const { return name[0] != '-'; }
};

using Settings = std::vector<std::pair<std::string, std::string>>;  // --set KEY=VALUE, in order

// The table of one verb. Pointers given here must live as long as the Command. The value a variable holds at declaration is its default (shown in the
// help for numbers and choices). A flag given twice is refused unless it is one of the repeated kinds.
class Arguments {
 public:
  // Places, in order. Required unless the variable is optional<> or a vector with at_least = 0. A vector place comes last.
  Argument& File(const char* name, std::string* value, const char* help);
  Argument& File(const char* name, std::optional<std::string>* value, const char* help);
  Argument& Files(const char* name, std::vector<std::string>* values, const char* help, int64_t at_least = 1);
  // The place of a text (tools/input.h): a file, "-" or nothing for standard input, or the text itself.
  Argument& Input(const char* name, std::optional<std::string>* value, const char* help);

  Argument& ChoicePlace(const char* name, std::string* value, std::vector<std::string> choices, const char* help);

  // Flags that follow stand under this heading in --help. The first heading is "Options".
  void Heading(const char* heading) { heading_ = heading; }

  Argument& Flag(const char* name, bool* value, const char* help);
  Argument& Integer(const char* name, int64_t* value, int64_t least, int64_t most, const char* help);
  Argument& Integer(const char* name, std::optional<int64_t>* value, int64_t least, int64_t most, const char* help);
  Argument& Real(const char* name, double* value, double least, double most, const char* help);
  Argument& Real(const char* name, std::optional<double>* value, double least, double most, const char* help);
  Argument& Bytes(const char* name, int64_t* value, const char* help);  // 512, 64K, 1.5G (powers of 1024); 0 or more
  Argument& Integers(const char* name, std::vector<int64_t>* values, int64_t least, int64_t most, const char* help);  // 8,8,64
  Argument& Choice(const char* name, std::string* value, std::vector<std::string> choices, const char* help);
  Argument& Text(const char* name, std::string* value, const char* help);
  Argument& Text(const char* name, std::optional<std::string>* value, const char* help);
  Argument& Texts(const char* name, std::vector<std::string>* values, const char* help);  // may be given again and again
  Argument& Path(const char* name, std::string* value, const char* help);                 // like Text; completes files
  Argument& Path(const char* name, std::optional<std::string>* value, const char* help);

  // The flags that mean the same in every verb that has them.
  Argument& Threads(int64_t* threads);    // --threads N, 1..1024; the variable starts as 0 = all processors this process may use
  Argument& Set(Settings* settings);      // --set KEY=VALUE, repeated
  Argument& Output(std::string* path, const char* help);  // -o, --output FILE

  std::span<const Argument> places() const { return places_; }
  std::span<const Argument> flags() const { return flags_; }

 private:
  Argument& Add(Argument argument);
  std::string heading_ = "Options";
  std::vector<Argument> places_, flags_;
};

class Command {
 public:
  virtual ~Command() = default;
  virtual void Declare(Arguments& args) = 0;
  virtual Status Run(Console& console) = 0;
};

template <class C>
std::unique_ptr<Command> Make() {
  return std::make_unique<C>();
}

struct Verb {
  const char* name;
  const char* group;    // the heading in `tern help`: "Models", "Text", "Data", "Machine", "Help"
  const char* summary;  // lower case, no full stop
  const char* example;  // command lines, one a line
  std::unique_ptr<Command> (*make)() = nullptr;
  std::span<const Verb* const> kinds = {};  // `tern bench gemm`: the verbs below this one; then make is null
};

std::span<const Verb* const> AllVerbs();  // tools/tern.cc

// The arguments of `verb`, common flags included. `command` owns what they point to.
Arguments DeclareAll(Command& command, Console& console);
// Reads `words` into the table's variables: kUsage with the flag, the value and what was expected. Sets *help if -h or --help is among them.
Status ParseArguments(const Arguments& table, std::span<const std::string> words, bool* help);
// `tern VERB --help`, and with no verb the list of all. `path` is "bench gemm".
std::string HelpText(const Verb& verb, std::string_view path, const Console& console);
std::string HelpOverview(const Console& console);
// The nearest of `names`, or "" if none is near.
std::string NearestName(std::string_view name, std::span<const std::string> names);

// The whole program: finds the verb, parses, runs, reports. Returns the exit code. Nothing is thrown out of it.
int RunCommandLine(int argc, char** argv);

}  // namespace tern
