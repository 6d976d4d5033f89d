rule cache_embeddings:
    input:
        teachers=of_config(files.set_teachers, "backbone", "set"),
        packs=TRAIN_PACKS,
    output:
        cache="<results>/embeddings/{backbone}/{set}/seed{seed}.h5",
    log:
        "<results>/logs/cache_embeddings/{backbone}-{set}-seed{seed}.log",
    benchmark:
        "<results>/benchmarks/cache_embeddings/{backbone}-{set}-seed{seed}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
        mem_mb=growing(16_000),
        runtime=longer(4 * HOUR),
    params:
        settings=settings_of("cache_settings"),
    shell:
        "mstkd --log {log:q} cache-embeddings --settings {params.settings:q}"
        " --teachers {input.teachers:q} --packs {input.packs:q}"
        " --threads {threads} --output {output.cache:q}"


if CONFIG.students.target_view == "seen":

    use rule cache_embeddings as cache_mirrored with:
        output:
            cache="<results>/embeddings/{backbone}/{set}/mirrored/seed{seed}.h5",
        log:
            "<results>/logs/cache_mirrored/{backbone}-{set}-seed{seed}.log",
        benchmark:
            "<results>/benchmarks/cache_mirrored/{backbone}-{set}-seed{seed}.tsv"
        params:
            settings=settings_of("cache_settings", mirrored=True),


if CONFIG.data.unlabelled is not None:

    use rule cache_embeddings as cache_unlabelled with:
        input:
            teachers=of_config(files.set_teachers, "backbone", "set"),
            packs=files.unlabelled_pack(CONFIG),
        output:
            cache="<results>/embeddings/{backbone}/{set}/unlabelled/seed{seed}.h5",
        log:
            "<results>/logs/cache_unlabelled/{backbone}-{set}-seed{seed}.log",
        benchmark:
            "<results>/benchmarks/cache_unlabelled/{backbone}-{set}-seed{seed}.tsv"
