from __future__ import annotations

from flaude._model import regions
from flaude.local import regions as served


def test_the_same_regions() -> None:
    """The stand-in imports nothing of flaude, and knows the same regions and aliases."""
    assert served.REGIONS == regions.REGIONS
    words = [*regions.REGIONS, "apac", "eu", "na", "sa", "us", "usa", "any", "nowhere"]
    assert [served.codes(word) for word in words] == [regions.codes(word) for word in words]
