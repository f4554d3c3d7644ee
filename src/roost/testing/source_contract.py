"""The contract of a source of weights: every implementation of ``roost.models.base.ModelSource`` passes this suite.

Use: subclass ``SourceContract`` in a test module and give it a fixture ``case`` that returns a ``SourceCase``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models.base import ModelSource

TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class SourceCase:
    """An implementation with what it can be asked for: ``good`` gives ``content``, ``missing`` is well-formed but not
    there, and each of ``bad`` is refused by ``check``."""

    implementation: ModelSource
    good: Source
    content: bytes
    missing: Source
    bad: tuple[Source, ...]


class SourceContract:
    """The cases. ``case`` comes from the subclass."""

    @pytest.fixture
    def partial(self, tmp_path: Path) -> Path:
        """The folder that the cache would give."""
        folder = tmp_path / "partial-of-the-model"
        folder.mkdir()
        return folder

    async def test_it_names_its_kind(self, case: SourceCase) -> None:
        assert case.implementation.kind == case.good.kind

    async def test_it_accepts_what_it_can_fetch(self, case: SourceCase) -> None:
        case.implementation.check(case.good)
        case.implementation.check(case.missing)

    async def test_it_refuses_malformed_sources_naming_the_field(self, case: SourceCase) -> None:
        assert case.bad
        for source in case.bad:
            with pytest.raises(BadRequest) as caught:
                case.implementation.check(source)
            assert (caught.value.param or "").startswith("source."), source

    async def test_it_brings_the_weights(self, case: SourceCase, partial: Path) -> None:
        path = await _fetch(case, partial)
        assert path.is_absolute()
        assert path.read_bytes() == case.content

    async def test_it_reports_progress_that_never_exceeds_the_total(self, case: SourceCase, partial: Path) -> None:
        reports: list[tuple[int, int | None]] = []
        await asyncio.wait_for(
            case.implementation.fetch(case.good, partial, lambda done, total: reports.append((done, total))), TIMEOUT_S
        )
        assert reports
        assert all(done >= 0 and (total is None or done <= total) for done, total in reports)

    async def test_fetching_again_gives_the_same(self, case: SourceCase, partial: Path) -> None:
        first = await _fetch(case, partial)
        assert await _fetch(case, partial) == first
        assert first.read_bytes() == case.content

    async def test_a_cancelled_fetch_can_be_taken_up_again(self, case: SourceCase, partial: Path) -> None:
        for turns in range(0, 12, 3):
            task = asyncio.create_task(_fetch(case, partial))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=TIMEOUT_S)
            assert task.done()
        assert (await _fetch(case, partial)).read_bytes() == case.content

    async def test_a_report_may_break_it_off_and_it_can_be_taken_up_again(
        self, case: SourceCase, partial: Path
    ) -> None:
        def refuse(done: int, total: int | None) -> None:
            raise ModelUnavailable("There is no room.", code="quota_exceeded")

        with pytest.raises(ModelUnavailable) as caught:
            await asyncio.wait_for(case.implementation.fetch(case.good, partial, refuse), TIMEOUT_S)
        assert caught.value.code == "quota_exceeded"
        assert (await _fetch(case, partial)).read_bytes() == case.content

    async def test_what_is_not_there_is_a_missing_source(self, case: SourceCase, partial: Path) -> None:
        with pytest.raises(ModelUnavailable) as caught:
            await _fetch(replace(case, good=case.missing), partial)
        assert caught.value.code == "source_missing"
        assert caught.value.message.endswith(".")


async def _fetch(case: SourceCase, partial: Path) -> Path:
    return await asyncio.wait_for(case.implementation.fetch(case.good, partial, lambda done, total: None), TIMEOUT_S)
