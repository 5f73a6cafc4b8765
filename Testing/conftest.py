"""For all tests: the user's cache and settings are folders of this run, so that nothing depends on earlier runs."""

import atexit
import os
import shutil
import tempfile

for _name in ("CACHE", "SETTINGS"):
    _folder = tempfile.mkdtemp(prefix=f"fasttextdiff-{_name.lower()}-")
    os.environ[f"FASTTEXTDIFF_{_name}"] = _folder
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
