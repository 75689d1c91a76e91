// `bench model` and `bench decode` of encoder-decoders.
#pragma once

#include "engine/runtime/encoder_decoder_session.h"
#include "tools/bench_model.h"

namespace tern {

struct EncoderDecoderWork {
  std::string verb;             // "bench model" or "bench decode"
  Ids ids, mask, decoder_ids;   // mask and decoder_ids may be empty
  int64_t new_tokens = 0, beams = 1;  // of bench decode
  double begin_ns = 0;          // when loading began
};
// Times one pass over `work`: the source read (and, with decoder_ids, given target tokens) or exactly new_tokens decoded.
Status BenchEncoderDecoder(const std::shared_ptr<const Model>& model, const EncoderDecoderWork& work, const RepeatFlags& flags, Console& console);

}  // namespace tern
