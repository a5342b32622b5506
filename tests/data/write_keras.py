"""Writes the small Keras models of this folder as ONNX; needs tensorflow and tf2onnx, which nothing else here does.

python tests/data/write_keras.py tests/data            the small ones
python tests/data/write_keras.py FOLDER --large         Keras' own architectures as well, too large to keep
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow import keras

L = keras.layers


def cnn() -> keras.Model:
    """Scaling inside, a separate activation, a classifier of two dense layers behind Flatten, probabilities."""
    image = keras.Input((32, 32, 3))
    x = L.Rescaling(1 / 255.0)(image)
    x = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = L.MaxPooling2D()(L.BatchNormalization()(x))
    x = L.Conv2D(12, 3, strides=2, activation="swish")(x)
    x = L.LeakyReLU()(L.DepthwiseConv2D(3, padding="same")(x))
    x = L.Dropout(0.2)(L.Dense(24, activation="relu")(L.Flatten()(x)))
    return keras.Model(image, L.Dense(10, activation="softmax")(x))


def mobile() -> keras.Model:
    """Inverted residuals with squeeze and excitation, zero padding, hard swish, pooling with kept axes, a 1x1 convolution as classifier."""

    def block(x, expand: int, out: int, stride: int):  # type: ignore[no-untyped-def]
        y = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(expand, 1, use_bias=False)(x)))
        if stride == 2:
            y = L.ZeroPadding2D(((0, 1), (0, 1)))(y)
        y = L.DepthwiseConv2D(3, strides=stride, padding="same" if stride == 1 else "valid", use_bias=False)(y)
        y = L.Activation("hard_silu")(L.BatchNormalization()(y))
        gate = L.Conv2D(8, 1, activation="relu")(L.GlobalAveragePooling2D(keepdims=True)(y))
        y = L.Multiply()([y, L.Activation("hard_sigmoid")(L.Conv2D(expand, 1)(gate))])
        y = L.BatchNormalization()(L.Conv2D(out, 1, use_bias=False)(y))
        return L.Add()([x, y]) if stride == 1 and x.shape[-1] == out else y

    image = keras.Input((32, 32, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = block(block(block(L.ReLU()(L.BatchNormalization()(x)), 16, 8, 1), 24, 12, 2), 24, 12, 1)
    x = L.GlobalAveragePooling2D(keepdims=True)(x)
    x = L.Activation("hard_silu")(L.Conv2D(20, 1)(x))
    return keras.Model(image, L.Flatten()(L.Conv2D(10, 1)(L.Dropout(0.2)(x))))


def separable() -> keras.Model:
    """Xception's separable convolutions, layer normalisation, global max pooling, one dense layer."""
    image = keras.Input((32, 32, 3))
    x = L.ELU()(L.SeparableConv2D(12, 3, strides=2)(image))
    x = L.LayerNormalization()(x)
    x = L.PReLU(shared_axes=[1, 2])(L.SeparableConv2D(16, 3, padding="same")(x))
    x = L.AveragePooling2D(3, strides=2, padding="same")(x)
    return keras.Model(image, L.Dense(10)(L.GlobalMaxPooling2D()(L.UpSampling2D()(x))))


def applications() -> dict[str, keras.Model]:
    """Keras' own networks; preprocessing is inside where Keras puts it there."""
    options = {"weights": None, "classes": 10, "input_shape": (96, 96, 3), "classifier_activation": None}
    makers = (keras.applications.MobileNetV2, keras.applications.MobileNetV3Small, keras.applications.EfficientNetB0)
    return {maker.__name__: maker(**options) for maker in makers}


def main(out: Path, large: bool) -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    models = {build.__name__: build() for build in (cnn, mobile, separable)} | (applications() if large else {})
    for name, model in models.items():
        for layer in model.layers:
            if isinstance(layer, L.BatchNormalization):
                shape = layer.get_weights()[0].shape
                scale, shift, mean = rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.1, shape), rng.normal(0, 0.1, shape)
                layer.set_weights([scale, shift, mean, rng.uniform(0.5, 2, shape)])
        spec = (tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image"),)
        tf2onnx.convert.from_keras(model, input_signature=spec, opset=17, output_path=str(out / f"keras-{name}.onnx"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--large" in sys.argv)
