"""Quantised ONNX graphs, rewritten before they are read: noise acts on layers, whose weights and sums are floats.

Weights become the numbers that they stand for. Activations stay what they are: QuantizeLinear and DequantizeLinear stand around the plain
operator where the file has a quantised one, and round as the file does.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from banscan.errors import ModelError
from banscan.importers.onnx import numbers
from banscan.importers.onnx.constants import Constants
from banscan.importers.onnx.rewriting import ONE, TWO, Rewriting, check_scale


def dequantise(model: onnx.ModelProto) -> bool:
    """Rewrites quantised operators in place, those of branches too; whether there were any.

    Raises:
        ModelError: a quantised operator that is not supported, or one whose parameters are computed or do not fit.
    """
    if not any(n.op_type in REWRITE for n in _nested(model.graph)):
        return False
    _rewrite(model.graph, Constants(model.graph, None), {})
    return True


def _nested(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nested(attribute.g)


def _rewrite(graph: onnx.GraphProto, constants: Constants, held: dict[str, int], inner: bool = False) -> None:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in _nested(graph):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    work = Rewriting(constants, dict(held))
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
                _rewrite(attribute.g, Constants(attribute.g, constants), work.held, inner=True)
        if constants.follow(node, any(r.op_type in REWRITE for o in node.output for r in readers.get(o, ()))):
            continue
        work.plain(node)
    if inner:  # nobody outside knows what is held
        for value in graph.output:
            value.name = work.integers(value.name) if value.name in work.held else value.name
    del graph.node[:]
    del graph.value_info[:]  # types are others now
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
        return
    if scale is None or (len(node.input) > 2 and node.input[2] and zero is None):
        raise ModelError(f"operator {node.op_type} ({node.name}): a scale or zero point that is computed is not supported")
    check_scale(node, scale)
    if kind.kind not in "iu" and not wanted:  # the zero point, which says the type, will be a plain number
        node.attribute.append(helper.make_attribute("output_dtype", helper.np_dtype_to_tensor_dtype(kind)))
    work.nodes.append(node)
    work.hold(node.output[0], kind)


def _dequantize(work: Rewriting, node: onnx.NodeProto) -> None:
    value, scale, zero = (work.constant(node, at) for at in range(3))
    given = _attributes(node)
    if value is None:
        work.nodes.append(node)
        return
    if scale is None:
        raise ModelError(f"operator DequantizeLinear ({node.name}): a scale that is computed is not supported")
    made = numbers.dequantised(value, scale, zero, given.get("axis", 1), given.get("block_size", 0))
    work.number(node.output[0], made)
    work.constants.made[node.output[0]] = made


def _dynamic(work: Rewriting, node: onnx.NodeProto) -> None:
    """Its scale depends on the image."""
    work.nodes.append(node)
    for output in (node.output[0], *node.output[2:]):
        work.hold(output, np.dtype(np.uint8))


def _integer(work: Rewriting, node: onnx.NodeProto) -> None:
    """Products of integers, which floats hold without a rounding up to 2²⁴."""
    output = node.output[0]
    source = work.put("Cast", [node.input[0]], f"{output}_source", to=onnx.TensorProto.FLOAT)
    source = _moved(work, node, source, 2, f"{output}_moved")
    weight, zero = work.constant(node, 1), work.constant(node, 3)
    if weight is not None and (zero is not None or len(node.input) < 4 or not node.input[3]):
        axis = 0 if node.op_type == "ConvInteger" else -1
        name = work.number(f"{node.input[1]}_float", numbers.dequantised(weight, np.ones(1), zero, axis))
    else:
        name = work.put("Cast", [node.input[1]], f"{output}_factor", to=onnx.TensorProto.FLOAT)
        name = _moved(work, node, name, 3, f"{output}_right")
    op = "Conv" if node.op_type == "ConvInteger" else "MatMul"
    work.nodes.append(helper.make_node(op, [source, name], [output], node.name, **_attributes(node)))
    work.hold(output, np.dtype(np.int32))


def _moved(work: Rewriting, node: onnx.NodeProto, source: str, at: int, output: str) -> str:
    """Numbers without their zero point, which is the input `at`."""
    if len(node.input) <= at or not node.input[at]:
        return source
    zero = work.constant(node, at)
    if zero is None:
        name = work.put("Cast", [node.input[at]], f"{output}_zero", to=onnx.TensorProto.FLOAT)
    elif np.any(zero):
        column = zero.size > 1 and at == 2
        name = work.number(f"{output}_zero", zero.astype(np.float32).reshape((-1, 1) if column else zero.shape if zero.size > 1 else ()))
    else:
        return source
    return work.put("Sub", [source, name], output)


def _bias(work: Rewriting, node: onnx.NodeProto, at: int, scales: tuple[int, int]) -> list[str]:
    """The integer bias of a convolution or Gemm, whose scale is that of the image times that of the weight."""
    value, first, second = work.constant(node, at), work.constant(node, scales[0]), work.constant(node, scales[1])
    if value is None or first is None or second is None:
        return []
    if np.abs(value.astype(np.float64)).max(initial=0) >= LARGEST_BIAS:
        raise ModelError(f"operator {node.op_type} ({node.name}): a bias so large that integer sums with it wrap around")
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
    if apart:
        own = work.constant(node, 2)
        if own is not None and own.size > 1:
            raise ModelError(f"operator {node.op_type} ({node.name}): several scales of what is no constant are not supported")
        inputs = [source, node.input[2], node.input[4] if len(node.input) > 4 else ""]
    else:
        inputs = [f"{output}_{part}" for part in ("whole", "step", "zero")]
        work.nodes.append(helper.make_node("DynamicQuantizeLinear", [source], inputs, f"{output}/DynamicQuantizeLinear"))
    source = work.dequantised(inputs, f"{output}_real")
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


# half of what 32 bits hold: a million products of 8 bits more do not wrap around
LARGEST_BIAS = 1 << 30
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
