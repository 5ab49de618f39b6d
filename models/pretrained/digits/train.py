"""Train the digit networks of this folder, and write all of it but README.md.

    pip install torch numpy pillow safetensors
    python train.py MNIST_FOLDER

MNIST_FOLDER holds t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz. These 10,000 images (the test set of
MNIST) are split here: 8,000 to train, 2,000 held out.
"""

import argparse
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
HELD_OUT = 2000
SEED = 1998


class Cnn(nn.Module):
    """The convolutional network of the field's textbooks: 93,322 weights."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.dense1 = nn.Linear(64 * 3 * 3, 64)
        self.dense2 = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.conv3(x)).flatten(1)
        x = functional.dropout(x, 0.3, self.training)
        return self.dense2(functional.relu(self.dense1(x)))


class Dense(nn.Module):
    """The plain dense network: 55,050 weights."""

    def __init__(self):
        super().__init__()
        self.dense1 = nn.Linear(28 * 28, 64)
        self.dense2 = nn.Linear(64, 64)
        self.dense3 = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.relu(self.dense1(x.flatten(1)))
        return self.dense3(functional.relu(self.dense2(x)))


def read_idx(path, header):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def load(folder):
    """Training and held-out (images u8 [n, 28, 28], labels [n]), split by a seeded permutation."""
    images = read_idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz", 8)
    assert len(images) == len(labels) == 10_000
    order = np.random.RandomState(SEED).permutation(len(images))
    train, held_out = order[HELD_OUT:], order[:HELD_OUT]
    return (images[train], labels[train]), (images[held_out], labels[held_out])


def pixels_of(images):
    return torch.from_numpy(images.copy()).float()[:, None] / 255


def augment(pixels, strength, inverts, generator):
    """Turns, scales and shifts each image a little; with `inverts` half of them become dark digits on light paper."""
    count = len(pixels)

    def uniform(most):
        return (2 * torch.rand(count, generator=generator) - 1) * most * strength

    angle, size = uniform(math.radians(12)), 1 + uniform(0.12)
    rows = torch.stack([
        torch.stack([angle.cos() * size, -angle.sin() * size, uniform(0.14)], 1),
        torch.stack([angle.sin() * size, angle.cos() * size, uniform(0.14)], 1),
    ], 1)
    grid = functional.affine_grid(rows, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, align_corners=False)
    inverted = torch.rand(count, generator=generator) < inverts / 2
    return torch.where(inverted[:, None, None, None], 1 - moved, moved)


def accuracy(model, pixels, labels):
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in pixels.split(500)])
    return float((predicted == labels).float().mean())


def train(model, pixels, labels, epochs, strength, inverts):
    generator = torch.Generator().manual_seed(SEED)
    batch = 64
    steps = epochs * math.ceil(len(pixels) / batch)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        start, total = time.time(), 0.0
        for rows in torch.randperm(len(pixels), generator=generator).split(batch):
            logits = model(augment(pixels[rows], strength, inverts, generator))
            loss = functional.cross_entropy(logits, labels[rows], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"  epoch {epoch + 1:2}: loss {total / len(pixels):.4f}, {time.time() - start:.1f} s", flush=True)


def write(model, folder, kind):
    """Matrices in f16, biases in f32; then the model is what the file holds."""
    folder.mkdir(exist_ok=True)
    tensors = {name: t.half() if t.dim() > 1 else t for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    labels = {str(digit): str(digit) for digit in range(10)}
    config = {
        "model_type": "wginfer_digits",
        "architectures": [kind],
        "num_channels": 1,
        "image_size": 28,
        "id2label": labels,
    }
    preprocessor = {
        "do_grayscale": True,
        "do_resize": True,
        "size": {"height": 28, "width": 28},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")
    model.load_state_dict({name: t.float() for name, t in load_file(folder / "model.safetensors").items()})


def write_samples(model, images, labels):
    """The first held-out image of each digit as PNG, and the logits for them (golden.json)."""
    folder = HERE / "samples"
    folder.mkdir(exist_ok=True)
    golden = {}
    exact = model.double().eval()
    for digit in range(10):
        image = images[np.flatnonzero(labels == digit)[0]]
        name = f"digit_{digit}.png"
        Image.fromarray(image).save(folder / name, optimize=True)
        with torch.no_grad():
            golden[name] = [round(float(x), 6) for x in exact(pixels_of(image[None]).double())[0]]
    model.float()
    return golden


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path, help="folder of the two IDX files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    (images, labels), (held_images, held_labels) = load(arguments.mnist)
    pixels, targets = pixels_of(images), torch.from_numpy(labels.astype(np.int64))
    held_pixels, held_targets = pixels_of(held_images), torch.from_numpy(held_labels.astype(np.int64))
    for kind, model, folder, epochs, strength, inverts in [
        ("cnn", Cnn(), HERE, 14, 1.0, True),
        ("dense", Dense(), HERE / "dense", 40, 0.3, False),
    ]:
        print(f"{kind}: {sum(weight.numel() for weight in model.parameters())} weights")
        train(model, pixels, targets, epochs, strength, inverts)
        write(model, folder, kind)
        light, dark = accuracy(model, held_pixels, held_targets), accuracy(model, 1 - held_pixels, held_targets)
        print(f"{kind}: held-out accuracy {light:.4f}; inverted (dark on light) {dark:.4f}", flush=True)
        golden = write_samples(model, held_images, held_labels)
        (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
