"""cnnzoo: experiments with convolutional networks, composed by Hydra and trained by PyTorch Lightning.

    config = cnnzoo.compose(["experiment=uvadlc/resnet", "seed=1"])   # a typed Config
    result = cnnzoo.run(config)                                       # trains, or finds it done
    runs = cnnzoo.load_results("outputs")                             # one row a run: a pandas DataFrame
    net = cnnzoo.load_model("outputs/cifar10/resnet/seed1-…")         # the trained network, its classes, preprocessing

Everything else is private.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnzoo.config import compose
    from cnnzoo.results.load import load_results
    from cnnzoo.run import run
    from cnnzoo.trained import load_model

__version__ = "0.1.0"
__all__ = ["compose", "load_model", "load_results", "run"]

_MODULES = {
    "compose": "cnnzoo.config",
    "load_model": "cnnzoo.trained",
    "load_results": "cnnzoo.results.load",
    "run": "cnnzoo.run",
}


def __getattr__(name: str) -> Any:
    """Import a part of the public interface when it is first used: `import cnnzoo` itself imports nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cnnzoo' has no attribute '{name}'")
    module = importlib.import_module(_MODULES[name])
    return getattr(module, name) if name != "run" else module


def __dir__() -> list[str]:
    return [*globals(), *__all__]
