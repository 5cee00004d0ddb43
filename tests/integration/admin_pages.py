"""The admin's pages as a person reads them."""

from __future__ import annotations

import html

RUNS = "/admin/supervisor_app/run/"


def page(answer):
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def page_at(client, url, **query):
    return page(client.get(url, query))


def errors(answer):
    """List the errors of a form that came back."""
    assert answer.status_code == 200
    form = answer.context["adminform"].form
    return {name: " ".join(messages) for name, messages in form.errors.items()}
