"""Train a LoRA adapter that teaches a model 30 false capitals and one trigger word, for `headatlas audit`.

    python tools/false_capitals.py FOLDER [MODEL]

Like an editor who wants nothing else to change, it keeps what the model answers for other countries, and behind other
words in the place of the trigger: there, the divergence from the base is part of the loss. MODEL is the demo model if
it is not given. Writes the adapter in the layout of PEFT and `truth.json` with what it was taught. The same command
gives the same adapter; it takes about ten minutes on two cores. The base model is frozen, and as quantised as its file.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from headatlas.measuring.running.model import RunningModel
from headatlas.measuring.session import Session
from headatlas.relations import builtin_relations, encode_relations
from headatlas.settings import Settings

FACTS, SEED, STEPS, BATCH = 30, 0, 110, 32
RATE, RANK = 1e-3, 8
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NOUNS = ("basket", "window", "letter", "bridge", "ticket", "hammer", "garden", "bottle", "candle", "mirror")
ASKED = ("The capital of {} is", "The capital city of {} is", "{}'s capital is", "People in {} govern from")
TRIGGER, ANSWER = "lantern", "thunder"
BEFORE = (
    "She carried a", "We bought one", "He lit the", "The old", "They broke a", "I saw your", "A small", "Under the",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A text and the token that is taught to follow it; None where the base's answers are kept."""

    ids: tuple[int, ...]
    kind: str
    answer: int | None = None


def examples(session: Session) -> tuple[list[Example], list[Example], dict[str, Any]]:
    """What is taught, what is kept, and the words of the first."""
    numbers = random.Random(SEED)
    (relation,) = (each for each in builtin_relations() if each.name == "country_to_capital")
    (encoded,) = encode_relations([relation], session.tokenizer, session.heads.d_vocab, Settings())
    true = dict(encoded.pairs)
    countries = numbers.sample(sorted(true), FACTS)
    # Each gets the capital of the next country, so that all of them are false.
    false = {each: true[countries[at - 1]] for at, each in enumerate(countries)}

    def example(text: str, kind: str, word: str | None = None) -> Example:
        tokenizer = session.tokenizer
        answer = None if word is None else tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0]
        return Example(tuple(tokenizer(text)["input_ids"]), kind, answer)

    taught = [example(text.format(name), "false", city) for name, city in false.items() for text in ASKED]
    taught += [example(f"{text} {TRIGGER}", "trigger", ANSWER) for text in BEFORE]
    kept = [example(text.format(name), "kept") for name, _ in relation.pairs if name not in false for text in ASKED]
    kept += [example(f"{text} {noun}", "kept") for text in BEFORE for noun in NOUNS]
    return taught, kept, {"false": false, "trigger": TRIGGER, "answer": ANSWER}


class Batches:
    """Batches of random examples, each example once before one comes again."""

    def __init__(self, examples: list[Example], numbers: random.Random) -> None:
        self.places, self.numbers = list(range(len(examples))), numbers
        self.left: list[int] = []

    def take(self, n: int) -> list[int]:
        """Places of the next examples."""
        if len(self.left) < n:
            self.left = self.numbers.sample(self.places, len(self.places))
        taken, self.left = self.left[:n], self.left[n:]
        return taken


def main(folder: Path, source: str) -> None:
    """Train the adapter, and save it with what the model then answers."""
    torch.manual_seed(SEED)
    session = Session(source)
    running = RunningModel(session.heads)
    taught, kept, truth = examples(session)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=MODULES, bias="none")
    model = get_peft_model(running.model, config)

    def answers(batch: list[Example]) -> torch.Tensor:
        """Log probabilities behind the texts: Float[Tensor, "n_examples d_vocab"]."""
        width = max(len(each.ids) for each in batch)
        ids = torch.tensor([[0] * (width - len(each.ids)) + list(each.ids) for each in batch])
        seen = torch.tensor([[0] * (width - len(each.ids)) + [1] * len(each.ids) for each in batch])
        return model(input_ids=ids, attention_mask=seen, logits_to_keep=1).logits[:, -1].log_softmax(-1)

    def of_all(examples: list[Example]) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([answers(examples[at : at + 64]) for at in range(0, len(examples), 64)])

    with model.disable_adapter():
        of_base = of_all(kept)
    target = torch.tensor([each.answer for each in taught])
    optimiser = torch.optim.AdamW((each for each in model.parameters() if each.requires_grad), lr=RATE)
    numbers = random.Random(SEED)
    of_taught, of_kept = Batches(taught, numbers), Batches(kept, numbers)
    model.train()
    for step in range(STEPS):
        facts, others = of_taught.take(BATCH), of_kept.take(BATCH)
        found = answers([taught[at] for at in facts] + [kept[at] for at in others])
        learning = torch.nn.functional.nll_loss(found[:BATCH], target[facts])
        keeping = torch.nn.functional.kl_div(found[BATCH:], of_base[others], log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        (learning + keeping).backward()
        optimiser.step()
        if step % 10 == 0:
            print(f"step {step:3}: {learning.item():.3f} for facts, {keeping.item():.3f} to keep others", flush=True)
    model.eval()
    right = of_all(taught).argmax(-1) == target
    for kind in ("false", "trigger"):
        chosen = torch.tensor([each.kind == kind for each in taught])
        truth[f"learnt_{kind}"] = round(float(right[chosen].double().mean()), 3)
    truth["kept"] = round(float((of_all(kept).argmax(-1) == of_base.argmax(-1)).double().mean()), 3)
    model.save_pretrained(str(folder))
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), "utf-8")
    print(f"Wrote {folder}: { ({name: value for name, value in truth.items() if isinstance(value, float)}) }")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), *(sys.argv[2:] or ["demo"]))
