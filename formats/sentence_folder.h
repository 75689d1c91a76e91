// What a sentence-transformers folder says beside config.json: modules.json (pooling, normalisation) and sentence_bert_config.json (length).
#pragma once

#include <string>

#include "engine/base/json.h"
#include "engine/base/status.h"

namespace tern {

// Adds to a foreign config, if the folder holds modules.json: "sentence_pooling" ("mean" or "cls"), "sentence_normalize" (bool), "max_length". kMalformed for a
// pooling that is not supported, or files that are damaged.
Status AddSentenceSettings(const std::string& folder, Json* config);

}  // namespace tern
