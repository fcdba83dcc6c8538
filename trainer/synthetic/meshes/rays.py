"""Triangles that rays meet: Embree (Wald et al., Embree, SIGGRAPH 2014) through embreex."""

from __future__ import annotations

from typing import cast

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from trainer.synthetic.meshes.solids import Triangles
from trainer.synthetic.meshes.view import Vectors
from trainer.synthetic.noise import Image

FAR_MM = 1e6
LIFT_MM = 0.02  # a ray from a surface starts this far over it, or it would meet the surface itself


class Shape:
    """Triangles in world coordinates, (F, 3, 3) mm, counterclockwise from outside."""

    def __init__(self, corners: Triangles) -> None:
        self.corners = corners
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        self.normals = (normals / np.maximum(length, 1e-12)).astype(np.float32)
        self._scene = EmbreeScene(robust=True)
        # the scene refers to its mesh and does not keep it alive
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(corners, np.float32))

    def first(self, origins: Vectors, directions: Vectors) -> tuple[Image, NDArray[np.int32]]:
        """How many directions away each ray meets the first triangle, and which; FAR_MM and -1
        where it meets none.

        origins: (..., 3), or (3,) for all. directions: (..., 3). Returns: (...) each.
        """
        shape = directions.shape[:-1]
        start = np.ascontiguousarray(np.broadcast_to(origins, directions.shape), np.float32)
        found = self._scene.run(
            start.reshape(-1, 3),
            np.ascontiguousarray(directions, np.float32).reshape(-1, 3),
            output=True,
        )
        face = found["primID"].astype(np.int32)
        away = np.where(face >= 0, found["tfar"], np.float32(FAR_MM)).astype(np.float32)
        return away.reshape(shape), face.reshape(shape)

    def blocked(self, origins: Vectors, directions: Vectors, reach: Image) -> NDArray[np.bool_]:
        """Whether a triangle lies less than `reach` directions away. (N, 3), (N, 3), (N,)."""
        hits = self._scene.run(
            np.ascontiguousarray(origins, np.float32),
            np.ascontiguousarray(directions, np.float32),
            query="OCCLUDED",
            dists=np.ascontiguousarray(reach, np.float32),
        )
        return cast(NDArray[np.bool_], hits >= 0)
