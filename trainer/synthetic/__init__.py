"""Synthetic RGB-D parts, defects and anomalies. Four places make something that looks damaged, each
for a purpose of its own:

products/         whole synthetic products, for demonstrations and tests: parts, tables and cameras
                  (`trainer synthesize`)
scene_defects.py  synthetic defects of those products, in the scene itself, before the camera sees
                  it: height and color, with the truth; material.py those that take material away
                  or add some. For evaluation
on_frames.py      synthetic defects on real frames of good parts, in the bytes that the graph is
                  fed, where no real defect is at hand. For evaluation and for the certificate of a
                  bundle, never for training
anomalies.py      synthetic anomalies on prepared images of normal parts, after the graph has
                  prepared them. For training, never for evaluation: a detector must not be tested
                  with what it was trained to find

So a synthetic *defect* is what is evaluated, and a synthetic *anomaly* is what is trained on.
logical.py says which elements of a product may be absent, added or swapped; perlin.py where
anomalies lie, textures.py what they are made of; scene.py is what every station has, tables.py what
parts lie on; surface.py, shapes.py, blend.py, noise.py and stereo.py render.
"""
