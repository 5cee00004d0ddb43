"""Styles and scripts on their way to a browser."""

from __future__ import annotations

import gzip
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

pytestmark = (
    pytest.mark.django_db
)  # an answer that is closed looks after connections, which other tests leave open

STYLE = "supervisor/css/base.css"
SCRIPT = "supervisor/js/log.js"
ZIPPED = {"Accept-Encoding": "gzip, br"}


def body_of(answer):
    with closing(answer):
        return b"".join(answer.streaming_content)


def content_of(name):
    return Path(finders.find(name)).read_bytes()


@pytest.mark.parametrize("name", [STYLE, SCRIPT, "supervisor/favicon.svg"])
def test_a_browser_gets_text_compressed(client, name):
    answer = client.get(f"/static/{name}", headers=ZIPPED)
    assert answer["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer["Vary"]
    sent = body_of(answer)
    assert len(sent) < len(content_of(name))
    assert gzip.decompress(sent) == content_of(name)


def test_a_client_that_reads_no_gzip_gets_the_file(client):
    answer = client.get(f"/static/{STYLE}")
    assert "Content-Encoding" not in answer
    assert body_of(answer) == content_of(STYLE)


def test_a_browser_that_has_the_file_is_told_so(client):
    with closing(client.get(f"/static/{STYLE}", headers=ZIPPED)) as answer:
        tag = answer["ETag"]
    assert client.get(f"/static/{STYLE}", headers=ZIPPED | {"If-None-Match": tag}).status_code == 304


def test_a_part_of_a_file_is_a_part_of_the_file(client):
    answer = client.get(f"/static/{STYLE}", headers=ZIPPED | {"Range": "bytes=0-9"})
    assert answer.status_code == 206
    assert "Content-Encoding" not in answer
    assert body_of(answer) == content_of(STYLE)[:10]
