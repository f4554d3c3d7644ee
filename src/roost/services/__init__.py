"""Use cases, without HTTP types. They write specs; control writes statuses."""

from roost.services.build import Services, build_services

__all__ = ["Services", "build_services"]
