"""The original's way: Flask, and one Keras ``predict`` for each request.

Its network, its head and its preprocessing (bicubic, over 255); weights at random, which cost the same.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from flask import Flask, request
from PIL import Image

SIZE = (224, 224)


def network(classes: int = 2) -> keras.Model:
    """DenseNet-121 with the original's head."""
    base = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(*SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Dense(256, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(base.input, keras.layers.Dense(classes, activation="softmax")(x))


def application() -> Flask:
    """The web application."""
    app, model = Flask(__name__), network()

    @app.post("/predict")
    def predict() -> list[float]:
        image = Image.open(request.files["file"].stream).convert("RGB").resize(SIZE)
        batch = np.asarray(image, np.float32)[None] / 255
        return model.predict(batch, verbose=0)[0].tolist()

    return app


if __name__ == "__main__":
    application().run(host="127.0.0.1", port=int(sys.argv[1]), threaded=True)
