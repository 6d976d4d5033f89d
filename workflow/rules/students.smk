# The controls are students too: set "single" is taught by its one teacher with no adaptor
# between, set "none" by the labels alone.
rule train_student:
    input:
        packs=of_config(files.student_packs, "set", "loss"),
        selection=of_config(files.student_selection),
        cache=of_config(files.student_cache, "backbone", "set", "loss"),
        mirrored=of_config(files.mirrored_cache, "backbone", "set"),
        adaptor=of_config(files.student_adaptor, "backbone", "set", "adaptor"),
        start=files.student_start(CONFIG),
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
        mem_mb=growing(24_000),
        runtime=longer(12 * HOUR),
    params:
        settings=settings_of("student_settings", "set", "loss", "adaptor"),
        ranks=ranks,
    shell:
        "mstkd --log {log:q} train-student --settings {params.settings:q}"
        " --packs {input.packs:q} --selection {input.selection:q}"
        " --cache {input.cache:q} --mirrored {input.mirrored:q} --start {input.start:q}"
        " --adaptor {input.adaptor:q}"
        " --backbone {wildcards.backbone} --set {wildcards.set} --name {wildcards.adaptor}"
        " --loss {wildcards.loss} --seed {wildcards.seed}"
        " --ranks {params.ranks} --threads {threads} --output {output.model:q}"


if CONFIG.students.together:

    ruleorder: train_students > train_student

    rule train_students:
        input:
            packs=TRAIN_PACKS,
            selection=of_config(files.student_selection),
            cache="<results>/embeddings/{backbone}/{set}/seed{seed}.h5",
            mirrored=of_config(files.mirrored_cache, "backbone", "set"),
            adaptors=of_config(files.together_adaptors, "backbone", "set"),
            start=files.student_start(CONFIG),
        output:
            models=files.together_files(CONFIG, "model.safetensors"),
            records=files.together_files(CONFIG, "model.json"),
            histories=files.together_files(CONFIG, "history.csv"),
        log:
            "<results>/logs/train_students/{backbone}-{set}-seed{seed}.log",
        benchmark:
            "<results>/benchmarks/train_students/{backbone}-{set}-seed{seed}.tsv"
        wildcard_constraints:
            set="|".join(SETS),
        conda:
            "../../envs/mstkd.yaml"
        threads: TRAINING_THREADS
        resources:
            gpu=1,
            mem_mb=growing(32_000),
            runtime=longer(24 * HOUR),
        params:
            settings=settings_of("students_settings"),
            ranks=ranks,
        shell:
            "mstkd --log {log:q} train-students --settings {params.settings:q}"
            " --packs {input.packs:q} --selection {input.selection:q}"
            " --cache {input.cache:q} --mirrored {input.mirrored:q} --start {input.start:q}"
            " --adaptors {input.adaptors:q}"
            " --backbone {wildcards.backbone} --set {wildcards.set} --seed {wildcards.seed}"
            " --ranks {params.ranks} --threads {threads} --outputs {output.models:q}"


if CONFIG.students.from_checkpoint is not None:

    # As a teacher that is given: its file is watched by content.
    rule import_start:
        output:
            model="<results>/given/student/model.safetensors",
            record="<results>/given/student/model.json",
        log:
            "<results>/logs/import_start.log",
        benchmark:
            "<results>/benchmarks/import_start.tsv"
        priority: 200
        localrule: True
        conda:
            "../../envs/mstkd.yaml"
        params:
            settings=settings_of("import_start_settings"),
            checkpoint=str(CONFIG.students.from_checkpoint.path),
        shell:
            "mstkd --log {log:q} import-start --settings {params.settings:q}"
            " --checkpoint {params.checkpoint:q} --output {output.model:q}"
