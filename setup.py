"""The one part that pyproject.toml cannot say: a compiled form of the per-stanza work, where there is a compiler."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("pcj._speed", ["src/pcj/_speed.c"], optional=True)])
