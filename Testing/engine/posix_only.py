"""The mark of tests that need a POSIX system."""

import os

import pytest

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX: signals, process groups, shell scripts")
