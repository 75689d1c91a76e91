#!/usr/bin/env python3
"""filter and leak: the golden cases, the same bytes for any number of threads, and what happens to bad input.
usage: corpus_rules_test.py BINARY SOURCE_DIR"""
import gzip
import json
import os
import shutil
import sys
import unittest

from corpus_cases import SOURCE, CorpusCase, read, rows, tern, write_corpus, write_jsonl


class Cases(CorpusCase):
    def golden(self, name):
        _, expect, out = self.run_golden(name, ["--threads", "1"], ["--threads", "3"])
        return expect, out

    def test_filter_verdicts_equal_the_reference(self):
        expect, out = self.golden("filter/annotate")
        marks = rows(out + "/annotations.jsonl")
        self.assertEqual(len(marks), len(expect["annotations"]["c4"]))
        for rules, reasons in expect["annotations"].items():
            for i, reason in enumerate(reasons):
                self.assertEqual(marks[i]["reasons"][rules], reason, "document %d, %s" % (i, rules))

    def test_c4_leaves_the_text_the_reference_leaves(self):
        expect, out = self.golden("filter/c4_rewrite")
        self.assertEqual([r["text"] for r in rows(out + "/kept/a.jsonl")], expect["kept_texts"]["a.jsonl"])

    def test_unknown_rule(self):
        self.golden("filter/unknown_rule")

    def leak(self, name):
        expect, out = self.golden(name)
        fields = ("doc", "exact", "ngram_hits", "ngram_total", "char_hits", "char_total")
        got = rows(out + "/leak.jsonl")
        self.assertEqual([[r[f] for f in fields] for r in got if r["leaked"]], expect["leak"]["leaked"])
        self.assertEqual(sum(r["char_total"] for r in got), expect["leak"]["char_total"])
        for r in got:
            for p in r.get("passages", []):
                self.assertLess(p["begin"], p["end"])
                self.assertIn("doc", p["train"])

    def test_leak_planted(self):
        self.leak("leak/planted")

    def test_leak_planted_shorter(self):
        self.leak("leak/planted_8_30")

    def test_clean_removes_only_what_leaks(self):
        write_jsonl(self.tmp + "/train.jsonl", ["one two three four", "five six seven eight", "Nine TEN eleven, twelve."])
        write_jsonl(self.tmp + "/test.jsonl", ["say: nine ten eleven twelve!", "unrelated words only here"])
        code, out, err = tern("leak", self.tmp + "/train.jsonl", "--test", self.tmp + "/test.jsonl", "--ngram", "4", "--clean", "-o", self.tmp + "/out", "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["removed"], 1)
        removed = rows(self.tmp + "/out/removed.jsonl")
        self.assertEqual([(r["doc"], r["reason"], r["test_doc"]) for r in removed], [(2, "ngram", 0)])
        lines = read(self.tmp + "/train.jsonl").splitlines(True)
        self.assertEqual(read(self.tmp + "/out/kept/train.jsonl"), lines[0] + lines[1])
        passage = rows(self.tmp + "/out/leak.jsonl")[0]["passages"][0]
        self.assertEqual(passage["text"], "nine ten eleven twelve")

    def test_csv_and_gzip_rewritten_in_place(self):
        five = "This is one. Here are two. And here three! Is it four? Five it is."
        with open(self.tmp + "/a.csv", "w", newline="") as f:
            f.write('id,text,n\r\n1,"%s\nno end",x\r\n2,short,y\r\n' % five)
        with gzip.open(self.tmp + "/b.jsonl.gz", "wb") as f:
            f.write(json.dumps({"n": 1, "text": five + "\nno end", "z": [1.50]}).replace("1.5", "1.50").encode() + b"\n")
        code, _, err = tern("filter", self.tmp + "/a.csv", self.tmp + "/b.jsonl.gz", "--rules", "c4", "-o", self.tmp + "/out")
        self.assertEqual(code, 0, err)
        self.assertEqual(read(self.tmp + "/out/kept/a.csv").decode(), 'id,text,n\r\n1,"%s",x\r\n' % five)
        self.assertEqual(read(self.tmp + "/out/kept/b.jsonl").decode(), '{"n": 1, "text": "%s", "z": [1.50]}\n' % five)

    def test_own_rules_and_their_errors(self):
        write_jsonl(self.tmp + "/a.jsonl", ["BUY NOW or never", "a calm text", "SHOUTING ALOUD"])
        with open(self.tmp + "/mine.json", "w") as f:
            json.dump({"rules": [{"reason": "advert", "contains": ["buy now"]}, {"reason": "loud", "measure": "upper_ratio", "max": 0.6}]}, f)
        code, _, err = tern("filter", self.tmp + "/a.jsonl", "--rules", self.tmp + "/mine.json", "-o", self.tmp + "/out", "--report", self.tmp + "/page.html")
        self.assertEqual(code, 0, err)
        self.assertEqual([(r["doc"], r["rules"], r["reason"], r["limit"]) for r in rows(self.tmp + "/out/removed.jsonl")], [(0, "mine", "advert", 0), (2, "mine", "loud", 0.6)])
        self.assertIn("SHOUTING ALOUD", read(self.tmp + "/page.html").decode())
        with open(self.tmp + "/mine.toml", "w") as f:
            f.write('# the same\n[[rules]]\nreason = "advert"\ncontains = ["buy now"]\n\n[[rules]]\nreason = "loud"\nmeasure = "upper_ratio"\nmax = 0.6\n')
        code, _, err = tern("filter", self.tmp + "/a.jsonl", "--rules", self.tmp + "/mine.toml", "-o", self.tmp + "/out2")
        if "this build reads no TOML" in err:
            self.assertEqual(code, 4)
        else:
            self.assertEqual(code, 0, err)
            self.assertEqual(read(self.tmp + "/out2/removed.jsonl"), read(self.tmp + "/out/removed.jsonl"))
            for wrong, place in (('[[rules]]\nreason = "x"\nmeasure = "wordz"\nmin = 1\n', "rules[0].measure"), ("[lines]\nmin_words = 1979-05-27\n", "line 2"), ("a = [1,\n\n", "line "),
                                 ("x = " + "[" * 100000, "line 1")):
                with open(self.tmp + "/wrong.toml", "w") as f:
                    f.write(wrong)
                code, _, err = tern("filter", self.tmp + "/a.jsonl", "--rules", self.tmp + "/wrong.toml", "-o", self.tmp + "/no")
                self.assertEqual(code, 4)
                self.assertIn("wrong.toml: " + place, err)
        with open(self.tmp + "/wrong.json", "w") as f:
            f.write('{"rules": [{"reason": "x", "measure": "wordz", "min": 1}]}')
        code, _, err = tern("filter", self.tmp + "/a.jsonl", "--rules", self.tmp + "/wrong.json", "-o", self.tmp + "/no")
        self.assertEqual(code, 4)
        self.assertIn("rules[0].measure", err)
        self.assertFalse(os.path.exists(self.tmp + "/no"))

    def test_malformed_records_beyond_one_percent_stop_it(self):
        with open(self.tmp + "/a.jsonl", "w") as f:
            f.write('{"text": "fine"}\nnot json\n')
        code, _, err = tern("filter", self.tmp + "/a.jsonl", "--rules", "encoding", "-o", self.tmp + "/out")
        self.assertEqual(code, 4)
        self.assertIn("--yes", err)
        self.assertFalse(os.path.exists(self.tmp + "/out/kept"))
        self.assertEqual(rows(self.tmp + "/out/bad.jsonl")[0]["line"], 2)
        code, _, err = tern("filter", self.tmp + "/a.jsonl", "--rules", "encoding", "--yes", "-o", self.tmp + "/out")
        self.assertEqual(code, 0, err)

    def test_perplexity_is_the_one_score_prints(self):
        model = os.path.join(SOURCE, "models/zoo/books-xl.tern")
        text = "It was a dark night, and the old man walked slowly along the road to the house of his brother."
        write_jsonl(self.tmp + "/a.jsonl", [text, "", "qxz vvk " * 30])
        code, out, err = tern("score", model, text, "--json")
        self.assertEqual(code, 0, err)
        perplexity = json.loads(out)["perplexity"]
        for threads in ("1", "2"):
            code, _, err = tern("filter", self.tmp + "/a.jsonl", "--ppl", model, "--ppl-range", ":%.9f" % (perplexity * 0.999), "--threads", threads, "--force", "-o", self.tmp + "/out")
            self.assertEqual(code, 0, err)
            removed = rows(self.tmp + "/out/removed.jsonl")
            self.assertEqual([(r["doc"], r["rules"], r["reason"]) for r in removed], [(0, "ppl", "perplexity_too_high"), (2, "ppl", "perplexity_too_high")])
            self.assertAlmostEqual(removed[0]["value"] / perplexity, 1, places=5)
        self.assertEqual(tern("filter", self.tmp + "/a.jsonl", "--ppl", model, "-o", self.tmp + "/no")[0], 2)

    def test_kills_then_resume(self):
        write_corpus(self.tmp + "/a.jsonl", 4000, 1)
        write_corpus(self.tmp + "/b.jsonl", 300, 2)
        self.kill_and_resume("filter", self.tmp + "/a.jsonl", "--rules", "gopher-rep,fineweb,c4")
        shutil.rmtree(self.tmp + "/whole")
        self.kill_and_resume("leak", self.tmp + "/a.jsonl", "--test", self.tmp + "/b.jsonl", "--clean")

    def test_failures(self):
        write_corpus(self.tmp + "/a.jsonl", 2000, 1)
        write_corpus(self.tmp + "/b.jsonl", 20, 2)
        self.check_failures("filter", self.tmp + "/a.jsonl", "--rules", "encoding")
        self.check_failures("leak", self.tmp + "/a.jsonl", "--test", self.tmp + "/b.jsonl", "--clean")

    def test_full_disks(self):
        write_corpus(self.tmp + "/a.jsonl", 1000, 1)
        write_corpus(self.tmp + "/b.jsonl", 20, 2)
        self.check_full_disks("filter", self.tmp + "/a.jsonl", "--rules", "gopher-rep")

    def test_full_disks_leak(self):
        write_corpus(self.tmp + "/a.jsonl", 1000, 1)
        write_corpus(self.tmp + "/b.jsonl", 20, 2)
        self.check_full_disks("leak", self.tmp + "/a.jsonl", "--test", self.tmp + "/b.jsonl", "--clean")

    def test_force_leaves_nothing_of_the_former_run(self):
        write_jsonl(self.tmp + "/a.jsonl", ["a", "b"])
        args = ["filter", self.tmp + "/a.jsonl", "--rules", "gopher", "-o", self.tmp + "/out"]
        self.assertEqual(tern(*args)[0], 0)
        self.assertTrue(os.path.exists(self.tmp + "/out/kept"))
        self.assertEqual(tern(*args, "--annotate", "--force")[0], 0)
        self.assertEqual(sorted(os.listdir(self.tmp + "/out")), ["annotations.jsonl", "bad.jsonl", "manifest.json", "report.json"])

    def test_dry_run_writes_nothing(self):
        write_jsonl(self.tmp + "/a.jsonl", ["text %d" % i for i in range(1000)])
        code, out, err = tern("filter", self.tmp + "/a.jsonl", "--rules", "gopher", "--dry-run", "--json")
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        self.assertGreater(report["sampled"], 0)
        self.assertLess(report["sampled"], 100)
        self.assertEqual(report["removed"], report["sampled"])
        self.assertEqual(os.listdir(self.tmp), ["a.jsonl"])


unittest.main(argv=sys.argv[:1])
