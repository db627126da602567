"""A real language model of a few thousand random weights, and two real lm-eval tasks for it."""

from pathlib import Path

TASKS = {
    "tiny_choice": """\
task: tiny_choice
custom_dataset: !function tiny_docs.choice
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}} ->"
doc_to_choice: "{{choices}}"
doc_to_target: "{{choices.index(answer)}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata: {version: 1.0}
""",
    "tiny_copy": """\
task: tiny_copy
custom_dataset: !function tiny_docs.copy
test_split: test
output_type: generate_until
doc_to_text: "{{question}} ->"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata: {version: 2.0}
""",
}

DOCS = """\
from datasets import Dataset


def choice(**_):
    rows = [
        {"question": f"Which letter follows {chr(97 + i % 24)} in list {i}?",
         "answer": chr(98 + i % 24), "choices": [chr(98 + i % 24), "z"]}
        for i in range(40)
    ]
    return {"test": Dataset.from_list(rows)}


def copy(**_):
    rows = [{"question": f"Copy the number {i}", "answer": str(i)} for i in range(40)]
    return {"test": Dataset.from_list(rows)}
"""


def write_tasks(folder: Path) -> Path:
    """Write the two tasks into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "tiny_docs.py").write_text(DOCS)
    return folder


def write_model(folder: Path, seed: int = 0) -> Path:
    """Write a random GPT-2 of one layer with a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = ["<pad>", "<eos>", *map(chr, range(32, 127)), "\n"]
    raw = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", bos_token="<eos>"
    )
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(letters), n_positions=128, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
