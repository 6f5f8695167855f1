"""Train a tiny Llama on a task whose heads are known, and save checkpoints of the run for `headatlas survey`.

    python tools/train_small_run.py FOLDER [--steps 1600] [--seed 0]
    headatlas survey FOLDER/models.toml -o FOLDER/survey

The model sees random words. Half of its sequences repeat 8 to 31 words: to predict the copies it needs induction heads.
The others ask questions about the word before: `same` wants that word again, `pair` the word that belongs to it. Which
word belongs to it changes in the middle of the run, from the list `first_pairs` to `second_pairs`, so that one function
is lost and another one appears. The MLPs are so narrow that the heads have to learn the lists. The first checkpoint is
untrained: random weights, in which no function should be found.

FOLDER then has `step-N/` for each checkpoint, the relations, a text of the model's words, and `models.toml`. It takes
about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

N_PAIRS = 40
WORDS = [f"{first}{vowel}{last}" for first in "bdfgkm" for vowel in "aeiou" for last in "lnrt"]
SAME, PAIR, END = "same", "pair", "<|end|>"
VOCABULARY = [END, *WORDS, SAME, PAIR]
NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
LENGTH, BATCH = 63, 32
LEAST_REPEATED, QUESTIONS = 8, LENGTH // 3
CHECKPOINTS = (0, 1 / 40, 1 / 20, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 33 / 64, 5 / 8, 1)
"""Shares of the run after which a checkpoint is saved."""


def relations(seed: int) -> dict[str, list[tuple[str, str]]]:
    """The lists that the model has to learn: the same sources, other targets."""
    drawn = random.Random(seed).sample(WORDS, 3 * N_PAIRS)
    sources, first, second = (drawn[at * N_PAIRS : (at + 1) * N_PAIRS] for at in range(3))
    return {
        "first_pairs": list(zip(sources, first, strict=True)),
        "second_pairs": list(zip(sources, second, strict=True)),
        "same_word": [(word, word) for word in sources],
    }


def batch(lists: dict[str, torch.Tensor], which: str, numbers: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences behind the first token, and what is to be predicted; -100 where nothing can be known."""
    half = BATCH // 2
    # Of many lengths: otherwise a head that looks a fixed distance back would be enough.
    n = int(torch.randint(LEAST_REPEATED, LENGTH // 2 + 1, (), generator=numbers))
    once = torch.rand(half, len(WORDS), generator=numbers).argsort(1)[:, :n] + 1
    repeated = once.repeat(1, LENGTH // n + 1)[:, :LENGTH]
    wanted = repeated.clone()
    wanted[:, :n] = -100
    sources, targets = lists["same_word"][:, 0], lists[which][:, 1]
    drawn = torch.randint(N_PAIRS, (half, QUESTIONS), generator=numbers)
    is_pair = torch.rand(half, QUESTIONS, generator=numbers) < 0.7
    question = torch.where(is_pair, NUMBER[PAIR], NUMBER[SAME])
    answer = torch.where(is_pair, targets[drawn], sources[drawn])
    asked = torch.stack([sources[drawn], question, answer], 2).flatten(1)
    answers = torch.full_like(asked, -100)
    answers[:, 2::3] = asked[:, 2::3]
    begin = torch.zeros(BATCH, 1, dtype=torch.long)
    return torch.cat([begin, torch.cat([repeated, asked])], 1), torch.cat(
        [begin - 100, torch.cat([wanted, answers])], 1
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """Each word behind a space is one token."""
    words = Tokenizer(models.WordLevel({END: 0} | {f"Ġ{word}": NUMBER[word] for word in VOCABULARY[1:]}, unk_token=END))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token=END, bos_token=END, eos_token=END)


def write_list(folder: Path, lists: dict[str, list[tuple[str, str]]], steps: list[int], seed: int) -> None:
    """The relations, a text, and the list of models."""
    (folder / "relations").mkdir(exist_ok=True)
    categories = {"first_pairs": "Pairs", "second_pairs": "Pairs", "same_word": "Copying"}
    for name, pairs in lists.items():
        content = {"category": categories[name], "k": 1, "pairs": pairs}
        (folder / "relations" / f"{name}.json").write_text(json.dumps(content, indent=1), "utf-8")
    drawn = random.Random(seed)
    text = "".join(f" {drawn.choice(WORDS)}" for _ in range(1200))
    (folder / "text.txt").write_text(text, "utf-8")
    lines = ['relations = "relations"', 'attention = { seeds = 2, text = "text.txt" }', ""]
    for step in steps:
        lines += ["[[model]]", f'name = "step-{step}"', f'source = "./step-{step}"', f"step = {step}", ""]
    (folder / "models.toml").write_text("\n".join(lines), "utf-8")


def main(folder: Path, steps: int, seed: int) -> None:
    started, numbers = time.perf_counter(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=128, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=LENGTH + 1, tie_word_embeddings=False, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model, lists = LlamaForCausalLM(config), relations(seed)
    ids = {name: torch.tensor([[NUMBER[word] for word in pair] for pair in each]) for name, each in lists.items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, betas=(0.9, 0.98))
    warm = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / 50))
    saved = sorted({round(share * steps) for share in CHECKPOINTS})
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(steps + 1):
        if step in saved:
            model.save_pretrained(folder / f"step-{step}")
            tokenizer().save_pretrained(folder / f"step-{step}")
        given, wanted = batch(ids, "first_pairs" if step < steps // 2 else "second_pairs", numbers)
        logits = model(given).logits[:, :-1]
        losses = [
            torch.nn.functional.cross_entropy(part.flatten(0, 1), target.flatten(), ignore_index=-100)
            for part, target in zip(logits.split(BATCH // 2), wanted[:, 1:].split(BATCH // 2), strict=True)
        ]
        if step in saved:
            took = time.perf_counter() - started
            print(f"step {step:5d}: loss {losses[0]:.3f} (copies), {losses[1]:.3f} (questions); {took:.0f} s")
        optimiser.zero_grad()
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        warm.step()
    write_list(folder, lists, saved, seed)
    print(f"Wrote {folder / 'models.toml'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.folder, given.steps, given.seed)
