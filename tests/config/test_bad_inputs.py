"""Mistakes in a configuration, each answered where it is typed: with the key, and with what would be right."""

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnzoo.config import Config, compose, config_hash, identity
from cnnzoo.config.compose import from_dict
from cnnzoo.config.schema import DatasetConfig
from cnnzoo.errors import UserError

# What the message says, and what is typed: of several words, the last is the mistake, and the message names its key.
BAD: dict[str, str] = {
    # choices, with the nearest right one
    "no such choice. Did you mean 'densenet'?": "model=densnet",
    "no such choice. Did you mean 'resnet'?": "model=resnet/x\nmodel=resnt",
    "no such choice. Did you mean 'cifar10'?": "dataset=cifar\ndataset=cifr10",
    "no such choice. Did you mean 'image_folder'?": "dataset=imagefolder\ndataset=imagefoldr",
    "no such choice. Choices: cifar10, cifar100": "dataset=CIFAR10",
    "no such choice. Did you mean 'sgd'?": "optimizer=sdg\nsearch=sgdd",
    "no such choice. Did you mean 'adam'?": "optimizer=adamw",
    "no such choice. Choices: adam, muon, sgd": "optimizer=SGD\noptimizer=",
    "no such choice. Did you mean 'cosine'?": "scheduler=cosin",
    "no such choice. Did you mean 'multistep'?": "scheduler=multi_step\nscheduler=step",
    "no such choice. Choices: cosine, multistep": "scheduler=[a]\nscheduler=",
    "no such choice. Did you mean 'cross_entropy'?": "loss=crossentropy",
    "no such choice. Choices: cross_entropy, multi_margin": "loss=mse\nloss=",
    "no such choice. Did you mean 'gpu'?": "trainer=gup",
    "no such choice. Choices: cpu, default": "trainer=ddp\ntrainer=",
    "no such choice. Did you mean 'flip_crop'?": "augmentation=flipcrop",
    "no such choice. Choices: alternating_flip_shift": "augmentation=autoaugment",
    "no such choice. Did you mean 'early_stopping'?": "callbacks=erly_stopping",
    "no such choice. Did you mean 'ema'?": "callbacks=[ema,emaa]",
    "no such choice. Did you mean 'spike_guard'?": "callbacks=spikeguard",
    "no such choice. Did you mean 'tensorboard'?": "logger=tensorbord\nlogger=tensorboards",
    "no such choice. Choices: csv, mlflow, none": "logger=comet\nlogger=[csv,comet]",
    "no such choice. Did you mean 'uvadlc/resnet'?": "experiment=uvadlc/rsnet\nexperiment=uvadlc",
    "no such choice. Did you mean 'joblib'?": "hydra/launcher=jobilb",
    "no such choice. Did you mean 'optuna'?": "hydra/sweeper=optunaa",
    "no such choice. Choices: default": "debug=yes\npaths=home",
    "expected one choice": "model=[resnet,densenet]\ndataset=[digits,mnist]\n~model\n~dataset",
    "A group takes the name of a choice": "model=null\ntrainer=null\nloss=null\ntrainer=5\naugmentation=0.5",
    # keys
    "no such key. Did you mean 'model'?": "modle=densenet",
    "no such key. Did you mean 'optimizer'?": "optimiser=adam",
    "no such key. Did you mean 'dataset'?": "data=cifar10",
    "no such key. Did you mean 'optimizer.lr'?": "lr=0.1",
    "no such key. Did you mean 'trainer.max_epochs'?": "epochs=3",
    "no such key. Did you mean 'dataset.batch_size'?": "batch_size=64",
    "no such key. Did you mean 'optimizer.weight_decay'?": "weight_decay=0.1",
    "no such key. Did you mean 'scheduler.milestones'?": "milestones=[10]",
    "no such key. Did you mean 'dataset.num_classes'?": "num_classes=7",
    "no such key. Did you mean 'max_epochs'?": "trainer.max_epoch=3",
    "no such key. Did you mean 'precision'?": "trainer.precison=32-true",
    "no such key. Did you mean 'devices'?": "trainer.device=2",
    "no such key. Did you mean 'batch_size'?": "dataset.batchsize=64",
    "no such key. Did you mean 'val_size'?": "dataset.valsize=0.1",
    "no such key. Did you mean 'flip'?": "augmentation.flipp=0.5",
    "no such key. Did you mean 'milestones'?": "scheduler.milestone=[10]",
    "no such key. Did you mean 'gamma'?": "scheduler.gama=0.1",
    "no such key. Did you mean 'label_smoothing'?": "loss.label_smooth=0.1",
    "no such key. Did you mean 'blocks_per_group'?": "model.blocks_per_grp=[1,1,1]",
    "no such key. Did you mean 'epochs'?": "warmup.epoch=3",
    "no such key. Did you mean 'outputs'?": "paths.output=x",
    "adds an argument": "optimizer.learning_rate=0.1\noptimizer.wd=0.1\nmodel.depth=20",
    "no such key. The configuration has": "momentum=0.9\nroot=/data",
    "no such key. dataset has": "dataset.bs=64\ndataset.lables=3",
    "no such key. augmentation has": "augmentation.crop=4",
    "nothing reads this key": """
        +nonsense=1
        +trainer.overfit_batches=1
        +dataset.lables=3
        +augmentation.rotate=10
        +warmup.kind=linear
        +paths.cache=x
    """,
    # types
    "expected a whole number": """
        seed=x
        seed=1.5
        seed=null
        seed=
        seed=1e3
        seed=[1,2]
        seed=true
        image_size=big
        image_size=1.5
        image_size=null
        trainer.accumulate_grad_batches=1.5
        trainer.accumulate_grad_batches=null
        trainer.check_val_every_n_epoch=x
        trainer.checkpoint_every_n_epochs=x
        trainer.limit_train_batches=0.5
        trainer.limit_val_batches=x
        dataset.batch_size=64.5
        dataset.batch_size=big
        dataset.batch_size=null
        dataset.batch_size=6A
        dataset.batch_size=[64]
        dataset.eval_batch_size=auto
        dataset.split_seed=x
        dataset.split_seed=1e20
        dataset.channels=rgb
        dataset.num_classes=ten
        dataset.num_classes=null
        dataset.image_size=[32,32]
        dataset.workers=many
        dataset.workers=2.5
        augmentation=flip_pad augmentation.padding=1.5
        augmentation=flip_pad augmentation.padding=four
        experiment=uvadlc/resnet published.epochs=x
        optimizer=muon optimizer.ns_steps=2.5
        scheduler.milestones=[10.5]
        scheduler=onecycle scheduler.total_steps=1.5
        scheduler=plateau scheduler.patience=1.5
        loss=multi_margin loss.p=1.5
        callbacks=early_stopping callbacks.early_stopping.patience=2.5
        callbacks=lookahead callbacks.lookahead.every_n_steps=1.5
        model=mlp model.widths=[10.5]
        model=densenet model.growth_rate=2.5
    """,
    "expected a number": """
        trainer.max_epochs=many
        trainer.max_epochs=null
        trainer.max_epochs=true
        trainer.max_epochs=[3]
        trainer.max_epochs=1O
        trainer.gradient_clip_val=small
        dataset.val_size=some
        dataset.val_size=null
        dataset.val_size=true
        dataset.val_size=[0.1]
        dataset.val_size=10%
        augmentation.flip=yes
        augmentation.flip=50%
        augmentation.flip=null
        augmentation.mixup=true
        augmentation.mixup=x
        tta_confidence=high
        warmup.epochs=some
        optimizer.lr=
        optimizer.lr=fast
        optimizer.lr=1O
        optimizer.lr=nan
        optimizer.lr=true
        optimizer.weight_decay=nan
        optimizer.weight_decay=small
        +optimizer.betas=[0.9,O.999]
        +optimizer.eps=tiny
        +optimizer.groups.a={names:"*",lr:nan}
        optimizer=sgd optimizer.momentum=high
        scheduler.milestones=[1O,15]
        scheduler.milestones=[a]
        scheduler.milestones=[nan]
        scheduler.milestones=[10,[2O]]
        scheduler.milestones=[l0,20]
        scheduler.milestones=ten
        scheduler.milestones=[true]
        scheduler.gamma=nan
        scheduler.gamma=tenth
        scheduler=cosine scheduler.T_max=all
        scheduler=cosine scheduler.eta_min=nan
        scheduler=onecycle scheduler.final_div_factor=nan
        scheduler=plateau scheduler.patience=x
        scheduler=warmup_cosine scheduler.pct_start=nan
        scheduler=warmup_cosine scheduler.end_factor=x
        loss.label_smoothing=nan
        loss.label_smoothing=some
        loss.weight=[1,a]
        loss.weight=[1O,2]
        loss.weight=[nan]
        loss=multi_margin loss.margin=nan
        callbacks=early_stopping callbacks.early_stopping.patience=x
        callbacks=ema callbacks.ema.decay=nan
        dataset=digits dataset.source.test_size=many
        dataset=digits dataset.source.test_size=nan
        model=mlp model.widths=[1O,10]
        model=mlp model.widths=[a]
        model=mlp model.widths=[nan]
        model.blocks_per_group=[3,3,three]
        model=nin model.dropout=nan
        +trainer.extra.x=nan
        +trainer.extra.y=[1O,2]
        +model.anything=[1,0,l5]
        +model.anything=[[1,2],[3,4O]]
        +callbacks.mine={_target_:my.Own,steps:[1OO]}
        ~seed
    """,
    "expected a number, or balanced. Did you mean 'balanced'?": "loss.weight=balancd",
    "expected a list of numbers": """
        dataset.mean=[0.5,0.5,x]
        dataset.std=[0.5,0.5,1O]
        augmentation.scale=[a,b]
        augmentation.ratio=[0.9,x]
    """,
    "expected a list": """
        freeze=stem
        freeze=3
        trusted_packages=os
        dataset.mean=0.5
        dataset.std=1
        dataset.std=auto
        augmentation.scale=0.8
    """,
    "expected true or false": """
        rerun=maybe
        trainer.channels_last=yess
        trainer.deterministic=warn
        trainer.progress_bar=rich
        dataset.drop_last=sometimes
    """,
    "expected a text": """
        name=[1]
        trainer.precision=null
        trainer.strategy=[ddp]
        paths.data=null
        paths.data=[x]
    """,
    "expected names and values": "published=3\ndataset.source=cifar10",
    "Cannot merge DictConfig with ListConfig": "trainer.plugins=[x]\ntrainer.extra=[x]",
    "expected the dotted path of a class": """
        model._target_=
        model._target_=3
        model._target_=null
        model._target_=resnet18
        optimizer._target_=Adam
        optimizer._target_=null
        loss._target_=CrossEntropyLoss
        scheduler._target_=StepLR
        callbacks=ema callbacks.ema._target_=EMA
        dataset.source._target_=load
        +model.norm={_target_:BatchNorm}
    """,
    # ranges
    "expected at least 0": """
        seed=-1
        dataset.val_size=-1
        dataset.val_size=nan
        dataset.val_size=inf
        dataset.split_seed=-1
        dataset.split_seed=99999999999
        dataset.workers=-1
        augmentation.mixup=-1
        augmentation.mixup=nan
        augmentation.mixup=inf
        augmentation.mixup=1e9
        augmentation.cutmix=-0.2
        augmentation.cutmix=inf
        augmentation=flip_pad augmentation.padding=-1
        warmup.epochs=-1
        warmup.epochs=nan
        warmup.epochs=inf
        optimizer.lr=-1
        optimizer.lr=inf
        optimizer.lr=-1e-3
        optimizer.lr=1e400
        optimizer.lr=[-0.1]
        optimizer=sgd optimizer.lr=-0.1
        optimizer.weight_decay=-1e-4
        +optimizer.eps=-1
        +optimizer.groups.a={names:"*",frozen_after:-1}
        optimizer=muon optimizer.groups.vectors.lr=-1
        scheduler.milestones=[-5,10]
        scheduler.gamma=-3
        scheduler.gamma=inf
        scheduler=cosine scheduler.eta_min=-1
        scheduler=onecycle scheduler.max_lr=-1
        scheduler=onecycle scheduler.div_factor=-25
        scheduler=plateau scheduler.patience=-1
        scheduler=plateau scheduler.threshold=-1
        scheduler=plateau scheduler.min_lr=-1
        scheduler=triangular scheduler.start_factor=-1
        scheduler=triangular scheduler.end_factor=-0.07
        loss.weight=[-1,1]
        loss.weight=[inf,1]
        callbacks=early_stopping callbacks.early_stopping.patience=-1
        dataset=digits dataset.source.test_size=-1
    """,
    "at most 4294967295": "seed=4294967296\nseed=100000000000000000000\ndataset.split_seed=1000000000000",
    "expected at least 1": """
        image_size=0
        image_size=-32
        image_size=100000
        trainer.max_epochs=0
        trainer.max_epochs=0.5
        trainer.max_epochs=-3
        trainer.max_epochs=nan
        trainer.max_epochs=inf
        trainer.max_epochs=1e9
        trainer.accumulate_grad_batches=0
        trainer.accumulate_grad_batches=-2
        trainer.check_val_every_n_epoch=0
        trainer.limit_train_batches=0
        trainer.limit_train_batches=-1
        trainer.limit_val_batches=0
        dataset.batch_size=0
        dataset.batch_size=-64
        dataset.eval_batch_size=0
        dataset.eval_batch_size=-1
        dataset.channels=0
        dataset.channels=-3
        dataset.channels=1000000
        dataset.image_size=0
        dataset.image_size=100000
        optimizer=muon optimizer.ns_steps=0
        scheduler=cosine scheduler.T_max=0
        scheduler=cosine scheduler.T_max=-10
        scheduler=onecycle scheduler.total_steps=0
        +scheduler.step_size=0
        +scheduler.T_0=0
        loss=multi_margin loss.p=3
        loss=multi_margin loss.p=0
        callbacks=lookahead callbacks.lookahead.every_n_steps=0
        model=mlp model.widths=[-5]
        model=mlp model.widths=[0]
        model.blocks_per_group=[3,-3,3]
        model.blocks_per_group=[3,0,3]
        model.num_classes=0
        model.num_classes=-1
        model.in_channels=0
        model=densenet model.growth_rate=0
        model=densenet model.growth_rate=-16
        model=densenet model.bn_size=0
        model=wide_resnet model.widen_factor=0
        model=resnext29 model.cardinality=0
        model=se_resnet20 model.se_ratio=0
    """,
    "expected at least 2": "dataset.num_classes=1\ndataset.num_classes=0\ndataset.num_classes=-10",
    "and at most 256": "dataset.workers=100000",
    "expected at least 0 and at most 1": """
        tta_confidence=2
        tta_confidence=-0.1
        tta_confidence=nan
        augmentation.flip=2
        augmentation.flip=-0.5
        augmentation.flip=nan
        augmentation.brightness=2
        augmentation.brightness=-1
        augmentation.contrast=nan
        warmup.start_factor=2
        warmup.start_factor=-0.1
        warmup.start_factor=nan
        +optimizer.betas=[0.9,1.5]
        +optimizer.betas=[-0.1,0.9]
        optimizer=sgd optimizer.momentum=1.5
        optimizer=sgd optimizer.momentum=-0.9
        optimizer=muon optimizer.groups.vectors.momentum=2
        scheduler=onecycle scheduler.pct_start=1.5
        scheduler=onecycle scheduler.pct_start=-0.3
        scheduler=plateau scheduler.factor=2
        scheduler=plateau scheduler.factor=-0.1
        scheduler=triangular scheduler.pct_start=2
        loss.label_smoothing=1.5
        loss.label_smoothing=-0.1
        callbacks=ema callbacks.ema.decay=1.5
        callbacks=ema callbacks.ema.decay=-0.1
        callbacks=spike_guard callbacks.spike_guard.decay=2
        model=nin model.dropout=1.5
        model=nin model.dropout=-0.5
        experiment=uvadlc/resnet published.test_accuracy=91
        experiment=uvadlc/resnet published.val_accuracy=-1
    """,
    "expected a positive number, or null": """
        trainer.gradient_clip_val=-1
        trainer.gradient_clip_val=0
        trainer.gradient_clip_val=nan
        trainer.gradient_clip_val=inf
    """,
    "a share of them below 1": "dataset.val_size=1.5\ndataset.val_size=4999.5",
    "expected at most the 180 epochs": "trainer.check_val_every_n_epoch=181\nwarmup.epochs=200",
    "expected a divisor of the 180 epochs": """
        trainer.checkpoint_every_n_epochs=7
        trainer.checkpoint_every_n_epochs=0
        trainer.checkpoint_every_n_epochs=-1
    """,
    # words
    "expected one of": """
        tta=mirrors
        tta=true
        trainer.accelerator=tpu
        trainer.accelerator=gpuu
        trainer.accelerator=mps
        trainer.precision=bf16
        trainer.precision=32
        trainer.precision=fp16
        trainer.compile_mode=fast
        augmentation.flip_mode=alternate
        augmentation.padding_mode=mirror
    """,
    "expected auto, true or false": """
        trainer.compile=perhaps
        trainer.compile=1
        trainer.compile=null
        dataset.resident=perhaps
        dataset.resident=1
    """,
    "expected auto, a number of at least 1, or a list of different indices": """
        trainer.devices=0
        trainer.devices=-1
        trainer.devices=two
        trainer.devices=[]
        trainer.devices=[0,0]
        trainer.devices=[-1]
        trainer.devices=[0,x]
        trainer.devices=1.5
        trainer.devices=true
        trainer.devices=null
    """,
    "is empty: expected": "paths.data=\npaths.outputs=\npaths.weights=\nweights=\npaths.data='  '",
    # statistics and crops
    "expected one number for each of the 3 channel(s)": """
        dataset.mean=[0.5]
        dataset.mean=[]
        dataset.mean=[0.5,0.5,0.5,0.5]
        dataset.std=[0.5]
    """,
    "expected finite numbers": """
        dataset.mean=[inf,0,0]
        dataset.mean=[nan,0,0]
        dataset.mean=[1e400,0,0]
        dataset.std=[inf,1,1]
        dataset.std=[nan,1,1]
    """,
    "in units of 0..1, into which pixels are scaled": """
        dataset.mean=[125.3,123.0,113.9]
        dataset.mean=[-0.1,0.5,0.5]
        dataset.std=[0,1,1]
        dataset.std=[-1,1,1]
        dataset.std=[63.0,62.1,66.7]
        dataset.std=[1e-50,1,1]
    """,
    "expected two positive numbers, the smaller one first": """
        augmentation.scale=[1.0,0.8]
        augmentation.scale=[0.8]
        augmentation.scale=[0,1]
        augmentation.scale=[-0.5,1]
        augmentation.scale=[nan,1]
        augmentation.ratio=[0.9]
        augmentation.ratio=[1.1,0.9]
        augmentation.ratio=[0,1]
        augmentation.ratio=[0.9,inf]
    """,
    "a share of the image's area, at most 1": "augmentation.scale=[0.8,1.2]",
    "set both, or both to null": "augmentation.scale=null\naugmentation.ratio=null",
    "two kinds of random crop: set one": "augmentation.padding=4",
    "can be padded by 31 at most": """
        augmentation=flip_pad augmentation.padding=100000
        augmentation=flip_pad augmentation.padding=32
        augmentation=alternating_flip_shift augmentation.padding=32
    """,
    # grammar
    "not of the form KEY=VALUE": "densenet\noptimizer.lr\n++\n--",
    "is not a value, such as": """
        optimizer.lr==1
        optimizer.lr=[0.1
        optimizer.lr=0.1]
        model={
        model={a:1
        model=resnet,
        seed='1
        seed="1
        name=${
    """,
    "Ambiguous value": "optimizer.lr=0,1",
    "Interpolation key": "seed=${nothing}\nseed=${optimizer.nothing}\nimage_size=${dataset.size}",
    "Recursive interpolation": "seed=${seed}",
    "'SURELY_NOT_SET' not found": "paths.data=${oc.env:SURELY_NOT_SET}",
    "does not support deletion": "~dataset.batch_size",
    "does not exist": "~optimizer.nothing",
    # data
    "is missing": "dataset=image_folder",
    "there is no such folder. Expected <root>/<class>/image.png": """
        dataset=image_folder dataset.root=/nowhere/at/all
        dataset=image_folder dataset.root=/etc/hostname
    """,
}
ROWS = [(line.strip(), words) for words, lines in BAD.items() for line in lines.strip().split("\n")]
# Their messages cannot name the key.
ANONYMOUS = ("A group takes", "Interpolation key", "Recursive interpolation", "'SURELY_NOT_SET'")


def test_there_are_many() -> None:
    assert len(set(ROWS)) == len(ROWS) >= 250


@pytest.mark.parametrize(("typed", "words"), ROWS, ids=[typed for typed, _ in ROWS])
def test_bad_input(typed: str, words: str) -> None:
    overrides = typed.split(" ") if "'" not in typed else [typed]
    with pytest.raises(UserError) as error:
        compose(overrides)
    message = str(error.value)
    assert words in message
    key = overrides[-1].partition("=")[0].lstrip("+~")
    assert key in message or words.startswith(ANONYMOUS)


# --- anything anywhere

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "1O", "nan", "-1", "auto", "a.b", "${seed}", "???", "../x", "\x00", "ü", "x" * 300])
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["_target_", "x", "lr"]), inner),
    max_leaves=4,
)


@cache
def usual() -> dict[str, Any]:
    return asdict(compose(["optimizer=muon", "scheduler=onecycle", "callbacks=ema", "experiment=uvadlc/resnet"]))


def paths(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Of all sections and values."""
    below = (
        [found for key, value in node.items() for found in paths(value, (*path, key))] if isinstance(node, dict) else []
    )
    return [path, *below] if path else below


@given(data=st.data())
def test_any_value_makes_a_configuration_or_is_refused(data: st.DataObject) -> None:
    """And what is accepted has a hash, a folder and numbers that are numbers."""
    values = json.loads(json.dumps(usual()))
    for _ in range(data.draw(st.integers(1, 2))):
        *sections, key = data.draw(st.sampled_from(paths(values)))
        node = values
        for section in sections:
            node = node[section]
        node[key] = data.draw(VALUES)
    try:
        config = from_dict(Config, values)
    except UserError:
        return
    assert len(config_hash(config)) == 16
    json.dumps(identity(config))
    assert 0 <= config.seed < 2**32
    assert 1 <= config.trainer.max_epochs < float("inf")
    for number in [v for v in config.optimizer.values() if isinstance(v, float)]:
        assert number == number
    json.dumps([config.dataset.mean, config.dataset.std, asdict(config.augmentation)], allow_nan=False)


NUMBERS = st.lists(st.floats() | st.floats(-0.1, 1.1), min_size=3, max_size=3)


@given(mean=NUMBERS, std=NUMBERS)
def test_statistics_that_are_accepted_normalise(mean: list[float], std: list[float]) -> None:
    """To numbers of a size that a network can be trained on."""
    dataset = usual_dataset()
    try:
        replace(dataset, mean=mean, std=std)
    except UserError:
        return
    pixels = [(pixel - m) / s for pixel in (0.0, 1.0) for m, s in zip(mean, std, strict=True)]
    assert max(map(abs, pixels)) <= 1e4


@cache
def usual_dataset() -> DatasetConfig:
    return compose().dataset


LISTS = st.lists(st.integers(0, 9) | st.sampled_from(["1O", "l5", "1,5", "O.1", "-1O", "1e-I"]), min_size=1)


@given(values=LISTS, section=st.sampled_from(["model", "optimizer", "scheduler", "loss", "callbacks"]))
def test_texts_that_look_like_numbers(values: list[int | str], section: str) -> None:
    """In a list, under a name that nobody knows."""
    has_text = any(isinstance(value, str) for value in values)
    tree = usual() | {section: {**usual()[section], "unknown": values}}
    with pytest.raises(UserError, match="is a text; expected a number") if has_text else nullcontext():
        from_dict(Config, tree)


def test_arguments_of_ones_own_classes_mean_what_they_mean_there() -> None:
    config = compose(["model._target_=own.Net", "+model.residual=true", "+model.dropout=[heavy]"])
    assert config.model["residual"] is True
