#!/usr/bin/env python3
"""index: build, add, search, verify, check; kills at any point; what is wrong; a RETRO model that reads from a database.
usage: index_test.py BINARY SOURCE_DIR [KILLS]"""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BINARY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
KILLS = int(sys.argv[3]) if len(sys.argv) > 3 else 12
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."] + "the ship left harbour at dawn and nobody on pier could say where it was bound red fox jumps over lazy dog stone tower night king rode".split()


def tern(*args, stdin=None):
    r = subprocess.run([BINARY, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def tree(folder):
    out = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith(".lock"):  # of a run that was killed at the very end
            continue
        with open(os.path.join(folder, name), "rb") as f:
            out[name] = f.read()
    return out


def write_safetensors(path, tensors):
    header, body = {}, b""
    for name, (shape, values) in tensors.items():
        data = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def write_bert(folder, seed, d=16, inner=32, vocab=len(WORDS)):
    os.makedirs(folder)
    r = random.Random(seed)
    t = {}

    def add(name, *shape, scale=0.3, at=0.0):
        n = 1
        for s in shape:
            n *= s
        t[name] = (list(shape), [at + r.gauss(0, scale) for _ in range(n)])

    add("embeddings.word_embeddings.weight", vocab, d, scale=1)
    add("embeddings.position_embeddings.weight", 64, d, scale=0.05)
    add("embeddings.token_type_embeddings.weight", 2, d)
    b = "encoder.layer.0."
    for name in ("embeddings.LayerNorm", b + "attention.output.LayerNorm", b + "output.LayerNorm"):
        add(name + ".weight", d, scale=0.05, at=1)
        add(name + ".bias", d, scale=0.05)
    for name in ("query", "key", "value"):
        add(b + f"attention.self.{name}.weight", d, d)
        add(b + f"attention.self.{name}.bias", d)
    for name, rows, cols in ((b + "attention.output.dense", d, d), (b + "intermediate.dense", inner, d), (b + "output.dense", d, inner)):
        add(name + ".weight", rows, cols)
        add(name + ".bias", rows)
    write_safetensors(os.path.join(folder, "model.safetensors"), t)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": vocab, "hidden_size": d, "num_hidden_layers": 1, "num_attention_heads": 2,
                   "intermediate_size": inner, "max_position_embeddings": 64}, f)
    with open(os.path.join(folder, "vocab.txt"), "w") as f:
        f.write("\n".join(WORDS) + "\n")


def write_books(folder, seed, books=4, sentences=60):
    os.makedirs(folder)
    r = random.Random(seed)
    for i in range(books):
        with open(os.path.join(folder, f"book{i}.txt"), "w") as f:
            for _ in range(sentences):
                f.write(" ".join(r.choice(WORDS[6:]) for _ in range(r.randrange(4, 14))) + ".\n")


class Index(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.tmp = cls.holder.name
        for i in (1, 2):
            write_bert(f"{cls.tmp}/bert{i}", i)
            code, _, err = tern("convert", f"{cls.tmp}/bert{i}", "-o", f"{cls.tmp}/e{i}.tern")
            assert code == 0, err
        cls.embedder = f"{cls.tmp}/e1.tern"
        write_books(f"{cls.tmp}/books", 1)
        cls.build(cls, "whole")

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def build(self, name, *more, source="books", check=0):
        code, out, err = tern("index", "build", f"{self.tmp}/{source}", "-o", f"{self.tmp}/{name}", "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16", *more)
        assert code == check, (code, err)
        return out, err

    def test_same_bytes_for_any_number_of_threads_and_after_any_kill(self):
        want = tree(f"{self.tmp}/whole")
        self.build("three", "--threads", "3")
        self.assertEqual(tree(f"{self.tmp}/three"), want)
        start = time.time()
        self.build("timed")
        took = time.time() - start
        killed = 0
        for i in range(KILLS):
            folder = f"{self.tmp}/kill{i}"
            p = subprocess.Popen([BINARY, "index", "build", f"{self.tmp}/books", "-o", folder, "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(took * (i + 0.5) / KILLS)
            p.send_signal(signal.SIGKILL)
            killed += p.wait() != 0
            if not os.path.exists(folder + "/manifest.json"):
                self.build(f"kill{i}")
            self.assertEqual(tree(folder), want)
            shutil.rmtree(folder)
        self.assertGreater(killed, 0)

    def test_search_finds_a_passage_by_its_own_words(self):
        code, out, err = tern("index", "search", f"{self.tmp}/whole", "the red fox", "--embedder", self.embedder, "--json", "-k", "3")
        self.assertEqual(code, 0, err)
        hit = json.loads(out)["hits"][0]
        for key in ("id", "score", "source", "document", "chunk", "text"):
            self.assertIn(key, hit)
        code, out, _ = tern("index", "search", f"{self.tmp}/whole", hit["text"].strip(), "--embedder", self.embedder, "--json", "-k", "2")
        self.assertEqual(json.loads(out)["hits"][0]["text"], hit["text"])
        self.assertGreater(json.loads(out)["hits"][0]["score"], 0.99)
        code, out, _ = tern("index", "search", f"{self.tmp}/whole", "the red fox", "--embedder", self.embedder, "--json", "-k", "9", "--one-per-document")
        documents = [h["document"] for h in json.loads(out)["hits"]]
        self.assertEqual(sorted(documents), [0, 1, 2, 3])
        code, out, _ = tern("index", "search", f"{self.tmp}/whole", "the red fox", "--embedder", self.embedder, "--json", "-k", "500", "--not-document", "0,2")
        hits = json.loads(out)["hits"]
        self.assertEqual({h["document"] for h in hits}, {1, 3})
        info = json.loads(tern("index", "info", f"{self.tmp}/whole", "--json")[1])
        self.assertLess(len(hits), info["chunks"])

    def test_add_verify_check(self):
        shutil.copytree(f"{self.tmp}/whole", f"{self.tmp}/more")
        before = json.loads(tern("index", "info", f"{self.tmp}/more", "--json")[1])
        with open(f"{self.tmp}/new.jsonl", "w") as f:
            for i in range(5):
                f.write(json.dumps({"id": f"n{i}", "text": "the king rode over the stone tower at night ."}) + "\n")
            f.write(json.dumps({"id": "empty", "text": ""}) + "\n")
        code, out, err = tern("index", "add", f"{self.tmp}/more", f"{self.tmp}/new.jsonl", "--embedder", self.embedder, "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["documents"], before["documents"] + 5)
        code, out, _ = tern("index", "search", f"{self.tmp}/more", "the king rode over the stone tower at night", "--embedder", self.embedder, "--json", "-k", "1")
        self.assertEqual(json.loads(out)["hits"][0]["doc_id"], "n0")  # five equal ones: the lowest id
        self.assertEqual(tern("index", "verify", f"{self.tmp}/more")[0], 0)
        code, out, err = tern("index", "check", f"{self.tmp}/more", "--sample", "50", "--json")
        self.assertEqual(code, 0, err)
        self.assertGreaterEqual(json.loads(out)["recall_at_10"], 0.99)

    def test_shares_joined_are_the_whole(self):
        for i in (2, 0, 1):
            self.build("shared", "--block", f"{i}/3")
            self.assertFalse(os.path.exists(f"{self.tmp}/shared/manifest.json"))
        out, _ = self.build("shared", "--json")
        self.assertEqual(json.loads(out)["embedded"], 0)
        self.assertEqual(tree(f"{self.tmp}/shared"), tree(f"{self.tmp}/whole"))
        self.build("wrong", "--block", "3/3", check=2)
        self.build("wrong", "--block", "1", check=2)

    def test_shares_merged(self):
        for i in range(3):
            self.build(f"apart{i}", "--block", f"{i}/3")
        code, _, err = tern("index", "merge", f"{self.tmp}/merged", f"{self.tmp}/apart0", f"{self.tmp}/apart1")
        self.assertEqual(code, 2, err)
        self.assertIn("share 2 of 3 is missing", err)
        code, out, err = tern("index", "merge", f"{self.tmp}/merged", *[f"{self.tmp}/apart{i}" for i in range(3)], "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["shares"], 3)
        self.assertEqual(tree(f"{self.tmp}/merged"), tree(f"{self.tmp}/whole"))
        self.assertEqual(tern("index", "merge", f"{self.tmp}/nothing")[0], 2)
        self.assertFalse(os.path.exists(f"{self.tmp}/nothing"))

    @unittest.skipUnless(shutil.which("mpirun") and os.path.exists(os.path.join(os.path.dirname(BINARY), "tern_mpi.so")), "no MPI")
    def test_ranks(self):
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                           OMPI_MCA_btl_vader_single_copy_mechanism="none", ASAN_OPTIONS="detect_leaks=0")

        def over(ranks, *args):
            r = subprocess.run(["mpirun", "-n", str(ranks), BINARY, "index", *args], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
            return r.returncode, r.stdout.decode(), r.stderr.decode()

        for ranks in (2, 3):
            db = f"{self.tmp}/ranks{ranks}"
            code, out, err = over(ranks, "build", f"{self.tmp}/books", "-o", db, "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16", "--json")
            self.assertEqual(code, 0, err)
            self.assertEqual(json.loads(out)["embedded"], json.loads(out)["chunks"])
            self.assertEqual(tree(db), tree(f"{self.tmp}/whole"))
        # Stopped before its lists stand, and run again.
        owing = ("build", f"{self.tmp}/books", "-o", f"{self.tmp}/ranks-owing", "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16", "--type", "pq", "--json")
        code, out, err = over(2, *owing, "--max-memory", "100K")
        self.assertEqual(code, 6, err)
        code, out, err = over(2, *owing)
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["embedded"], 0)
        self.assertEqual(json.loads(tern("index", "info", f"{self.tmp}/ranks-owing", "--json")[1])["lists"]["type"], "pq")
        code, out, err = over(2, "build", f"{self.tmp}/nowhere", "-o", f"{self.tmp}/ranksx", "--embedder", self.embedder)
        self.assertEqual((code, err.count("tern: ")), (3, 1), err)

    def test_inverted_lists(self):
        for kind in ("q8", "pq", "f32"):
            db = f"{self.tmp}/lists-{kind}"
            shutil.copytree(f"{self.tmp}/whole", db)
            code, out, err = tern("index", "lists", db, "--lists", "8", "--type", kind, "--json")
            self.assertEqual(code, 0, err)
            made = json.loads(out)
            self.assertEqual((made["lists"], made["type"]), (8, kind))
            self.assertGreaterEqual(made["recall_at_10"], 0.95)
            ask = ("index", "search", db, "the red fox", "--embedder", self.embedder, "--json", "-k", "5")
            exact = [h["id"] for h in json.loads(tern(*ask, "--exact")[1])["hits"]]
            self.assertEqual([h["id"] for h in json.loads(tern(*ask, "--nprobe", "8")[1])["hits"]], exact)
            self.assertEqual(tern("index", "check", db, "--sample", "50")[0], 0)
            self.assertEqual(tern("index", "verify", db)[0], 0)
            info = json.loads(tern("index", "info", db, "--json")[1])
            self.assertEqual((info["lists"]["count"], info["check"]["sample"]), (8, 50))
        path = f"{db}/lists.tivf"
        with open(path, "rb") as f:
            good = f.read()
        with open(path, "r+b") as f:
            f.seek(-70, 2)
            f.write(b"\x55\xaa")
        self.assertEqual(tern("index", "verify", db)[0], 5)
        with open(path, "r+b") as f:
            f.seek(200)
            f.write(b"\x55\xaa")
        self.assertEqual(tern("index", "info", db)[0], 5)
        self.assertEqual(tern("index", "lists", db, "--lists", "8", "--type", "f32")[0], 0)  # damaged ones are no obstacle
        with open(path, "rb") as f:
            self.assertEqual(f.read(), good)
        os.remove(path)
        self.assertEqual(tern("index", "info", db)[0], 3)
        # pq from the start; what is appended is sorted into lists again.
        out, _ = self.build("pq", "--type", "pq", "--json")
        db = f"{self.tmp}/pq"
        self.assertEqual(json.loads(tern("index", "info", db, "--json")[1])["lists"]["type"], "pq")
        self.assertNotIn("unfinished", json.loads(tern("index", "info", db, "--json")[1]))
        code, out, err = tern("index", "add", db, f"{self.tmp}/books/book0.txt", "--embedder", self.embedder, "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(tern("index", "info", db, "--json")[1])["lists"]["type"], "pq")
        self.assertEqual(tern("index", "check", db)[0], 0)

    def test_lists_that_were_not_finished(self):
        db, little = f"{self.tmp}/owing", ("--type", "pq", "--max-memory", "100K")  # enough for a block, not for lists
        _, err = self.build("owing", *little, check=6)
        self.assertIn("the texts are in the database", err)
        self.assertIn("not finished: index lists --type pq", tern("index", "info", db)[1])
        before = tree(db)
        write_books(f"{self.tmp}/others", 2)
        _, err = self.build("owing", source="others", check=2)
        self.assertIn("--overwrite", err)
        self.assertEqual(tree(db), before)
        code, _, err = tern("index", "merge", db, f"{self.tmp}/whole")
        self.assertEqual(code, 2, err)
        # What was owed before an append is owed after it, and the texts are added once.
        chunks = json.loads(tern("index", "info", db, "--json")[1])["chunks"]
        code, _, err = tern("index", "add", db, f"{self.tmp}/books/book0.txt", "--embedder", self.embedder, "--max-memory", "100K")
        self.assertEqual(code, 6, err)
        self.assertIn("the texts are in the database", err)
        info = json.loads(tern("index", "info", db, "--json")[1])
        self.assertEqual(info["unfinished"], "pq")
        self.assertGreater(info["chunks"], chunks)
        _, err = self.build("owing", check=2)  # would lose what was added
        code, _, err = tern("index", "merge", db)
        self.assertEqual(code, 0, err)
        done = json.loads(tern("index", "info", db, "--json")[1])
        self.assertEqual((done["lists"]["type"], done["chunks"], "unfinished" in done), ("pq", info["chunks"], False))
        # The same build again, with more memory.
        self.build("again", *little, check=6)
        out, _ = self.build("again", "--type", "pq", "--json")
        self.assertEqual(json.loads(out)["embedded"], 0)
        self.assertEqual(json.loads(tern("index", "info", f"{self.tmp}/again", "--json")[1])["lists"]["type"], "pq")

    def test_filters(self):
        db, sources = f"{self.tmp}/whole", f"{self.tmp}/books/book"
        def ask(question, *args):
            code, out, err = tern("index", "search", db, question, "--embedder", self.embedder, "--json", "-k", "40", *args)
            self.assertEqual(code, 0, err)
            return json.loads(out)["hits"]
        all_of = ask("the red fox")
        self.assertNotIn(sources + "1.txt", {h["source"] for h in ask("the red fox", "--not-source", sources + "1.txt")})
        with open(f"{self.tmp}/deny", "w") as f:
            f.write(f"{sources}0.txt\n\n#1\n#99\n")
        self.assertEqual({h["document"] for h in ask("the red fox", "--deny", f"{self.tmp}/deny")}, {2, 3})
        with open(f"{self.tmp}/deny", "w") as f:
            f.write("#x\n")
        self.assertEqual(tern("index", "search", db, "x", "--embedder", self.embedder, "--deny", f"{self.tmp}/deny")[0], 4)
        text = all_of[0]["text"]
        self.assertIn(text, [h["text"] for h in ask(text)])
        self.assertNotIn(text, [h["text"] for h in ask(text, "--max-overlap", "0.5")])
        apart = [h["text"].split() for h in ask("the red fox", "--max-repeat", "0.4")]
        for i, a in enumerate(apart):
            for b in apart[:i]:
                runs = [" ".join(a[j:j + 5]) for j in range(len(a) - 4)]
                self.assertFalse(any(r in " ".join(b) for r in runs), (a, b))

    def test_little_memory(self):
        code, _, err = tern("index", "build", f"{self.tmp}/books", "-o", f"{self.tmp}/little", "--embedder", self.embedder, "--max-memory", "100K")
        self.assertEqual(code, 6)
        self.assertIn("--block-chunks", err)
        self.assertFalse(os.path.exists(f"{self.tmp}/little/manifest.json"))
        self.build("enough", "--max-memory", "100K")
        self.assertEqual(tree(f"{self.tmp}/enough"), tree(f"{self.tmp}/whole"))

    def test_a_full_disk(self):
        place = f"{self.tmp}/small"
        os.makedirs(place)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tern-test", place], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("cannot mount a small file system")
        try:
            code, _, err = tern("index", "build", f"{self.tmp}/books", "-o", place + "/db", "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16")
            self.assertEqual((code, err.count("\n")), (3, 1), err)
            self.assertFalse(os.path.exists(place + "/db/manifest.json"))
            self.assertEqual(subprocess.run(["mount", "-o", "remount,size=4m", place]).returncode, 0)
            code, _, err = tern("index", "build", f"{self.tmp}/books", "-o", place + "/db", "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16")
            self.assertEqual(code, 0, err)
            self.assertEqual(tree(place + "/db"), tree(f"{self.tmp}/whole"))
        finally:
            subprocess.run(["umount", place])

    def test_a_corpus_that_changes(self):
        folder, db = f"{self.tmp}/changing", f"{self.tmp}/changing.db"
        shutil.copytree(f"{self.tmp}/books", folder)
        args = ("index", "build", folder, "-o", db, "--embedder", self.embedder, "--chunk", "8", "--block-chunks", "16")
        # Between two runs: blocks of the old text are made again.
        self.assertEqual(tern(*args)[0], 0)
        os.remove(f"{db}/manifest.json")
        with open(f"{folder}/book0.txt", "a") as f:
            f.write("the dog rode at night .\n")
        self.assertEqual(tern(*args)[0], 0)
        shutil.rmtree(f"{db}2", ignore_errors=True)
        self.assertEqual(tern("index", "build", folder, "-o", f"{db}2", *args[5:])[0], 0)
        self.assertEqual(tree(db), tree(f"{db}2"))
        # During a run: an error, and no manifest.
        big = f"{folder}/big.txt"
        with open(big, "w") as f:
            f.write("the king rode over the stone tower at night .\n" * 2000)
        p = subprocess.Popen([BINARY, "index", "build", folder, "-o", f"{db}3", *args[5:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.time() + 60
        while p.poll() is None:
            with open(big, "r+") as f:
                f.write("the fox " + str(time.time()))
            time.sleep(0.002)
            if time.time() > deadline:
                p.kill()
        err = p.stderr.read().decode()
        p.stderr.close()
        self.assertEqual(p.returncode, 3, err)
        self.assertIn("changed", err)
        self.assertFalse(os.path.exists(f"{db}3/manifest.json"))

    def test_mistakes_are_named(self):
        def fails(code, words, *args):
            got, _, err = tern(*args)
            self.assertEqual(got, code, err)
            self.assertIn(words, err)
            self.assertEqual(err.count("\n"), 1, err)

        db, e1, e2 = f"{self.tmp}/whole", self.embedder, f"{self.tmp}/e2.tern"
        fails(2, "there is a database already", "index", "build", f"{self.tmp}/books", "-o", db, "--embedder", e1)
        fails(2, "not the embedder", "index", "search", db, "x", "--embedder", e2)
        fails(2, "--embedder", "index", "search", db, "x")
        fails(2, "not the embedder", "index", "add", db, f"{self.tmp}/books", "--embedder", e2)
        fails(3, "nowhere", "index", "build", f"{self.tmp}/nowhere", "-o", f"{self.tmp}/x", "--embedder", e1)
        fails(4, "no retrieval database", "index", "info", f"{self.tmp}/books")
        open(f"{self.tmp}/empty.txt", "w").close()
        fails(2, "no text", "index", "build", f"{self.tmp}/empty.txt", "-o", f"{self.tmp}/y", "--embedder", e1)
        fails(2, "other files", "index", "build", f"{self.tmp}/books", "-o", f"{self.tmp}/books", "--embedder", e1)
        bad = f"{self.tmp}/bad"
        shutil.copytree(db, bad)
        with open(f"{bad}/block-000001.tblk", "r+b") as f:
            f.seek(-5, 2)
            f.write(b"\x7f")
        fails(5, "block-000001", "index", "verify", bad)
        with open(f"{bad}/block-000000.tblk", "r+b") as f:
            f.truncate(1000)
        fails(4, "block-000000", "index", "search", bad, "x", "--embedder", e1)

    def test_vectors_without_a_database(self):
        rows = [[1, 0, 0], [0, 2, 0], [0, 0, 3], [1, 0, 0]]
        write_safetensors(f"{self.tmp}/v.safetensors", {"vectors": ([4, 3], [float(x) for r in rows for x in r])})
        write_safetensors(f"{self.tmp}/q.safetensors", {"queries": ([1, 3], [1.0, 0.5, 0.0])})
        files = ("--vectors", f"{self.tmp}/v.safetensors", "--queries", f"{self.tmp}/q.safetensors")
        got = json.loads(tern("index", "search", *files, "--metric", "ip", "-k", "5", "--json")[1])
        self.assertEqual(got["ids"], [[0, 1, 3, 2, -1]])
        self.assertEqual(got["scores"], [[1, 1, 1, 0, 0]])
        got = json.loads(tern("index", "search", *files, "--metric", "l2", "-k", "2", "--json")[1])
        self.assertEqual((got["ids"], got["scores"]), ([[0, 3]], [[0.25, 0.25]]))
        self.assertEqual(tern("index", "search", "--vectors", f"{self.tmp}/v.safetensors")[0], 2)

    def test_retro_reads_from_the_database(self):
        shutil.copytree(os.path.join(SOURCE, "tests/golden/retro/bfloat16_checkpoint/model"), f"{self.tmp}/retro")
        with open(f"{self.tmp}/retro/vocab.txt", "w") as f:
            f.write("\n".join(WORDS) + "\n")
        code, _, err = tern("convert", f"{self.tmp}/retro", "-o", f"{self.tmp}/retro.tern")
        self.assertEqual(code, 0, err)
        model, db = f"{self.tmp}/retro.tern", ("--index", f"{self.tmp}/whole", "--embedder", self.embedder)
        prompt = "the red fox jumps over"
        plain = ("run", model, prompt, "-n", "12", "--temperature", "0", "--json")
        with_db, without = json.loads(tern(*plain, *db)[1]), json.loads(tern(*plain)[1])
        self.assertEqual(json.loads(tern(*plain, *db, "--no-retrieval")[1])["ids"], without["ids"])
        self.assertEqual(json.loads(tern(*plain, *db, "--threads", "3")[1])["ids"], with_db["ids"])
        code, out, err = tern(*plain, *db, "--show-neighbors")
        self.assertIn("chunk 0:", err)
        text = " ".join(WORDS[6:]) [:120]
        code, out, err = tern("score", model, text, "--json", *db)
        self.assertEqual(code, 0, err)
        score = json.loads(out)
        self.assertGreater(score["leakage"]["chunks"], 0)
        base = json.loads(tern("score", model, text, "--json")[1])
        self.assertEqual(base["tokens"], score["tokens"])
        self.assertNotEqual(base["nll"], score["nll"])
        one = json.loads(tern("score", model, text, "--json", "--chunk", "1", *db)[1])
        self.assertAlmostEqual(one["nll"], score["nll"], delta=1e-4)
        # A text that stands in the database leaks; its source can be left out.
        with open(f"{self.tmp}/books/book0.txt") as f:
            known = f.read(130)
        leak = json.loads(tern("score", model, known, "--json", *db)[1])["leakage"]
        self.assertGreater(leak["mean"], 0.2)
        code, out, err = tern("score", model, known, "--json", *db, *[w for i in range(4) for w in ("--exclude", f"{self.tmp}/books/book{i}.txt")])
        self.assertEqual(json.loads(out)["leakage"]["longest_run"], 0, err)
        # No neighbour holds a longer run than was allowed, its continuation included.
        for share, most in (("0", 0), ("0.5", 2)):
            leak = json.loads(tern("score", model, known, "--json", *db, "--max-leakage", share)[1])["leakage"]
            self.assertGreater(leak["chunks"], 0)
            self.assertLessEqual(leak["longest_run"], most)
        # A file that stands in the database under its own name never finds itself.
        code, out, err = tern("score", model, f"{self.tmp}/books/book0.txt", "--json", "--show-neighbors", *db)
        self.assertEqual(code, 0, err)
        self.assertNotIn("book0.txt", err)
        self.assertIn("book1.txt", err)
        self.assertEqual(tern("run", self.embedder, "x", *db)[0], 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
