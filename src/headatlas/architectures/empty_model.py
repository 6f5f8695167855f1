"""A model's modules as transformers builds them from its config, without weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from headatlas.checkpoints.transformers_log import escape_log
from headatlas.errors import ArchitectureError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from headatlas.checkpoints.checkpoint import Checkpoint


def build_empty_model(checkpoint: Checkpoint) -> tuple[PretrainedConfig, PreTrainedModel]:
    """The language model of a checkpoint as transformers builds it, on the meta device, and its config.

    Raises:
        ArchitectureError: transformers cannot build it.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    escape_log()
    source, whole_config = checkpoint.source, checkpoint.config
    try:
        config = copy.deepcopy(whole_config.get_text_config(decoder=True))
        # transformers' eager attention of Falcon adds ALiBi twice, once in the mask.
        twice = config.model_type == "falcon" and getattr(config, "alibi", False)
        config._attn_implementation = "sdpa" if twice else "eager"
        config._experts_implementation = "eager"
        known = type(config) in AutoModelForCausalLM._model_mapping
        # The language model inside a multimodal one may have no class with a head of its own.
        if not known and type(config) is type(whole_config):
            raise ValueError("Unrecognized configuration class")
        with torch.device("meta"):
            model = (AutoModelForCausalLM if known else AutoModel).from_config(config)
    except Exception as error:  # transformers raises many types for an inconsistent config
        if "is not a valid model type" in str(error) or "Unrecognized configuration class" in str(error):
            raise ArchitectureError(
                f"{source}: expected a language model that transformers can build, found the model type "
                f"{checkpoint.model_type!r}. docs/families.md lists the supported ones."
            ) from error
        raise ArchitectureError(
            f"{source}: transformers cannot build a model of this config "
            f"({type(error).__name__}: {str(error)[:200]}). Is the config complete?"
        ) from error
    return config, model.eval()


def common(config: PretrainedConfig, name: str) -> Any:
    """A config's value; None if it has none, or if layers differ in it, for which transformers raises an error."""
    try:
        return getattr(config, name, None)
    except Exception:  # transformers has no public type for it
        return None
