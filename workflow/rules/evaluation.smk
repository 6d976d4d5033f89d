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


# The models of a table at once: what takes time is torch's start, and each embeds every image.
rule score_impostors:
    input:
        models=of_config(files.mapped_models, "table", name=files.WEIGHTS),
        record=of_config(files.mapped_models, "table", name="model.json"),
        packs=files.packs(CONFIG, CONFIG.evaluation.pairs),
    output:
        impostors="<results>/figures/impostors-{table}.csv",
    log:
        "<results>/logs/score_impostors/{table}.log",
    benchmark:
        "<results>/benchmarks/score_impostors/{table}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
        mem_mb=growing(16_000),
        runtime=longer(2 * HOUR),
    params:
        settings=settings_of("impostor_settings"),
    shell:
        "mstkd --log {log:q} score-impostors --settings {params.settings:q}"
        " --models {input.models:q} --packs {input.packs:q}"
        " --threads {threads} --output {output.impostors:q}"


# All adaptors of a set at once: what takes time is the teachers' embeddings, which they share.
rule trace_adaptors:
    input:
        teachers=of_config(files.set_teachers, "backbone", "set"),
        adaptors=of_config(files.set_adaptors, "backbone", "set"),
        packs=files.packs(CONFIG, CONFIG.evaluation.pairs),
        cache="<results>/embeddings/{backbone}/{set}/seed{seed}.h5",
    output:
        tracing="<results>/tracing/{backbone}/{set}/seed{seed}.json",
        metrics=files.fused_files(CONFIG, "metrics.json"),
        scores=files.fused_files(CONFIG, "scores.h5"),
    log:
        "<results>/logs/trace_adaptors/{backbone}-{set}-seed{seed}.log",
    benchmark:
        "<results>/benchmarks/trace_adaptors/{backbone}-{set}-seed{seed}.tsv"
    wildcard_constraints:
        set="|".join(SETS),
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
        mem_mb=growing(16_000),
        runtime=longer(HOUR),
    params:
        settings=settings_of("evaluation_settings"),
    shell:
        "mstkd --log {log:q} trace-adaptors --settings {params.settings:q}"
        " --teachers {input.teachers:q} --adaptors {input.adaptors:q}"
        " --packs {input.packs:q} --cache {input.cache:q}"
        " --threads {threads} --outputs {output.metrics:q} --output {output.tracing:q}"
