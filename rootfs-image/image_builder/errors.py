"""The one error of the image builder."""

from __future__ import annotations


class ImageBuildError(Exception):
    """The image cannot be built; one sentence, and after a colon what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message = message
        self.hint = hint
