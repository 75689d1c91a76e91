#include "tools/text_to_text.h"

#include <algorithm>
#include <charconv>

#include "tools/timing.h"

namespace tern {

void BeamFlags::Declare(Arguments& args) {
  args.Integer("--beams", &beams, 1, 1000, "search with K beams instead of taking one token after the other").ValueName("K");
  args.Real("--length-penalty", &length_penalty, -10, 10, "beams are ranked by log-probability / length^PENALTY: above 0 longer ones gain").ValueName("PENALTY");
  args.Choice("--early-stopping", &early_stopping, {"false", "true", "never"}, "beams end: by a heuristic, when K are finished, or only when none can improve");
  args.Integer("--no-repeat-ngram", &no_repeat_ngram, 0, 1 << 20, "no N tokens in a row come twice; 0: they may").ValueName("N");
}

BeamOptions BeamFlags::Options() const {
  BeamOptions o;
  o.beams = beams;
  o.length_penalty = static_cast<float>(length_penalty);
  o.early_stopping = early_stopping == "true" ? EarlyStopping::kFirst : early_stopping == "never" ? EarlyStopping::kNever : EarlyStopping::kHeuristic;
  o.no_repeat_ngram_size = no_repeat_ngram;
  return o;
}

void BeamFlags::Into(Seq2seqOptions* o) const {
  const BeamOptions b = Options();
  o->length_penalty = b.length_penalty, o->early_stopping = b.early_stopping, o->no_repeat_ngram_size = b.no_repeat_ngram_size;
}

Result<std::unique_ptr<TextToText>> TextToText::Create(const std::shared_ptr<const Model>& model, int threads, int64_t beams, const Seq2seqOptions& options,
                                                       const CancelToken* cancel, OpObserver* observer) {
  std::unique_ptr<TextToText> t(new TextToText());
  TERN_ASSIGN(t->tokenizer_, model->NeedTokenizer());
  EncoderDecoderOptions session;
  session.threads = threads, session.beams = beams, session.positions = std::max<int64_t>(1, options.new_tokens);
  session.logits = LogitsMode::kLast, session.cancel = cancel, session.observer = observer;
  TERN_ASSIGN(t->session_, EncoderDecoderSession::Create(model, session));
  t->options_ = options;
  return t;
}

Result<TextToText::Answer> TextToText::Run(const std::string& source, const std::function<bool(std::string_view)>& on_text) {
  Answer answer;
  std::vector<int32_t> ids;
  TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(source, true, &ids));
  answer.source_tokens = static_cast<int64_t>(ids.size());
  DecodeOptions decode;
  decode.skip_special_tokens = false;  // sentinels are part of the answer
  auto decoder = tokenizer_->NewTokenDecoder(decode);
  const T5Config& c = session_->network().t5();
  auto silent = [&](int32_t id) { return id == c.eos_token_id || id == c.pad_token_id; };
  bool go = true;
  auto on_token = [&](int32_t id) {
    if (!silent(id)) go = on_text(decoder->Push(id));
    return go;
  };
  const int64_t begin = NowNs();
  std::vector<Decoded> out;
  const EncoderInput input{ids};
  const bool streams = on_text && session_->options().beams == 1;
  Status s = DecodeSources(*session_, {&input, 1}, options_, streams ? std::function<bool(int32_t)>(on_token) : std::function<bool(int32_t)>(), &out);
  if (!s.ok() && s.code() != Code::kCancelled) return s;
  answer.cancelled = !s.ok();
  answer.seconds = static_cast<double>(NowNs() - begin) * 1e-9;
  if (out.empty()) return answer;
  answer.ids.assign(out[0].ids.begin() + 1, out[0].ids.end());
  answer.score = out[0].score, answer.ended = out[0].ended;
  if (streams) {
    if (go) on_text(decoder->Finish());
    decoder = tokenizer_->NewTokenDecoder(decode);
  }
  for (int32_t id : answer.ids)
    if (!silent(id)) answer.text += decoder->Push(id);
  answer.text += decoder->Finish();
  if (on_text && !streams) on_text(answer.text);
  return answer;
}

int64_t TextToText::SentinelOf(int32_t id) const {
  const std::string piece = tokenizer_->PieceOf(id);
  constexpr std::string_view kBegin = "<extra_id_";
  int64_t number = -1;
  if (!piece.starts_with(kBegin)) return -1;
  const char* end = piece.data() + piece.size();
  auto [at, error] = std::from_chars(piece.data() + kBegin.size(), end, number);
  return error == std::errc() && at + 1 == end && *at == '>' ? number : -1;
}

// Ids, not text, tell where a span ends: decoding loses spaces beside special tokens.
Result<std::vector<Blank>> TextToText::Fill(const std::string& source, std::string* filled) {
  std::vector<int32_t> ids;
  TERN_RETURN_IF_ERROR(tokenizer_->EncodeIds(source, true, &ids));
  std::vector<int64_t> sentinels;
  for (int32_t id : ids)
    if (int64_t n = SentinelOf(id); n >= 0) sentinels.push_back(n);
  if (sentinels.empty()) return UsageError("the text has no sentinel; write <extra_id_0>, <extra_id_1> ... where words are missing");
  TERN_ASSIGN(Answer answer, Run(source, {}));
  if (answer.cancelled) return Status(Code::kCancelled, "cancelled");
  std::vector<Blank> blanks;
  std::string text = source;
  for (int64_t n : sentinels) {
    Blank blank{Str("<extra_id_", n, ">"), ""};
    auto begin = std::find_if(answer.ids.begin(), answer.ids.end(), [&](int32_t id) { return SentinelOf(id) == n; });
    if (begin != answer.ids.end()) ++begin;
    auto end = std::find_if(begin, answer.ids.end(), [&](int32_t id) { return SentinelOf(id) >= 0; });
    blank.text = tokenizer_->Decode({answer.ids.data() + (begin - answer.ids.begin()), static_cast<size_t>(end - begin)});
    const size_t space = blank.text.find_first_not_of(' ');
    blank.text.erase(0, space == std::string::npos ? blank.text.size() : space);
    if (size_t at = text.find(blank.sentinel); at != std::string::npos) text.replace(at, blank.sentinel.size(), blank.text);
    blanks.push_back(std::move(blank));
  }
  *filled = std::move(text);
  return blanks;
}

std::string ExpertSummary(const Model& model) {
  if (!model.pager()) return "";
  const ExpertPager::Stats s = model.pager()->stats();
  const double rate = s.requests > 0 ? 100.0 * static_cast<double>(s.hits) / static_cast<double>(s.requests) : 0;
  return Str("experts: ", WithCommas(s.touched), " of ", WithCommas(s.experts), " touched, ", WithCommas(s.requests), " requests, ", Fixed(rate, 1), " % hits, ", HumanBytes(s.bytes_read),
             " read, ", HumanBytes(s.resident_bytes), " held, ", WithCommas(s.evictions), " sent away");
}

Json ExpertJson(const Model& model) {
  if (!model.pager()) return Json();
  const ExpertPager::Stats s = model.pager()->stats();
  return {{"experts", s.experts},       {"touched", s.touched},       {"requests", s.requests},   {"hits", s.hits},
          {"prefetched", s.prefetched}, {"bytes_read", s.bytes_read}, {"evictions", s.evictions}, {"resident_bytes", s.resident_bytes}};
}

}  // namespace tern
