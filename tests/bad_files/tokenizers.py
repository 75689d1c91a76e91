"""Bad tokenizer files: SentencePiece models, tokenizer.json, vocabularies of BERT, GPT-2 and Transformer-XL. Each breaks one thing of a sound file.

`files()` yields (name, {file: bytes}, kind, exit code, words); `cases(folder)` makes them arguments of `tokenize`.
"""
import json
import os
import pickle
import struct

from case import Case, write

CANARY = "tern-canary"   # a pickle that runs would create this file in the working folder


# --- SentencePiece -----------------------------------------------------------------------------------------------------------------------------------------

def varint(n):
    out = b""
    while True:
        out += bytes([n & 127 | (128 if n > 127 else 0)])
        n >>= 7
        if not n:
            return out


def field(number, value):
    """An integer, a float or bytes as a field of a protocol buffer."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text, score=0.0, kind=1):
    text = text.encode() if isinstance(text, str) else text
    return field(1, field(1, text) + field(2, score) + field(3, kind))


SPECIAL = piece("<unk>", 0.0, 2) + piece("<s>", 0.0, 3) + piece("</s>", 0.0, 3)
LETTERS = b"".join(piece(c, -float(i + 1)) for i, c in enumerate("\u2581abcde"))
BYTES = b"".join(piece(f"<0x{b:02X}>", 0.0, 6) for b in range(256))
FALLBACK = field(2, field(3, 1) + field(35, 1))
SOUND = SPECIAL + LETTERS + field(2, field(3, 1))


def charsmap(units, strings=b"x\0", size=None):
    """The blob of a normalizer: u32 size, u32 units, strings."""
    trie = b"".join(struct.pack("<I", u) for u in units)
    return field(3, field(2, struct.pack("<I", len(trie) if size is None else size) + trie + strings))


def unit(label, offset, leaf=False):
    """One unit of the double array: `offset` is what is XORed to reach the children."""
    return label | (256 if leaf else 0) | offset << 10


def tree(leaf_value=0, child_offset=1):
    """The root leads by 'a' (unit 97 ^ 256) to a value at 96 ^ 256."""
    units = [1 << 31] * 512          # what no byte leads to
    units[0] = unit(0, 256)
    units[256 ^ 97] = unit(97, child_offset, leaf=True)
    if child_offset < 512:
        units[256 ^ 97 ^ child_offset] = 1 << 31 | leaf_value
    return units


def spm_files():
    yield "spm_empty", b"", 4, "the file is empty"
    for n in range(1, len(SOUND), 11):
        yield f"spm_cut_at_{n}", SOUND[:n], (0, 4), ""  # a cut between two pieces leaves a sound model
    yield "spm_no_pieces", field(2, field(3, 1)), 4, "no pieces"
    yield "spm_long_varint", SOUND + b"\x10" + b"\xff" * 10 + b"\x01", 4, "longer than 10 bytes"
    yield "spm_cut_varint", SOUND + b"\x10\xff\xff", 4, "ends too early"
    yield "spm_length_2_63", SOUND + b"\x0a" + varint(2 ** 63), 4, "ends too early"
    yield "spm_field_zero", SOUND + b"\x00\x00", 4, "field number 0"
    yield "spm_group", SOUND + b"\x0b", 4, "wire type"
    for name, score in (("nan", float("nan")), ("inf", float("inf")), ("minus_inf", float("-inf"))):
        yield f"spm_score_{name}", SOUND + piece("zz", score), 4, "finite"
    yield "spm_score_is_text", SOUND + field(1, field(1, b"zz") + field(2, b"high")), 4, "wrong type"
    yield "spm_piece_is_number", SOUND + field(1, field(1, 5)), 4, "wrong type"
    yield "spm_type_0", SOUND + piece("zz", 0.0, 0), 4, "unknown type"
    yield "spm_type_7", SOUND + piece("zz", 0.0, 7), 4, "unknown type"
    yield "spm_empty_piece", SOUND + piece("", 0.0), 4, "piece is empty"
    yield "spm_long_piece", SOUND + piece("z" * 1025), 4, "too long"
    yield "spm_zero_byte", SOUND + piece("z\0z"), 4, "zero byte"
    yield "spm_twice", SOUND + piece("a"), 4, "stands twice"
    yield "spm_two_unknown", SOUND + piece("<unk2>", 0.0, 2), 4, "second unknown"
    yield "spm_no_unknown", LETTERS, 4, "of type 'unknown'"
    yield "spm_model_type_9", SPECIAL + LETTERS + field(2, field(3, 9)), 4, "unknown kind of model"
    yield "spm_bytes_missing", SPECIAL + BYTES[:-20] + LETTERS + FALLBACK, 4, ""
    yield "spm_bytes_off", SPECIAL + LETTERS + BYTES, 4, "byte_fallback is off"
    for token in ("<0x-1>", "<0xZZ>", "<0x100>", "<0xab>", "0x41", "<0x 1>"):
        yield f"spm_byte_{token.strip('<>').replace(' ', '_')}", SPECIAL + LETTERS + BYTES + piece(token, 0.0, 6) + FALLBACK, 4, "bad byte token"
    yield "spm_byte_twice", SPECIAL + LETTERS + BYTES + piece("<0x41>", 0.0, 6) + FALLBACK, 4, "stands twice"
    yield "spm_json", b'{"model": {}}', 4, ""
    yield "spm_png", b"\x89PNG\r\n\x1a\n" + bytes(64), 4, ""
    yield "spm_lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", 4, "Git LFS"
    # The precompiled table of the normalizer (the class of CVE-2026-1260).
    yield "map_size_0", SOUND + charsmap([], size=0), 4, "odd size"
    yield "map_size_3", SOUND + charsmap([0], size=3), 4, "odd size"
    yield "map_size_huge", SOUND + charsmap([0], size=2 ** 32 - 4), 4, "ends too early"
    yield "map_one_byte", SOUND + field(3, field(2, b"\x04")), 4, "ends too early"
    yield "map_value_outside", SOUND + charsmap(tree(leaf_value=1000)), 4, "outside the table"
    yield "map_value_2_31", SOUND + charsmap(tree(leaf_value=2 ** 31 - 1)), 4, "outside the table"
    yield "map_child_outside", SOUND + charsmap(tree(child_offset=1 << 20)), 4, "points outside"
    yield "map_not_terminated", SOUND + charsmap(tree(), strings=b"xyz"), 4, "not terminated"
    yield "map_no_strings", SOUND + charsmap(tree(), strings=b""), 4, "outside the table"
    yield "map_long_replacement", SOUND + charsmap(tree(), strings=b"x" * 300 + b"\0"), 4, "too long"
    units = [1 << 31] * 256
    units[0] = unit(0, 0)
    units[97] = unit(97, 97)          # 97 ^ 97 = 0: back to where 'a' leads on for ever
    yield "map_runs_in_a_circle", SOUND + charsmap(units), 4, "circle"


# --- tokenizer.json ----------------------------------------------------------------------------------------------------------------------------------------

WORDS = {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"}


def with_part(name, value):
    return json.dumps({"model": WORDS, name: value}).encode()


def json_files():
    yield "json_cut", with_part("normalizer", None)[:-3], 4, "JSON"
    yield "json_list", b"[]", 4, ""
    yield "json_no_model", b"{}", 4, "no 'model'"
    yield "json_deep", b'{"model":' + b"[" * 5000 + b"]" * 5000 + b"}", 4, ""
    yield "json_invalid_utf8", b'{"model":{"type":"WordLevel","vocab":{"\xff":0}}}', 4, ""
    for name, model, words in (
            ("unknown_model", {"type": "Magic", "vocab": {}}, "unknown model"),
            ("vocab_list", {"type": "WordLevel", "vocab": [1, 2]}, "must be an object"),
            ("vocab_missing", {"type": "WordLevel"}, "no vocabulary"),
            ("id_negative", {"type": "WordLevel", "vocab": {"a": -1}}, "not a number from 0"),
            ("id_huge", {"type": "WordLevel", "vocab": {"a": 2 ** 31 - 1}}, "out of range"),
            ("id_2_64", {"type": "WordLevel", "vocab": {"a": 2 ** 64 - 1}}, ""),
            ("id_text", {"type": "WordLevel", "vocab": {"a": "0"}}, "not a number from 0"),
            ("token_long", {"type": "WordLevel", "vocab": {"a" * 5000: 0}}, "too long"),
            ("merge_unknown", {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}, "not in the vocabulary"),
            ("merge_three", {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a a"]}, "two tokens"),
            ("merge_number", {"type": "BPE", "vocab": {"a": 0}, "merges": [7]}, "two tokens"),
            ("merges_missing", {"type": "BPE", "vocab": {"a": 0}}, "merges"),
            ("dropout", {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5}, "dropout"),
            ("unigram_pair", {"type": "Unigram", "unk_id": 0, "vocab": [["a"]]}, "[text, score]"),
            ("unigram_score", {"type": "Unigram", "unk_id": 0, "vocab": [["a", "b"]]}, "[text, score]"),
            ("unigram_unk", {"type": "Unigram", "unk_id": 5, "vocab": [["a", 0.0]]}, "outside the vocabulary"),
            ("unigram_object", {"type": "Unigram", "vocab": {"a": 0}}, "must be a list")):
        yield f"json_{name}", json.dumps({"model": model}).encode(), 4, words
    nested = {"type": "Lowercase"}
    for _ in range(12):
        nested = {"type": "Sequence", "normalizers": [nested]}
    for part, name, value, words in (
            ("normalizer", "unknown", {"type": "Magic"}, "unknown normalizer"),
            ("normalizer", "text", "NFC", "must be an object"),
            ("normalizer", "nested", nested, "nested"),
            ("normalizer", "no_type", {"lowercase": True}, "type"),
            ("normalizer", "base64", {"type": "Precompiled", "precompiled_charsmap": "***"}, "base64"),
            ("normalizer", "charsmap", {"type": "Precompiled", "precompiled_charsmap": "BAAAAA=="}, ""),
            ("normalizer", "flag", {"type": "Strip", "strip_left": 1}, "true or false"),
            ("normalizer", "pattern", {"type": "Replace", "content": "x"}, "pattern"),
            ("pre_tokenizer", "unknown", {"type": "Magic"}, "unknown pre-tokenizer"),
            ("pre_tokenizer", "behavior", {"type": "Split", "pattern": {"String": "a"}, "behavior": "Eaten"}, "unknown behavior"),
            ("pre_tokenizer", "two_characters", {"type": "Metaspace", "replacement": "ab"}, "one character"),
            ("pre_tokenizer", "scheme", {"type": "Metaspace", "replacement": "_", "prepend_scheme": "often"}, "prepend_scheme"),
            ("pre_tokenizer", "length_0", {"type": "FixedLength", "length": 0}, "out of range"),
            ("post_processor", "unknown", {"type": "Magic"}, "unknown post-processor"),
            ("post_processor", "undefined", {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}], "pair": [], "special_tokens": {}}, "not defined"),
            ("post_processor", "id", {"type": "BertProcessing", "sep": ["a", -1], "cls": ["a", 0]}, "number from 0"),
            ("decoder", "unknown", {"type": "Magic"}, "unknown decoder"),
            ("decoder", "type_is_a_flag", {"type": "Sequence", "decoders": [{"type": True}]}, "must be a string"),
            ("added_tokens", "text", "x", "must be a list"),
            ("added_tokens", "no_content", [{"id": 0}], "content"),
            ("truncation", "negative", {"max_length": -1}, "out of range"),
            ("padding", "huge", {"strategy": {"Fixed": 2 ** 40}}, "out of range")):
        yield f"json_{part}_{name}", with_part(part, value), 4, words
    for name, pattern in (("open", "("), ("close", ")"), ("set", "[a"), ("range", "[z-a]"), ("repeat", "*"), ("braces", "a{5,2}"), ("thousands", "a{99999}"), ("property", "\\p{Klingon}"),
                          ("behind", "(?<=a)b"), ("back", "(a)\\1"), ("end", "a\\"), ("deep", "(" * 100 + ")" * 100), ("long", "a" * 5000)):
        yield f"json_regex_{name}", with_part("pre_tokenizer", {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}), 4, "pattern"
    # A pattern that backtracks without end is stopped by its step limit: an error about the text, not a hang.
    yield "json_regex_backtracks", with_part("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(?:(?:a|a)+)+b"}, "behavior": "Isolated"}), 4, "too many steps"


# --- other vocabularies ------------------------------------------------------------------------------------------------------------------------------------

class Runs:
    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def vocabulary_files():
    yield "bert_empty", {"vocab.txt": b""}, "bert", 4, "empty"
    yield "bert_invalid_utf8", {"vocab.txt": b"[UNK]\n\xff\n"}, "bert", 4, "not UTF-8"
    yield "bert_no_special", {"vocab.txt": b"a\nb\n"}, "bert", 4, "lacks"
    yield "bert_long_token", {"vocab.txt": b"[UNK]\n" + b"a" * 5000 + b"\n"}, "bert", 4, "too long"
    good = json.dumps({"a": 0, "b": 1, "ab": 2, "<s>": 3, "</s>": 4}).encode()
    yield "gpt2_merges_missing", {"vocab.json": good}, "gpt2", 3, "merges.txt"
    yield "gpt2_merge_three", {"vocab.json": good, "merges.txt": b"#\na b c\n"}, "gpt2", 4, "two tokens"
    yield "gpt2_merge_unknown", {"vocab.json": good, "merges.txt": b"#\nb a\n"}, "gpt2", 4, "not in the vocabulary"
    yield "gpt2_vocab_list", {"vocab.json": b"[]", "merges.txt": b"#\n"}, "gpt2", 4, "must be an object"
    yield "gpt2_vocab_cut", {"vocab.json": good[:-4], "merges.txt": b"#\n"}, "gpt2", 4, "JSON"
    yield "roberta_no_special", {"vocab.json": b'{"a": 0}', "merges.txt": b"#\n"}, "roberta", 4, "lacks"
    yield "albert_no_special", {"spiece.model": SOUND}, "albert", 4, "[CLS]"
    yield "t5_no_end", {"spiece.model": piece("<unk>", 0.0, 2) + LETTERS}, "t5", 4, "</s>"
    yield "t5_extra_ids", {"spiece.model": SOUND, "tokenizer_config.json": b'{"extra_ids": 99999999}'}, "t5", 4, "out of range"
    symbols = ["<eos>", "<unk>", "a"]
    for name, value, words in (
            ("empty", {}, "neither"),
            ("number", 7, "no vocabulary"),
            ("no_symbols", {"idx2sym": [], "sym2idx": {}}, "no symbols"),
            ("symbol_number", {"idx2sym": ["<unk>", 5]}, "not a string"),
            ("symbol_long", {"idx2sym": ["<unk>", "a" * 2000]}, "too long"),
            ("id_outside", {"idx2sym": [], "sym2idx": {"a": 5}}, "outside the vocabulary"),
            ("id_twice", {"idx2sym": [], "sym2idx": {"a": 0, "b": 0}}, "two symbols"),
            ("unk_outside", {"idx2sym": symbols, "unk_idx": 9}, "outside the vocabulary")):
        yield f"xl_{name}", {"vocab.pkl": pickle.dumps(value, 2)}, "transfo-xl", 4, words
    sound = pickle.dumps({"idx2sym": symbols}, 2)
    for n in range(1, len(sound), 9):
        yield f"xl_cut_at_{n}", {"vocab.pkl": sound[:n]}, "transfo-xl", 4, ""
    yield "xl_runs_code", {"vocab.pkl": pickle.dumps({"idx2sym": symbols, "x": Runs()}, 2)}, "transfo-xl", 4, ""
    yield "lm1b_no_unknown", {"1b_word_vocab.txt": b"a\nb\n"}, "xl-lm1b", 4, "<UNK>"
    yield "lm1b_empty_line", {"1b_word_vocab.txt": b"<UNK>\n\na\n"}, "xl-lm1b", 4, "empty"


def files():
    for name, data, code, words in spm_files():
        yield name, {"tokenizer.model": data}, "spm", code, words
    for name, data, code, words in json_files():
        yield name, {"tokenizer.json": data}, "json", code, words
    yield from vocabulary_files()


def cases(folder):
    for name, content, kind, code, words in files():
        for inner, data in content.items():
            write(os.path.join(folder, name), inner, data)
        yield Case(name, ["tokenize", os.path.join(folder, name), "--kind", kind, "a" * 400 + " b"], code if isinstance(code, tuple) else (code,), words)
