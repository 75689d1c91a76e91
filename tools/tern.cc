// tern VERB ...: the table of verbs, in the order `tern help` lists them. A new verb is one file and one line in each list here.
#include "tools/verb.h"

namespace tern {

// In alphabetical order, one a line.
extern const Verb kAnswer;
extern const Verb kBench;
extern const Verb kClassify;
extern const Verb kCompletion;
extern const Verb kConvert;
extern const Verb kDedup;
extern const Verb kEmbed;
extern const Verb kFill;
extern const Verb kFilter;
extern const Verb kForward;
extern const Verb kHelp;
extern const Verb kIndex;
extern const Verb kInspect;
extern const Verb kLeak;
extern const Verb kPlan;
extern const Verb kRun;
extern const Verb kScore;
extern const Verb kTokenize;
extern const Verb kVerify;
extern const Verb kVersion;

std::span<const Verb* const> AllVerbs() {
  static const Verb* const kVerbs[] = {
      &kRun,
      &kScore,
      &kFill,
      &kAnswer,
      &kClassify,
      &kEmbed,
      &kForward,
      &kConvert,
      &kInspect,
      &kPlan,
      &kVerify,
      &kTokenize,
      &kDedup,
      &kFilter,
      &kLeak,
      &kIndex,
      &kBench,
      &kHelp,
      &kVersion,
      &kCompletion,
  };
  return kVerbs;
}

}  // namespace tern

int main(int argc, char** argv) { return tern::RunCommandLine(argc, argv); }
