// tern completion bash|zsh|fish: scripts written from the same tables the parser reads.
#include "tools/verb.h"

namespace tern {
namespace {

// Each verb with its path ("bench gemm") and table, kinds flattened.
struct Entry {
  std::string path;
  const Verb* verb;
  std::unique_ptr<Command> command;
  Arguments table;
};

void Collect(std::span<const Verb* const> verbs, const std::string& above, Console& scratch, std::vector<Entry>* out) {
  for (const Verb* verb : verbs) {
    std::string path = above.empty() ? verb->name : above + " " + verb->name;
    Entry entry{path, verb, nullptr, {}};
    if (verb->make) {
      entry.command = verb->make();
      entry.table = DeclareAll(*entry.command, scratch);
    }
    out->push_back(std::move(entry));
    Collect(verb->kinds, path, scratch, out);
  }
}

std::string Words(const std::vector<std::string>& list) {
  std::string out;
  for (const std::string& word : list) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string VerbWords(std::span<const Verb* const> verbs) {
  std::vector<std::string> names;
  for (const Verb* verb : verbs) names.emplace_back(verb->name);
  return Words(names);
}

// For single-quoted strings of the shells: ' becomes '\'' (bash, zsh) or \' (fish).
std::string Quoted(std::string_view text, bool fish) {
  std::string out = "'";
  for (char c : text) {
    if (c == '\'') out += fish ? "\\'" : "'\\''";
    else if (c == '\\' && fish) out += "\\\\";
    else out += c;
  }
  return out + "'";
}

std::string Bash(const std::vector<Entry>& entries) {
  std::string out =
      "# bash completion for tern; load it with:  source <(tern completion bash)\n"
      "_tern() {\n"
      "  local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\" path=\"${COMP_WORDS[1]}\" flags=\"\" words=\"\" files=1\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W " + Quoted(VerbWords(AllVerbs()) + " --help --version", false) + " -- \"$current\")); return; fi\n"
      "  case \"$path\" in\n";
  for (const Entry& e : entries) {
    if (e.verb->kinds.empty()) continue;
    out += "    " + e.path + ") if [ \"$COMP_CWORD\" -eq 2 ]; then COMPREPLY=($(compgen -W " + Quoted(VerbWords(e.verb->kinds) + " --help", false) +
           " -- \"$current\")); return; fi; path=\"$path ${COMP_WORDS[2]}\";;\n";
  }
  out += "  esac\n  case \"$path:$previous\" in\n";
  for (const Entry& e : entries) {
    for (const Argument& f : e.table.flags()) {
      if (f.value_name.empty()) continue;
      std::string pattern = Quoted(e.path + ":" + f.name, false) + (f.letter ? "|" + Quoted(e.path + ":-" + f.letter, false) : "");
      if (f.expects == Expects::kChoice) out += "    " + pattern + ") COMPREPLY=($(compgen -W " + Quoted(Words(f.choices), false) + " -- \"$current\")); return;;\n";
      else if (f.expects == Expects::kText) out += "    " + pattern + ") return;;\n";
      else out += "    " + pattern + ") COMPREPLY=($(compgen -f -- \"$current\")); return;;\n";
    }
  }
  out += "  esac\n  case \"$path\" in\n";
  for (const Entry& e : entries) {
    if (!e.verb->make) continue;
    std::vector<std::string> names;
    bool files = false, choices = false;
    for (const Argument& f : e.table.flags()) names.push_back(f.name);
    std::vector<std::string> words;
    for (const Argument& p : e.table.places()) {
      files |= p.expects == Expects::kFile;
      choices |= p.expects == Expects::kChoice;
      words.insert(words.end(), p.choices.begin(), p.choices.end());
    }
    out += "    " + Quoted(e.path, false) + ") flags=" + Quoted(Words(names), false) + (choices ? " words=" + Quoted(Words(words), false) : "") + " files=" + (files ? "1" : "0") + ";;\n";
  }
  out +=
      "  esac\n"
      "  case \"$current\" in\n"
      "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$current\"));;\n"
      "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); [ \"$files\" = 1 ] && COMPREPLY+=($(compgen -f -- \"$current\"));;\n"
      "  esac\n"
      "}\n"
      "complete -o filenames -F _tern tern\n";
  return out;
}

// In an _arguments specification [ ] and : have a meaning.
std::string ZshText(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string ZshFunction(const std::string& path) {
  std::string name = "_tern_" + path;
  for (char& c : name) {
    if (c == ' ' || c == '-') c = '_';
  }
  return name;
}

std::string ZshDispatch(const std::string& path, std::span<const Verb* const> verbs) {
  std::string out = ZshFunction(path) + "() {\n  local -a verbs=(\n";
  for (const Verb* verb : verbs) out += "    " + Quoted(ZshText(verb->name) + ":" + verb->summary, false) + "\n";
  out += "  )\n  _arguments -C '1: :->verb' '*:: :->rest'\n  case $state in\n    verb) _describe verb verbs;;\n    rest) case $words[1] in\n";
  for (const Verb* verb : verbs) out += "      " + std::string(verb->name) + ") " + ZshFunction(path.empty() ? verb->name : path + " " + verb->name) + ";;\n";
  return out + "    esac;;\n  esac\n}\n";
}

std::string Zsh(const std::vector<Entry>& entries) {
  std::string out = "#compdef tern\n# zsh completion for tern; save it as _tern in a folder of $fpath, or:  source <(tern completion zsh)\n";
  for (const Entry& e : entries) {
    if (!e.verb->make) {
      out += ZshDispatch(e.path, e.verb->kinds);
      continue;
    }
    out += ZshFunction(e.path) + "() {\n  _arguments";
    for (const Argument& f : e.table.flags()) {
      std::string value;
      if (!f.value_name.empty()) {
        value = ":" + ZshText(f.value_name) + ":";
        if (f.expects == Expects::kChoice) value += "(" + Words(f.choices) + ")";
        else if (f.expects == Expects::kFile) value += "_files";
      }
      std::string tail = "[" + ZshText(f.help) + "]" + value;
      std::string star = f.repeated ? "*" : "";
      out += " \\\n    " + Quoted(star + f.name + tail, false);
      if (f.letter) out += " \\\n    " + Quoted(star + "-" + f.letter + tail, false);
    }
    for (const Argument& p : e.table.places()) {
      std::string action = p.expects == Expects::kChoice ? "(" + Words(p.choices) + ")" : p.expects == Expects::kFile ? "_files" : "";
      out += " \\\n    " + Quoted((p.repeated ? "*:" : p.required ? ":" : "::") + ZshText(p.name) + ":" + action, false);
    }
    out += "\n}\n";
  }
  out += ZshDispatch("", AllVerbs());
  return out + "if [ \"$funcstack[1]\" = _tern ]; then _tern_ \"$@\"; else _tern() { _tern_ \"$@\" }; compdef _tern tern; fi\n";
}

std::string Fish(const std::vector<Entry>& entries) {
  std::string out =
      "# fish completion for tern; load it with:  tern completion fish | source\n"
      "function __tern_at\n"
      "  set -l words (commandline -opc)\n"
      "  test (count $words) -ge (math 1 + (count $argv)); or return 1\n"
      "  for i in (seq (count $argv))\n"
      "    test \"$words[(math $i + 1)]\" = \"$argv[$i]\"; or return 1\n"
      "  end\n"
      "end\n"
      "function __tern_only\n"
      "  test (count (commandline -opc)) -eq (math 1 + (count $argv)); and __tern_at $argv\n"
      "end\n"
      "complete -c tern -n 'test (count (commandline -opc)) -eq 1' -f\n";
  for (const Verb* verb : AllVerbs()) {
    out += "complete -c tern -n 'test (count (commandline -opc)) -eq 1' -a " + std::string(verb->name) + " -d " + Quoted(verb->summary, true) + "\n";
  }
  for (const Entry& e : entries) {
    for (const Verb* kind : e.verb->kinds) {
      out += "complete -c tern -f -n '__tern_only " + e.path + "' -a " + kind->name + " -d " + Quoted(kind->summary, true) + "\n";
    }
    for (const Argument& f : e.table.flags()) {
      out += "complete -c tern -n '__tern_at " + e.path + "' -l " + f.name.substr(2);
      if (f.letter) out += std::string(" -s ") + f.letter;
      if (!f.value_name.empty()) out += f.expects == Expects::kFile ? " -r -F" : f.expects == Expects::kChoice ? " -x -a " + Quoted(Words(f.choices), true) : " -x";
      out += " -d " + Quoted(f.help, true) + "\n";
    }
    for (const Argument& p : e.table.places()) {
      if (p.expects == Expects::kChoice) out += "complete -c tern -f -n '__tern_only " + e.path + "' -a " + Quoted(Words(p.choices), true) + "\n";
    }
  }
  return out;
}

class Completion : public Command {
 public:
  void Declare(Arguments& args) override { args.ChoicePlace("SHELL", &shell_, {"bash", "zsh", "fish"}, "the shell to write for"); }
  Status Run(Console& console) override {
    Console scratch;
    std::vector<Entry> entries;
    Collect(AllVerbs(), "", scratch, &entries);
    std::string script = shell_ == "bash" ? Bash(entries) : shell_ == "zsh" ? Zsh(entries) : Fish(entries);
    if (console.json) console.PrintJson(Json{{"shell", shell_}, {"script", script}});
    else console.Print(script);
    return {};
  }

 private:
  std::string shell_;
};

}  // namespace

extern const Verb kCompletion = {"completion", "Help", "print the completion script of a shell", "source <(tern completion bash)\ntern completion fish | source",
                                 Make<Completion>};

}  // namespace tern
