"""timm's networks as chains of levels. What torch and timm are is handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_ad.errors import ConfigError

FAMILIES = ("efficientnet", "mobilenetv3", "resnet", "resnetv2")
# One level: the module path that names it, and the step from the previous level's tensor to this one's.
Step = tuple[str, Callable[[Any], Any]]


def network_steps(timm: Any, model: Any, name: str) -> list[Step]:
    """The network as a chain of its levels, in the paper's order: stem, stages, head."""
    family = timm.models
    if isinstance(model, (family.efficientnet.EfficientNet, family.mobilenetv3.MobileNetV3)):
        steps: list[Step] = [("bn1", lambda x: model.bn1(model.conv_stem(x)))]
        steps += [(f"blocks.{i}", block) for i, block in enumerate(model.blocks)]
        if isinstance(model, family.mobilenetv3.MobileNetV3):
            # This family pools before its last convolution.
            return [*steps, ("conv_head", lambda x: model.forward_head(x, pre_logits=True))]
        return [*steps, ("bn2", lambda x: model.bn2(model.conv_head(x)))]
    if isinstance(model, family.resnet.ResNet):
        steps = [("maxpool", lambda x: model.maxpool(model.act1(model.bn1(model.conv1(x)))))]
        return steps + [(f"layer{i}", getattr(model, f"layer{i}")) for i in range(1, 5)]
    if isinstance(model, family.resnetv2.ResNetV2):
        steps = [("stem", model.stem)]
        steps += [(f"stages.{i}", stage) for i, stage in enumerate(model.stages[:-1])]
        return [*steps, ("norm", lambda x: model.norm(model.stages[-1](x)))]
    raise ConfigError(
        f"{name}: a {type(model).__name__}, not an EfficientNet, MobileNet or ResNet; "
        "'edge-ad backbone list' shows the names"
    )
