"""The heading `Example` of our docstrings, which NumPy's convention calls `Examples`."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class ExampleHeading(Extension):
    """Rename the heading, before sections are read."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example\n-------$", "Examples\n--------", obj.docstring.value, flags=re.MULTILINE
            )
