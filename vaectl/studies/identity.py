"""The key of a trial: a hash of everything that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from vaectl.base import plugins, surroundings
from vaectl.config import schema
from vaectl.data.reading import PLAIN, Reading

if TYPE_CHECKING:
    from vaectl.config.schema import Config


def key(settings: Config, fingerprint: str) -> str:
    """Hash the settings that differ from their defaults, the data, and environment variables.

    So a new setting does not change the keys of older trials as long as it has its default. Nor
    does a changed default: a plug's `first_defaults` take its place in the key. Plugs that are not
    chosen do not count. A chosen plug that is not built in counts with the SHA-256 of the file that
    defines it.

    Args:
        settings: the trial's settings.
        fingerprint: the fingerprint of its data.
    """
    data = settings.data.model_copy(update={"memory_gb": None})  # results do not depend on it
    settings = settings.model_copy(update={"data": data})
    changed = settings.model_dump(
        mode="json", exclude_defaults=True, exclude={"checkpoint", "published"}
    )
    for kind in schema.CHOICES:
        choice = getattr(settings, kind)
        plug = choice.chosen
        defaults = type(plug)().model_dump(mode="json") | dict(plug.first_defaults)
        own = {
            name: value
            for name, value in plug.model_dump(mode="json").items()
            if value != defaults[name]
        }
        shared = {name: changed.get(kind, {}).get(name) for name in choice.shared_fields()}
        changed[kind] = {
            "name": choice.name,
            **{name: value for name, value in shared.items() if value is not None},
            **own,
        }
        # in another version of the file the same settings may mean something else
        if origin := plugins.origin(type(plug)):
            changed[kind]["sha256"] = origin.sha256
        if kind not in _FIRST_KINDS and changed[kind] == {"name": choice.default}:
            del changed[kind]
    return _hash(json.dumps(changed, sort_keys=True), fingerprint)


def old_key(settings: Config, fingerprint: str) -> str | None:
    """Return the key that an older vaectl gave; None if it could not run these settings.

    That key was a hash of the whole configuration; `weight_decay_on` was included only if it
    differed from its default.
    """
    newer = {"memory_gb", *Reading.model_fields}
    values = settings.model_dump(mode="json", exclude={"checkpoint": True, "data": newer})
    model, objective, optimizer = (values[kind] for kind in ("model", "objective", "optimizer"))
    mlp = model.get("mlp", {})
    defaults = {name: plug() for name, plug in settings.optimizer.sections().items()}
    names = tuple(values[kind]["name"] for kind in ("model", "likelihood", "prior", "objective"))
    plain = model["condition"] == "none" and model["precision"] == "float32"
    known = settings.data.plug.reading == PLAIN and plain
    if names != _OLD or optimizer["name"] not in _OLD_OPTIMIZERS or not known:
        return None
    newer_ones = optimizer["ema"], values["early_stopping"]["patience"]
    if any(value is not None for value in newer_ones):
        return None
    standard = type(settings.model.mlp)().model_dump(mode="json")
    if any(mlp[key] != standard[key] for key in mlp if key not in _OLD_MLP):
        return None
    shared = {key: optimizer[key] for key in _OLD_SHARED}
    if optimizer["weight_decay_on"] != "all":
        shared = {
            "name": shared.pop("name"),
            "weight_decay": shared.pop("weight_decay"),
            "weight_decay_on": optimizer["weight_decay_on"],
            **shared,
        }
    sections = {
        name: optimizer.get(name, defaults[name].model_dump(mode="json"))
        for name in _OLD_OPTIMIZERS
    }
    old: dict[str, Any] = {
        **{key: values[key] for key in ("seed", "epochs", "batch_size", "data")},
        "model": {"code_size": model["code_size"], **{key: mlp[key] for key in _OLD_MLP}},
        "objective": {"samples": objective["samples"]},
        "optimizer": {**shared, **sections},
    }
    return _hash(to_json(old).decode(), fingerprint)


_FIRST_KINDS = ("model", "likelihood", "objective", "optimizer")
"""Kinds of plugs that every key names; a later one counts where it differs from its default."""
_OLD = ("mlp", "bernoulli", "standard_normal", "elbo")
_OLD_MLP = ("hidden_size", "activation", "weight_init", "bias_init")
_OLD_OPTIMIZERS = ("adam", "rmsprop", "adagrad", "sgd")
_OLD_SHARED = (
    "name",
    "weight_decay",
    "clip_norm",
    "bias_learning_rate_scale",
    "schedule",
)


def _hash(text: str, fingerprint: str) -> str:
    text += fingerprint
    if variables := surroundings.recorded():
        text += json.dumps(variables)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
