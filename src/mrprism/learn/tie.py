"""A run's settings and what was trained with them are tied: neither can be changed alone without a word.

Beside the weights, and in the checkpoint, each setting stands as it was: a short one itself, a long one by its
SHA-256. What is read is compared with `config.json`, setting by setting, so the answer can name what differs.
This finds a hand's edits and mixed-up files; it does not prove who made a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from mrprism.core.errors import InputError

KEY = "mrprism"  # of what stands beside the tensors
FREE = frozenset({"dataset_path"})  # the data may move
LONGEST = 80  # letters of a setting that is written down itself
MOST_NAMED = 100  # settings inside a setting that are compared one by one

Settings = dict[str, str]


def settings_of(config: BaseModel) -> Settings:
    """Every setting by name, as JSON or as the hash of it; settings in settings by names with dots."""
    return dict(_flat("", config.model_dump(mode="json", exclude=set(FREE))))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and 0 < len(value) <= MOST_NAMED:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            text = json.dumps(value, sort_keys=True)
            short = len(text) <= LONGEST
            yield f"{prefix}{name}", text if short else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def refuse_other_settings(config: BaseModel, trained: Settings | None, what: str, *, old: bool) -> None:
    """Refuse what was trained with other settings than the config's.

    Args:
        trained: `settings_of` the config it was trained with; None: it says nothing.
        what: The file it stands in, for the sentence.
        old: The run is of a version that wrote no settings beside its weights; then None is no fault.

    Raises:
        InputError: It names the settings that differ.
    """
    if trained is None:
        if old:
            return
        raise InputError(
            f"{what} does not say which settings it was trained with, and config.json is of a version that wrote "
            "them: the files are of two runs, or config.json was edited"
        )
    now = settings_of(config)
    added = {n for n, field in type(config).model_fields.items() if not field.is_required()} - set(trained)
    differ = [name for name in dict.fromkeys([*trained, *now]) if now.get(name) != trained.get(name)]
    differ = [name for name in differ if name not in added or _set(config, name)]
    if differ:
        first = differ[0]
        then, says = trained.get(first, "nothing"), now.get(first, "nothing")
        if then.startswith("sha256:") or says.startswith("sha256:"):
            how = f"another {first} than config.json says"
        else:
            how = f"{first} {then}, and config.json says {says}"
        more = (
            f" ({', '.join(differ[1:6])}{', ...' if len(differ) > 6 else ''} differ too)"
            if differ[1:]
            else ""
        )
        raise InputError(
            f"{what} was trained with {how}{more}: put config.json back as it was, or train anew"
        )


def _set(config: BaseModel, name: str) -> bool:
    """Whether a setting differs from what it is unless said."""
    field = type(config).model_fields[name]
    return bool(getattr(config, name) != field.get_default(call_default_factory=True))  # type: ignore[call-arg]


def written(settings: Settings) -> dict[str, str]:
    """What a safetensors file keeps beside its tensors."""
    return {KEY: json.dumps(settings, ensure_ascii=False)}


def read(about: Mapping[str, str], file: Any) -> Settings | None:
    """What `written` wrote; None where nothing is written.

    Raises:
        InputError: Something else stands there.
    """
    if KEY not in about:
        return None
    try:
        settings = json.loads(about[KEY])
        if not all(isinstance(text, str) for pair in settings.items() for text in pair):
            raise ValueError
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{file}: what stands beside the weights is not what mrprism writes") from None
    found: Settings = settings
    return found
