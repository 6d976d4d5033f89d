# The controls are students too: set "single" is taught by its one teacher with no adaptor
# between, set "none" by the labels alone.
rule train_student:
    input:
        packs=student_packs,
        selection=student_selection,
        cache=student_cache,
        adaptor=student_adaptor,
    output:
        model="<results>/students/{backbone}/{set}/{adaptor}/{loss}/seed{seed}/model.safetensors",
        record="<results>/students/{backbone}/{set}/{adaptor}/{loss}/seed{seed}/model.json",
        history="<results>/students/{backbone}/{set}/{adaptor}/{loss}/seed{seed}/history.csv",
    log:
        "<results>/logs/train_student/{backbone}-{set}-{adaptor}-{loss}-seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_student/{backbone}-{set}-{adaptor}-{loss}-seed{seed}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
    params:
        settings=student_settings,
    shell:
        "mstkd --log {log:q} train-student --settings {params.settings:q}"
        " --packs {input.packs:q} --selection {input.selection:q}"
        " --cache {input.cache:q} --adaptor {input.adaptor:q}"
        " --backbone {wildcards.backbone} --set {wildcards.set} --name {wildcards.adaptor}"
        " --loss {wildcards.loss} --seed {wildcards.seed}"
        " --threads {threads} --output {output.model:q}"
