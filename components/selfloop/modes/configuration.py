"""What a pod is configured with: where MLflow, the store and KFP are, and where the caches lie.

The pods of ``resolve`` and ``relay`` take it from the config map and from the profile. The calls of a loop are told by
``resolve``: Argo notes six times for each task what its pod takes, and a run has many calls. So what the config map
says when a run begins holds until the run ends.
"""

from __future__ import annotations

import os

from selfloop.addresses import check_address
from selfloop.modes.mlflow_plugin import variables

CONFIG = ("MLFLOW_TRACKING_URI", "SELFLOOP_STORE")
"""Keys of the config map without which no run starts."""
OPTIONAL_CONFIG = ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "SELFLOOP_KFP_ENDPOINT")
CACHE = "/var/cache/selfloop"
CACHES = {"SELFLOOP_CACHE": CACHE, "HF_HOME": f"{CACHE}/huggingface"}
"""Variables of what is kept between pods; an image has its own below ``/tmp``."""
INSTEAD = "put them into a Secret that the profile names, such as selfloop-mlflow"


def configuration() -> dict[str, str]:
    """The variables that the pod of this process was configured with.

    Raises ``UserError`` for an address with credentials, which would be kept with the run and shown.
    """
    names = [*CACHES, *variables((*CONFIG, *OPTIONAL_CONFIG)).values()]
    return {name: check_address(os.environ[name], INSTEAD) for name in names if name in os.environ}
