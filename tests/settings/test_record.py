"""What `record` can be told; what each setting reaches is in tests/deployment/test_record.py."""

import pytest

from kd_agent import KDError
from kd_agent.settings import RecordConfig, names_recording
from kd_agent.settings.flags import parse


def test_the_source_is_named_without_a_flag_and_the_target_with_one() -> None:
    config = parse("record", RecordConfig, "", ["agent.zip", "--out", "data.npz", "--no-params"])
    assert (config.source, config.out, config.params, config.episodes) == ("agent.zip", "data.npz", False, 20)
    with pytest.raises(KDError, match=r"out is missing \(--out\)"):
        parse("record", RecordConfig, "", ["agent.zip"])


@pytest.mark.parametrize(
    ("sources", "recorded"),
    [
        (["data.npz"], True),
        (["minari:kd/probe-v0"], True),
        (["agent.zip"], False),
        ([], False),
        (["data.npz", "agent.zip"], False),
    ],
)
def test_a_recording_is_known_by_its_name(sources: list[str], recorded: bool) -> None:
    assert names_recording(sources) == recorded
