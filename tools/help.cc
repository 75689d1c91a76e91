// tern help, and --help of every verb, written from the same tables the parser reads.
#include <algorithm>

#include "engine/base/utf8.h"
#include "tools/verb.h"

namespace tern {
namespace {

// `text` broken at spaces into lines of at most `width` columns, the further ones indented.
std::string Wrapped(std::string_view text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  for (size_t at = 0; at < text.size();) {
    size_t space = std::min(text.find(' ', at), text.size());
    std::string_view word = text.substr(at, space - at);
    if (column > indent && column + 1 + word.size() > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    at = space + 1;
  }
  return out;
}

size_t HelpWidth(const Console& console) { return console.out_is_terminal() ? static_cast<size_t>(std::clamp(console.width(), 40, 110)) : 100; }

std::string FlagNames(const Argument& a) {
  if (a.is_place()) return a.name;
  std::string names = a.letter ? std::string("-") + a.letter + ", " + a.name : "    " + a.name;
  return a.value_name.empty() ? names : names + " " + a.value_name;
}

std::string Rows(std::span<const Argument> list, const Console& console) {
  size_t column = 0;
  for (const Argument& a : list) {
    if (size_t n = FlagNames(a).size(); n <= 30) column = std::max(column, n);
  }
  column += 4;
  std::string out, heading;
  for (const Argument& a : list) {
    if (a.heading != heading) {
      heading = a.heading;
      out += "\n" + console.Bold(heading) + "\n";
    }
    std::string names = FlagNames(a), help = a.help;
    if (!a.shown_default.empty()) help += " (default " + a.shown_default + ")";
    if (a.repeated && !a.is_place()) help += " (repeatable)";
    out += "  " + names;
    out += names.size() + 4 > column ? "\n" + std::string(column, ' ') : std::string(column - names.size() - 2, ' ');
    out += Wrapped(help, column, HelpWidth(console)) + "\n";
  }
  return out;
}

std::string Examples(const Verb& verb, const Console& console) {
  std::string out = "\n" + console.Bold("Example") + "\n  ";
  for (const char* p = verb.example; *p; ++p) out += *p == '\n' ? "\n  " : std::string(1, *p);
  return out + "\n";
}

std::string VerbList(std::span<const Verb* const> verbs, const Console& console) {
  size_t column = 0;
  for (const Verb* verb : verbs) column = std::max(column, std::string_view(verb->name).size() + 4);
  std::vector<std::string_view> groups;
  for (const Verb* verb : verbs) {
    if (std::find(groups.begin(), groups.end(), verb->group) == groups.end()) groups.push_back(verb->group);
  }
  std::string out;
  for (std::string_view group : groups) {
    out += "\n" + console.Bold(group) + "\n";
    for (const Verb* verb : verbs) {
      if (group != verb->group) continue;
      std::string name = verb->name;
      out += "  " + name + std::string(column - name.size() - 2, ' ') + Wrapped(verb->summary, column, HelpWidth(console)) + "\n";
    }
  }
  return out;
}

class Help : public Command {
 public:
  void Declare(Arguments& args) override { args.Files("VERB", &words_, "the verb to explain", 0); }
  Status Run(Console& console) override {
    if (words_.empty()) {
      if (console.json) PrintVerbs(console);
      else console.Print(HelpOverview(console));
      return {};
    }
    std::span<const Verb* const> verbs = AllVerbs();
    const Verb* found = nullptr;
    std::string path;
    for (const std::string& word : words_) {
      std::vector<std::string> names;
      found = nullptr;
      for (const Verb* verb : verbs) {
        names.emplace_back(verb->name);
        if (word == verb->name) found = verb;
      }
      if (!found) {
        std::string near = NearestName(word, names);
        return UsageError("there is no verb \"" + Printable(word, 60) + "\"").Hint(near.empty() ? "'tern help' lists the verbs" : "Did you mean " + near + "?");
      }
      path += (path.empty() ? "" : " ") + word;
      verbs = found->kinds;
    }
    std::string text = HelpText(*found, path, console);
    if (console.json) console.PrintJson(Json{{"verb", path}, {"help", text}});
    else console.Print(text);
    return {};
  }

 private:
  static void PrintVerbs(Console& console) {
    Json list = Json::array();
    for (const Verb* verb : AllVerbs()) list.push_back({{"name", verb->name}, {"group", verb->group}, {"summary", verb->summary}});
    console.PrintJson(Json{{"verbs", list}});
  }
  std::vector<std::string> words_;
};

}  // namespace

std::string HelpText(const Verb& verb, std::string_view path, const Console& console) {
  std::string summary = verb.summary;
  summary[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(summary[0])));
  std::string out = Wrapped(summary, 0, HelpWidth(console)) + ".\n\n" + console.Bold("Usage") + "\n  tern " + std::string(path);
  if (!verb.kinds.empty()) {
    return out + " KIND ...\n" + VerbList(verb.kinds, console) + Examples(verb, console) + "\n'tern " + std::string(path) + " KIND --help' explains each.\n";
  }
  std::unique_ptr<Command> command = verb.make();
  Console scratch;
  Arguments table = DeclareAll(*command, scratch);
  for (const Argument& place : table.places()) {
    std::string name = place.repeated ? place.name + "..." : place.name;
    out += place.required ? " " + name : " [" + name + "]";
  }
  for (const Argument& flag : table.flags()) {
    if (flag.required) out += " " + (flag.letter ? std::string("-") + flag.letter : flag.name) + (flag.value_name.empty() ? "" : " " + flag.value_name);
  }
  return out + " [FLAGS]\n" + Rows(table.places(), console) + Rows(table.flags(), console) + Examples(verb, console);
}

std::string HelpOverview(const Console& console) {
  return "Tern runs efficient Transformers on a laptop's processor, one file per model, and cleans the text they learn from.\n\n" + console.Bold("Usage") +
         "\n  tern VERB [ARGUMENTS] [FLAGS]\n" + VerbList(AllVerbs(), console) +
         "\n'tern help VERB' explains a verb. An argument that names a file is read, '-' is standard input, anything else is the text itself.\n"
         "Exit codes: 0 ok, 1 internal, 2 usage, 3 cannot read or write, 4 malformed file, 5 digest differs, 6 memory, 7 cancelled,\n"
         "8 conversion incomplete, 9 numeric, 10 stopped by a guard, 130 Ctrl-C, 141 closed pipe.\n";
}

extern const Verb kHelp = {"help", "Help", "explain a verb, or list them all", "tern help convert", Make<Help>};

}  // namespace tern
