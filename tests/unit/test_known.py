"""What is remembered of a destination, and what is said when it is not what it was."""

from pathlib import Path

import pytest

from mirror.destinations.identity import Known, check_seen
from mirror.errors import NotMountedError


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("/srv/photos", "is the disk mounted?"),
        ("sftp://a@nas/srv/photos", "is it the same folder, and the server's disk mounted?"),
        ("s3://photos/a", "is it the same bucket, of the same store?"),
    ],
)
def test_a_marker_that_is_gone_raises_the_question_that_fits(
    tmp_path: Path, name: str, question: str
):
    known = Known(tmp_path)
    known.remember(name, "an id")
    with pytest.raises(NotMountedError) as refused:
        check_seen(name, known, marked=False, new_destination=False)
    assert refused.value.what == f"{name}: this destination has lost its marker; {question}"
    assert ("disk" in str(refused.value)) is not name.startswith("s3:")
    assert "--new-destination" in refused.value.hint
    check_seen(name, known, marked=False, new_destination=True)
