// Beam search with a decoder: the beams are the lanes of a session, which all read the prompt; a beam that goes on from another takes over its state.
#pragma once

#include "engine/runtime/beam_search.h"
#include "engine/runtime/seq2seq.h"
#include "engine/runtime/session.h"

namespace tern {

// `session`: empty, of options.beams lanes, with plans for the last position's logits (kLast) of one token and of a piece of the prompt. options.start_id is not
// used; new_tokens is cut to what the context holds. The ids of the answer are the new ones alone. Costs a copy of every state that changes hands, per token.
// Errors: kUsage (an empty prompt, one longer than the context, a network whose lanes do not stand alone), kCancelled, kNumeric.
Result<Decoded> SearchText(Session& session, std::span<const int32_t> prompt, BeamOptions options);

}  // namespace tern
