#!/usr/bin/env python3
"""Trains the digit classifier and writes the files of this workload; README.md says how to run it.

    train.py           train, quantise, write the five files below beside this script
    train.py --check   do the same in memory and compare with the committed files
    train.py --tune    cross-validated accuracy of the settings, on the train split alone

Written: weights.bin, digits.bin, labels.csv, predictions.csv.sha256 and accuracy.txt.

The same bytes come out on every machine. Matrix products are where floating-point training usually differs between
machines, because libraries sum in different orders; here every factor is rounded to a fixed binary grid, coarse enough
that each product and each sum fits the 53 bits of a double exactly, so that the order cannot matter. What remains is
single IEEE 754 operations (+, -, *, /, sqrt), which are correctly rounded everywhere. The loss is the squared hinge
(Tang 2013, "Deep Learning using Linear Support Vector Machines"), which needs no exp or log. Random numbers are those
of Python's `random.Random.random`, the one generator function whose sequence Python promises to keep.
"""

import hashlib
import random
import struct
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent

# The three layers, and the range of a pixel.
SIDE, INPUTS, HIDDEN, OUTPUTS = 8, 64, 64, 10
PIXEL_MAX = 16

# Settings, chosen by cross-validation on the train split only (`--tune`); the held-out rows took no part.
SEED = 2026
EPOCHS = 120
BATCH = 32
LEARNING_RATE = 0.004
WEIGHT_DECAY = 0.02
SHIFTED = 0.5  # share of training images moved by one pixel, anew in each epoch
FOLDS = 5

HELD_OUT = 0.2  # of each digit's rows

# Grids: a value on grid b is a multiple of 2^-b. The bounds are checked at every product (`exact_product`).
WEIGHT_GRID, SIGNAL_GRID = 18, 14

WEIGHTS_MAGIC = b"TENMLP1\0"
DIGITS_MAGIC = b"TENDIG1\0"
HIDDEN_MAX = 127  # largest hidden activation after requantisation
WEIGHT_MAX = 127  # largest magnitude of an int8 weight: symmetric, so -128 is not used


def grid(values, bits):
    """Rounds to multiples of 2^-bits (ties to even)."""
    return np.rint(values * 2.0**bits) * 2.0**-bits


def exact_product(a, a_bits, b, b_bits):
    """The matrix product of values on grids a_bits and b_bits, refused where a double could have rounded a sum."""
    largest = np.abs(a).max() * np.abs(b).max() * a.shape[1] * 2.0 ** (a_bits + b_bits)
    if not largest < 2.0**53:
        raise ArithmeticError(f"a product may need {largest:.3g} >= 2^53: training would depend on the machine")
    return a @ b


def split(labels, rng):
    """True for held-out rows: of each digit, the HELD_OUT share with the smallest random keys."""
    keys = [rng.random() for _ in labels]
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(OUTPUTS):
        rows = sorted(np.flatnonzero(labels == digit), key=lambda row: keys[row])
        held_out[rows[: round(len(rows) * HELD_OUT)]] = True
    return held_out


def moved(pixels):
    """The images as they are, then moved by one pixel right, left, down and up: shape (5, rows, 64)."""
    images = pixels.reshape(-1, SIDE, SIDE)
    variants = [images]
    for axis in (2, 1):
        for step in (1, -1):
            image = np.roll(images, step, axis=axis)
            edge = [slice(None)] * 3
            edge[axis] = 0 if step == 1 else -1  # what rolled around comes in empty
            image[tuple(edge)] = 0
            variants.append(image)
    return np.stack(variants).reshape(len(variants), -1, INPUTS)


def train(pixels, labels, rng):
    """Returns float weights [w1 (64,H), b1 (1,H), w2 (H,10), b2 (1,10)] for inputs scaled to 0..1.

    Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019) and a learning rate
    that falls linearly to 0.
    """

    def uniform(rows, columns):
        # He et al. 2015, equation 10, for uniform values: variance 2/rows.
        half_width = float(np.sqrt(6.0 / rows))
        values = [[(2.0 * rng.random() - 1.0) * half_width for _ in range(columns)] for _ in range(rows)]
        return grid(np.array(values), WEIGHT_GRID)

    parameters = [uniform(INPUTS, HIDDEN), np.zeros((1, HIDDEN)), uniform(HIDDEN, OUTPUTS), np.zeros((1, OUTPUTS))]
    decays = [WEIGHT_DECAY, 0.0, WEIGHT_DECAY, 0.0]
    mean = [np.zeros_like(p) for p in parameters]
    square = [np.zeros_like(p) for p in parameters]
    variants = moved(pixels)
    targets = np.where(np.arange(OUTPUTS) == labels[:, None], 1.0, -1.0)
    rows = len(pixels)
    steps, step = EPOCHS * (rows // BATCH), 0
    mean_bias = square_bias = 1.0

    for _ in range(EPOCHS):
        # Sorting by random keys, not shuffle(): only random() has a sequence that Python promises to keep.
        keys = [rng.random() for _ in range(rows)]
        order = sorted(range(rows), key=lambda row: keys[row])
        variant = [1 + int(rng.random() * 4) if rng.random() < SHIFTED else 0 for _ in range(rows)]
        inputs = variants[variant, np.arange(rows)] / PIXEL_MAX  # on grid 4

        for start in range(0, rows - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            x, target = inputs[batch], targets[batch]
            w1, b1, w2, b2 = parameters
            before = exact_product(x, 4, w1, WEIGHT_GRID) + b1
            hidden = grid(np.maximum(before, 0.0), SIGNAL_GRID)
            score = exact_product(hidden, SIGNAL_GRID, w2, WEIGHT_GRID) + b2

            d_score = grid(-2.0 * target * np.maximum(0.0, 1.0 - target * score), SIGNAL_GRID)
            d_hidden = exact_product(d_score, SIGNAL_GRID, w2.T, WEIGHT_GRID) * (before > 0.0)
            d_hidden = grid(d_hidden, SIGNAL_GRID)
            ones = np.ones((1, BATCH))
            gradients = [
                exact_product(x.T, 4, d_hidden, SIGNAL_GRID),
                exact_product(ones, 0, d_hidden, SIGNAL_GRID),
                exact_product(hidden.T, SIGNAL_GRID, d_score, SIGNAL_GRID),
                exact_product(ones, 0, d_score, SIGNAL_GRID),
            ]

            rate = LEARNING_RATE * (1.0 - step / steps)
            step += 1
            mean_bias *= 0.9
            square_bias *= 0.999
            for i, decay in enumerate(decays):
                g = gradients[i] / BATCH
                mean[i] = 0.9 * mean[i] + 0.1 * g
                square[i] = 0.999 * square[i] + 0.001 * g * g
                adam = (mean[i] / (1.0 - mean_bias)) / (np.sqrt(square[i] / (1.0 - square_bias)) + 1e-8)
                parameters[i] = grid(parameters[i] - rate * (adam + decay * parameters[i]), WEIGHT_GRID)
    return parameters


def classify_float(parameters, pixels):
    """The digit with the greatest score, in floating point."""
    w1, b1, w2, b2 = parameters
    return (np.maximum(pixels / PIXEL_MAX @ w1 + b1, 0.0) @ w2 + b2).argmax(axis=1)


class Network:
    """The quantised network: what weights.bin holds, integers only."""

    def __init__(self, shift, bias1, multiplier1, bias2, w1, w2):
        self.shift = shift  # hidden = min(127, (max(0, acc) * multiplier + 2^(shift-1)) >> shift)
        self.bias1 = bias1  # (H,) in units of one accumulator step
        self.multiplier1 = multiplier1  # (H,)
        self.bias2 = bias2  # (10,)
        self.w1 = w1  # (H, 64): one row for each hidden unit
        self.w2 = w2  # (10, H)

    def to_bytes(self):
        header = WEIGHTS_MAGIC + struct.pack("<4I", INPUTS, HIDDEN, OUTPUTS, self.shift)
        words = [array.astype("<i4").tobytes() for array in (self.bias1, self.multiplier1, self.bias2)]
        weights = [array.astype("i1").tobytes() for array in (self.w1, self.w2)]
        return header + b"".join(words + weights)

    def classify(self, pixels):
        """digits.c in numpy. Every array is int64 and every operation keeps it so: no float takes part."""
        pixels = np.asarray(pixels, dtype=np.int64)
        acc = pixels @ self.w1.T + self.bias1
        hidden = np.minimum((np.maximum(acc, 0) * self.multiplier1 + (1 << (self.shift - 1))) >> self.shift, HIDDEN_MAX)
        score = hidden @ self.w2.T + self.bias2
        for array in (acc, hidden, score):
            if array.dtype != np.int64:
                raise TypeError(f"the integer model computed in {array.dtype}")
        if max(np.abs(acc).max(), np.abs(score).max()) >= 1 << 31:
            raise OverflowError("an accumulator left int32")
        return score.argmax(axis=1)  # the first of equals, as in digits.c


def quantise(parameters, pixels):
    """Post-training quantisation after Jacob et al. 2018, section 2, symmetric and without zero points.

    w1 has a scale for each hidden unit, w2 a single one, because the greatest score is looked for among units and a
    common positive factor does not change which is greatest. The hidden range is measured on `pixels`, the train split.
    """
    w1, b1, w2, b2 = parameters
    w1_scale = np.abs(w1).max(axis=0) / WEIGHT_MAX  # (H,)
    w2_scale = np.abs(w2).max() / WEIGHT_MAX
    hidden = np.maximum(pixels / PIXEL_MAX @ w1 + b1, 0.0)
    hidden_scale = hidden.max() / HIDDEN_MAX

    # One accumulator step is worth w1_scale/16: a pixel of 1 is the input 1/16.
    ratio = w1_scale / PIXEL_MAX / hidden_scale
    shift = 24
    multiplier = np.rint(ratio * 2.0**shift)
    if not (multiplier.min() >= 1 and multiplier.max() < 1 << 31):
        raise OverflowError(f"requantisation multipliers span {multiplier.min()}..{multiplier.max()}, limit 1..2^31-1")
    return Network(
        shift=shift,
        bias1=np.rint(b1[0] * PIXEL_MAX / w1_scale).astype(np.int64),
        multiplier1=multiplier.astype(np.int64),
        bias2=np.rint(b2[0] / (hidden_scale * w2_scale)).astype(np.int64),
        w1=np.rint(w1 / w1_scale).T.astype(np.int64),
        w2=np.rint(w2 / w2_scale).T.astype(np.int64),
    )


def load():
    """The bundled digits as int64 (rows, 64) and their labels."""
    bundle = load_digits()
    pixels = bundle.data.astype(np.int64)
    if pixels.shape != (1797, INPUTS) or pixels.min() < 0 or pixels.max() > PIXEL_MAX or (pixels != bundle.data).any():
        raise ValueError("scikit-learn's digits are not the 1,797 rows of 64 integers 0..16 this script expects")
    return pixels, bundle.target.astype(np.int64)


def tune(pixels, labels):
    """Prints the accuracy on each fold of the train split when trained on the others."""
    fold = np.arange(len(pixels)) % FOLDS
    scores = []
    for k in range(FOLDS):
        parameters = train(pixels[fold != k], labels[fold != k], random.Random(SEED + 1 + k))
        scores.append((classify_float(parameters, pixels[fold == k]) == labels[fold == k]).mean())
        print(f"fold {k + 1} of {FOLDS}: {scores[-1]:.4f}")
    print(f"mean: {np.mean(scores):.4f}")


def build(pixels, labels, held_out, rng):
    """Trains, quantises and returns {file name: content}."""
    parameters = train(pixels[~held_out], labels[~held_out], rng)
    network = quantise(parameters, pixels[~held_out])
    as_float, as_int = classify_float(parameters, pixels), network.classify(pixels)

    report = []
    for name, rows in (("train", ~held_out), ("held_out", held_out)):
        right_float = int((as_float == labels)[rows].sum())
        right_int = int((as_int == labels)[rows].sum())
        total = int(rows.sum())
        report.append(
            f"{name}: {total} rows, float {right_float} right ({right_float / total:.2%}), "
            f"int8 {right_int} right ({right_int / total:.2%})\n"
        )
    if (as_int == labels)[held_out].mean() < 0.95:
        raise SystemExit("held-out accuracy is below 95 %:\n" + "".join(report))

    predictions = "index,digit\n" + "".join(f"{i},{digit}\n" for i, digit in enumerate(as_int))
    names = np.where(held_out, "held_out", "train")
    labelled = "index,label,split\n" + "".join(f"{i},{label},{names[i]}\n" for i, label in enumerate(labels))
    digits_header = DIGITS_MAGIC + struct.pack("<4I", len(pixels), SIDE, SIDE, PIXEL_MAX)
    return {
        "weights.bin": network.to_bytes(),
        "digits.bin": digits_header + pixels.astype("u1").tobytes(),
        "labels.csv": labelled.encode(),
        "predictions.csv.sha256": f"{hashlib.sha256(predictions.encode()).hexdigest()}  predictions.csv\n".encode(),
        "accuracy.txt": "".join(report).encode(),
    }


def main(arguments):
    if arguments not in ([], ["--check"], ["--tune"]):
        raise SystemExit(f"{__doc__}\nunknown arguments: {arguments}")
    pixels, labels = load()
    rng = random.Random(SEED)
    held_out = split(labels, rng)
    if arguments == ["--tune"]:
        tune(pixels[~held_out], labels[~held_out])
        return
    files = build(pixels, labels, held_out, rng)
    print(files["accuracy.txt"].decode(), end="")
    different = []
    for name, content in files.items():
        path = HERE / name
        if arguments == ["--check"]:
            if not path.exists() or path.read_bytes() != content:
                different.append(name)
        else:
            path.write_bytes(content)
            print(f"wrote {name}: {len(content)} bytes")
    if different:
        raise SystemExit(f"training gives other bytes than the committed {', '.join(different)}")
    if arguments:
        print(f"the committed {', '.join(files)} are what training gives")


if __name__ == "__main__":
    main(sys.argv[1:])
