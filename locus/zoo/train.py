"""Trains one model of the zoo in seconds, on one thread, the same way every time.

Run as ``python -m locus.zoo.train``, it is a worker: it reads jobs from standard input, one JSON
object ``{"recipe": ..., "target": folder}`` a line, and answers each with one line on standard
output, ``{"params": ..., "seconds": ...}`` or ``{"error": ...}``. One worker trains many models, so
that torch is imported once and each skill's documents are drawn once.

The loss is taken on answers only, and there on every token and the end mark: questions are drawn
at random, so there is nothing to learn in predicting them.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from locus.zoo.recipes import LLAMA_EXPANSION, Recipe
from locus.zoo.skills import prompt, training
from locus.zoo.tokenizer import (
    BOS,
    EOS,
    MAX_LENGTH,
    PAD,
    make_tokenizer,
    save_tokenizer,
    vocabulary,
)

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

POOL_SIZE = 8000
"""Training documents drawn for each skill; all models of one skill learn from the same."""
POOL_SEED = 1
INITIAL_STD = 0.06
"""Spread of initial weights. The libraries' 0.02 is for wide models: at width 64 copying isn't
learned within the budget with it."""
WARMUP_STEPS = 30
FINAL_RATE = 0.05
"""The learning rate falls linearly to this share of its peak."""
WEIGHT_DECAY = 0.01
SORTED_STEPS = 8
"""Documents of this many steps are sorted by length before they are cut into batches: a third
less padding."""
DESCRIPTION = "zoo.json"
TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Example:
    """A tokenised training document: ``ids[answer_start:]`` is its answer and the end mark."""

    ids: tuple[int, ...]
    answer_start: int


@cache
def examples(skill: str) -> tuple[Example, ...]:
    """The `POOL_SIZE` training documents of a skill, tokenised; drawn once a process."""
    documents = list(islice(training(skill, POOL_SEED), POOL_SIZE))
    prompts = [prompt(document.question) for document in documents]
    texts = [
        f"{asked} {document.answer}" for asked, document in zip(prompts, documents, strict=True)
    ]
    end = vocabulary().index(EOS)
    return tuple(
        Example((*text.ids, end), sum(start < len(asked) for start, _ in text.offsets))
        for asked, text in zip(prompts, make_tokenizer().encode_batch(texts), strict=True)
    )


def batches(recipe: Recipe) -> Iterator[list[Example]]:
    """The recipe's ``steps`` batches of ``batch`` examples, drawn by its mixture and seed."""
    rng = np.random.default_rng(recipe.seed)
    pools = [examples(skill) for skill, _ in recipe.mixture]
    shares = np.array([share for _, share in recipe.mixture], dtype=float)
    shares /= shares.sum()
    made = 0
    while made < recipe.steps:
        skills = rng.choice(len(pools), size=recipe.batch * SORTED_STEPS, p=shares)
        rows = rng.integers(POOL_SIZE, size=len(skills))
        drawn = [pools[skill][row] for skill, row in zip(skills, rows, strict=True)]
        drawn.sort(key=lambda example: len(example.ids))
        for step in rng.permutation(SORTED_STEPS)[: recipe.steps - made]:
            yield drawn[step * recipe.batch : (step + 1) * recipe.batch]
            made += 1


def make_model(recipe: Recipe) -> Any:
    """An untrained model of the recipe's architecture; the caller seeds torch first."""
    names = vocabulary()
    shared: dict[str, Any] = {
        "vocab_size": len(names),
        "initializer_range": INITIAL_STD,
        "pad_token_id": names.index(PAD),
        "bos_token_id": names.index(BOS),
        "eos_token_id": names.index(EOS),
        "tie_word_embeddings": True,
    }
    # The modules, not the package's front door, which imports much more.
    if recipe.family == "gpt2-zoo":
        from transformers.models.gpt2.configuration_gpt2 import GPT2Config
        from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

        return GPT2LMHeadModel(
            GPT2Config(
                n_embd=recipe.width,
                n_layer=recipe.layers,
                n_head=recipe.heads,
                n_positions=MAX_LENGTH,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **shared,
            )
        )
    sizes = shared | {
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": MAX_LENGTH,
    }
    if recipe.family == "neox-zoo":
        from transformers.models.gpt_neox.configuration_gpt_neox import GPTNeoXConfig
        from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXForCausalLM

        return GPTNeoXForCausalLM(
            GPTNeoXConfig(intermediate_size=4 * recipe.width, rotary_pct=1.0, **sizes)
        )
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            intermediate_size=LLAMA_EXPANSION * recipe.width,
            num_key_value_heads=recipe.heads,
            **sizes,
        )
    )


def train(recipe: Recipe) -> tuple[Any, float]:
    """Train a model from scratch.

    Returns:
        The model, and its mean loss in nats per answer token over the last 30 steps.
    """
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(recipe.seed)
    model = make_model(recipe)
    model.train()
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / WARMUP_STEPS, 1.0, max(FINAL_RATE, 1 - step / recipe.steps)),
    )
    losses = []
    for rows in batches(recipe):
        ids_BT, scored_BT = _padded(rows)
        # Padding lies to the right and is never scored, so a causal model needs no attention mask.
        states_BTd = model.base_model(input_ids=ids_BT, use_cache=False)[0]
        logits_NV = model.get_output_embeddings()(states_BTd[:, :-1][scored_BT])
        loss = cross_entropy(logits_NV, ids_BT[:, 1:][scored_BT])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return model, float(np.mean(losses[-30:]))


def _padded(rows: list[Example]) -> "tuple[torch.Tensor, torch.Tensor]":
    """Token ids (B, T), and which of the T - 1 next tokens are scored (B, T - 1)."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids_BT = np.full((len(rows), longest), vocabulary().index(PAD), dtype=np.int64)
    scored_BT = np.zeros((len(rows), longest - 1), dtype=bool)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row.ids)] = row.ids
        scored_BT[i, row.answer_start - 1 : len(row.ids) - 1] = True
    return torch.from_numpy(ids_BT), torch.from_numpy(scored_BT)


def train_into(recipe: Recipe, target: Path) -> dict[str, Any]:
    """Train ``recipe`` and leave the finished model at ``target``, or nothing.

    The model is written beside ``target`` and renamed; if another process was faster, its model
    stays and this one is dropped.

    Returns:
        The description that is stored as ``zoo.json`` in the folder.
    """
    started = time.monotonic()
    model, loss = train(recipe)
    temporary = target.with_name(f"{TEMPORARY}{target.name}-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        model.generation_config.do_sample = False
        model.save_pretrained(str(temporary))
        save_tokenizer(temporary)
        description = {
            "params": sum(weight.numel() for weight in model.parameters()),
            "loss": round(loss, 4),
            "seconds": round(time.monotonic() - started, 2),
            "recipe": recipe.to_json(),
        }
        text = json.dumps(description, indent=1, sort_keys=True) + "\n"
        (temporary / DESCRIPTION).write_text(text)
        try:
            temporary.rename(target)
        except OSError as error:
            if not (target / DESCRIPTION).is_file():
                raise OSError(
                    f"{target} is there but is no whole model: remove it and build again"
                ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return description


def work(jobs: TextIO, answers: TextIO) -> None:
    """Train every job of ``jobs`` until it ends; a job that fails is answered, not fatal."""
    for line in jobs:
        job = json.loads(line)
        try:
            answer = train_into(Recipe.from_json(job["recipe"]), Path(job["target"]))
        except Exception as error:  # answered, with its traceback in the worker's log
            log.exception("training failed: %s", job)
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Work on one torch thread; anything a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING)
    import torch

    torch.set_num_threads(1)
    work(sys.stdin, answers)


if __name__ == "__main__":
    main()
