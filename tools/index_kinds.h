// The kinds of `tern index`, each made in the file that holds it; tools/index.cc lists them.
#pragma once

#include <memory>

#include "tools/verb.h"

namespace tern {

std::unique_ptr<Command> MakeIndexBuild();   // index_write.cc
std::unique_ptr<Command> MakeIndexAdd();
std::unique_ptr<Command> MakeIndexMerge();
std::unique_ptr<Command> MakeIndexImport();
std::unique_ptr<Command> MakeIndexLists();
std::unique_ptr<Command> MakeIndexSearch();  // index_search.cc

}  // namespace tern
