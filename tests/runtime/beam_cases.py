#!/usr/bin/env python3
# Records beam_cases.inc: beam search of transformers 4.57 over a table of logits (position, last token) -> V. usage: beam_cases.py > beam_cases.inc
import sys, itertools, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch, transformers
from transformers import PreTrainedModel, PretrainedConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutput
assert transformers.__version__.startswith("4.57"), transformers.__version__
transformers.logging.set_verbosity_error()
V, L = 11, 12
def table(seed):
    i = np.arange(L * V * V, dtype=np.uint64)
    x = (i * np.uint64(2654435761) + np.uint64(seed + 1) * np.uint64(2246822519)) & np.uint64(0xffffffff)
    def mul(a, b): return (a * np.uint64(b)) & np.uint64(0xffffffff)
    x ^= x >> np.uint64(15); x = mul(x, 2246822519); x ^= x >> np.uint64(13); x = mul(x, 3266489917); x ^= x >> np.uint64(16)
    t = ((x.astype(np.float64) / 2**32 * 2 - 1) * 3).astype(np.float32).reshape(L, V, V)
    return t
class C(PretrainedConfig):
    model_type = "dummy"
    def __init__(self, **k):
        self.vocab_size = V; self.num_hidden_layers = 1; self.hidden_size = 1; self.num_attention_heads = 1
        super().__init__(**k)
class M(PreTrainedModel, GenerationMixin):
    config_class = C
    def __init__(self, c, seed):
        super().__init__(c); self.t = torch.tensor(table(seed)); self.p = torch.nn.Parameter(torch.zeros(1))
    def forward(self, input_ids=None, **k):
        n = input_ids.shape[1]
        out = torch.stack([self.t[i][input_ids[:, i]] for i in range(n)], 1)
        return CausalLMOutput(logits=out)
    def prepare_inputs_for_generation(self, input_ids, **k): return {"input_ids": input_ids}
print("// Recorded by beam_cases.py with transformers", transformers.__version__)
print("// {seed, beams, new_tokens, length_penalty, early_stopping (0 false, 1 true, 2 never), no_repeat_ngram_size, eos, score, ids}")
n = 0
for seed in range(6):
    m = M(C(), seed)
    for beams, new, lp, es, ng, eos in [(2, 8, 1.0, 0, 0, 1), (4, 10, 1.0, 0, 0, 1), (4, 10, 0.6, 0, 0, 1), (4, 10, 2.0, 1, 0, 1), (4, 10, 2.0, 2, 0, 1), (3, 10, 0.0, 2, 0, 1),
                                       (4, 10, -1.0, 0, 0, 1), (4, 11, 1.0, 0, 2, 1), (3, 11, 1.5, 1, 3, 1), (5, 9, 1.0, 1, 1, 1), (4, 6, 1.0, 0, 0, -1)]:
        kw = dict(eos_token_id=eos) if eos >= 0 else dict(eos_token_id=None)
        o = m.generate(torch.tensor([[0]]), max_new_tokens=new, num_beams=beams, do_sample=False, length_penalty=lp, early_stopping=[False, True, "never"][es],
                       no_repeat_ngram_size=ng, pad_token_id=0, use_cache=False, return_dict_in_generate=True, output_scores=True, **kw)
        ids = o.sequences[0].tolist()
        if eos in ids: ids = ids[:ids.index(eos) + 1]
        print("{%d, %d, %d, %.1ff, %d, %d, %d, %.7ff, {%s}}," % (seed, beams, new, lp, es, ng, eos, o.sequences_scores[0].item(), ", ".join(map(str, ids))))
