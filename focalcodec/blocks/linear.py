"""One linear map in place of a block: what is left of the model without context."""

from __future__ import annotations

from torch import Tensor, nn

from focalcodec.blocks.focal import Contexts


class LinearBlock(nn.Linear):
    """Linear map of each frame; source: FocalCodec, arXiv 2502.04465, section 4.6."""

    reach = 0  # frames before and after a frame that it depends on

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__(dim, dim)

    def forward(  # type: ignore[override]
        self, x: Tensor, left_contexts: Contexts | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Contexts]:
        """Map x (B, N, dim) to (B, N, dim)."""
        return super().forward(x), []
