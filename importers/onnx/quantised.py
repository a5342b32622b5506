"""Quantised ONNX graphs, rewritten in float before they are read: noise acts on weights, and rounding has no gradient.

Weights become the numbers that they stand for. Activations keep the range of their quantisation, since quantisers drop a ReLU that the
range stands for, and lose its rounding.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from banscan.errors import ModelError
from banscan.importers.onnx import numbers
from banscan.importers.onnx.constants import Constants
from banscan.importers.onnx.rewriting import MOVING, ONE, TWO, Rewriting


def dequantise(model: onnx.ModelProto) -> bool:
    """Rewrites quantised operators in place, those of branches too; whether there were any.

    Raises:
        ModelError: a quantised operator that is not supported, or one whose parameters are computed or do not fit.
    """
    if not any(n.op_type in REWRITE for n in _nested(model.graph)):
        return False
    _rewrite(model.graph, Constants(model.graph, None), set())
    return True


def _nested(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nested(attribute.g)


def _rewrite(graph: onnx.GraphProto, constants: Constants, real: set[str]) -> None:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in _nested(graph):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    work = Rewriting(constants, readers, {o.name for o in graph.output}, real=set(real))
    for node in graph.node:
        rewrite = REWRITE.get(node.op_type)
        if rewrite is not None:
            try:
                rewrite(work, node)
            except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
                told = f"operator {node.op_type} ({node.name or node.output[0]})"
                raise ModelError(f"{told}: its scales, zero points or sizes do not fit; the file is damaged") from error
            continue
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rewrite(attribute.g, Constants(attribute.g, constants), work.real)
        if constants.follow(node, any(r.op_type in REWRITE for o in node.output for r in readers.get(o, ()))):
            continue
        if node.op_type in MOVING and any(i in work.real for i in node.input):
            work.real.update(node.output)
        work.nodes.append(node)
    del graph.node[:]
    graph.node.extend(work.nodes)
    used = {i for n in _nested(graph) for i in n.input} | {o.name for o in graph.output}
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(v).reshape(v.shape), n) for n, v in work.added.items())
    there = {o for n in graph.node for o in n.output} | set(work.added)
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.made.items() if n in used and n not in there)
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _quantize(work: Rewriting, node: onnx.NodeProto) -> None:
    value, scale, zero = (work.constant(node, at) for at in range(3))
    given = _attributes(node)
    wanted = given.get("output_dtype", 0)
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(wanted) if wanted else np.uint8) if zero is None else zero.dtype
    if value is not None and scale is not None:
        made = numbers.quantised(value, scale, zero, kind, given.get("axis", 1), given.get("block_size", 0))
        work.constants.made[node.output[0]] = made
    else:
        work.quantised(node.input[0], node.output[0], scale, zero, kind)


def _dequantize(work: Rewriting, node: onnx.NodeProto) -> None:
    value, scale, zero = (work.constant(node, at) for at in range(3))
    if value is None and node.input[0] in work.real:
        work.put("Identity", [node.input[0]], node.output[0])
        return
    if scale is None:
        raise ModelError(f"operator DequantizeLinear ({node.name}): a scale that is computed is not supported")
    given = _attributes(node)
    axis, block = given.get("axis", 1), given.get("block_size", 0)
    if value is None:
        if scale.size > 1 and (block or axis < 0 or axis > 1):
            raise ModelError(f"operator DequantizeLinear ({node.name}): scales of an image on axis {axis} are not supported")
        # images have four axes
        work.dequantised(node.input[0], node.output[0], scale, zero, axis, 4)
        return
    made = numbers.dequantised(value, scale, zero, axis, block)
    work.number(node.output[0], made)
    work.constants.made[node.output[0]] = made


def _dynamic(work: Rewriting, node: onnx.NodeProto) -> None:
    """Its scale depends on the image: the values stay as they are, in units of one."""
    work.put("Identity", [node.input[0]], node.output[0])
    for output, value in zip(node.output[1:], (np.float32(1), np.uint8(0)), strict=False):
        work.constants.made[output] = np.asarray(value)
        work.number(output, np.asarray(value, np.float32))


def _integer(work: Rewriting, node: onnx.NodeProto) -> None:
    weight, zero = work.constant(node, 1), work.constant(node, 3)
    source, name = node.input[0], node.input[1]
    below = work.constant(node, 2)
    if below is not None and np.any(below):
        moved = work.number(f"{node.output[0]}_zero", below.astype(np.float32).reshape(-1, 1) if below.size > 1 else below.reshape(()))
        source = work.put("Sub", [source, moved], f"{node.output[0]}_moved")
    if weight is not None:
        axis = 0 if node.op_type == "ConvInteger" else -1
        name = work.number(f"{name}_float", numbers.dequantised(weight, np.ones(1), zero, axis))
    elif zero is not None and np.any(zero):
        name = work.put("Sub", [name, work.number(f"{node.output[0]}_offset", zero)], f"{node.output[0]}_right")
    op = "Conv" if node.op_type == "ConvInteger" else "MatMul"
    work.nodes.append(helper.make_node(op, [source, name], [node.output[0]], node.name, **_attributes(node)))


def _bias(work: Rewriting, node: onnx.NodeProto, at: int, scales: tuple[int, int]) -> list[str]:
    """The integer bias of a convolution or Gemm, whose scale is that of the image times that of the weight."""
    value, first, second = work.constant(node, at), work.constant(node, scales[0]), work.constant(node, scales[1])
    if value is None or first is None or second is None:
        return []
    return [
        work.number(f"{node.input[at]}_float", value.astype(np.float64) * (first.astype(np.float64) * second.astype(np.float64)).ravel())
    ]


def _conv(work: Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, "Conv", [work.weight(node, 0), work.weight(node, 3), *_bias(work, node, 8, (1, 4))], 6)


def _matmul(work: Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, "MatMul", [work.weight(node, 0), work.weight(node, 3, axis=-1)], 6)


def _gemm(work: Rewriting, node: onnx.NodeProto) -> None:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    inputs = [work.weight(node, 0), work.weight(node, 3, axis=0 if transposed else 1), *_bias(work, node, 6, (1, 4))]
    if len(node.input) > 7 and node.input[7]:
        work.emit(node, "Gemm", inputs, 7)
    else:  # its answer is float
        work.nodes.append(helper.make_node("Gemm", inputs, [node.output[0]], node.name, **_attributes(node)))


def _one(work: Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, ONE[node.op_type], [work.weight(node, 0)], 3)


def _two(work: Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, TWO[node.op_type], [work.weight(node, 0), work.weight(node, 3)], 6)


def _concat(work: Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, "Concat", [work.weight(node, at) for at in range(2, len(node.input), 3)], 0)


def _dynamic_matmul(work: Rewriting, node: onnx.NodeProto) -> None:
    """x, the weight, its scale, zero point and, behind all, a bias; or two more of x between them."""
    apart = node.op_type == "MatMulIntegerToFloat"
    scale, zero, bias = (3, 5, 6) if apart else (2, 3, 4)
    value, step = work.constant(node, 1), work.constant(node, scale)
    if value is None or step is None:
        raise ModelError(f"operator {node.op_type} ({node.name}): a weight that is computed is not supported")
    source, output = node.input[0], node.output[0]
    if apart and source not in work.real:
        own, below = work.constant(node, 2), work.constant(node, 4)
        if own is None:
            raise ModelError(f"operator {node.op_type} ({node.name}): a scale that is computed is not supported")
        source = work.dequantised(source, f"{output}_real", own, below, 0, 0)
    name = work.number(f"{node.input[1]}_float", numbers.dequantised(value, step, work.constant(node, zero), -1))
    added = node.input[bias] if len(node.input) > bias else ""
    work.put("MatMul", [source, name], f"{output}_product" if added else output)
    if added:
        work.put("Add", [f"{output}_product", added], output)


def _few_bits(work: Rewriting, node: onnx.NodeProto) -> None:
    packed, scale, zero = (work.constant(node, at) for at in (1, 2, 3))
    given = _attributes(node)
    if packed is None or scale is None or given.get("bits", 4) not in (1, 2, 4, 8) or (len(node.input) > 4 and node.input[4]):
        raise ModelError(f"operator MatMulNBits ({node.name}): a computed weight, {given.get('bits')} bits or groups are not supported")
    weight = numbers.blocks(packed, scale, zero, given.get("bits", 4), given["block_size"], given["K"], given["N"])
    name, output = work.number(f"{node.input[1]}_float", weight.T), node.output[0]
    added = node.input[5] if len(node.input) > 5 else ""
    work.put("MatMul", [node.input[0], name], f"{output}_product" if added else output)
    if added:
        work.put("Add", [f"{output}_product", added], output)


Rewrite = Callable[[Rewriting, onnx.NodeProto], None]
REWRITE: dict[str, Rewrite] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "ConvInteger": _integer,
    "MatMulInteger": _integer,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _dynamic_matmul,
    "MatMulNBits": _few_bits,
    **dict.fromkeys(ONE, _one),
    **dict.fromkeys(TWO, _two),
}
