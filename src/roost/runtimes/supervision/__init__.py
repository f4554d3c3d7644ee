"""The supervisor: one small process per replica that starts its engine and outlives the control plane.

Standard library only and without the modules that are slow to import (asyncio, dataclasses, typing), since every
replica pays for its start. It is run by path, as ``python -I -S .../supervision/__main__.py``, so that no other part
of Roost is imported into it; inside it the modules must import each other relatively and nothing else of Roost.
"""
