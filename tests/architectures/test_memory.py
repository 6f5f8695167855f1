"""Reading a model takes no more memory than two layers and its embeddings, proved in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

# Beside what is read: the interpreter's and torch's own pools, which grow a little at the first use of each part.
SLACK = 16

PROGRAM = """
import gc, re, sys, threading, time
from pathlib import Path

import torch
from headatlas.architectures import check_circuits, open_model
from headatlas.architectures.open import open_checkpoint


def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def read_all(model):
    check_circuits(model)
    model.fingerprint()
    model.W_U()
    later = model.first_mlp(model.W_E(torch.arange(0, model.d_vocab, 37)))
    for layer in range(model.n_layers):
        model.values_and_outputs(layer)


read_all(open_model(open_checkpoint(Path(sys.argv[2]))))  # loads all that is loaded when it is first used
model = open_model(open_checkpoint(Path(sys.argv[1])))
gc.collect()
before, peak, done = anonymous(), 0.0, False


def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.001)


watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
read_all(model)
done = True
watcher.join()
print(peak - before)
"""

MAKE = """
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

sizes = dict(num_attention_heads=8, num_key_value_heads=4, num_hidden_layers=6, max_position_embeddings=64)
for folder, width, words in ((sys.argv[1], 640, 12007), (sys.argv[2], 64, 101)):
    more = dict(hidden_size=width, intermediate_size=3 * width, vocab_size=words, pad_token_id=0)
    config = AutoConfig.for_model("llama", tie_word_embeddings=False, **sizes, **more)
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder)
"""


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_two_layers_and_the_embeddings_at_most(tmp_path):
    folders = [str(tmp_path / "middle"), str(tmp_path / "tiny")]
    subprocess.run([sys.executable, "-c", MAKE, *folders], check=True, capture_output=True)
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *folders], check=True, capture_output=True, encoding="utf-8")
    n_bytes = 4 / 2**20
    layer = (640 * 640 * 3 + 3 * 640 * 640 * 3) * n_bytes
    embeddings = 2 * 12007 * 640 * n_bytes
    whole = 6 * layer + embeddings
    assert 2 * layer + embeddings + SLACK < 0.75 * whole
    assert 12007 * 640 * n_bytes < float(ran.stdout) < 2 * layer + embeddings + SLACK
