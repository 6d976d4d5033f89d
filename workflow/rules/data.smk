if SYNTHETIC:

    rule synthesize:
        output:
            index="<inputs>/data/index.csv",
        log:
            "<results>/logs/synthesize.log",
        benchmark:
            "<results>/benchmarks/synthesize.tsv"
        conda:
            "../../envs/mstkd.yaml"
        threads: 1
        resources:
            mem_mb=growing(4_000),
            runtime=longer(2 * HOUR),
        params:
            settings=settings_of("synthesize_settings"),
            folder=subpath(output.index, parent=True),
        shell:
            "mstkd --log {log:q} synthesize --settings {params.settings:q}"
            " --threads {threads} --output {params.folder:q}"


if SYNTHETIC and CONFIG.data.other_draws():

    # Of the sources of training images that have faces of their own, each a set as whole.
    use rule synthesize as synthesize_source with:
        output:
            index="<inputs>/data/sources/{source}/index.csv",
        log:
            "<results>/logs/synthesize_source/{source}.log",
        benchmark:
            "<results>/benchmarks/synthesize_source/{source}.tsv"
        params:
            settings=settings_of("synthesize_settings", "source"),
            folder=subpath(output.index, parent=True),


rule pack_train:
    input:
        index=TRAIN_INDEX,
    output:
        pack="<inputs>/packs/train/{group}.h5",
    log:
        "<results>/logs/pack_train/{group}.log",
    benchmark:
        "<results>/benchmarks/pack_train/{group}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    threads: PACKING_THREADS
    resources:
        mem_mb=growing(4_000),
        runtime=longer(4 * HOUR),
    params:
        settings=settings_of("train_pack_settings", "group"),
    shell:
        "mstkd --log {log:q} pack-train --settings {params.settings:q}"
        " --threads {threads} --output {output.pack:q}"


rule pack_verification:
    input:
        index=DATA_INDEX,
    output:
        pack="<inputs>/packs/verification/{group}.h5",
    log:
        "<results>/logs/pack_verification/{group}.log",
    benchmark:
        "<results>/benchmarks/pack_verification/{group}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    threads: PACKING_THREADS
    resources:
        mem_mb=growing(4_000),
        runtime=longer(4 * HOUR),
    params:
        settings=settings_of("verification_pack_settings", "group"),
    shell:
        "mstkd --log {log:q} pack-verification --settings {params.settings:q}"
        " --threads {threads} --output {output.pack:q}"


if CONFIG.data.heldout is not None:

    rule pack_heldout:
        input:
            index=TRAIN_INDEX,
        output:
            pack="<inputs>/packs/heldout/{group}.h5",
        log:
            "<results>/logs/pack_heldout/{group}.log",
        benchmark:
            "<results>/benchmarks/pack_heldout/{group}.tsv"
        conda:
            "../../envs/mstkd.yaml"
        threads: 1
        resources:
            mem_mb=growing(4_000),
            runtime=longer(4 * HOUR),
        params:
            settings=settings_of("heldout_pack_settings", "group"),
        shell:
            "mstkd --log {log:q} pack-heldout --settings {params.settings:q}"
            " --threads {threads} --output {output.pack:q}"


if CONFIG.data.unlabelled is not None:

    rule pack_unlabelled:
        output:
            pack=files.unlabelled_pack(CONFIG),
        log:
            "<results>/logs/pack_unlabelled.log",
        benchmark:
            "<results>/benchmarks/pack_unlabelled.tsv"
        conda:
            "../../envs/mstkd.yaml"
        threads: PACKING_THREADS
        resources:
            mem_mb=growing(4_000),
            runtime=longer(4 * HOUR),
        params:
            settings=settings_of("unlabelled_pack_settings"),
        shell:
            "mstkd --log {log:q} pack-unlabelled --settings {params.settings:q}"
            " --threads {threads} --output {output.pack:q}"


# Not an input of the training jobs, or what the checks say of one group would train the teachers
# of all others anew; and behind an input marked ancient, Snakemake 9.27 overlooks changed params.
# Instead it comes first, and where it fails, no further job is started.
rule check_data:
    input:
        train=TRAIN_PACKS,
        verification=files.packs(CONFIG, TESTED),
    output:
        findings="<results>/data-findings.json",
    log:
        "<results>/logs/check_data.log",
    benchmark:
        "<results>/benchmarks/check_data.tsv"
    priority: 100
    conda:
        "../../envs/mstkd.yaml"
    resources:
        mem_mb=growing(8_000),
        runtime=longer(HOUR),
    params:
        settings=settings_of("check_settings"),
    shell:
        "mstkd --log {log:q} check-data --settings {params.settings:q}"
        " --train {input.train:q} --verification {input.verification:q}"
        " --output {output.findings:q}"


# A job like another: it reads the packs whole, for the hashes by which a copy is known.
rule describe_data:
    input:
        packs=of_config(files.packs_of_part, "part"),
    output:
        card=report(
            "<results>/cards/{part}.jsonld",
            caption="../report/data-card.rst",
            category="Data",
            labels={"data": "card, {part}", "format": "jsonld"},
        ),
    log:
        "<results>/logs/describe_data/{part}.log",
    benchmark:
        "<results>/benchmarks/describe_data/{part}.tsv"
    conda:
        "../../envs/mstkd.yaml"
    resources:
        mem_mb=growing(4_000),
        runtime=longer(HOUR),
    params:
        settings=settings_of("data_card_settings", "part"),
    shell:
        "mstkd --log {log:q} describe-data --settings {params.settings:q}"
        " --packs {input.packs:q} --output {output.card:q}"


# The splits are read from lists in the packs and take seconds: not worth a job of a cluster's.
# A specialized teacher's split hangs on its own group alone: another group leaves it as it is. Only
# with a share of other groups (`teachers.foreign_share`) all hang together. What is drawn may be drawn
# anew for each seed (`splits.by_seed`), and lies in a folder of it then.
rule split_specialized:
    input:
        packs=of_config(files.split_packs, "split", "group"),
    output:
        splits="<results>/splits/{split}/T-{group}.csv",
    log:
        "<results>/logs/split_specialized/{split}-{group}.log",
    benchmark:
        "<results>/benchmarks/split_specialized/{split}-{group}.tsv"
    localrule: True
    conda:
        "../../envs/mstkd.yaml"
    params:
        settings=settings_of("split_settings", "split", "group"),
    shell:
        "mstkd --log {log:q} split --settings {params.settings:q}"
        " --packs {input.packs:q} --outputs {output.splits:q}"


rule split_baseline:
    input:
        packs=TRAIN_PACKS,
    output:
        splits=expand(
            "<results>/splits/baseline/{teacher}.csv",
            teacher=[t.name for t in models.teachers_of("baseline", CONFIG.groups)],
        ),
    log:
        "<results>/logs/split_baseline.log",
    benchmark:
        "<results>/benchmarks/split_baseline.tsv"
    localrule: True
    conda:
        "../../envs/mstkd.yaml"
    params:
        settings=settings_of("split_settings", split="baseline"),
    shell:
        "mstkd --log {log:q} split --settings {params.settings:q}"
        " --packs {input.packs:q} --outputs {output.splits:q}"


if CONFIG.splits.by_seed:

    use rule split_baseline as split_baseline_by_seed with:
        output:
            splits=expand(
                "<results>/splits/{split}/{teacher}.csv",
                teacher=[
                    t.name for t in models.teachers_of("baseline", CONFIG.groups)
                ],
                allow_missing=True,
            ),
        log:
            "<results>/logs/split_baseline_by_seed/{split}.log",
        benchmark:
            "<results>/benchmarks/split_baseline_by_seed/{split}.tsv"
        wildcard_constraints:
            split=splits_of("baseline"),
        params:
            settings=settings_of("split_settings", "split"),


rule split_single:
    input:
        packs=TRAIN_PACKS,
    output:
        splits="<results>/splits/single/T-all.csv",
    log:
        "<results>/logs/split_single.log",
    benchmark:
        "<results>/benchmarks/split_single.tsv"
    localrule: True
    conda:
        "../../envs/mstkd.yaml"
    params:
        settings=settings_of("split_settings", split="single"),
    shell:
        "mstkd --log {log:q} split --settings {params.settings:q}"
        " --packs {input.packs:q} --outputs {output.splits:q}"
