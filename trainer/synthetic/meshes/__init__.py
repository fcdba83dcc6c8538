"""Products that are triangle meshes with real silhouettes, rendered by ray casting.

solids.py    solids from outlines: slabs with rounded edges, swept arms, ragged tools
view.py      the camera over the tilted table: rays, depth, table coordinates
rays.py      the triangles that rays meet, and what lies between a point and the lamp
finish.py    how surfaces look: grain, brushing and color, in part coordinates
gear.py, lever.py, bracket.py
             the three products, by constructive solid geometry
light.py     lamp, ambient occlusion and highlights
relief.py    defects of height and color, by displacement of a refined piece of the mesh
material.py  defects of the material: bites, breaks, flash and bends, by booleans and warps
station.py   a product before a camera: what `trainer synthesize` writes

Nothing is imported here: only who asks for a mesh product loads the mesh libraries.
"""

MESHES = ("gear", "lever", "bracket")
"""Their names, as `trainer synthesize` knows them."""
