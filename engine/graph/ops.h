// The operations a graph can hold: one struct each, its attributes as fields, its inputs and output in the comment. The variant is the only list:
// shape rules (builder.cc), cost (cost.cc) and execution (engine/runtime/execute_*.cc) visit it.
//
// Letters: r rows (batch x time), D model width, A = H*Dh, F inner width, V vocabulary, C clusters, P distances.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <variant>

#include "engine/graph/lsh.h"
#include "engine/graph/long_term_memory.h"

namespace tern {

enum class Activation : uint8_t { kNone, kRelu, kGelu, kGeluNew, kSilu, kTanh };

// Distances d = key - query that a line of biases covers, from `least` to `most`; beyond an end the end's value holds.
struct RelativeBias {
  bool on = false;
  int64_t least = 0, most = 0;
};

// ids [r, 1] i32, then per cluster: table [n_c, d_c] and, if projected, projection [D, d_c] -> [r, D] = scale * table_c[id - start_c] (. projection_c^T).
// Clusters split the vocabulary in order (adaptive input); one cluster is a plain embedding.
struct EmbedOp {
  static constexpr std::string_view kName = "embed";
  int clusters = 1;
  bool projected = false;
  float scale = 1;
};

// x [r, K], W [N, K], bias [N]? -> [r, N] = act(x W^T + bias)
struct MatMulOp {
  static constexpr std::string_view kName = "matmul";
  bool bias = false;
  Activation activation = Activation::kNone;
};

// x [r, D], residual [r, D]?, gamma [D], beta [D] -> LayerNorm(x + residual)
struct LayerNormOp {
  static constexpr std::string_view kName = "layer_norm";
  bool residual = false;
  float epsilon = 1e-5f;
};

// x [r, D], gamma [D] -> x / sqrt(mean(x^2) + epsilon) * gamma
struct RmsNormOp {
  static constexpr std::string_view kName = "rms_norm";
  float epsilon = 1e-6f;
};

// x -> factor * x
struct ScaleOp {
  static constexpr std::string_view kName = "scale";
  float factor = 1;
};

// a, b [r, D] -> a + b
struct AddOp {
  static constexpr std::string_view kName = "add";
};

// x [B*T, D] -> [B, D]: the last new token of every lane
struct LastRowsOp {
  static constexpr std::string_view kName = "last_rows";
  int64_t batch = 1;
};

// k, v [B*T, A] -> the state's ring, at the positions of the new tokens
struct AppendKvOp {
  static constexpr std::string_view kName = "append_kv";
};

// q [B*T, A], u [H, Dh], v [H, Dh], positions (packed table of P distances) and the state's keys and values -> [B*T, A].
// Transformer-XL attention (Dai et al. 2019, attn_type 0): scores ((q+u).k + (q+v).rk[min(distance, P-1)]) / sqrt(Dh) over the visible keys.
struct AttendXlOp {
  static constexpr std::string_view kName = "attend_xl";
  int64_t batch = 1, heads = 1, head_width = 1;
  int64_t window = 0;     // > 0: a key is visible iff 0 <= distance < window (same_length); 0: everything kept and everything before it in the chunk
  int64_t distances = 0;  // P
};

// x [B*T, D], table [n, D] -> x + the table's row of each token's position in its segment
struct AddPositionsOp {
  static constexpr std::string_view kName = "add_positions";
};

// x [r, D], ids [r, 1] i32 (may be bound to nothing), table [n, D] -> x + table[id], or x
struct AddLookupOp {
  static constexpr std::string_view kName = "add_lookup";
};

// The infinity-former's long-term memory (engine/graph/long_term_memory.h). One state holds all of it.
// [G_L [L, N], G_inf [samples + L, N], psi [samples, N], centers [1, N], widths [1, N] if imported] -> opaque: the regression tables
struct MemoryTablesOp {
  static constexpr std::string_view kName = "memory_tables";
  LongTermMemory memory;
};
// tables, Wk [A, A], Wv [A, A], mu [1, N] and sigma [1, N] if affines, the mask's weight ([A, 3A] or [L, L]) and bias if it has one: at the start of a
// segment, lets the rows of earlier ones enter the memory.
struct UpdateMemoryOp {
  static constexpr std::string_view kName = "update_memory";
  LongTermMemory memory;
};
// x [B*T, A] -> kept in the state, to enter the memory later
struct RememberRowsOp {
  static constexpr std::string_view kName = "remember_rows";
  LongTermMemory memory;
};
// q [B*T, A], tables -> [B*T, A]: what each head reads; zeros while there is no memory
struct AttendMemoryOp {
  static constexpr std::string_view kName = "attend_memory";
  LongTermMemory memory;
};

// q [B*T, A] and the state's keys and values -> [B*T, A]: softmax attention of each token to itself and all before it in its segment.
// With `bias` a second input: the lines of a RelativeBiasOp.
struct AttendCausalOp {
  static constexpr std::string_view kName = "attend_causal";
  int64_t batch = 1, heads = 1, head_width = 1;
  float scale = 1;
  RelativeBias bias = {};
};

// q, k, v [r, A], starts [S+1, 1] i32 (row s of the batch is rows starts[s] .. starts[s+1]-1), key_bias [r, 1]? -> [r, A].
// Softmax attention within each sequence of a batch that is packed without padding; a key with bias -inf is there as a query only.
// With `bias` a last input: the lines of a RelativeBiasOp, added by distance.
struct AttendPackedOp {
  static constexpr std::string_view kName = "attend_packed";
  int64_t heads = 1, head_width = 1;
  int64_t longest = 0;  // no sequence has more rows
  float scale = 0;      // 0: 1 / sqrt(Dh)
  RelativeBias bias = {};
};

// k, v [n, A], starts [S+1, 1] i32 -> the state: sequence s of the packed rows fills lane s from position 0
struct StoreKvOp {
  static constexpr std::string_view kName = "store_kv";
};

// q [B*T, A], lane_starts [S+1, 1] i32, source_lengths [S, 1] i32 and the state -> [B*T, A]: attention of lanes lane_starts[s] .. lane_starts[s+1]-1
// (beams of one source) over all source_lengths[s] keys of the state's lane s.
struct AttendCrossOp {
  static constexpr std::string_view kName = "attend_cross";
  int64_t batch = 1, heads = 1, head_width = 1;
  float scale = 0;  // 0: 1 / sqrt(Dh)
};

// table [NB, H] -> [H, n]: a line per head of the bias at each distance, as RelativeBias says (T5: Raffel et al. 2020)
struct RelativeBiasOp {
  static constexpr std::string_view kName = "relative_bias";
  int64_t buckets = 32, max_distance = 128;
  bool bidirectional = true;
};

// x [r, D], logits [r, E], wi [E, F, D], wo [E, D, F], starts [S+1, 1] i32? -> [r, D]. Top-1 mixture of experts (Switch Transformer, Fedus et al. 2021):
// p = softmax(logits), e = argmax p (the lowest on ties), y = p_e . wo_e act(wi_e x). Of each row of the batch (sequence of `starts`, or one of `batch`
// lanes of equal length) an expert takes the first `capacity` tokens; what a later one gets is the policy's: nothing (kZero), p_e . x (kClone), or
// there is no limit (kNone).
enum class CapacityPolicy : uint8_t { kZero, kClone, kNone };
struct ExpertsOp {
  static constexpr std::string_view kName = "experts";
  int64_t experts = 1, inner = 1, capacity = 64, batch = 1;
  CapacityPolicy policy = CapacityPolicy::kZero;
  Activation activation = Activation::kRelu;
  bool starts = false;
};

// x [r, D], rows [n, 1] i32 -> [n, D]
struct TakeRowsOp {
  static constexpr std::string_view kName = "take_rows";
};

// x [r, D], starts [S+1, 1] i32 -> [S, D]: the mean over the rows of each sequence
struct MeanRowsOp {
  static constexpr std::string_view kName = "mean_rows";
};

// x [r, D] -> x / max(|x|, epsilon), row by row
struct NormalizeOp {
  static constexpr std::string_view kName = "normalize";
  float epsilon = 1e-12f;
};

// inv_freq [1, D/2] -> [P, D]: row p = sin(p * inv_freq) | cos(p * inv_freq), angle rounded to f32
struct SinusoidOp {
  static constexpr std::string_view kName = "sinusoid";
};

// rk [P, A] -> opaque: the table of AttendXlOp in the kernels' layout
struct PackXlPositionsOp {
  static constexpr std::string_view kName = "pack_xl_positions";
  int64_t heads = 1, head_width = 1;
};

// Softmax over the vocabulary, plain (one cluster) or adaptive (Grave et al. 2017).
// Inputs: h [r, D], per cluster: weight [n_c, d_c], bias [1, n_c] if there are any and, if projected, projection [d_c, D]; with more than one cluster then
// cluster_weight [C-1, d_0], cluster_bias [1, C-1]; for the target form last targets [r, 1] i32.
struct SoftmaxSpec {
  int clusters = 1;
  bool projected = false;
  bool bias = true;
  size_t inputs_per_cluster() const { return 1u + bias + projected; }
  bool reversed = false;  // the column of tail cluster c is counted from the end (original PyTorch code) instead of from the start
};
// -> [r, V] log-probabilities in id order
struct LogSoftmaxOp : SoftmaxSpec {
  static constexpr std::string_view kName = "log_softmax";
};
// -> [r, 1] log-probability of the target; 0 where the target is negative (not scored)
struct TargetLogProbOp : SoftmaxSpec {
  static constexpr std::string_view kName = "target_log_prob";
};

// a, b [r, D] -> a * b, number by number
struct MulOp {
  static constexpr std::string_view kName = "mul";
};

// x [r, D], gamma [D], gate [D]? -> y = x / max(|x| / sqrt(D), epsilon) * gamma, with a gate times sigmoid(x * gate) (RETRO-pytorch's RMSNorm: the
// root mean square is clamped, nothing is added under the root).
struct ClampedRmsNormOp {
  static constexpr std::string_view kName = "clamped_rms_norm";
  bool gated = false;
  float epsilon = 1e-8f;
};

// x [r, D], y [r, D], active [r, 1] f32? -> scale * x + y; scale * x in rows whose `active` is 0
struct ResidualOp {
  static constexpr std::string_view kName = "residual";
  float scale = 1;
};

// w [r, D] -> w + 1 (layernorm-1p keeps a gain less one)
struct OnePlusOp {
  static constexpr std::string_view kName = "one_plus";
};

// positions [r, 1] i32, inv_freq [F] -> [r, 2F]: cos(p * inv_freq) | sin(p * inv_freq), angle rounded to f32
struct RotaryTableOp {
  static constexpr std::string_view kName = "rotary_table";
};

// x [r, H*Dh], table [r, 2F] -> x with the first 2F numbers of every head rotated by halves: (a, b) -> (a cos - b sin, b cos + a sin) (Su et al. 2021)
struct RotaryOp {
  static constexpr std::string_view kName = "rotary";
  int64_t heads = 1, head_width = 1;
};

// RETRO (Borgeaud et al. 2021). Chunks of m tokens; a run of T tokens completes E of them, the first with its token `first`. `chunks` [4, 1] i32 says:
// ring row of the run's first token, `first` (T if E = 0), ring row of token `first`, ring rows the first completed chunk really has.
//
// x [B*T, D], chunks and the state (an array of m rows per lane: the chunk that is not complete yet) -> [B*E*m, D]: the rows of the completed chunks;
// rows a first partial chunk does not have are zero.
struct KeepChunkOp {
  static constexpr std::string_view kName = "keep_chunk";
  int64_t batch = 1, chunk = 1;
};

// q [N, A], k, v [B*E*m, A], starts [B*E*n + 1, 1] i32 -> [N, A]: neighbour rows attend to all m rows of the chunk they were retrieved for. The n
// neighbours of chunk c are rows starts[c*n] .. starts[(c+1)*n]-1.
struct AttendChunkOp {
  static constexpr std::string_view kName = "attend_chunk";
  int64_t heads = 1, head_width = 1, chunk = 1, neighbors = 1;
};

// q [B*T, A], k, v [N, A], starts, chunks, null_k, null_v [A]? and the state -> [B*T, A]: chunked cross-attention. Token `first` + e*m and the m-1 behind
// it attend to the neighbours of the e-th completed chunk; tokens before `first` to those in the state, to none before the first chunk is complete: zeros.
// The state (rule Replace) then holds the last chunk's: a ring of keys and values, and `count`, an array of one number per lane: keys + 1, 0 at the start.
struct AttendNeighborsOp {
  static constexpr std::string_view kName = "attend_neighbors";
  int64_t batch = 1, heads = 1, head_width = 1, chunk = 1, neighbors = 1;
  bool null = false;
  int32_t count = -1;  // number of that state
};

// ---- Performer (Choromanski et al. 2021) as performer_pytorch has it. Rows are B lanes of T tokens; a mask (f32, 0: masked) may be absent or bound to nothing. ----

// ids [B*T, 1] -> [B*T, 1] i32: the index of each token's position in a table of `entries`: position / divide, modulo `modulo` if > 0
struct PositionsOp {
  static constexpr std::string_view kName = "positions";
  int64_t batch = 1, divide = 1, modulo = 0, entries = 1;
};

// x [r, 2F] -> [r, F] = act(first half) * second half
struct GluOp {
  static constexpr std::string_view kName = "glu";
  Activation activation = Activation::kGelu;
};

// x [r, D], g [1] -> g x
struct GainOp {
  static constexpr std::string_view kName = "gain";
};

// x [B*T, D], mask [B*T, 1]? -> [B*T, D]: of k equal groups of columns some come from a neighbouring token, zeros beyond the ends, masked tokens give zeros.
// Causal: k = 2, the second from the token before (the state keeps D / 2 columns of the last one); else k = 3, the first from the token behind, the third from
// the one before.
struct ShiftTokensOp {
  static constexpr std::string_view kName = "shift_tokens";
  int64_t batch = 1;
  bool causal = false, masked = false;
};

// x [r, H*Dh], angles [r, Dh] (sines, then cosines, of Dh / 2 pairs) -> x with neighbouring pairs of every head rotated (Su et al. 2021)
struct RotaryPairsOp {
  static constexpr std::string_view kName = "rotary_pairs";
  int64_t heads = 1, head_width = 1;
};

// P [m, Dh] -> opaque: the projection in the kernels' layout
struct PackFavorOp {
  static constexpr std::string_view kName = "pack_favor";
};

// q [B*T, A], k, v [B*S, A], packed P (not with kNone), mask [B*S, 1]? -> [B*T, width], the first A columns; zeros behind. Causal: S = T, and the state
// holds StateElements per head and lane.
struct FavorOp {
  static constexpr std::string_view kName = "favor";
  enum class Kernel : uint8_t { kSoftmax, kRelu, kElu1, kExp, kSigmoid, kNone };
  int64_t batch = 1, heads = 1, head_width = 1, features = 1;
  Kernel kernel = Kernel::kSoftmax;
  bool causal = false, mask_keys = false, masked = false;

  static int64_t StateElements(int64_t features, int64_t head_width) {
    const int64_t width16 = (head_width + 15) / 16 * 16;
    return 16 + (features + 15) / 16 * 16 + width16 + features * width16;
  }
};

// q, k, v [B*T, A], sines and cosines of 3 w (causal: 2 w) slots [slots, Dh], mask [B*T, 1]?, base [B*T, width]? -> [B*T, width]: the last A columns; the others
// as in `base`. Exact attention in windows of w tokens to the one before, the own and, not causal, the one behind, keys rotated by their slot (local-attention
// package). Causal: the state keeps the keys and values of two windows, 4 w Dh numbers per head and lane.
struct LocalWindowsOp {
  static constexpr std::string_view kName = "local_windows";
  int64_t batch = 1, heads = 1, head_width = 1, window = 1;
  bool causal = false, masked = false, based = false;
};

// ---- Reformer (Kitaev et al. 2020). Its sequences are padded to whole chunks: T tokens are given, S rows are computed. ----

// ids [B*T, 1] i32, words [V, D], then per axis a table [n_a, d_a] -> [B*S, D] = words[id] + the tables' rows side by side, position in row-major order over
// the axes; rows behind T hold the padding token.
struct AxialEmbedOp {
  static constexpr std::string_view kName = "axial_embed";
  int64_t batch = 1, pad_token_id = 0;
};

// Causal or full attention within a chunk and its neighbours: q, k, v [B*S, A], attention_mask [B*T, 1] i32 (may be bound to nothing) -> [B*S, A].
// With a state, also the step: one new token over the last chunks' keys.
struct LocalAttentionOp {
  static constexpr std::string_view kName = "local_attention";
  int64_t batch = 1, heads = 1, head_width = 1;
  int64_t chunk = 64, before = 1, after = 0;
  bool causal = true;
};

// -> [H * Dh, rounds * directions]: torch's normal numbers of the spec's seed, [H, Dh, rounds, directions] without gaps. The input, if any, makes it an op of
// every call: for a number of buckets that follows the length.
struct DrawRotationsOp : LshSpec {
  static constexpr std::string_view kName = "draw_rotations";
};

// qk, v [B*S, A], attention_mask [B*T, 1] i32, rotations, and rotations given by the caller (both may be bound to nothing) -> [B*S, A]: attention among the
// tokens that fall into the same part of the order by hash bucket. With a state, also the step of one new token.
struct LshAttentionOp : LshSpec {
  static constexpr std::string_view kName = "lsh_attention";
};

// x, residual [r, D], gamma, beta [D], W1 [F, D], b1 [F], W2 [D, F], b2 [D] -> residual + W2 act(W1 LayerNorm(x) + b1) + b2, a block of rows at a time: [r, F]
// never exists.
struct ChunkedFeedForwardOp {
  static constexpr std::string_view kName = "chunked_feed_forward";
  static constexpr int64_t kRows = 512;
  Activation activation = Activation::kRelu;
  float epsilon = 1e-12f;
};

// x [B*S, D], y [B*S, E]? -> [B*T, D + E], the rows that are no padding, side by side; or [B, D + E], the first or last of each sequence.
struct CutRowsOp {
  static constexpr std::string_view kName = "cut_rows";
  int64_t batch = 1;
  bool joined = false;  // there is y
  enum class Keep : uint8_t { kAll, kFirst, kLast } keep = Keep::kAll;
};

// One a line, so that a new one is a line of its own.
// clang-format off
using OpSpec = std::variant<
    EmbedOp,
    MatMulOp,
    LayerNormOp,
    AddOp,
    LastRowsOp,
    AppendKvOp,
    AttendXlOp,
    SinusoidOp,
    PackXlPositionsOp,
    LogSoftmaxOp,
    TargetLogProbOp,
    AddPositionsOp,
    AttendCausalOp,
    AddLookupOp,
    MemoryTablesOp,
    UpdateMemoryOp,
    RememberRowsOp,
    AttendMemoryOp,
    AttendPackedOp,
    TakeRowsOp,
    MeanRowsOp,
    NormalizeOp,
    MulOp,
    ClampedRmsNormOp,
    ResidualOp,
    OnePlusOp,
    RotaryTableOp,
    RotaryOp,
    KeepChunkOp,
    AttendChunkOp,
    AttendNeighborsOp,
    PositionsOp,
    GluOp,
    GainOp,
    ShiftTokensOp,
    RotaryPairsOp,
    PackFavorOp,
    FavorOp,
    LocalWindowsOp,
    AxialEmbedOp,
    LocalAttentionOp,
    DrawRotationsOp,
    LshAttentionOp,
    ChunkedFeedForwardOp,
    CutRowsOp,
    RmsNormOp,
    ScaleOp,
    StoreKvOp,
    AttendCrossOp,
    RelativeBiasOp,
    ExpertsOp
>;
// clang-format on

inline std::string_view OpName(const OpSpec& spec) {
  return std::visit([](const auto& op) { return std::decay_t<decltype(op)>::kName; }, spec);
}

}  // namespace tern
