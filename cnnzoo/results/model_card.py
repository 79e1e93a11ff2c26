"""The model card of a trained run: what it is, how good, on which data, and how it came to be. No torch."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from cnnzoo.results import render
from cnnzoo.text import clean

_USE = """```python
import json, hydra, torch
from safetensors.torch import load_file

config = json.load(open("config.json"))
network = hydra.utils.instantiate(config["model"]).eval()
network.load_state_dict(load_file("model.safetensors"))

mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
images = torch.rand(1, *config["input_size"])  # float32, 0..1
logits = network((images - mean) / std)
```"""


def model_card(result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the card in Markdown, with the header that model hubs read.

    Args:
        result: of the run, as `result.json` has it.
        config: as `config.json` has it, beside the weights.
    """
    name, dataset = f"{result['model']} on {result['dataset']}", str(result["dataset"])
    metrics = [{"type": "accuracy", "value": result["test_accuracy"], "name": "test accuracy"}]
    header = {
        "library_name": "cnnzoo",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "cnnzoo"],
        "datasets": [dataset],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": str(result["model"]),
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": dataset, "type": dataset, "split": "test"},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }
    facts = {
        "test accuracy": f"{render.percent(result['test_accuracy'])} %, one run with seed {result['seed']}",
        "validation accuracy": f"{render.percent(result.get('val_accuracy'))} %" if result.get("val_accuracy") else "",
        "parameters": render.count(result["params"]),
        "multiply-accumulates": render.magnitude(result["macs"]),
        "input": "float32 [N, {}, {}, {}], 0..1, before normalisation".format(*config["input_size"]),
        "epochs": f"{result['epochs']}, of which the weights are those of epoch {result['best_epoch']}",
        "training time": f"{render.duration(result['train_seconds'])} on {result['device']}, {result['precision']}",
        "versions": ", ".join(f"{package} {version}" for package, version in result["versions"].items()),
        "code": str(result.get("git_commit") or ""),
        "configuration": str(result["config_hash"]),
    }
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in facts.items() if value)
    classes = ", ".join(map(_cell, config["label_names"]))
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip()}
---

# {_cell(name)}

|  |  |
|---|---|
{rows}

Trained by cnnzoo with

```
{clean(str(result.get("command") or "cnnzoo.run"))}
```

Classes, in the order of the logits: {classes}.

## Use

{_USE}

The network's arguments are in config.json:

```json
{json.dumps(config["model"], indent=2)}
```
"""


def _cell(text: str) -> str:
    return clean(str(text)).replace("|", "\\|")
