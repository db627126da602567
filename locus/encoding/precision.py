"""The numbers a sentence encoder computes with; its vectors are float32 whatever these are.

bfloat16 has float32's range and 8 bits of precision. Processors with instructions for it multiply
twice as many of them at a time. Vectors turn a little, so the two are never mixed: the precision is
a part of an encoder's identity.
"""

from typing import Any, Literal, get_args

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_MARK = "+bfloat16"
# Names in torch.cpu.get_capabilities: x86, then ARM.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16")


def marked(identity: str, precision: str) -> str:
    """An encoder's identity at a precision; at float32 it is as it was before there was a choice.

    Raises:
        ValueError: no such precision.
    """
    return identity + _MARK if check(precision) == "bfloat16" else identity


def precision_of(identity: str) -> Precision:
    """The precision of which an identity speaks."""
    return "bfloat16" if identity.endswith(_MARK) else "float32"


def check(precision: str) -> Precision:
    """A precision that there is.

    Raises:
        ValueError: there is no such one.
    """
    for known in PRECISIONS:
        if precision == known:
            return known
    raise ValueError(
        f"an encoder can't compute in {precision!r}: `encoder_precision` is one of "
        + ", ".join(PRECISIONS)
    )


def is_slow(precision: Precision, device: Any) -> bool:
    """Whether a torch device has no instructions for a precision, as far as torch can tell."""
    import torch

    if precision == "float32":
        return False
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    # Releases before 2.11 or so don't tell.
    tell = getattr(torch.cpu, "get_capabilities", None)
    if device.type != "cpu" or tell is None:
        return False
    there = tell()
    return not any(there.get(name) for name in _INSTRUCTIONS)


def use_bfloat16(model: Any) -> None:
    """Let what follows a sentence-transformers model's first module compute in float32.

    The network is most of the work. Pooled in bfloat16, its means would lose half their digits,
    and vectors would not be of length one.
    """
    first, *others = model.children()
    for module in others:
        module.float()
    first.register_forward_hook(lambda _module, _given, out: _widened(out))


def _widened(features: Any) -> Any:
    import torch

    return {
        name: value.float() if torch.is_tensor(value) and value.dtype == torch.bfloat16 else value
        for name, value in features.items()
    }
