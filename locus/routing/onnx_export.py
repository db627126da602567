"""A predictor with its pool as one ONNX graph: query features in, P(correct) of every model out.

For programs that route without Python, or beside other graphs. The graph holds what `prepare`
folded and computes what its numpy code does, with operators every runtime knows (ONNX operator set
17). All of it is float32: models that are equal in numpy may differ here by the last bits, so ties
may fall another way. Needs the package ``onnx``; running the graph needs ``onnxruntime`` or another
runtime.

Input ``features`` float32 [T, f]: the sentence encoding, then surface features
(`locus.routing.router.Router.encode`). Output ``probabilities`` float32 [T, M]. The metadata of the
file names the models in the order of the columns, the snapshot, and the sentence encoder.

Shape letters: M models, T queries, f width of query features.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from locus.durable import whole_file
from locus.embedding.calibration import EDGE
from locus.encoding.surface import SURFACE
from locus.routing.attention_predictor import PreparedPool as AttentionPool
from locus.routing.folded_factors import FoldedFactors
from locus.routing.pool import Pool

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "features"
OUTPUT = "probabilities"
OPERATOR_SET = 17
# What operator set 17 came with; a newer number would shut out older runtimes.
_FORMAT = 8
_REST = np.iinfo(np.int64).max


class OnnxError(RuntimeError):
    """No graph can be made; the message says why and what to do."""


def export(
    pool: Any, n_surface: int, models: Sequence[str], snapshot_id: str, encoder: str
) -> "ModelProto":
    """Build the graph and check it.

    Args:
        pool: what a predictor's `prepare` gave.
        n_surface: surface features after the encoding; a predictor that knows none skips them.
        models: ids of the pool's models, in its order.
        snapshot_id: where the pool is from.
        encoder: identity of the sentence encoder.

    Raises:
        OnnxError: ``onnx`` isn't installed, or the predictor is of a kind that has no graph.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError as error:
        raise OnnxError("the package onnx is missing: pip install 'locus-map[onnx]'") from error
    graph = _Graph()
    if isinstance(pool, FoldedFactors):
        _factors(graph, pool)
    elif isinstance(pool, AttentionPool):
        _attention(graph, pool)
    else:
        raise OnnxError(f"a predictor prepared as {type(pool).__name__} has no ONNX graph")
    single = onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "locus",
            [helper.make_tensor_value_info(INPUT, single, ["T", pool.d_query + n_surface])],
            [helper.make_tensor_value_info(OUTPUT, single, ["T", len(models)])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPERATOR_SET)],
        ir_version=_FORMAT,
        producer_name="locus",
    )
    told = {"snapshot_id": snapshot_id, "encoder": encoder, "models": json.dumps(list(models))}
    helper.set_model_props(model, told)
    onnx.checker.check_model(model, full_check=True)
    return model


def export_published(published: Path, file: Path, overwrite: bool = False) -> Pool:
    """Write the current snapshot's predictor and pool as one ONNX file.

    Args:
        published: the published folder, the one with ``current.json``.
        file: where; its folder must be there.
        overwrite: whether a file there may be replaced.

    Returns:
        What was exported.

    Raises:
        OnnxError: as `export`; or the file is there, or its folder isn't.
        SnapshotError: nothing is published.
        PredictorError: the predictor is unreadable or fails its own test vectors.
    """
    if not file.parent.is_dir():
        raise OnnxError(f"{file.parent} is no folder: make it, or name another file")
    if file.is_dir() or (file.exists() and not overwrite):
        raise OnnxError(f"{file} is there already: name another file, or use --overwrite")
    pool = Pool.read(published)
    models = pool.models["model_id"].to_list()
    encoder = pool.predictor.encoder
    model = export(pool.prepare(), len(SURFACE), models, pool.snapshot_id, encoder)
    with whole_file(file) as stream:
        stream.write(model.SerializeToString())
    return pool


class _Graph:
    """Nodes in the order they are added; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        # Contiguous, and a single number stays one (`np.ascontiguousarray` makes it a row).
        array: NDArray[Any] = np.array(value, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: Any, result: str | None = None, **attributes: Any) -> str:
        """A node; inputs that are no names become constants."""
        from onnx import helper

        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        name = result or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def columns(self, source: str, start: int, stop: int) -> str:
        bounds = [self.constant([n], np.int64) for n in (start, stop, 1)]
        return self.add("Slice", source, *bounds)

    def exponential(self, rows: str, exponents_xL: Any) -> str:
        """As `locus.routing.folded_factors` does: exp(min(0, [row; its square; 1] @ exponents))."""
        axes = self.constant([1], np.int64)
        squares = self.add("ReduceSum", self.add("Mul", rows, rows), axes, keepdims=1)
        inner = self.add("MatMul", rows, exponents_xL[:-2])
        gap = self.add("Add", inner, self.add("MatMul", squares, exponents_xL[-2:-1]))
        return self.add("Exp", self.add("Min", self.add("Add", gap, exponents_xL[-1]), 0.0))


def _factors(graph: _Graph, pool: FoldedFactors) -> None:
    add = graph.add
    phi = graph.columns(INPUT, 0, pool.d_query)
    member = add("Softmax", add("MatMul", phi, pool.sharp_pn), axis=1)
    kernel = add("Mul", graph.exponential(phi, pool.near_xL), pool.gaussian)
    if pool.surface_xL is not None:
        surface = graph.columns(INPUT, pool.d_query, _REST)
        standard = add("Mul", add("Sub", surface, pool.centre_s), pool.scale_s)
        weight = add("MatMul", member, pool.alike_nL)
        near = add("Mul", graph.exponential(standard, pool.surface_xL), weight)
        kernel = add("Add", kernel, near)
    read = add("MatMul", kernel, pool.weights_Lg)
    read = add("Add", read, add("MatMul", phi, pool.linear_pg))
    read = add("Add", read, add("MatMul", member, pool.member_ng))
    raw = add("MatMul", add("Add", read, pool.constant_g), pool.z_gM)
    # `locus.embedding.calibration`: bounded, then sigmoid(intercept + slope * logit).
    over = add("Div", add("Relu", add("Sub", raw, 1 - EDGE)), EDGE)
    under = add("Div", add("Relu", add("Sub", EDGE, raw)), EDGE)
    bends = [add("Div", side, add("Add", side, 1.0)) for side in (over, under)]
    bend = add("Mul", add("Sub", *bends), EDGE / 2)
    p = add("Add", add("Min", add("Max", raw, EDGE), 1 - EDGE), bend)
    logit = add("Log", add("Div", p, add("Sub", 1.0, p)))
    scaled = add("Mul", logit, pool.calibration.slope)
    add("Sigmoid", add("Add", scaled, pool.calibration.intercept), result=OUTPUT)


def _attention(graph: _Graph, pool: AttentionPool) -> None:
    add = graph.add
    phi = graph.columns(INPUT, 0, pool.d_query)
    u = add("Add", add("MatMul", phi, pool.query_pd), pool.query_d)
    u_T1d = add("Unsqueeze", u, graph.constant([1], np.int64))
    hidden = add("MatMul", add("Mul", u_T1d, pool.z_Md), pool.both_dh)
    hidden = add("Add", add("Add", hidden, pool.model_Mh), add("MatMul", u_T1d, pool.own_dh))
    out = add("MatMul", add("Relu", hidden), pool.out_h)
    add("Sigmoid", add("Add", out, pool.out_bias), result=OUTPUT)
