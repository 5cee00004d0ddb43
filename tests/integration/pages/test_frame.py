"""The frame around every page: places, the way back, the tabs of a server."""

from __future__ import annotations

import re

import pytest

from tests.integration.building import make_run

pytestmark = pytest.mark.django_db


def nav(page, label):
    """Map the links of a navigation to their addresses; `current` is the text of the page that is shown."""
    part = re.search(rf'<nav [^>]*aria-label="{label}">.*?</nav>', page.content.decode(), re.DOTALL)
    assert part is not None, f"no navigation {label}"
    current = re.findall(r'aria-current="page">([^<]+)<', part.group())
    return dict(re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)<', part.group())), current


def test_staff_find_all_places_and_a_visitor_those_for_visitors(default, client, staff_client):
    places, current = nav(staff_client.get("/"), "Main")
    assert set(places.values()) >= {"Overview", "Alerts", "Admin"}
    assert current == ["Overview"]
    assert nav(client.get("/"), "Main")[0] == {"/": "Overview", "/alerts/": "Alerts"}


def test_every_place_exists(default, staff_client):
    for address in nav(staff_client.get("/"), "Main")[0]:
        assert staff_client.get(address).status_code == 200, address


def test_the_tabs_of_a_server_lead_to_each_other(default, staff_client):
    tabs, current = nav(staff_client.get("/servers/default/"), "Pages of default")
    assert current == ["Now"]
    for address, tab in tabs.items():
        assert nav(staff_client.get(address), "Pages of default") == (tabs, [tab])


def test_a_visitor_who_may_see_one_tab_has_no_tabs(default, client):
    assert "Pages of default" not in client.get("/servers/default/").content.decode()


def test_the_way_back_from_a_run_leads_over_the_history_and_the_server(default, staff_client):
    run = make_run(default)
    way, (current,) = nav(staff_client.get(f"/servers/default/runs/{run.pk}/"), "Breadcrumb")
    assert list(way.items()) == [
        ("/", "Overview"),
        ("/servers/default/", "default"),
        ("/servers/default/runs/", "History"),
    ]
    assert current not in way.values()


def test_the_palette_offers_what_its_reader_may_do(default, client, staff_client):
    def posts(answer):
        return [item["post"] for item in answer.json()["items"] if "post" in item]

    assert posts(client.get("/palette")) == []
    assert set(posts(staff_client.get("/palette"))) == {"/servers/default/restart", "/servers/default/stop"}


def test_the_style_guide_is_for_those_who_develop(client, settings):
    assert client.get("/styleguide/").status_code == 404
    settings.DEBUG = True
    assert client.get("/styleguide/").status_code == 200
