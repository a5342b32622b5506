"""What our interpreter of ONNX lacks, and the second reader that may have it: onnx2torch, an optional package."""

import importlib.util

from banscan.errors import ModelError, OperatorError

SECOND = "onnx2torch"
HINT = f"pip install 'banscan[{SECOND}]' brings a second reader, which may know it"
# the operators that onnx2torch 1.5.15 has converters for, in some of their versions
NAMES = """
Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv
ConvTranspose Cos CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND
Gemm GlobalAveragePool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mod Mul Neg NonMaxSuppression NonZero Not Or PRelu Pad Pow Range
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
Reshape Resize RoiAlign Round ScatterND Selu Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tan
Tanh Tile TopK Transpose Unsqueeze Where Xor
"""
KNOWN = frozenset(NAMES.split())
# those of them that it needs torchvision for; no classifier has them
DETECTION = frozenset({"NonMaxSuppression", "RoiAlign"})


def installed() -> bool:
    """Whether the second reader is there."""
    return importlib.util.find_spec(SECOND) is not None


def lacking(operator: str, told: str) -> ModelError:
    """The error for an operator, or a form of one, that our interpreter does not know, given with what is told of it.

    Returns:
        An OperatorError where there is a second reader; without, one that says where it is to be had, if it may know the operator.
    """
    if installed():
        return OperatorError(told)
    return ModelError(f"{told}; {HINT}" if operator in KNOWN - DETECTION else told)
