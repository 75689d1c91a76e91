// The table of arguments: what each kind of flag accepts, and reading words into it with CLI11.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <CLI/CLI.hpp>

#include "engine/base/checked.h"
#include "engine/base/parallel.h"
#include "tools/verb.h"

namespace tern {
namespace {

Status Bad(std::string what, const std::string& value, const std::string& expected) {
  return UsageError(std::move(what)).Got("\"" + Printable(value, 60) + "\"", expected);
}

std::string Range(int64_t least, int64_t most) {
  if (most == std::numeric_limits<int64_t>::max()) return Str(least, " or more");
  return Str(least, " to ", most);
}

Status ParseInteger(const std::string& text, int64_t least, int64_t most, int64_t* out) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = !text.empty() && end == text.data() + text.size() && error != std::errc::invalid_argument;
  if (!whole) return Bad("not a whole number", text, Range(least, most));
  if (error != std::errc() || value < least || value > most) return Bad("out of range", text, Range(least, most));
  *out = value;
  return {};
}

Status ParseReal(const std::string& text, double least, double most, double* out) {
  std::string range = most < std::numeric_limits<double>::max() ? Str(least, " to ", most) : Str(least, " or more");
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = !text.empty() && end == text.data() + text.size() && error != std::errc::invalid_argument;
  if (!whole || std::isnan(value)) return Bad("not a number", text, range);
  if (error != std::errc() || !std::isfinite(value) || value < least || value > most) return Bad("out of range", text, range);
  *out = value;
  return {};
}

Status ParseBytes(const std::string& text, int64_t* out) {
  static const char kExpected[] = "bytes such as 4096, 64K, 1.5G";
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error != std::errc() || !std::isfinite(value) || value < 0) return Bad("not a size", text, kExpected);
  for (const char* tail : {"iB", "B"}) {  // KiB, KB and K are the same here
    if (unit.ends_with(tail)) {
      unit.resize(unit.size() - std::string_view(tail).size());
      break;
    }
  }
  static const std::string kUnits = "KMGT";
  double scale = 1;
  if (!unit.empty()) {
    size_t at = unit.size() == 1 ? kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0])))) : std::string::npos;
    if (at == std::string::npos) return Bad("not a size", text, kExpected);
    scale = std::exp2(10.0 * static_cast<double>(at + 1));
  }
  if (value * scale >= std::exp2(62)) return Bad("out of range", text, kExpected);
  *out = static_cast<int64_t>(value * scale);
  return {};
}

std::string Join(const std::vector<std::string>& parts, const char* between) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : between) + part;
  return out;
}

}  // namespace

Argument& Arguments::Add(Argument argument) {
  auto& list = argument.is_place() ? places_ : flags_;
  argument.heading = argument.is_place() ? "Arguments" : heading_;
  return list.emplace_back(std::move(argument));
}

Argument& Arguments::File(const char* name, std::string* value, const char* help) {
  Argument& a = Add({.name = name, .help = help, .expects = Expects::kFile, .required = true});
  a.store = [value](const std::string& v) -> Status {
    if (v.empty()) return UsageError("is empty").Hint("Name a file or folder");
    *value = v;
    return {};
  };
  return a;
}

Argument& Arguments::File(const char* name, std::optional<std::string>* value, const char* help) {
  Argument& a = Add({.name = name, .help = help, .expects = Expects::kFile});
  a.store = [value](const std::string& v) { return *value = v, Status(); };
  return a;
}

Argument& Arguments::Files(const char* name, std::vector<std::string>* values, const char* help, int64_t at_least) {
  Argument& a = Add({.name = name, .help = help, .expects = Expects::kFile, .required = at_least > 0, .repeated = true});
  a.store = [values](const std::string& v) { return values->push_back(v), Status(); };
  return a;
}

Argument& Arguments::Input(const char* name, std::optional<std::string>* value, const char* help) { return File(name, value, help); }

Argument& Arguments::Flag(const char* name, bool* value, const char* help) {
  Argument& a = Add({.name = name, .help = help});
  a.store = [value](const std::string&) { return *value = true, Status(); };
  return a;
}

Argument& Arguments::Integer(const char* name, int64_t* value, int64_t least, int64_t most, const char* help) {
  Argument& a = Add({.name = name, .value_name = "N", .help = help, .shown_default = std::to_string(*value), .expects = Expects::kText});
  a.store = [=](const std::string& v) { return ParseInteger(v, least, most, value); };
  return a;
}

Argument& Arguments::Integer(const char* name, std::optional<int64_t>* value, int64_t least, int64_t most, const char* help) {
  Argument& a = Add({.name = name, .value_name = "N", .help = help, .expects = Expects::kText});
  a.store = [=](const std::string& v) { return ParseInteger(v, least, most, &value->emplace()); };
  return a;
}

Argument& Arguments::Real(const char* name, double* value, double least, double most, const char* help) {
  Argument& a = Add({.name = name, .value_name = "X", .help = help, .shown_default = Str(*value), .expects = Expects::kText});
  a.store = [=](const std::string& v) { return ParseReal(v, least, most, value); };
  return a;
}

Argument& Arguments::Real(const char* name, std::optional<double>* value, double least, double most, const char* help) {
  Argument& a = Add({.name = name, .value_name = "X", .help = help, .expects = Expects::kText});
  a.store = [=](const std::string& v) { return ParseReal(v, least, most, &value->emplace()); };
  return a;
}

Argument& Arguments::Bytes(const char* name, int64_t* value, const char* help) {
  Argument& a = Add({.name = name, .value_name = "BYTES", .help = help, .expects = Expects::kText});
  a.store = [=](const std::string& v) { return ParseBytes(v, value); };
  return a;
}

Argument& Arguments::Integers(const char* name, std::vector<int64_t>* values, int64_t least, int64_t most, const char* help) {
  Argument& a = Add({.name = name, .value_name = "N,N,...", .help = help, .expects = Expects::kText});
  a.store = [=](const std::string& v) -> Status {
    values->clear();
    for (size_t at = 0; at <= v.size();) {
      size_t comma = std::min(v.find(',', at), v.size());
      TERN_RETURN_IF_ERROR(ParseInteger(v.substr(at, comma - at), least, most, &values->emplace_back()));
      at = comma + 1;
    }
    return {};
  };
  return a;
}

static std::function<Status(const std::string&)> OneOf(std::string* value, std::vector<std::string> choices) {
  return [value, choices](const std::string& v) -> Status {
    if (std::find(choices.begin(), choices.end(), v) == choices.end()) {
      std::string near = NearestName(v, choices);
      return Bad("no such choice", v, Join(choices, ", ")).Hint(near.empty() ? "" : "Did you mean " + near + "?");
    }
    *value = v;
    return {};
  };
}

Argument& Arguments::ChoicePlace(const char* name, std::string* value, std::vector<std::string> choices, const char* help) {
  Argument& a = Add({.name = name, .help = Str(help, ": ", Join(choices, ", ")), .choices = choices, .expects = Expects::kChoice, .required = true});
  a.store = OneOf(value, std::move(choices));
  return a;
}

Argument& Arguments::Choice(const char* name, std::string* value, std::vector<std::string> choices, const char* help) {
  Argument& a = Add({.name = name, .value_name = Join(choices, "|"), .help = help, .shown_default = *value, .choices = choices,
                     .expects = Expects::kChoice});
  a.store = OneOf(value, std::move(choices));
  return a;
}

Argument& Arguments::Text(const char* name, std::string* value, const char* help) {
  Argument& a = Add({.name = name, .value_name = "TEXT", .help = help, .shown_default = *value, .expects = Expects::kText});
  a.store = [value](const std::string& v) { return *value = v, Status(); };
  return a;
}

Argument& Arguments::Text(const char* name, std::optional<std::string>* value, const char* help) {
  Argument& a = Add({.name = name, .value_name = "TEXT", .help = help, .expects = Expects::kText});
  a.store = [value](const std::string& v) { return *value = v, Status(); };
  return a;
}

Argument& Arguments::Texts(const char* name, std::vector<std::string>* values, const char* help) {
  Argument& a = Add({.name = name, .value_name = "TEXT", .help = help, .expects = Expects::kText, .repeated = true});
  a.store = [values](const std::string& v) { return values->push_back(v), Status(); };
  return a;
}

Argument& Arguments::Path(const char* name, std::string* value, const char* help) {
  Argument& a = Add({.name = name, .value_name = "FILE", .help = help, .expects = Expects::kFile});
  a.store = [value](const std::string& v) -> Status {
    if (v.empty()) return UsageError("is empty").Hint("Name a file");
    *value = v;
    return {};
  };
  return a;
}

Argument& Arguments::Path(const char* name, std::optional<std::string>* value, const char* help) {
  Argument& a = Add({.name = name, .value_name = "FILE", .help = help, .expects = Expects::kFile});
  a.store = [value](const std::string& v) -> Status {
    if (v.empty()) return UsageError("is empty").Hint("Name a file");
    *value = v;
    return {};
  };
  return a;
}

Argument& Arguments::Threads(int64_t* threads) {
  *threads = AvailableThreads();
  Argument& a = Integer("--threads", threads, 1, 1024, "threads that compute; the results are the same for any number");
  a.shown_default = "all processors";
  return a;
}

Argument& Arguments::Set(Settings* settings) {
  Argument& a = Add({.name = "--set", .value_name = "KEY=VALUE", .help = "override a run-time setting of the model, such as mem_len=800",
                     .expects = Expects::kText, .repeated = true});
  a.store = [settings](const std::string& v) -> Status {
    size_t equals = v.find('=');
    if (equals == std::string::npos || equals == 0) return Bad("not a setting", v, "KEY=VALUE");
    settings->emplace_back(v.substr(0, equals), v.substr(equals + 1));
    return {};
  };
  return a;
}

Argument& Arguments::Output(std::string* path, const char* help) { return Path("--output", path, help).Letter('o'); }

Arguments DeclareAll(Command& command, Console& console) {
  Arguments args;
  command.Declare(args);
  args.Heading("Everywhere");
  args.Flag("--json", &console.json, "answer as JSON, errors included");
  args.Flag("--quiet", &console.quiet, "no notes and no progress").Letter('q');
  args.Flag("--verbose", &console.verbose, "more about what is done").Letter('v');
  static bool unused;
  args.Flag("--help", &unused, "this text").Letter('h');
  return args;
}

// Optimal string alignment: insertions, deletions, replacements, neighbours swapped.
static int64_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int64_t>> d(a.size() + 1, std::vector<int64_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = static_cast<int64_t>(i + j);
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

std::string NearestName(std::string_view name, std::span<const std::string> names) {
  if (name.size() > 64) return "";
  std::string best;
  int64_t least = std::max<int64_t>(1, static_cast<int64_t>(name.size()) * 2 / 5) + 1;  // "--tpe" finds "--type", "frobnicate" finds nothing
  for (const std::string& candidate : names) {
    bool begins = name.size() >= 3 && candidate.starts_with(name);
    int64_t distance = begins ? 1 : EditDistance(name, candidate);
    if (distance < least) least = distance, best = candidate;
  }
  return best;
}

namespace {

bool LooksLikeFlag(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !(word[1] >= '0' && word[1] <= '9') && word[1] != '.';
}

Status UnknownFlag(const Arguments& table, const std::string& word) {
  std::vector<std::string> names;
  for (const Argument& flag : table.flags()) names.push_back(flag.name);
  std::string name = word.substr(0, word.find('='));
  std::string near = NearestName(name, names);
  return UsageError("unknown flag " + Printable(name, 60))
      .Hint(near.empty() ? "--help lists the flags; put -- before a text that begins with '-'" : "Did you mean " + near + "?");
}

Status StorePlaces(const Arguments& table, std::span<const std::string> words) {
  size_t at = 0;
  bool only_places = false;
  auto places = table.places();
  bool last_taken = false;
  for (const std::string& word : words) {
    if (!only_places && word == "--") {
      only_places = true;
      continue;
    }
    if (!only_places && LooksLikeFlag(word)) return UnknownFlag(table, word);
  }
  only_places = false;
  for (const std::string& word : words) {
    if (!only_places && word == "--") {
      only_places = true;
      continue;
    }
    if (at == places.size()) return UsageError("one argument too many: \"" + Printable(word, 60) + "\"").Hint(at > 0 ? "Put a text of several words in quotes" : "");
    Status stored = places[at].store(word);
    if (!stored.ok()) return std::move(stored).Where(places[at].name);
    last_taken = places[at].repeated;
    if (!places[at].repeated) ++at;
  }
  for (; at < places.size(); ++at) {
    if (places[at].required && !last_taken) return UsageError(places[at].name + " is missing").Hint(places[at].name + " is " + places[at].help);
    last_taken = false;
  }
  return {};
}

}  // namespace

Status ParseArguments(const Arguments& table, std::span<const std::string> words, bool* help) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::vector<CLI::Option*> options;
  for (const Argument& flag : table.flags()) {
    std::string names = flag.letter ? std::string("-") + flag.letter + "," + flag.name : flag.name;
    if (flag.value_name.empty()) options.push_back(app.add_flag(names));
    else options.push_back(app.add_option(names)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  }
  auto takes_value = [&table](std::string_view word) -> const Argument* {
    for (const Argument& flag : table.flags()) {
      if (flag.value_name.empty()) continue;
      if (flag.name == word || (flag.letter && word.size() == 2 && word[0] == '-' && word[1] == flag.letter)) return &flag;
    }
    return nullptr;
  };
  for (const std::string& word : words) {  // CLI11 would take the next word as the value of `--flag=`
    if (word == "--") break;
    if (!word.ends_with('=')) continue;
    if (const Argument* flag = takes_value(std::string_view(word).substr(0, word.size() - 1))) return UsageError("needs a value").Where(flag->name);
  }
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    const Argument* flag = words.empty() ? nullptr : takes_value(words.back());
    if (flag) return UsageError("needs a value").Where(flag->name).Hint(flag->help);
    return UsageError(error.what());
  }
  for (size_t i = 0; i < options.size(); ++i) {
    if (table.flags()[i].name == "--help" && options[i]->count() > 0) {
      *help = true;
      return {};
    }
  }
  for (size_t i = 0; i < options.size(); ++i) {
    const Argument& flag = table.flags()[i];
    const std::vector<std::string>& values = options[i]->results();
    if (values.empty()) continue;
    if (flag.value_name.empty()) {
      for (const std::string& value : values) {
        if (value != "true") return UsageError("takes no value").Where(flag.name);
      }
    } else if (values.size() > 1 && !flag.repeated) {
      return UsageError("given twice").Where(flag.name);
    }
    for (const std::string& value : values) {
      Status stored = flag.store(value);
      if (!stored.ok()) return std::move(stored).Where(flag.name);
    }
  }
  TERN_RETURN_IF_ERROR(StorePlaces(table, app.remaining()));  // an unknown flag is the likelier mistake
  for (size_t i = 0; i < options.size(); ++i) {
    const Argument& flag = table.flags()[i];
    if (flag.required && options[i]->count() == 0) return UsageError(flag.name + " is missing").Hint(flag.name + " " + flag.value_name + ": " + flag.help);
  }
  return {};
}

}  // namespace tern
