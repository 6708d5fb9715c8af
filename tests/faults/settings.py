"""Values of settings that mean nothing: RecBole's own keys, those of the models, and words of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.faults.case import Case, check, nothing, settings, train

WORDS, NEGATIVE, ZERO, FRACTION = "abc", "-1", "0", "1.5"
#: setting -> values that it does not take; every message names the setting and the value
RECBOLE: dict[str, tuple[str, ...]] = {
    "epochs": (ZERO, NEGATIVE, FRACTION, WORDS, "none", "[1]"),
    "train_batch_size": (ZERO, NEGATIVE, FRACTION, WORDS),
    "eval_batch_size": (ZERO, NEGATIVE, FRACTION, WORDS),
    "learning_rate": (ZERO, NEGATIVE, WORDS, "nan", "inf", "[0.1]", "none"),
    "weight_decay": (NEGATIVE, WORDS, "nan"),
    "learning_rate_decay": (ZERO, NEGATIVE, WORDS),
    "learner": ("foo", "Adamm", "1"),
    "eval_step": (NEGATIVE, FRACTION, WORDS),
    "stopping_step": (NEGATIVE, FRACTION, WORDS),
    "stopping_batches": (NEGATIVE, FRACTION, WORDS),
    "clip_grad_norm": (WORDS, "5", "{max_norm: -1}", "{norm: 2}", "{max_norm: abc}"),
    "seed": (NEGATIVE, FRACTION, WORDS, "99999999999"),
    "split_seed": (NEGATIVE, FRACTION, WORDS),
    "worker": (NEGATIVE, WORDS),
    "loss_decimal_place": (NEGATIVE, FRACTION, WORDS),
    "metric_decimal_place": (NEGATIVE, FRACTION, WORDS),
    "topk": (ZERO, NEGATIVE, "[]", "[10,0]", WORDS, "[abc]", "none"),
    "metrics": ("[]", "none", "5"),
    "valid_metric": ("none", "5", "[Recall@20]"),
    "state": ("LOUD", "5"),
    "use_gpu": (WORDS, "2", "none"),
    "show_progress": (WORDS, "3"),
    "reproducibility": (WORDS,),
    "shuffle": (WORDS, "2"),
    "save_dataset": (WORDS,),
    "save_dataloaders": (WORDS,),
    "enable_amp": (WORDS, "2"),
    "enable_scaler": (WORDS,),
    "require_pow": (WORDS,),
    "log_wandb": (WORDS,),
    "repeatable": (WORDS,),
    "save_last": (WORDS,),
    "per_user": (WORDS,),
    "diagnostics": (WORDS,),
    "filter_inter_by_user_or_item": (WORDS,),
    "checkpoint_dir": ("5", "[a]", "none"),
    "data_path": ("5", "none"),
    "load_col": (WORDS, "[user_id]", "{inter: 5}"),
    "unload_col": (WORDS, "5"),
    "rm_dup_inter": ("middle", "True", "5"),
    "val_interval": (WORDS, "5", "[rating]"),
    "threshold": (WORDS, "5", "{rating: high}"),
    "benchmark_filename": (WORDS, "5", "[train]"),
    "MAX_ITEM_LIST_LENGTH": (ZERO, NEGATIVE, WORDS),
    "transform": (WORDS, "5"),
    "user_inter_num_interval": ("[5", "abc", "5", "[5,3]", "[a,b]", "[1,2,3]", "{5,inf}", "[nan,inf)"),
    "item_inter_num_interval": ("[5", "abc", "[9,1)", "5,inf", "[,]"),
    "train_neg_sample_args": (
        WORDS, "5", "{distribution: foo}", "{sample_num: 0}", "{sample_num: abc}", "{alpha: -1}", "{dynamic: maybe}",
        "{candidate_num: -1}",
    ),
    "eval_args": (
        WORDS, "{split: {RS: [-0.8,0.1,0.1]}}", "{split: {RS: [0,0.5,0.5]}}", "{split: {RS: [a,b,c]}}", "{split: {RS: 0.8}}",
        "{split: {LS: last}}", "{split: {XX: [0.8,0.1,0.1]}}", "{split: abc}", "{split: none}", "{order: XX}", "{order: to}",
        "{group_by: users}", "{mode: uni0}", "{mode: uni}", "{mode: uni-5}", "{mode: popx}", "{mode: fully}", "{mode: 5}",
        "{mode: {vald: full}}", "{mode: {}}", "{mode: {valid: abc}}",
    ),
}  # fmt: skip

#: what only models of this package read: model -> setting -> values
MODELS: dict[str, dict[str, tuple[str, ...]]] = {
    "IBMRec": {
        "embedding_size": (ZERO, NEGATIVE, FRACTION, WORDS),
        "n_layers": (NEGATIVE, FRACTION, WORDS),
        "reg_weight": (NEGATIVE, WORDS, "nan"),
        "knn_k": (ZERO, NEGATIVE, WORDS, "10000"),
        "fib_weight": (NEGATIVE, WORDS),
        "fib_estimator": ("unbiassed", "5"),
        "sigma2": (ZERO, NEGATIVE, "mean"),
        "contrastive_temperature": (ZERO, NEGATIVE, WORDS),
        "contrastive_rate": (NEGATIVE, WORDS),
        "contrastive_negatives": ("known", "5"),
        "contrastive_correction": (WORDS, "2"),
        "contrastive_condition": ("content",),
        "gib_weight": (NEGATIVE, WORDS),
        "gib_sigma2": (ZERO, NEGATIVE, "median"),
        "gate": ("open", "5"),
        "gate_rows": ("closed",),
        "gate_hidden_size": (ZERO, NEGATIVE, FRACTION, WORDS),
        "gate_temperature": (ZERO, NEGATIVE, WORDS),
        "gate_bias": (NEGATIVE, "1", WORDS),
        "gate_start": (ZERO, "1", WORDS),
        "gate_prior": (ZERO, "1", WORDS),
        "neighbors_weight": (NEGATIVE, WORDS),
        "normalize_features": (WORDS, "5", "[rows]"),
        "init_std": (NEGATIVE, WORDS),
        "item_graph": ("thawed",),
        "feature_dtype": ("float8", "5"),
        "knn_search": ("fast",),
        "feature_encoder": ("transformer",),
        "modality_weights": ("{text: -1, image: 1}", "{text: 1}", "5"),
    },
    "MRdIBVBPR": {
        "kl_weight": (NEGATIVE, WORDS),
        "kl_warmup": (NEGATIVE, FRACTION, WORDS),
        "free_bits": (NEGATIVE, WORDS),
        "rate_estimator": ("mine", "5"),
        "unique_weight": (NEGATIVE, WORDS),
        "unique_likelihood": ("mse",),
        "unique_temperature": (ZERO, NEGATIVE),
        "redundancy_weight": (NEGATIVE, WORDS),
        "redundancy_estimator": ("nwj", "5"),
        "noise_input": ("pixels",),
        "decoder_hidden_size": (ZERO, NEGATIVE, WORDS),
    },
    "LightGCN": {"embedding_size": (ZERO, NEGATIVE, WORDS), "n_layers": (NEGATIVE, WORDS), "reg_weight": (NEGATIVE, WORDS)},
}

#: what is typed -> words of the answer
TYPED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an unknown command": (("trian",), ("no command 'trian'", "Did you mean train")),
    "an unknown model": (train(model="IBMRecc"), ("IBMRecc", "Did you mean IBMRec")),
    "an unknown data set": (train(dataset="e"), ("no data set 'e'", "--data_path")),
    "an unknown setting": (train("--learning_rat=1"), ("unknown setting 'learning_rat'", "Did you mean learning_rate")),
    "a word without dashes": (train("epochs=1"), ("epochs=1",)),
    "a setting without a value": (train("--epochs="), ("epochs",)),
    "a setting twice": (("train", "--model=BPR", "--dataset=d", "--data_path=data", "--epochs=1", "--epochs=2"), ("epochs is given twice",)),
    "an unknown metric": (train("--metrics=[Recal]"), ("'Recal'", "Did you mean recall")),
    "a valid_metric that is not computed": (train("--valid_metric=Recall@7"), ("Recall@7", "Computed")),
    "ranking and value metrics": (train("--metrics=[Recall,RMSE]"), ("Ranking metrics and value metrics",)),
    "an unknown inner key": (train("--eval_args={splitt: {RS: [0.8,0.1,0.1]}}"), ("'splitt'", "Did you mean split")),
    "topk above the items": (train("--topk=[500]", "--valid_metric=Recall@500"), ("topk", "500")),
    "labels that are not there": (train("--eval_args={mode: labeled}"), ("LABEL_FIELD", "threshold")),
    "a config file that is not there": (train("--config_files", "x.yaml"), ("there is no config file x.yaml",)),
    "an unknown bottleneck": (train("--bottleneck=fibb", model="VLATTICE"), ("fibb", "fib")),
    "a bottleneck on RecBole's model": (train("--bottleneck=fib"), ("BPR is RecBole's own model",)),
    "an unknown modality": (train("--use_modalities=[txt]", model="VBPR"), ("txt",)),
    "no modality": (train("--modalities={}", model="VBPR"), ("modalit",)),
    "unknown defaults": (train("--defaults=mine"), ("defaults is 'mine'",)),
    "an unknown protocol": (train("--protocol=mmrecc"), ("protocol is 'mmrecc'", "Did you mean mmrec")),
    "a checkpoint that is not there": (("recommend", "x.pth", "--out=o.csv"), ("there is no checkpoint x.pth",)),
    "k of 0": (("recommend", "x.pth", "--out=o.csv", "--k=0"), ("at least 1",)),
    "a model to resume that is not there": (train("--resume_checkpoint=x.pth", model="VBPR"), ("x.pth",)),
    "sampling that is none": (train("--sampling=gpu"), ("sampling",)),
    "mmrec without a checkout": (train(model="mmrec:BM3"), ("mmrec_path",)),
    "a checkout that is not there": (train("--mmrec_path=nowhere", model="mmrec:BM3"), ("nowhere",)),
    "convert from nothing": (("convert", "mmrec", "nowhere", "out"), ("nowhere",)),
    "compare without seeds": (("compare", "--models", "BPR", "--dataset=d", "--seeds", "0"), ("seeds",)),
    "an unknown search": (("tune", "--model=BPR", "--dataset=d", "--data_path=data", "--search=tpe"), ("tpe", "optuna")),
    "a space that is not there": (("tune", "--model=BPR", "--dataset=d", "--data_path=data", "--space=s.yaml"), ("s.yaml",)),
    "noise of no kind": (("robustness", "--noise=salt",), ("salt",)),
}  # fmt: skip


def yaml_file(text: str, name: str = "data/d/d.yaml") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def dump(**more: object) -> str:
    import yaml

    return yaml.safe_dump(settings(**more))


#: yaml of the data set -> words of the answer
YAML: dict[str, tuple[str, tuple[str, ...]]] = {
    "no yaml": ("load_col: [", ("d.yaml is not valid yaml",)),
    "a list": ("- 1\n- 2\n", ("must map keys to values",)),
    "a text": ("hello", ("must map keys to values",)),
    "tabs": ("load_col:\n\tinter: [user_id]\n", ("d.yaml is not valid yaml",)),
    "a key twice": (dump() + "load_col: {inter: [user_id]}\n", ("'load_col' is there twice",)),
    "an inner key twice": ("eval_args: {order: RO, order: TO}\n" + dump(), ("'order' is there twice",)),
    "an object": ("load_col: !!python/object/apply:os.getcwd []\n", ("d.yaml is not valid yaml",)),
    "an unknown key": (dump(lod_col=1), ("unknown setting 'lod_col'", "Did you mean load_col")),
    "a wrong interval": (dump(val_interval={"rating": "[4"}), ("val_interval of 'rating'", "'[4'")),
    "modalities as a list": (dump(modalities=["text"]), ("modalit",)),
    "a modality without a file": (dump(modalities={"text": {}}), ("text", "file")),
    "a modality of an unknown key": (
        dump(modalities={"text": {"file": "text.npy", "token": "text.tokens"}}),
        ("'token'", "tokens"),
    ),
}


def cases() -> list[Case]:
    """All of them."""
    found = []
    for key, values in RECBOLE.items():
        found += [Case("RecBole's settings", f"{key}={v}", (key,), nothing, train(f"--{key}={v}")) for v in values]
        found.append(
            Case(
                "RecBole's settings of our models",
                f"{key}={values[0]}",
                (key,),
                nothing,
                train(f"--{key}={values[0]}", model="VBPR"),
            )
        )
    for model, keys in MODELS.items():
        for key, values in keys.items():
            found += [
                Case(f"settings of {model}", f"{key}={v}", (key,), nothing, train(f"--{key}={v}", model=model)) for v in values
            ]
    found += [Case("words", name, words, nothing, command) for name, (command, words) in TYPED.items()]
    found += [
        Case("the data set's yaml", name, words, yaml_file(text), train(model="VBPR")) for name, (text, words) in YAML.items()
    ]
    found += [Case("the data set's yaml, check", name, words, yaml_file(text), check()) for name, (text, words) in YAML.items()]
    return found
