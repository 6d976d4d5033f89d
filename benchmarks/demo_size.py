"""Which settings train properly at the demo's size, and what students do where they do not.

Runs the real pipeline in a folder of its own with the paper's scale and margin, with the paper's
milestones and with the demo's settings, and looks at the fused spaces. About 15 minutes on two
cores:

    .venv/bin/python benchmarks/demo_size.py
"""

import argparse
import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from _machine import describe

from mstkd.artifacts.records import Metrics, read_record
from mstkd.embeddings.cache import open_cache
from mstkd.models.weights import load_adaptor

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks/results/demo_size.json"
PAPER_HEAD = {"scale": 64, "margin": 0.5}
PAPER_MILESTONES = {
    "teachers": {"milestones": [16, 28, 40, 50], "schedule_epochs": 52},
    "adaptors": {"milestones": [8, 14, 20, 25], "schedule_epochs": 26},
    "students": {"milestones": [8, 14, 20, 25], "schedule_epochs": 26},
}
LAMBDAS = {"EAF-KD-1e3": 1e3, "EAF-KD-1e5": 1e5}


def experiments():
    """Name to config: the demo with SL alone and no controls, and one thing or two changed."""
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    demo["adaptors"]["architectures"] = {"SL": {}}
    demo["controls"] = False
    head = copy.deepcopy(demo)
    for stage in PAPER_MILESTONES:
        head[stage]["head"] |= PAPER_HEAD
    longer = copy.deepcopy(head)
    longer["students"]["optimiser"]["epochs"] *= 3
    for name, weight in LAMBDAS.items():
        head["students"]["losses"][name] = {"classification": True, "kd_weight": weight}
    milestones = copy.deepcopy(demo)
    for stage, settings in PAPER_MILESTONES.items():
        milestones[stage]["optimiser"] |= settings
    return {
        "paper's head": head,
        "paper's head, students three times as long": longer,
        "paper's milestones": milestones,
        "demo": demo,
    }


def collapsed_loss(head, classes):
    """The loss of a network that puts every image and every centre into one point."""
    return math.log1p((classes - 1) * math.exp(head["scale"] * (1 - math.cos(head["margin"]))))


def geometry(results, set_):
    """How spread out the targets of the students are."""
    cache = open_cache(results / f"embeddings/small/{set_}/seed0.h5")
    path = results / f"adaptors/small/{set_}/SL/seed0/model.safetensors"
    adaptor, _ = load_adaptor(path, len(cache.teachers))
    with torch.no_grad():
        fused = adaptor(torch.from_numpy(cache.embeddings).float())
        targets = torch.nn.functional.normalize(fused).double().numpy()
    per_group = len(targets) // len(cache.packs)  # the generator's groups are of one size
    group = np.arange(len(targets)) // per_group
    centres = np.stack([targets[group == g].mean(0) for g in range(len(cache.packs))])
    variance = np.linalg.svd(targets - targets.mean(0), compute_uv=False) ** 2
    share = variance / variance.sum()
    share = share[share > 0]
    return {
        "cosine_to_own_group_mean": float(
            np.mean((targets * centres[group]).sum(1) / np.linalg.norm(centres[group], axis=1))
        ),
        "effective_dimensions": float(np.exp(-(share * np.log(share)).sum())),
    }


def last_losses(results, pattern):
    """Training loss of the last epoch of each model that matches."""
    return [
        float(path.read_text().splitlines()[-1].split(",")[2])
        for path in sorted(results.glob(f"{pattern}/seed0/history.csv"))
    ]


def run(config, folder):
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", folder, "--configfile", folder / "config.yaml"]
    command += ["--cores", "all", "--rerun-incomplete", "--quiet", "all"]
    subprocess.run(command, check=True)
    results = folder / "results"
    classes = config["data"]["synthetic"]["identities"]
    accuracies = {}
    for path in sorted(results.glob("*/small/**/seed0/metrics.json")):
        record = read_record(Metrics, path)
        who, score = record.subject, record.own_threshold
        if who.kind == "student" and who.loss not in (*config["students"]["losses"], "none"):
            continue
        name = " ".join(filter(None, (who.kind, who.set, who.name, who.loss)))
        if who.kind == "adaptor":
            name = f"fused {who.set} teachers"
        accuracies[name] = {"accuracy": score.global_accuracy, "std": score.std}
    return {
        "collapsed_loss_of_a_teacher": collapsed_loss(config["teachers"]["head"], classes),
        "last_loss_of_teachers": last_losses(results, "teachers/small/[sb]*/*T-[A-D1-4]"),
        "collapsed_loss_of_an_adaptor": collapsed_loss(
            config["adaptors"]["head"], classes * len(config["groups"])
        ),
        "last_loss_of_adaptors": last_losses(results, "adaptors/small/*/SL"),
        "fused_space": {set_: geometry(results, set_) for set_ in ("specialized", "baseline")},
        "accuracy": accuracies,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/demo-size"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, config in experiments().items():
        found[name] = run(config, folder)
        print(json.dumps({name: found[name]}, indent=2), flush=True)
    result = {"machine": describe("torch", "numpy", "snakemake"), "experiments": found}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
