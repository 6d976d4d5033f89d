# There are as many evaluations as models, and each is short: a scheduler may be given several as
# one job (`group-components` in its profile). There they take turns, or a job of eight would ask
# for eight GPUs; where nothing is grouped and `turn` has no limit, neither means anything.
rule evaluate:
    input:
        model="<results>/{model}/model.safetensors",
        record="<results>/{model}/model.json",
        packs=files.packs(CONFIG, CONFIG.evaluation.pairs),
    output:
        scores="<results>/{model}/scores.h5",
        metrics="<results>/{model}/metrics.json",
    log:
        "<results>/logs/evaluate/{model}.log",
    benchmark:
        "<results>/benchmarks/evaluate/{model}.tsv"
    group:
        "evaluation"
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
        turn=1,
        mem_mb=growing(8_000),
        runtime=longer(15),
    params:
        settings=settings_of("evaluation_settings"),
    shell:
        "mstkd --log {log:q} evaluate --settings {params.settings:q}"
        " --model {input.model:q} --packs {input.packs:q}"
        " --threads {threads} --scores {output.scores:q} --metrics {output.metrics:q}"
