"""Networks that torchvision and transformers lack, with the tensor names of their published checkpoints:
ResNet for CIFAR (github.com/akamaster/pytorch_resnet_cifar10), YOLOv8 (the names of its published checkpoints:
model.0.conv.weight ...), U-Net (github.com/milesial/Pytorch-UNet). Written for the goldens; the detector
is trained with this file as well (models/pretrained/digit-boxes).
"""

import torch
from torch import nn
from torch.nn import functional


# ---- ResNet for CIFAR (He et al. 2015, section 4.2; shortcuts without weights, option A) ----


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x):
        shortcut = x
        if self.stride != 1 or self.added:
            # The new channels are zero, half of them before and half behind the old ones.
            before = self.added // 2
            shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    def __init__(self, depths, classes, widths=(16, 32, 64)):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for index, (depth, width) in enumerate(zip(depths, widths)):
            blocks = []
            for block in range(depth):
                blocks.append(CifarBlock(inputs, width, 2 if index > 0 and block == 0 else 1))
                inputs = width
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


# ---- YOLOv8 ---------------------------------------------------------------------------------


class Conv(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, channels, shortcut):
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    def __init__(self, inputs, outputs, count, shortcut=False):
        super().__init__()
        self.hidden = outputs // 2
        self.cv1 = Conv(inputs, 2 * self.hidden)
        self.cv2 = Conv((2 + count) * self.hidden, outputs)
        self.m = nn.ModuleList(Bottleneck(self.hidden, shortcut) for _ in range(count))

    def forward(self, x):
        parts = list(self.cv1(x).split(self.hidden, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(channels // 2 * 4, channels)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.m(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Concat(nn.Module):
    def forward(self, parts):
        return torch.cat(parts, 1)


class DFL(nn.Module):
    """Expected value of a distribution over 0 .. bins - 1 (Li et al. 2020, generalized focal loss)."""

    def __init__(self, bins):
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data = torch.arange(bins, dtype=torch.float32).reshape(1, bins, 1, 1)
        self.bins = bins

    def forward(self, x):
        count, _, anchors = x.shape
        return self.conv(x.reshape(count, 4, self.bins, anchors).transpose(1, 2).softmax(1)).reshape(count, 4, anchors)


class Detect(nn.Module):
    """Boxes and class scores at strides 8, 16 and 32."""

    strides = (8, 16, 32)

    def __init__(self, classes, inputs, reg_max, least):
        super().__init__()
        self.classes, self.reg_max = classes, reg_max
        boxes = max(least, inputs[0] // 4, 4 * reg_max)
        scores = max(inputs[0], min(classes, 100))
        self.cv2 = nn.ModuleList(
            nn.Sequential(Conv(width, boxes, 3), Conv(boxes, boxes, 3), nn.Conv2d(boxes, 4 * reg_max, 1)) for width in inputs
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(Conv(width, scores, 3), Conv(scores, scores, 3), nn.Conv2d(scores, classes, 1)) for width in inputs
        )
        self.dfl = DFL(reg_max)

    def raw(self, features):
        """Box distributions [n, 4 reg_max, anchors], class logits [n, classes, anchors], anchor points [2, anchors] in
        cells, strides [anchors]."""
        boxes, scores, points, strides = [], [], [], []
        for box_head, score_head, x, stride in zip(self.cv2, self.cv3, features, self.strides):
            height, width = x.shape[2:]
            boxes.append(box_head(x).flatten(2))
            scores.append(score_head(x).flatten(2))
            ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            points.append(torch.stack([xs.flatten(), ys.flatten()]))
            strides.append(torch.full((height * width,), float(stride)))
        return torch.cat(boxes, 2), torch.cat(scores, 2), torch.cat(points, 1), torch.cat(strides)

    def boxes(self, distributions, points, strides):
        """Corners [n, 4, anchors] in pixels: left, top, right, bottom."""
        sides = self.dfl(distributions)
        points, strides = points.to(sides), strides.to(sides)
        return torch.cat([points - sides[:, :2], points + sides[:, 2:]], 1) * strides

    def forward(self, features):
        """[n, anchors, 4 + classes]: corners in pixels, then scores."""
        distributions, scores, points, strides = self.raw(features)
        return torch.cat([self.boxes(distributions, points, strides), scores.sigmoid()], 1).transpose(1, 2)


class YoloV8(nn.Module):
    """widths of the five levels of the backbone; counts of bottlenecks in its four C2f blocks (the first and last
    also count for the neck, as published: 3, 6, 6, 3 times the depth factor)."""

    def __init__(self, classes, widths, counts, reg_max=16, least=16):
        super().__init__()
        a, b, c, d, e = widths
        neck = counts[0]
        self.model = nn.ModuleList([
            Conv(3, a, 3, 2),
            Conv(a, b, 3, 2),
            C2f(b, b, counts[0], True),
            Conv(b, c, 3, 2),
            C2f(c, c, counts[1], True),
            Conv(c, d, 3, 2),
            C2f(d, d, counts[2], True),
            Conv(d, e, 3, 2),
            C2f(e, e, counts[3], True),
            SPPF(e),
            nn.Upsample(scale_factor=2),
            Concat(),
            C2f(e + d, d, neck),
            nn.Upsample(scale_factor=2),
            Concat(),
            C2f(d + c, c, neck),
            Conv(c, c, 3, 2),
            Concat(),
            C2f(c + d, d, neck),
            Conv(d, d, 3, 2),
            Concat(),
            C2f(d + e, e, neck),
            Detect(classes, (c, d, e), reg_max, least),
        ])

    # What a layer reads besides the previous one, and what the head reads.
    beside = {11: 6, 14: 4, 17: 12, 20: 9}
    read = (15, 18, 21)

    def features(self, x):
        outputs = []
        for index, layer in enumerate(self.model[:-1]):
            other = self.beside.get(index)
            x = layer(x if other is None else [x, outputs[other]])
            outputs.append(x)
        return [outputs[index] for index in self.read]

    def forward(self, x):
        return self.model[-1](self.features(x))


# ---- U-Net ----------------------------------------------------------------------------------


class DoubleConv(nn.Module):
    def __init__(self, inputs, outputs, middle=None):
        super().__init__()
        middle = middle or outputs
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(inputs, outputs))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, inputs, skip, outputs, bilinear):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(inputs + skip, outputs, (inputs + skip) // 2)
        else:
            self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)
            self.conv = DoubleConv(inputs // 2 + skip, outputs)

    def forward(self, x, skip):
        x = self.up(x)
        rows, cols = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = functional.pad(x, [cols // 2, cols - cols // 2, rows // 2, rows - rows // 2])
        return self.conv(torch.cat([skip, x], 1))


class OutConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, channels, classes, widths, bilinear=False):
        super().__init__()
        self.inc = DoubleConv(channels, widths[0])
        for index in range(4):
            setattr(self, f"down{index + 1}", Down(widths[index], widths[index + 1]))
        inputs = widths[4]
        for index in range(4):
            skip = widths[3 - index]
            setattr(self, f"up{index + 1}", Up(inputs, skip, skip, bilinear))
            inputs = skip
        self.outc = OutConv(widths[0], classes)

    def forward(self, x):
        skips = [self.inc(x)]
        for index in range(4):
            skips.append(getattr(self, f"down{index + 1}")(skips[-1]))
        x = skips.pop()
        for index in range(4):
            x = getattr(self, f"up{index + 1}")(x, skips.pop())
        return self.outc(x)
