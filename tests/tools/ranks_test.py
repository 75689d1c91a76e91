#!/usr/bin/env python3
"""dedup under mpirun: the same bytes for one, two and three ranks. Skipped where there is no mpirun, or the build has no MPI.
usage: ranks_test.py BINARY SOURCE_DIR"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from corpus_cases import BINARY, tern, tree, write_corpus

ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                   OMPI_MCA_btl_vader_single_copy_mechanism="none", ASAN_OPTIONS="detect_leaks=0")  # MPI keeps what it allocates


def over(ranks, *args):
    r = subprocess.run(["mpirun", "-n", str(ranks), BINARY, *args], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


class RanksTest(unittest.TestCase):
    def test_same_bytes(self):
        with tempfile.TemporaryDirectory() as tmp:
            inputs = ["%s/%d.jsonl" % (tmp, i) for i in range(4)]
            for i, path in enumerate(inputs):
                write_corpus(path, 300, i // 2)  # files 0 and 1 are equal, and 2 and 3
            args = ["dedup", *inputs, "--exact", "--near", "--lines", "--substr", "--min-bytes", "40", "--max-cluster", "1000", "-o"]
            code, said, err = tern(*args, tmp + "/alone")
            self.assertEqual(code, 0, err)
            for ranks in (1, 2, 3):
                out = "%s/%d" % (tmp, ranks)
                self.assertEqual(over(ranks, *args, out)[:2], (0, said))
                self.assertEqual(tree(out), tree(tmp + "/alone"))
            # What one rank cannot read ends all, with one message.
            with open(inputs[3], "wb") as f:
                f.write(b"no json\n" * 100)
            code, said, err = over(2, *args, tmp + "/bad")
            self.assertEqual((code, said), (4, ""))
            self.assertEqual(err.count("tern: "), 1, err)
            self.assertFalse(os.path.exists(tmp + "/bad/kept"))


if not shutil.which("mpirun"):
    print("skipped: there is no mpirun")
elif not os.path.exists(os.path.join(os.path.dirname(BINARY), "tern_mpi.so")):
    print("skipped: this build has no MPI")
else:
    unittest.main(argv=sys.argv[:1])
