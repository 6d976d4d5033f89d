rule train_adaptor:
    input:
        cache="<results>/embeddings/{backbone}/{set}/seed{seed}.h5",
    output:
        model="<results>/adaptors/{backbone}/{set}/{adaptor}/seed{seed}/model.safetensors",
        record="<results>/adaptors/{backbone}/{set}/{adaptor}/seed{seed}/model.json",
        history="<results>/adaptors/{backbone}/{set}/{adaptor}/seed{seed}/history.csv",
    log:
        "<results>/logs/train_adaptor/{backbone}-{set}-{adaptor}-seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_adaptor/{backbone}-{set}-{adaptor}-seed{seed}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
        mem_mb=growing(24_000),
        runtime=longer(4 * HOUR),
    params:
        settings=settings_of("adaptor_settings", "set", "adaptor"),
        ranks=ranks,
    shell:
        "mstkd --log {log:q} train-adaptor --settings {params.settings:q}"
        " --cache {input.cache:q} --backbone {wildcards.backbone} --set {wildcards.set}"
        " --name {wildcards.adaptor} --seed {wildcards.seed}"
        " --ranks {params.ranks} --threads {threads} --output {output.model:q}"
