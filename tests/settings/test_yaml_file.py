"""YAML from anybody: plain data in, one line of refusal otherwise."""

import time
from pathlib import Path

import pytest

from kd_agent import KDError
from kd_agent.policies.safe_files import read_capped
from kd_agent.settings import read_mapping


def written(folder: Path, text: str) -> str:
    path = folder / "settings.yaml"
    path.write_text(text)
    return str(path)


HOSTILE = {
    "an alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "a tag that runs code": "a: !!python/object/apply:os.system ['true']",
    "a tag that imports": "a: !!python/name:os.system",
    "an object": "a: !!python/object/new:os.system ['true']",
    "a list": "[1, 2]",
    "a number": "3",
    "keys that are no text": "1: 2",
    "a key that is a list": "? [1, 2]\n: 3",
    "not YAML": "a: [1, 2",
    "a tab": "a:\n\t- b",
    "control characters": "a: \x00",
    "a wrong date": "a: 2024-99-99",
    "deep nesting": "[" * 50_000,
    "a truth value of another word": "a: !!bool foo",
    "a date of another word": "a: !!timestamp foo",
    "an empty number": 'a: !!int ""',
    "an empty float": 'a: !!float ""',
    "a sign": 'a: !!int "-"',
    "bytes": "a: !!binary AAAA",
    "a set": "a: !!set {b}",
    "a tuple of text": "a: !!python/tuple b",
    "a number of base 60": "a: " + ":".join(["1"] * 100_000),
    "a float of base 60": "a: " + ":".join(["1"] * 100_000) + ".5",
    "a number of 5,000 digits": "a: " + "1" * 5_000,
    "a number of 900,000 digits": "a: 0x" + "f" * 900_000,
    "200,000 numbers": "a: [" + "1," * 200_000 + "]",
    "80,000 keys": "\n".join(f"k{i}: 1" for i in range(80_000)),
    "nested mappings": "a: " + "{a: " * 200_000,
    "nested lists": "- " * 400_000,
    "an ordered mapping of nonsense": "a: !!python/object/apply:collections.OrderedDict 3",
    "an ordered mapping of two": "a: !!python/object/apply:collections.OrderedDict [[[a, 1]], [[b, 2]]]",
    "an ordered mapping of threes": "a: !!python/object/apply:collections.OrderedDict [[[a, 1, 2]]]",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_yaml_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path = written(tmp_path, HOSTILE[what])
    began = time.thread_time()
    with pytest.raises(KDError) as caught:
        read_mapping(path)
    assert time.thread_time() - began < 1
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(path) + 250


def test_a_wrong_scalar_is_shown_with_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(KDError, match=r"'foo' is no bool"):
        read_mapping(written(tmp_path, "a: !!bool foo"))
    with pytest.raises(KDError, match=r"1:1:1:1.* is too long for a number"):
        read_mapping(written(tmp_path, "a: " + "1:" * 60 + "1"))


def test_yaml_of_ten_megabytes_missing_yaml_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="larger than the 1 MiB"):
        read_mapping(written(tmp_path, "a: 1\n" * 2_000_000))
    with pytest.raises(KDError, match="no such file"):
        read_mapping(tmp_path / "absent.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa\x80")
    with pytest.raises(KDError, match=r"bytes\.yaml"):
        read_mapping(tmp_path / "bytes.yaml")


def test_the_ordered_mapping_of_the_rl_zoo_is_plain_data(tmp_path: Path) -> None:
    text = "!!python/object/apply:collections.OrderedDict\n- - - gamma\n    - 0.9\n  - - policy\n    - MlpPolicy\n"
    assert read_mapping(written(tmp_path, text)) == {"gamma": 0.9, "policy": "MlpPolicy"}
    assert read_mapping(written(tmp_path, "a: !!python/tuple [1, 2]")) == {"a": [1, 2]}
    assert read_mapping(written(tmp_path, "")) == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="no such file"):
        read_capped(tmp_path, 10)
