"""For all tests: OpenVINO's cache is a folder of this run, so that nothing depends on earlier runs."""

import atexit
import os
import shutil
import tempfile

_cache = tempfile.mkdtemp(prefix="fasttextdiff-cache-")
os.environ["FASTTEXTDIFF_CACHE"] = _cache
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
