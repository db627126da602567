"""Weights that would be unpickled and code that comes with a model: refused, unless trusted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from locus.evaluation.backends import check_arguments
from locus.evaluation.harness import HarnessError, load_local
from locus.evaluation.request import EvaluationRequest
from locus.registry.revision import folder_revision

# Says on disk that it ran, as hostile code would do worse.
CODE = """\
from pathlib import Path

from transformers import GPT2LMHeadModel

(Path(__file__).parent / "ran").touch()
Path({marker!r}).touch()


class Own(GPT2LMHeadModel):
    pass
"""


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_pickled_weights_are_refused(request_: EvaluationRequest, folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    asked = replace(request_, args={"pretrained": str(folder)})
    load_local(asked)  # Both there: only the safe one is read.
    weights.unlink()
    with pytest.raises(HarnessError, match="no safetensors weights"):
        load_local(asked)
    for backend, wrong in (("hf", {"use_safetensors": False}), ("vllm", {"load_format": "auto"})):
        with pytest.raises(ValueError, match="pickled weights are never loaded"):
            check_arguments(backend, {"pretrained": "m", **wrong})


def test_code_of_a_model_runs_only_where_its_version_is_trusted(
    request_: EvaluationRequest,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    ran = tmp_path / "ran"
    settings = json.loads((folder / "config.json").read_text())
    # A type that transformers doesn't know, as of a model with an architecture of its own.
    settings |= {"auto_map": {"AutoModelForCausalLM": "own.Own"}, "architectures": ["Own"]}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(CODE.format(marker=str(ran)))
    asked = replace(request_, args={"pretrained": str(folder)}, revision=folder_revision(folder))
    load_local(asked)
    assert not ran.exists()
    load_local(replace(asked, trusted_code=True))
    assert ran.exists()

    ran.unlink()
    settings["auto_map"] = {"AutoModelForCausalLM": "someone/else--own.Own"}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(HarnessError, match="another repository"):
        load_local(replace(asked, trusted_code=True))
    with pytest.raises(HarnessError, match="not for backend dummy"):
        load_local(replace(asked, backend="dummy", trusted_code=True))
    assert not ran.exists()


def test_a_model_that_needs_code_says_what_to_do(request_: EvaluationRequest, folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    asked = replace(request_, args={"pretrained": str(folder)}, revision="a" * 40)
    with pytest.raises(HarnessError, match=r"evaluation\.trusted_code") as refused:
        load_local(asked)
    assert f"{asked.model_id}@{'a' * 40}" in str(refused.value)
