"""The work that a server does, by its flags."""

from __future__ import annotations

import pytest

from supervisor_app.core.command_line.work import Work, textless_flag, work_of


@pytest.mark.parametrize(
    ("args", "work", "flag"),
    [
        ([], Work.TEXT, ""),
        (["-c", "1", "--pooling", "none"], Work.TEXT, ""),
        (["--embedding"], Work.EMBEDDINGS, "--embedding"),
        (["-c", "1", "--embeddings"], Work.EMBEDDINGS, "--embeddings"),
        (["--embeddings", "--pooling", "none"], Work.EMBEDDINGS, "--embeddings"),
        (["--embeddings", "--pooling"], Work.EMBEDDINGS, "--embeddings"),
        (["--pooling", "mean", "--embeddings"], Work.EMBEDDINGS, ""),
        (["--pooling", "mean", "--embeddings", "--pooling", "none"], Work.EMBEDDINGS, "--embeddings"),
        (["--rerank"], Work.RANKING, ""),
        (["--embedding", "--reranking"], Work.RANKING, ""),
        (["--reranking", "--pooling", "none"], Work.RANKING, "--reranking"),
        (["--embeddings", "--pooling", "rank"], Work.EMBEDDINGS, ""),
    ],
)
def test_flags_say_what_a_server_does_and_which_of_them_keeps_it_from_making_text(args, work, flag):
    assert (work_of(args), textless_flag(args)) == (work, flag)
