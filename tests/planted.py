"""Every API key of every sample server of this session: none may ever be said."""

PLANTED: set[str] = set()


def assert_unsaid(text: str) -> None:
    """No key is in a text that somebody may read."""
    said = [key for key in PLANTED if key in text]
    assert not said, f"a key is told: {said}"
