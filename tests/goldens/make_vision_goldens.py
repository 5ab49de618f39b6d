"""Make the vision goldens: small random-weight models with the published tensor names, and reference outputs.

Run:

    pip install torch torchvision transformers safetensors
    python make_vision_goldens.py              # all folders
    python make_vision_goldens.py densenet     # only the named folders

Each folder below vision/ receives

    config.json          transformers families only, as that library saves it
    model.safetensors    weights under the published names (matrices f32 or f16, vectors f32)
    golden.safetensors   input [n, c, h, w] (f16), logits (f32), and some modules' outputs as layer.<path> (f16)

Networks come from torchvision and transformers; where these have none (CIFAR ResNet, YOLOv8, U-Net, the
digit networks) from vision_networks.py beside this script. Widths are reduced, depth and strides are not. Reference
arithmetic is float64, with the weights as they are stored.

Norms and running statistics are away from 1 and 0, and weights before a batch norm are so small that its epsilon
matters. For special rules the script computes the logits again with the rule broken, asserts that they
move, and prints the moves.
"""

import argparse
import copy
import json
import re
import sys
import tempfile
import warnings
import zlib
from functools import partial
from pathlib import Path

import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import convnext, densenet, efficientnet, mobilenetv2, mobilenetv3, resnet, squeezenet, vgg, vision_transformer
from torchvision.ops.misc import Conv2dNormActivation
from transformers.utils import logging as transformers_logging

import vision_networks as own

HERE = Path(__file__).resolve().parent / "vision"
CLASSES = 11
SIZE_LIMIT = 190_000
# A broken rule must move the logits by this share of the largest logit.
BAR = 1e-3


# ---- networks with reduced widths -----------------------------------------------------------


def squeezenet_model(version):
    """torchvision's SqueezeNet with an eighth of the channels."""
    model = squeezenet.SqueezeNet(version, num_classes=CLASSES)

    def thinner(module):
        if isinstance(module, nn.Conv2d):
            inputs = module.in_channels if module.in_channels == 3 else module.in_channels // 8
            return nn.Conv2d(inputs, max(module.out_channels // 8, 1), module.kernel_size, module.stride, module.padding)
        if isinstance(module, squeezenet.Fire):
            squeezed = module.squeeze
            return squeezenet.Fire(
                squeezed.in_channels // 8,
                squeezed.out_channels // 8,
                module.expand1x1.out_channels // 8,
                module.expand3x3.out_channels // 8,
            )
        return module

    model.features = nn.Sequential(*[thinner(module) for module in model.features])
    model.classifier[1] = nn.Conv2d(512 // 8, CLASSES, 1)
    return model


class ThinResNet(resnet.ResNet):
    """torchvision's ResNet with a sixteenth of the channels."""

    def __init__(self, block, layers, **options):
        super().__init__(block, layers, num_classes=CLASSES, **options)
        self.conv1 = nn.Conv2d(3, 6, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(32 * block.expansion, CLASSES)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:
            self.inplanes = 6
        return super()._make_layer(block, planes // 16, blocks, stride, dilate)


def vgg_model(batch_norm):
    model = vgg.VGG(vgg.make_layers([6, "M", 8, 8, "M", 12, 12, "M"], batch_norm), num_classes=CLASSES)
    model.classifier[0] = nn.Linear(12 * 7 * 7, 24)
    model.classifier[3] = nn.Linear(24, 20)
    model.classifier[6] = nn.Linear(20, CLASSES)
    return model


def mobilenet_v2_model():
    model = mobilenetv2.MobileNetV2(num_classes=CLASSES, width_mult=0.1, round_nearest=4)
    last = model.features[18]
    model.features[18] = Conv2dNormActivation(
        last[0].in_channels, 64, kernel_size=1, activation_layer=nn.ReLU6
    )
    model.classifier[1] = nn.Linear(64, CLASSES)
    return model


def mobilenet_v3_model(kind):
    settings, _ = mobilenetv3._mobilenet_v3_conf(f"mobilenet_v3_{kind}")

    def thinner(channels):
        return max(4, round(channels / 32) * 2)

    for setting in settings:
        setting.input_channels = thinner(setting.input_channels)
        setting.expanded_channels = thinner(setting.expanded_channels)
        setting.out_channels = thinner(setting.out_channels)
    return mobilenetv3.MobileNetV3(settings, last_channel=48, num_classes=CLASSES)


def efficientnet_model():
    stage = partial(efficientnet.MBConvConfig, width_mult=1.0, depth_mult=1.0)
    channels = [8, 4, 6, 8, 10, 12, 14, 16]
    rows = [(1, 3, 1, 1), (6, 3, 2, 2), (6, 5, 2, 2), (6, 3, 2, 2), (6, 5, 1, 1), (6, 5, 2, 2), (6, 3, 1, 1)]
    stages = [
        stage(expand, kernel, stride, channels[index], channels[index + 1], layers)
        for index, (expand, kernel, stride, layers) in enumerate(rows)
    ]
    # MBConvConfig rounds to multiples of 8; these widths are meant.
    for index, setting in enumerate(stages):
        setting.input_channels, setting.out_channels = channels[index], channels[index + 1]
    return efficientnet.EfficientNet(stages, dropout=0.2, num_classes=CLASSES, last_channel=40)


def convnext_model():
    setting = convnext.CNBlockConfig
    stages = [setting(8, 12, 1), setting(12, 16, 2), setting(16, 20, 1), setting(20, None, 1)]
    return convnext.ConvNeXt(stages, num_classes=CLASSES)


def densenet_model():
    return densenet.DenseNet(4, (2, 3, 2, 2), 10, bn_size=2, num_classes=CLASSES)


def dotted(name):
    """The names of torchvision's published DenseNets."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name)


def vit_model():
    return vision_transformer.VisionTransformer(
        VIT["image_size"], VIT["patch_size"], VIT["num_hidden_layers"], VIT["num_attention_heads"],
        VIT["hidden_size"], VIT["intermediate_size"], num_classes=CLASSES,
    )


def published_vit(name):
    """The names of torchvision's published vision transformers."""
    return name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")


def hugging(config_class, model_class, **settings):
    """A model of transformers; its attention is written out (eager)."""
    config = config_class(num_labels=CLASSES, **settings)
    config._attn_implementation = "eager"
    return model_class(config)


HUGGING_EFFICIENTNET = {
    "width_coefficient": 0.125,
    "depth_coefficient": 0.25,
    "depth_divisor": 2,
    "depthwise_padding": [2],
    "hidden_dim": 160,
    "image_size": 47,
}
VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 35,
    "patch_size": 7,
    "layer_norm_eps": 0.01,
}


# ---- ways to break a rule -------------------------------------------------------------------


def every(kind, change):
    """Changes each module of a kind (in a copy of the model)."""

    def edit(model):
        found = [module for module in model.modules() if isinstance(module, kind)]
        assert found, kind
        for module in found:
            change(module)

    return edit


def attribute(kind, name, value):
    return every(kind, lambda module: setattr(module, name, value))


def swap(kind, replacement):
    """Puts another module in the place of each one of a kind."""

    def edit(model):
        count = 0
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, kind):
                    setattr(parent, name, replacement())
                    count += 1
        assert count, kind

    return edit


def settings(**changes):
    """Changes a transformers model's config, for rules that are read as it runs."""

    def edit(model):
        for key, value in changes.items():
            assert hasattr(model.config, key), key
            for module in model.modules():
                if hasattr(module, "config"):
                    setattr(module.config, key, value)

    return edit


def untensorflow(model):
    """Symmetric padding where TensorFlow's is asymmetric."""
    for module in model.modules():
        if hasattr(module, "config"):
            module.config.tf_padding = False
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        conv.padding = tuple(size // 2 for size in conv.kernel_size)


def stride_in_first(model):
    """The original form of the bottleneck: the stride is in the first 1x1 convolution."""
    for block in (module for module in model.modules() if isinstance(module, resnet.Bottleneck)):
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)


def zero(*parts):
    """Sets the tensors whose names have all the parts to 0."""

    def edit(model):
        found = [tensor for name, tensor in model.state_dict().items() if all(part in name for part in parts)]
        assert found, parts
        for tensor in found:
            tensor.zero_()

    return edit


def heads(count):
    """Another number of attention heads."""

    def edit(module):
        module.num_heads, module.head_dim = count, module.embed_dim // count

    return every(nn.MultiheadAttention, edit)


EPSILON = ("epsilon of the norms", attribute(nn.BatchNorm2d, "eps", 1e-7))
CEILED = ("pools round their size up", attribute(nn.MaxPool2d, "ceil_mode", False))
NOT_RELU6 = ("relu6, not relu", swap(nn.ReLU6, nn.ReLU))
TANH_GELU = ("erf GELU, not tanh", swap(nn.GELU, partial(nn.GELU, approximate="tanh")), 2e-5)
SCALES = ("layer scale", every(convnext.CNBlock, lambda block: block.layer_scale.data.fill_(1.0)))


# ---- families -------------------------------------------------------------------------------


class Family:
    """build: makes the network. size: (height, width) of the input. layers: modules whose outputs are kept;
    a pair where the checkpoint calls a module otherwise than the library. rename: the published names of
    tensors. config: what config.json says where the library writes none."""

    def __init__(self, build, size, layers, bites=(), dtype=torch.float16, channels=3, rename=None, config=None):
        self.build, self.size, self.layers, self.bites = build, size, layers, bites
        self.dtype, self.channels, self.rename, self.config = dtype, channels, rename, config


FAMILIES = {
    "squeezenet1_0": Family(
        partial(squeezenet_model, "1_0"), (51, 62), ["features.3", "features.7"], [CEILED], torch.float32
    ),
    "squeezenet1_1": Family(partial(squeezenet_model, "1_1"), (51, 44), ["features.4", "features.9"], [CEILED]),
    "mobilenet_v1": Family(
        partial(
            hugging,
            transformers.MobileNetV1Config,
            transformers.MobileNetV1ForImageClassification,
            depth_multiplier=0.0625,
            min_depth=4,
            image_size=47,
        ),
        (47, 54),
        ["mobilenet_v1.layer.3", "mobilenet_v1.layer.15"],
        [EPSILON, NOT_RELU6, ("padding of TensorFlow", untensorflow)],
    ),
    "mobilenet_v2": Family(
        partial(
            hugging,
            transformers.MobileNetV2Config,
            transformers.MobileNetV2ForImageClassification,
            depth_multiplier=0.05,
            depth_divisible_by=4,
            min_depth=4,
            finegrained_output=False,
            image_size=47,
        ),
        (54, 47),
        ["mobilenet_v2.conv_stem", "mobilenet_v2.layer.1", "mobilenet_v2.layer.9"],
        [EPSILON, NOT_RELU6, ("padding of TensorFlow", untensorflow)],
    ),
    "mobilenet_v2_torchvision": Family(
        mobilenet_v2_model, (51, 44), ["features.3", "features.14"], [EPSILON, NOT_RELU6]
    ),
    "mobilenet_v3_large": Family(
        partial(mobilenet_v3_model, "large"),
        (51, 62),
        ["features.4", "features.10"],
        [EPSILON, ("hard-swish, not silu", swap(nn.Hardswish, nn.SiLU)), ("hard-sigmoid", swap(nn.Hardsigmoid, nn.Sigmoid))],
    ),
    "mobilenet_v3_small": Family(
        partial(mobilenet_v3_model, "small"),
        (62, 51),
        ["features.1", "features.7"],
        [EPSILON, ("hard-swish, not silu", swap(nn.Hardswish, nn.SiLU)), ("hard-sigmoid", swap(nn.Hardsigmoid, nn.Sigmoid))],
    ),
    "resnet_basic": Family(
        partial(ThinResNet, resnet.BasicBlock, [2, 2, 1, 1]), (51, 62), ["maxpool", "layer1.1", "layer3"], [EPSILON]
    ),
    "resnet_bottleneck": Family(
        partial(ThinResNet, resnet.Bottleneck, [2, 2, 1, 1]),
        (62, 51),
        ["maxpool", "layer1.1", "layer3"],
        [EPSILON, ("stride in the 3x3 convolution", stride_in_first)],
    ),
    "resnext": Family(
        partial(ThinResNet, resnet.Bottleneck, [1, 2, 1, 1], groups=2, width_per_group=32),
        (39, 44),
        ["layer1.0", "layer2.1"],
        [EPSILON],
    ),
    "resnet_transformers": Family(
        partial(
            hugging,
            transformers.ResNetConfig,
            transformers.ResNetForImageClassification,
            embedding_size=8,
            hidden_sizes=[16, 24, 32, 40],
            depths=[2, 2, 1, 1],
        ),
        (51, 44),
        ["resnet.embedder", "resnet.encoder.stages.1"],
        [EPSILON],
    ),
    "resnet_cifar": Family(
        partial(own.CifarResNet, [2, 2, 2], CLASSES, [8, 12, 20]), (25, 25), ["layer1.1", "layer2.0"], [EPSILON], torch.float32
    ),
    "vgg": Family(partial(vgg_model, False), (51, 44), ["features.7"], dtype=torch.float32),
    "vgg_bn": Family(partial(vgg_model, True), (44, 51), ["features.10"], [EPSILON]),
    "densenet": Family(
        densenet_model, (51, 62), ["features.denseblock1", "features.transition2"], [EPSILON], torch.float32
    ),
    "densenet_published": Family(
        densenet_model,
        (62, 51),
        ["features.denseblock2"],
        [EPSILON],
        torch.float32,
        rename=dotted,
    ),
    "efficientnet": Family(
        efficientnet_model,
        (51, 62),
        ["features.2", "features.5"],
        [EPSILON, ("silu, not hard-swish", swap(nn.SiLU, nn.Hardswish))],
    ),
    "efficientnet_transformers": Family(
        partial(
            hugging, transformers.EfficientNetConfig, transformers.EfficientNetForImageClassification, **HUGGING_EFFICIENTNET
        ),
        (47, 54),
        ["efficientnet.embeddings", "efficientnet.encoder.blocks.2"],
        [EPSILON],
    ),
    "convnext": Family(
        convnext_model, (51, 44), ["features.1", "features.3"], [TANH_GELU, SCALES]
    ),
    "convnext_transformers": Family(
        partial(
            hugging,
            transformers.ConvNextConfig,
            transformers.ConvNextForImageClassification,
            hidden_sizes=[8, 12, 16, 20],
            depths=[1, 1, 2, 1],
            layer_norm_eps=0.1,
        ),
        (44, 51),
        ["convnext.embeddings", "convnext.encoder.stages.1"],
        [("its own epsilon in the last norm", lambda model: setattr(model.convnext.layernorm, "eps", 1e-6))],
    ),
    "vit": Family(
        partial(hugging, transformers.ViTConfig, transformers.ViTForImageClassification, **VIT),
        (35, 35),
        ["vit.embeddings", ("vit.layers.1", "vit.encoder.layer.1")],
        [
            ("epsilon of the norms", attribute(nn.LayerNorm, "eps", 1e-6)),
            ("positions", zero("position_embeddings")),
            ("class token", zero("cls_token")),
        ],
        torch.float32,
    ),
    "deit": Family(
        partial(hugging, transformers.DeiTConfig, transformers.DeiTForImageClassificationWithTeacher, **VIT),
        (35, 35),
        ["deit.embeddings", ("deit.layers.1", "deit.encoder.layer.1")],
        [
            ("epsilon of the norms", attribute(nn.LayerNorm, "eps", 1e-6)),
            ("distillation token", zero("distillation_token")),
            ("head of the distillation token", zero("distillation_classifier")),
        ],
    ),
    "vit_torchvision": Family(
        vit_model,
        (35, 35),
        ["encoder.layers.encoder_layer_1"],
        [
            ("positions", zero("pos_embedding")),
            ("class token", zero("class_token")),
            ("number of heads", heads(1)),
        ],
        torch.float32,
        config={"num_attention_heads": VIT["num_attention_heads"]},
    ),
    "vit_torchvision_published": Family(
        vit_model,
        (35, 35),
        ["encoder.layers.encoder_layer_0"],
        [
            ("positions", zero("pos_embedding")),
            ("class token", zero("class_token")),
            ("number of heads", heads(1)),
        ],
        torch.float32,
        rename=published_vit,
        config={"num_attention_heads": VIT["num_attention_heads"]},
    ),
    "yolo": Family(
        partial(own.YoloV8, 5, [4, 6, 8, 10, 12], [1, 2, 1, 1], reg_max=4, least=8),
        (64, 96),
        ["model.4", "model.9", "model.21"],
        [EPSILON],
    ),
    "unet": Family(
        partial(own.UNet, 3, 3, [4, 6, 8, 12, 16]), (50, 37), ["down2", "up2"], [EPSILON], torch.float32
    ),
    "unet_bilinear": Family(
        partial(own.UNet, 3, 2, [4, 6, 8, 12, 16], bilinear=True), (37, 50), ["down4", "up1"], [EPSILON]
    ),
}


# ---- weights, input, output -----------------------------------------------------------------


def generator_for(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def images(count, channels, size, generator):
    """Images with large and small structures, about -2 to 2."""
    height, width = size
    result = 0.3 * torch.randn((count, channels, height, width), generator=generator)
    for cells in (3, 9):
        coarse = torch.randn((count, channels, cells, cells), generator=generator)
        result += 0.7 * nn.functional.interpolate(coarse, size, mode="bilinear")
    return result


def randomise(model, generator):
    """Random weights: activations stay around 1, norms and biases away from 1 and 0."""

    def normal(tensor, scale, shift=0.0):
        tensor.data = shift + scale * torch.randn(tensor.shape, generator=generator)

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    # Small weights before a norm let its epsilon matter: the variance is about 10 times as large.
    before_norm = (5 * norms[0].eps) ** 0.5 if norms else 1.0
    followed = {module for module in model.modules() if getattr(module, "bias", 0) is None}
    for sequence in (module for module in model.modules() if isinstance(module, nn.Sequential)):
        children = list(sequence)
        followed.update(a for a, b in zip(children, children[1:]) if isinstance(b, nn.BatchNorm2d))
    done = set()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if weight is None or not weight.requires_grad:
            continue
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            inputs = weight[0].numel() if not isinstance(module, nn.ConvTranspose2d) else weight.shape[0]
            normal(weight, (before_norm if module in followed else 1.5) / inputs**0.5)
        elif isinstance(module, nn.BatchNorm2d):
            normal(weight, 0.8, 1.5)
        elif isinstance(module, nn.LayerNorm):
            normal(weight, 0.4, 1.3)
        else:
            continue
        done.add(weight)
        if module.bias is not None:
            normal(module.bias, 0.3 * before_norm if module in followed else 0.3)
            done.add(module.bias)
    for name, tensor in model.named_parameters():
        if tensor not in done and tensor.requires_grad:
            scaling = "layer_scale" in name
            normal(tensor, 0.2 if scaling else 0.7, 0.8 if scaling else 0.0)


def calibrate(model, family, generator):
    """Running statistics near those of images, but not equal to them."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(images(16, family.channels, family.size, generator))
    for norm in norms:
        norm.eval()
        shape = norm.running_var.shape
        norm.running_mean += 0.3 * norm.running_var.sqrt() * torch.randn(shape, generator=generator)
        norm.running_var *= 0.6 + torch.rand(shape, generator=generator)


def logits_of(model, pixels):
    with torch.no_grad():
        output = model(pixels)
    return getattr(output, "logits", output)


def kept_layers(model, pixels, paths):
    """Outputs of modules by the checkpoint's path."""
    kept = {}
    paths = [path if isinstance(path, tuple) else (path, path) for path in paths]

    def keep(path):
        def hook(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            kept[path] = getattr(output, "last_hidden_state", output).detach()

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[path].register_forward_hook(keep(published)) for path, published in paths]
    logits_of(model, pixels)
    for hook in hooks:
        hook.remove()
    return kept


def save_stable(tensors, path, metadata):
    """save_file with sorted metadata and tensors, so that a second run writes the same bytes."""
    tensors = {name: tensors[name].detach().contiguous() for name in sorted(tensors)}
    save_file(tensors, path, metadata=metadata)
    content = Path(path).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    Path(path).write_bytes(content[:8] + text.ljust(size) + content[8 + size :])


def write_model(model, folder, family):
    """Writes the model as published: transformers by its own means, others as state dict."""
    if hasattr(model, "save_pretrained"):
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(scratch)
            tensors = load_file(Path(scratch) / "model.safetensors")
            config = json.loads((Path(scratch) / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    else:
        tensors = model.state_dict()
        if family.config:
            (folder / "config.json").write_text(json.dumps(family.config, indent=1) + "\n")
    if family.rename:
        tensors = {family.rename(name): tensor for name, tensor in tensors.items()}
    stored = {name: tensor.to(family.dtype) if tensor.dim() >= 2 else tensor for name, tensor in tensors.items()}
    save_stable(stored, folder / "model.safetensors", {"format": "pt"})


def make(name, family):
    folder = HERE / name
    folder.mkdir(exist_ok=True, parents=True)
    generator = generator_for(name)
    torch.manual_seed(1)
    model = family.build()
    randomise(model, generator)
    calibrate(model, family, generator)
    if family.dtype == torch.float16:
        for tensor in model.state_dict().values():
            if tensor.dim() >= 2:
                tensor.copy_(tensor.half())
    write_model(model, folder, family)

    pixels = images(2, family.channels, family.size, generator).half()
    exact = copy.deepcopy(model).double()
    logits = logits_of(exact, pixels.double())
    rough = logits_of(model, pixels.float()).double()
    largest = float(logits.abs().max())
    difference = float((rough - logits).abs().max()) / largest
    assert difference < 3e-5, f"{name}: float32 differs by {difference:.1e}"
    tensors = {"input": pixels, "logits": logits.float()}
    for path, output in kept_layers(exact, pixels.double(), family.layers).items():
        tensors[f"layer.{path}"] = output[:1].half()
    save_stable(
        tensors,
        folder / "golden.safetensors",
        {
            "float32_difference": f"{difference:.1e}",
            "torch": torch.__version__.split("+")[0],
            "torchvision": torchvision.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
    )
    size = sum(file.stat().st_size for file in folder.iterdir())
    weights = sum(tensor.numel() for tensor in model.parameters())
    # A detector's boxes are mostly where its anchors are.
    told = logits[..., 4:] if name == "yolo" else logits
    spread = float((told[0] - told[1]).abs().max() / told.abs().max())
    print(f"\n{name}: {weights} weights, {size} bytes, largest logit {largest:.2f}, "
          f"images differ by {spread:.2f}, float32 by {difference:.1e}")
    assert size < SIZE_LIMIT, size
    assert spread > 0.02, "the two images give the same"
    weak = []
    for rule, edit, *bar in family.bites:
        bar = bar[0] if bar else BAR
        broken = copy.deepcopy(exact)
        edit(broken)
        share = float((logits_of(broken, pixels.double()) - logits).abs().max()) / largest
        weak += [rule] if share <= bar else []
        print(f"  {rule:42} {share:9.2e}  {'ok' if share > bar else 'WEAK'} (> {bar:g})")
    assert not weak, f"{name}: these rules do not bite: {weak}"
    return size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="folders to make; all when none is named")
    names = parser.parse_args().names or list(FAMILIES)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
          f"transformers {transformers.__version__}, python {sys.version.split()[0]}")
    total = sum(make(name, FAMILIES[name]) for name in names)
    print(f"\n{total} bytes in {len(names)} folders")


if __name__ == "__main__":
    main()
