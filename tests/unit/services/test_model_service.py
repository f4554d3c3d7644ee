"""The catalog as users see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.engines.gguf_files import SMALL, head
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office

from roost.domain.errors import BadRequest, Conflict, NotFound, PermissionDenied
from roost.domain.model import FetchState, Footprint, Source
from roost.services.access import Principal
from roost.services.endpoint_requests import Bounds, EndpointDraft
from roost.testing.builders import make_model

FAR = make_model(7, id="me/far", engine="external", source=None, url="http://far/v1")
NEW = make_model(7, id="me/mine", source=Source("http", "http://127.0.0.1:9/mine.gguf"))


async def test_pull_begins_a_download_once(office: Office) -> None:
    models = office.services.models
    assert (await models.get(MEMBER, "tiny")).fetch.state is FetchState.ABSENT

    assert (await models.pull(MEMBER, "tiny")).fetch.state is FetchState.FETCHING
    office.cache.advance("test/model", 250)
    item = await models.pull(MEMBER, "test/model")

    assert (item.fetch.done_bytes, item.fetch.percent, office.cache.requests) == (250, 25.0, 1)
    office.cache.finish("test/model")
    assert (await models.get(MEMBER, "tiny")).fetch.state is FetchState.READY


async def test_keys_for_inference_do_not_pull(office: Office) -> None:
    with pytest.raises(PermissionDenied):
        await office.services.models.pull(INFERENCE, "tiny")
    assert office.cache.requests == 0


async def test_admins_add_and_remove(office: Office) -> None:
    models = office.services.models

    added = await models.add(ADMIN, NEW)
    assert added.model.id == "me/mine"
    assert (await models.list(ADMIN))[-1] == added

    await models.remove(ADMIN, "me/mine")
    with pytest.raises(NotFound):
        await models.get(ADMIN, "me/mine")
    assert [event.kind for event in await office.events()] == ["model.added", "model.removed"]


async def test_a_download_ends_with_its_model(office: Office) -> None:
    models = office.services.models
    await models.add(ADMIN, NEW)
    await models.pull(ADMIN, "me/mine")
    assert office.cache.fetching() == ["me/mine"]

    await models.remove(ADMIN, "me/mine")

    assert office.cache.fetching() == []
    assert office.cache.status(NEW).state is FetchState.ABSENT


async def test_members_change_nothing(office: Office) -> None:
    models = office.services.models
    with pytest.raises(PermissionDenied):
        await models.add(MEMBER, NEW)
    with pytest.raises(PermissionDenied):
        await models.remove(MEMBER, "test/model")
    assert await office.events() == []


async def test_an_unknown_engine_is_refused(office: Office) -> None:
    with pytest.raises(BadRequest, match=r"Known engines: .*llama_cpp") as caught:
        await office.services.models.add(ADMIN, make_model(7, engine="warp"))
    assert caught.value.param == "engine"


async def test_a_file_that_is_not_there_is_refused_and_not_stored(office: Office) -> None:
    with pytest.raises(BadRequest, match=r"source\.location .*There is no file /nowhere/mine\.gguf") as caught:
        await office.services.models.add(ADMIN, replace(NEW, source=Source("file", "/nowhere/mine.gguf")))
    assert (caught.value.param, caught.value.code) == ("source.location", "source_missing")
    assert await office.store.models() == []


async def test_a_key_that_the_server_does_not_have_is_refused(office: Office) -> None:
    environment = {"EMPTY": ""}
    models = replace(office.services.models, secret=lambda name: environment.get(name) or None)
    remote = make_model(7, id="me/far", engine="external", source=None, url="http://far/v1", api_key_env="FAR_KEY")
    for absent in (remote, replace(remote, api_key_env="EMPTY")):
        with pytest.raises(BadRequest, match=f"{absent.api_key_env}, which is not set") as caught:
            await models.add(ADMIN, absent)
        assert caught.value.param == "api_key_env"
    assert await office.store.models() == []

    environment["FAR_KEY"] = "k"
    assert (await models.add(ADMIN, remote)).model.id == "me/far"


async def test_a_key_in_place_of_its_variables_name_is_not_repeated(office: Office) -> None:
    remote = make_model(7, engine="external", source=None, url="http://far/v1", api_key_env="sk-secret")
    with pytest.raises(BadRequest, match="not the key itself") as caught:
        await office.services.models.add(ADMIN, remote)
    assert "sk-secret" not in caught.value.message


async def test_what_is_deployed_or_built_in_stays(office: Office) -> None:
    models = office.services.models
    await models.add(ADMIN, NEW)
    made = await office.services.endpoints.create(
        ADMIN, EndpointDraft(model="me/mine", hardware="1x_cpu", autoscaling=Bounds(1, 1))
    )

    with pytest.raises(Conflict, match=made.name):
        await models.remove(ADMIN, "me/mine")
    with pytest.raises(Conflict):
        await models.remove(ADMIN, "tiny")

    await office.services.endpoints.delete(ADMIN, made.id)
    assert (await models.remove(ADMIN, "me/mine")).model.id == "me/mine"


async def test_a_file_that_is_there_gives_its_entry_a_footprint(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(head(SMALL))
    mine = make_model(7, id="me/mine", engine="llama_cpp", source=Source("file", str(path)))

    told = await office.services.models.add(ADMIN, mine)
    declared = await office.services.models.add(ADMIN, replace(mine, id="me/declared", footprint=Footprint(1, 2)))

    assert told.model.footprint == Footprint(path.stat().st_size, 23_040)
    assert declared.model.footprint == Footprint(1, 2), "the entry's own word stands"
    assert told.model in await office.store.models()


async def test_an_option_that_the_engine_lacks_is_refused_with_those_it_has(office: Office) -> None:
    for options, says in (({"warp": "9"}, "it has batch, .*prompt_cache_mib"), ({"batch": "many"}, "whole number")):
        with pytest.raises(BadRequest, match=says) as caught:
            await office.services.models.add(ADMIN, replace(NEW, engine="llama_cpp", options=options))
        assert (caught.value.param, caught.value.code) == ("options", "unknown_option")
    with pytest.raises(BadRequest, match="the external engine has no options"):
        await office.services.models.add(ADMIN, replace(FAR, options={"batch": "1"}))
    assert await office.store.models() == []


async def test_users_are_those_that_the_asker_may_see(office: Office) -> None:
    models = office.services.models
    draft = EndpointDraft(model="tiny", hardware="1x_cpu", autoscaling=Bounds(1, 1))
    mine = await office.services.endpoints.create(MEMBER, draft)
    theirs = await office.services.endpoints.create(ADMIN, draft)

    assert (await models.get(MEMBER, "tiny")).used_by == (mine.name,)
    assert set((await models.get(ADMIN, "tiny")).used_by) == {mine.name, theirs.name}
    assert [item.used_by for item in await models.list(MEMBER)] == [(mine.name,), ()]


async def test_only_admins_see_where_files_lie(office: Office) -> None:
    models = office.services.models
    await models.pull(MEMBER, "tiny")
    office.cache.finish("test/model")
    assert (await models.get(MEMBER, "tiny")).fetch.path is None
    assert (await models.get(ADMIN, "tiny")).fetch.path == "/weights/test/model"


async def test_weights_can_go_while_the_entry_stays(office: Office) -> None:
    models = office.services.models
    await models.pull(ADMIN, "tiny")
    office.cache.finish("test/model")
    made = await office.services.endpoints.create(
        ADMIN, EndpointDraft(model="tiny", hardware="1x_cpu", autoscaling=Bounds(1, 1))
    )
    with pytest.raises(Conflict, match=made.name):
        await models.remove_weights(ADMIN, "tiny")
    with pytest.raises(PermissionDenied):
        await models.remove_weights(MEMBER, "tiny")
    await office.services.endpoints.delete(ADMIN, made.id)

    removed = await models.remove_weights(ADMIN, "tiny")

    assert (removed.model.id, removed.freed) == ("test/model", 1000)
    assert (await models.get(ADMIN, "tiny")).fetch.state is FetchState.ABSENT


async def test_a_pull_counts_as_use(office: Office) -> None:
    await office.services.models.pull(ADMIN, "tiny")
    assert office.cache.uses == ["test/model"]


@pytest.mark.parametrize("asker", [MEMBER, INFERENCE])
async def test_the_server_s_machine_and_network_are_shown_to_admins_alone(
    office: Office, asker: Principal, tmp_path: Path
) -> None:
    models = office.services.models
    (tmp_path / "mine.gguf").write_bytes(head(SMALL))
    options = {"tokens_per_second": "5"}
    here = make_model(7, id="me/here", alias=None, source=Source("file", str(tmp_path / "mine.gguf")), options=options)
    far = replace(FAR, alias=None, served_model="/srv/llama")
    for model in (replace(NEW, alias=None), here, far):
        await models.add(ADMIN, model)
    await models.pull(ADMIN, "me/here")
    office.cache.fail("me/here", "permission")

    seen = {item.model.id: item for item in await models.list(asker)}

    assert seen["me/here"].model.source == Source("file", "")
    assert seen["me/here"].model.options == {}
    assert seen["me/mine"].model.source == Source("http", "")
    assert (seen["me/far"].model.url, seen["me/far"].model.served_model) == (None, None)
    fetch = (await models.get(asker, "me/here")).fetch
    told = office.cache.status(here)
    assert (fetch.error_code, fetch.error) != (told.error_code, told.error)
    assert (fetch.error_code, "permission" in (fetch.error or "")) == ("permission", True)
    assert (await models.get(ADMIN, "me/here")).fetch == told
    assert (await models.get(ADMIN, "me/here")).model.options == options


@pytest.mark.parametrize("source", [Source("pypi", "weights==1.0", "m.gguf"), Source("hf", "acme/tiny")])
async def test_names_in_public_catalogues_are_shown_to_all(office: Office, source: Source) -> None:
    await office.services.models.add(ADMIN, replace(NEW, source=source))
    assert (await office.services.models.get(INFERENCE, "me/mine")).model.source == source
