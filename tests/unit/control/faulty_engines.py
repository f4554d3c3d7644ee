"""Engines that are at fault, one question each. Installed by ``test_engine_faults`` as a plug-in is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from roost.domain.errors import BadRequest
from roost.domain.launch import LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, Failure
from roost.engines.base import Capabilities, LaunchRequest, Probe
from roost.engines.echo import EchoEngine


class Unloadable:
    def __init__(self) -> None:
        raise ImportError("no such library")


class Build(EchoEngine):
    def build(self, request: LaunchRequest) -> LaunchSpec:
        return replace(super().build(request), start_timeout=timedelta(seconds=10**30))


class Endless(EchoEngine):
    def build(self, request: LaunchRequest) -> LaunchSpec:
        return replace(super().build(request), start_timeout=timedelta.max)


class Nothing(EchoEngine):
    def build(self, request: LaunchRequest) -> Any:
        return None


class Rude(EchoEngine):
    def build(self, request: LaunchRequest) -> LaunchSpec:
        raise BadRequest("This is not what an engine raises.")


class Probing(EchoEngine):
    def probe(self, model: Model) -> Probe:
        raise KeyError("probe")


class Explain(EchoEngine):
    def explain(self, exit: ExitInfo) -> Failure:
        raise IndexError("no line at all")


class Able(EchoEngine):
    def capabilities(self, model: Model) -> Capabilities:
        raise TypeError("capabilities")
