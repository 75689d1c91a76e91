#include "tools/corpus/dedup_state.h"
namespace tern::corpus {
Status RunLines(DedupState*) { return UsageError("not yet"); }
Status RunSubstr(DedupState*) { return UsageError("not yet"); }
}
