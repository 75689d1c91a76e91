// tern VERB ...: the table of verbs, in the order `tern help` lists them. A new verb is one file and one line in each list here.
#include "tools/verb.h"

namespace tern {

extern const Verb kCompletion, kConvert, kFilter, kHelp, kInspect, kTokenize, kVerify, kVersion;

std::span<const Verb* const> AllVerbs() {
  static const Verb* const kVerbs[] = {
      &kConvert,
      &kInspect,
      &kVerify,
      &kTokenize,
      &kFilter,
      &kHelp,
      &kVersion,
      &kCompletion,
  };
  return kVerbs;
}

}  // namespace tern

int main(int argc, char** argv) { return tern::RunCommandLine(argc, argv); }
