"""Wire models (pydantic), shared by the API and the clients. They know nobody: no domain, no server, no client."""

from roost.schemas.endpoints import (
    Autoscaling,
    AutoscalingBody,
    DesiredState,
    Endpoint,
    EndpointCreate,
    EndpointList,
    EndpointUpdate,
    Progress,
    Replica,
    State,
    StateReason,
)
from roost.schemas.errors import ErrorDetail, ErrorEnvelope
from roost.schemas.events import Event, EventList
from roost.schemas.hardware import (
    Hardware,
    HardwareAvailability,
    HardwareList,
    HardwarePricing,
    HardwareSpecs,
    ZoneList,
)
from roost.schemas.identity import Whoami, WhoamiKey, WhoamiNested, WhoamiOrganization, WhoamiProject
from roost.schemas.keys import ApiKey, ApiKeyCreate, ApiKeyCreated, ApiKeyList, ApiKeyUpdate, Role
from roost.schemas.logs import LogLine, LogList
from roost.schemas.models import (
    Download,
    Model,
    ModelCreate,
    ModelDeleted,
    ModelList,
    ModelPricing,
    ModelSource,
    WeightsSource,
)

__all__ = [
    "ApiKey",
    "ApiKeyCreate",
    "ApiKeyCreated",
    "ApiKeyList",
    "ApiKeyUpdate",
    "Autoscaling",
    "AutoscalingBody",
    "DesiredState",
    "Download",
    "Endpoint",
    "EndpointCreate",
    "EndpointList",
    "EndpointUpdate",
    "ErrorDetail",
    "ErrorEnvelope",
    "Event",
    "EventList",
    "Hardware",
    "HardwareAvailability",
    "HardwareList",
    "HardwarePricing",
    "HardwareSpecs",
    "LogLine",
    "LogList",
    "Model",
    "ModelCreate",
    "ModelDeleted",
    "ModelList",
    "ModelPricing",
    "ModelSource",
    "Progress",
    "Replica",
    "Role",
    "State",
    "StateReason",
    "WeightsSource",
    "Whoami",
    "WhoamiKey",
    "WhoamiNested",
    "WhoamiOrganization",
    "WhoamiProject",
    "ZoneList",
]
