"""Contents of a repository of the hub, and the names that people write for it."""

from __future__ import annotations

import pytest

from supervisor_app.library.hub.repository import (
    Listing,
    Remote,
    WrongNameError,
    checked_repository,
    checked_revision,
    is_safe,
    listed,
    taken_apart,
)


def a_listing(*paths: str) -> Listing:
    return listed("o/r", "c", [Remote(path=path, size=len(path)) for path in paths])


@pytest.mark.parametrize(
    ("said", "repository", "quantization"),
    [
        ("unsloth/Qwen3-4B-GGUF", "unsloth/Qwen3-4B-GGUF", ""),
        ("unsloth/Qwen3-4B-GGUF:Q4_K_M", "unsloth/Qwen3-4B-GGUF", "Q4_K_M"),
        ("https://huggingface.co/unsloth/Qwen3-4B-GGUF/tree/main", "unsloth/Qwen3-4B-GGUF", ""),
        ("http://mirror:8080/o/r:Q8_0", "o/r", "Q8_0"),
        ("hf.co/o/r", "o/r", ""),
        (" o/r ", "o/r", ""),
    ],
)
def test_a_repository_is_understood_as_people_write_it(said, repository, quantization):
    assert taken_apart(said) == (repository, quantization)


@pytest.mark.parametrize(
    "said", ["", "model", "../../etc", "o/..", "o/r\n", "o r/x", "-o/r", "o/a..b", "ö/r"]
)
def test_a_name_that_no_repository_has_is_refused_with_a_remedy(said):
    with pytest.raises(WrongNameError, match="write OWNER/NAME"):
        checked_repository(said if said != "o/r\n" else "o/r\nx")


@pytest.mark.parametrize("said", ["../x", "a b", "", "a" * 200])
def test_a_name_that_no_revision_has_is_refused(said):
    with pytest.raises(WrongNameError):
        checked_revision(said)


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("a.gguf", True),
        ("Q4/a-00001-of-00002.gguf", True),
        ("../a.gguf", False),
        ("Q4/../../a.gguf", False),
        ("/etc/a.gguf", False),
        ("a//b.gguf", False),
        (".hidden/a.gguf", False),
        ("a\\b.gguf", False),
        ("a\n.gguf", False),
        ("a.safetensors", False),
        ("a" * 300 + ".gguf", False),
    ],
)
def test_a_path_of_a_hub_is_used_only_if_it_leads_down_to_a_model(path, safe):
    assert is_safe(path) is safe


def test_parts_are_one_choice_and_projectors_lie_beside():
    listing = a_listing(
        "a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf", "a-Q4_0.gguf", "mmproj-F16.gguf", "x.md"
    )
    assert {choice.label: len(choice.files) for choice in listing.choices} == {"Q4_0": 1, "Q8_0": 2}
    assert [file.path for file in listing.projectors] == ["mmproj-F16.gguf"]


def test_a_model_of_which_a_part_is_missing_is_no_choice():
    assert a_listing("a-Q8_0-00001-of-00002.gguf").choices == ()


def test_two_models_of_one_quantization_go_by_their_names():
    listing = a_listing("small-Q4_0.gguf", "large-Q4_0.gguf", "tiny.gguf")
    assert {choice.label for choice in listing.choices} == {"small-Q4_0", "large-Q4_0", "tiny"}


@pytest.mark.parametrize(
    ("label", "found"), [("q8_0", "Q8_0"), ("", "Q4_K_M"), ("Q2_K", None), ("Q4_K_M", "Q4_K_M")]
)
def test_a_choice_is_found_by_its_label(label, found):
    choice = a_listing("a-Q2_0.gguf", "a-Q8_0.gguf", "a-Q4_K_M.gguf").choice(label)
    assert (choice and choice.label) == found


def test_without_the_usual_quantization_the_smallest_is_chosen():
    assert a_listing("a-long-name-Q8_0.gguf", "a-Q2_K.gguf").choice("").label == "Q2_K"


def test_a_repository_without_models_offers_no_choice():
    assert a_listing("model.safetensors").choice("") is None


def test_a_listing_survives_its_way_through_another_process():
    listing = a_listing("a-Q4_0.gguf", "mmproj.gguf")
    assert Listing.from_json(listing.as_json()) == listing
