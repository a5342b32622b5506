"""Writes the small scikit-learn classifiers of this folder as ONNX; needs scikit-learn and skl2onnx, which nothing else here does.

python tests/data/write_sklearn.py tests/data
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(out: Path) -> None:
    """The digits of 8x8 pixels: labels of text, scaling and a map of probabilities in the file, two classes by one logit."""
    # few iterations are enough for a file to read
    warnings.simplefilter("ignore")
    digits = load_digits()
    x, y = digits.data.astype(np.float32), digits.target
    plain = MLPClassifier((32, 16), activation="tanh", max_iter=10, random_state=0).fit(x, np.array([f"digit {v}" for v in y]))
    scaled = make_pipeline(StandardScaler(), MLPClassifier((24,), max_iter=10, random_state=0)).fit(x, y)
    binary = MLPClassifier((12,), activation="logistic", max_iter=10, random_state=0).fit(x, y > 4)
    for name, model, options in (("text", plain, {"zipmap": False}), ("map", scaled, {}), ("binary", binary, {"nocl": True})):
        options = {id(model): options} if options else None
        (out / f"sklearn-{name}.onnx").write_bytes(to_onnx(model, x[:1], options=options).SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
