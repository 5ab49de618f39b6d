"""Train the digit detector of this folder, and write all of it but README.md.

    pip install torch torchvision numpy pillow safetensors
    python train.py MNIST_FOLDER [--minutes 12]

The network is YOLOv8 (tests/goldens/vision_networks.py) with few channels. It learns from scenes made as it trains:
canvases with a gradient, noise, lines and rectangles, on which digits of MNIST's images are put at many sizes and
colours. The 8,000 training and 2,000 held-out digits are those of ../digits/train.py.
"""

import argparse
import copy
import importlib.util
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torchvision.ops import batched_nms, box_iou, complete_box_iou

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests/goldens"))
from vision_networks import YoloV8  # noqa: E402

SIDE = 160
WIDTHS, COUNTS, REG_MAX = [8, 16, 24, 40, 56], [1, 1, 1, 1], 8
GRAY = 114
SMALLEST, LARGEST = 14, 84


def digits_script():
    spec = importlib.util.spec_from_file_location("digits", HERE.parent / "digits/train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- scenes ---------------------------------------------------------------------------------


def background(random, height, width):
    """A gradient between two near colours, with noise, lines and rectangles."""
    base = random.uniform(0, 255, 3) if random.rand() < 0.6 else np.full(3, random.uniform(0, 255))
    ends = np.clip(base + random.uniform(-40, 40, (2, 3)), 0, 255)
    ramp = np.linspace(0, 1, width)[None, :, None] if random.rand() < 0.5 else np.linspace(0, 1, height)[:, None, None]
    canvas = ends[0] * (1 - ramp) + ends[1] * ramp + np.zeros((height, width, 1))
    image = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(random.poisson(1.5)):
        corners = np.sort(random.randint(-20, max(height, width) + 20, (2, 2)), 0)
        colour = tuple(int(x) for x in np.clip(base + random.uniform(-90, 90, 3), 0, 255))
        if random.rand() < 0.5:
            draw.line([*corners[0], *corners[1][::-1]], colour, random.randint(1, 4))
        else:
            draw.rectangle([*corners[0], *corners[1]], outline=colour, width=random.randint(1, 4))
    canvas = np.asarray(image).astype(np.float32)
    return canvas + random.normal(0, random.uniform(0, 10), canvas.shape), base


def place(random, boxes, width, height, canvas):
    """A free corner for a box, or None."""
    for _ in range(12):
        left = random.randint(0, canvas[1] - width + 1)
        top = random.randint(0, canvas[0] - height + 1)
        box = (left, top, left + width, top + height)
        apart = all(
            min(box[2], b[2]) - max(box[0], b[0]) < -1 or min(box[3], b[3]) - max(box[1], b[1]) < -1 for b in boxes
        )
        if apart:
            return left, top
    return None


def scene(random, images, labels, side=SIDE):
    """An image u8 [side, side, 3], boxes [k, 4] (left, top, right, bottom of the ink) and labels [k]. A third of the
    scenes are not square and stand on gray, as photos do that were fitted into the square."""
    height = width = side
    if random.rand() < 0.33:
        height, width = (random.randint(side // 2, side), side) if random.rand() < 0.5 else (side, random.randint(side // 2, side))
    canvas, base = background(random, height, width)
    boxes, classes = [], []
    for _ in range(random.randint(1, 9)):
        index = random.randint(len(images))
        ink = images[index]
        rows, cols = np.flatnonzero(ink.max(1) > 40), np.flatnonzero(ink.max(0) > 40)
        ink = ink[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        tall = math.exp(random.uniform(math.log(SMALLEST), math.log(min(LARGEST, height - 1))))
        wide = tall * ink.shape[1] / ink.shape[0] * random.uniform(0.85, 1.2)
        tall, wide = max(round(tall), 4), max(round(wide), 3)
        if wide >= width or (corner := place(random, boxes, wide, tall, (height, width))) is None:
            continue
        alpha = np.asarray(Image.fromarray(ink).resize((wide, tall), Image.BILINEAR), np.float32)[..., None] / 255
        away = 255.0 if base.mean() < 128 else 0.0
        colour = base + (away - base) * random.uniform(0.5, 1.0) + random.uniform(-30, 30, 3)
        left, top = corner
        part = canvas[top : top + tall, left : left + wide]
        part += (np.clip(colour, 0, 255) - part) * alpha
        boxes.append((left, top, left + wide, top + tall))
        classes.append(int(labels[index]))
    whole = np.full((side, side, 3), GRAY, np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    whole[top : top + height, left : left + width] = canvas
    offset = np.array([left, top, left, top])
    boxes = np.array(boxes, np.float32).reshape(-1, 4) + offset
    return np.clip(whole, 0, 255).astype(np.uint8), boxes.astype(np.float32), np.array(classes, np.int64)


def batch_of(scenes):
    pixels = torch.from_numpy(np.stack([image for image, _, _ in scenes])).permute(0, 3, 1, 2).float() / 255
    return pixels, [(torch.from_numpy(boxes), torch.from_numpy(classes)) for _, boxes, classes in scenes]


# ---- loss: task-aligned assignment, CIoU, distribution focal loss ----------------------------


def assign(scores, boxes, centers, true_boxes, true_classes, most=10):
    """Which box each anchor is to find (-1: none) and how well it does (Feng et al. 2021, TOOD: score^0.5 IoU^6)."""
    anchors = len(centers)
    target, weight = torch.full((anchors,), -1), torch.zeros(anchors)
    if len(true_boxes) == 0:
        return target, weight
    inside = (centers[None] > true_boxes[:, None, :2]) & (centers[None] < true_boxes[:, None, 2:])
    overlaps = complete_box_iou(true_boxes, boxes).clamp(0)
    metric = scores[:, true_classes].T.sqrt() * overlaps**6 * inside.all(2)
    best = metric.topk(most, 1)
    chosen = torch.zeros_like(metric).scatter_(1, best.indices, (best.values > 1e-9).float())
    claimed = chosen * (overlaps + 1e-9)
    rank, owner = claimed.max(0)
    target[rank > 0] = owner[rank > 0]
    metric = metric * torch.nn.functional.one_hot(owner, len(true_boxes)).T * (rank > 0)
    scale = (overlaps * (metric > 0)).amax(1, keepdim=True) / metric.amax(1, keepdim=True).clamp(1e-9)
    return target, (metric * scale).amax(0)


def loss_of(model, pixels, truths):
    head = model.model[-1]
    distributions, logits, points, strides = head.raw(model.features(pixels))
    boxes = head.boxes(distributions, points, strides).transpose(1, 2)
    logits = logits.transpose(1, 2)
    distributions = distributions.transpose(1, 2).unflatten(2, (4, head.reg_max))
    centers = (points * strides).T
    wanted_scores = torch.zeros_like(logits)
    found, sides, weights, wanted_boxes = [], [], [], []
    for index, (true_boxes, true_classes) in enumerate(truths):
        with torch.no_grad():
            target, weight = assign(logits[index].sigmoid(), boxes[index], centers, true_boxes, true_classes)
        rows = torch.nonzero(target >= 0)[:, 0]
        owners = target[rows]
        wanted_scores[index, rows, true_classes[owners]] = weight[rows]
        box = true_boxes[owners]
        near = torch.cat([centers[rows] - box[:, :2], box[:, 2:] - centers[rows]], 1) / strides[rows, None]
        found.append((index, rows))
        sides.append(near.clamp(0, head.reg_max - 1.01))
        weights.append(weight[rows])
        wanted_boxes.append(box)
    total = wanted_scores.sum().clamp(1)
    score_loss = functional.binary_cross_entropy_with_logits(logits, wanted_scores, reduction="sum") / total
    picked = torch.cat([boxes[index, rows] for index, rows in found])
    spread = torch.cat([distributions[index, rows] for index, rows in found])
    sides, weights, wanted_boxes = torch.cat(sides), torch.cat(weights), torch.cat(wanted_boxes)
    overlap = complete_box_iou_pairs(picked, wanted_boxes)
    box_loss = ((1 - overlap) * weights).sum() / total
    low = sides.long()
    share = sides - low
    logs = spread.log_softmax(2)
    fit = logs.gather(2, low[..., None])[..., 0] * (1 - share) + logs.gather(2, low[..., None] + 1)[..., 0] * share
    spread_loss = -(fit.mean(1) * weights).sum() / total
    return 0.5 * score_loss + 7.5 * box_loss + 1.5 * spread_loss


def complete_box_iou_pairs(a, b):
    """CIoU of boxes pair by pair (Zheng et al. 2020)."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(0)
    common = size.prod(1)
    sides_a, sides_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    overlap = common / (sides_a.prod(1) + sides_b.prod(1) - common + 1e-7)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = ((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) ** 2).sum(1) / 4
    angles = [torch.atan(sides[:, 0] / sides[:, 1].clamp(1e-7)) for sides in (sides_a, sides_b)]
    shape = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    with torch.no_grad():
        factor = shape / (1 - overlap + shape + 1e-7)
    return overlap - apart / ((hull**2).sum(1) + 1e-7) - factor * shape


# ---- evaluation -----------------------------------------------------------------------------


def detect(model, pixels, least=0.25, overlap=0.5):
    """Per image: boxes, scores and classes after non-maximum suppression per class."""
    with torch.no_grad():
        outputs = model(pixels)
    results = []
    for output in outputs:
        scores, classes = output[:, 4:].max(1)
        keep = scores > least
        boxes, scores, classes = output[keep, :4], scores[keep], classes[keep]
        keep = batched_nms(boxes, scores, classes, overlap)
        results.append((boxes[keep], scores[keep], classes[keep]))
    return results


def evaluate(model, scenes):
    """mAP at IoU 0.5 (area under the precision-recall curve, mean of classes); precision and recall at score 0.25."""
    model.eval()
    rows, truths = [], np.zeros(10)
    for start in range(0, len(scenes), 20):
        pixels, wanted = batch_of(scenes[start : start + 20])
        for (boxes, scores, classes), (true_boxes, true_classes) in zip(detect(model, pixels, 0.01), wanted):
            truths += np.bincount(true_classes, minlength=10)
            taken = set()
            overlaps = box_iou(boxes, true_boxes)
            for box in range(len(boxes)):
                fits = [
                    (float(overlaps[box, t]), t)
                    for t in range(len(true_boxes))
                    if overlaps[box, t] >= 0.5 and t not in taken and true_classes[t] == classes[box]
                ]
                if fits:
                    taken.add(max(fits)[1])
                rows.append((float(scores[box]), int(classes[box]), bool(fits)))
    rows.sort(key=lambda row: -row[0])
    areas = []
    for digit in range(10):
        hits = np.array([hit for _, found, hit in rows if found == digit])
        recall = np.cumsum(hits) / truths[digit]
        precision = np.maximum.accumulate((np.cumsum(hits) / np.arange(1, len(hits) + 1))[::-1])[::-1]
        areas.append(float(np.sum(np.diff(recall, prepend=0) * precision)))
    sure = [hit for score, _, hit in rows if score >= 0.25]
    return {
        "scenes": len(scenes),
        "digits": int(truths.sum()),
        "map50": round(float(np.mean(areas)), 4),
        "precision": round(sum(sure) / max(len(sure), 1), 4),
        "recall": round(sum(sure) / truths.sum(), 4),
    }


# ---- training -------------------------------------------------------------------------------


def start_scores(model):
    """Few anchors have a digit: scores start low."""
    for head, stride in zip(model.model[-1].cv3, model.model[-1].strides):
        head[-1].bias.data.fill_(math.log(5 / 10 / (SIDE / stride) ** 2))
    for head in model.model[-1].cv2:
        head[-1].bias.data.fill_(1.0)


def train(model, images, labels, minutes, batch, rate):
    """The learning rate follows the clock; returns an average of the weights over the last steps."""
    random = np.random.RandomState(7)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    averaged = copy.deepcopy(model)
    start = last = time.time()
    steps, mean = 0, 0.0
    while (done := (time.time() - start) / (60 * minutes)) < 1:
        factor = min(1, steps / 100) * max(0.02, 1 - done)
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        model.train()
        pixels, truths = batch_of([scene(random, images, labels) for _ in range(batch)])
        loss = loss_of(model, pixels, truths)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        steps += 1
        decay = min(0.998, steps / (steps + 50))
        for kept, new in zip(averaged.state_dict().values(), model.state_dict().values()):
            kept.copy_(kept * decay + new * (1 - decay) if kept.is_floating_point() else new)
        mean += 0.02 * (loss.item() - mean) if steps > 50 else (loss.item() - mean) / steps
        if time.time() - last > 30:
            last = time.time()
            print(f"  {done:4.0%}: step {steps}, loss {mean:.3f}", flush=True)
    print(f"  {steps} steps, {steps * batch} scenes, loss {mean:.3f}")
    return averaged


def write(model):
    tensors = {name: t.half() if t.dim() > 1 else t for name, t in model.state_dict().items()}
    save_file(tensors, HERE / "model.safetensors", metadata={"format": "pt"})
    labels = {str(digit): str(digit) for digit in range(10)}
    config = {"model_type": "yolov8", "num_channels": 3, "image_size": SIDE, "id2label": labels}
    (HERE / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in load_file(HERE / "model.safetensors").items()})


def write_sample(model, images, labels):
    """The first made scene with at least six held-out digits, and what the model finds in it (golden.json)."""
    random = np.random.RandomState(11)
    image, boxes, classes = next(s for s in iter(lambda: scene(random, images, labels), None) if len(s[1]) >= 6)
    Image.fromarray(image).save(HERE / "scene.png", optimize=True)
    pixels, _ = batch_of([(image, boxes, classes)])
    found, scores, digits = detect(model.double().eval(), pixels.double())[0]
    model.float()
    golden = {
        "found": [
            {"digit": int(d), "score": round(float(s), 5), "box": [round(float(x), 3) for x in b]}
            for b, s, d in zip(found, scores, digits)
        ],
        "placed": [{"digit": int(d), "box": [float(x) for x in b]} for b, d in zip(boxes, classes)],
    }
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path, help="folder of MNIST's two IDX files")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    (images, labels), (held_images, held_labels) = digits_script().load(arguments.mnist)
    model = YoloV8(10, WIDTHS, COUNTS, REG_MAX)
    start_scores(model)
    print(f"{sum(weight.numel() for weight in model.parameters())} weights", flush=True)
    model = train(model, images, labels, arguments.minutes, arguments.batch, arguments.rate)
    write(model)
    random = np.random.RandomState(2)
    report = evaluate(model, [scene(random, held_images, held_labels) for _ in range(300)])
    print(json.dumps(report))
    write_sample(model, held_images, held_labels)


if __name__ == "__main__":
    main()
