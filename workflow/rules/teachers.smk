rule train_teacher:
    input:
        packs=of_config(files.teacher_packs, "backbone", "set", "teacher"),
        selection=of_config(files.teacher_selection, "set", "teacher"),
        split=of_config(files.teacher_split, "backbone", "set", "teacher"),
    output:
        model="<results>/teachers/{backbone}/{set}/{teacher}/seed{seed}/model.safetensors",
        record="<results>/teachers/{backbone}/{set}/{teacher}/seed{seed}/model.json",
        history="<results>/teachers/{backbone}/{set}/{teacher}/seed{seed}/history.csv",
    log:
        "<results>/logs/train_teacher/{backbone}-{set}-{teacher}-seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_teacher/{backbone}-{set}-{teacher}-seed{seed}.tsv"
    wildcard_constraints:
        set="specialized|baseline",
    conda:
        "../../envs/mstkd.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=1,
        mem_mb=growing(16_000),
        runtime=longer(12 * HOUR),
    params:
        settings=settings_of("teacher_settings", "backbone"),
        ranks=ranks,
    shell:
        "mstkd --log {log:q} train-teacher --settings {params.settings:q}"
        " --packs {input.packs:q} --selection {input.selection:q} --split {input.split:q}"
        " --backbone {wildcards.backbone} --set {wildcards.set} --name {wildcards.teacher}"
        " --seed {wildcards.seed}"
        " --ranks {params.ranks} --threads {threads} --output {output.model:q}"


# The control's one teacher sees what all the others see together: started first, it does not
# leave the other cores waiting for it at the end.
use rule train_teacher as train_single_teacher with:
    wildcard_constraints:
        set="single",
    priority: 1


if GIVEN_TEACHERS:

    ruleorder: import_given > train_teacher
    ruleorder: import_given > train_single_teacher

    # A teacher that somebody has: the same one beside those of every seed. Its file is none of
    # Snakemake's inputs, or a new time of the same file would make all behind it anew: whether its
    # content is another is told from the record, as of packs. First of all, so that a file that will
    # not do stops a run before it has begun.
    rule import_given:
        output:
            model="<results>/teachers/{backbone}/{set}/{teacher}/seed{seed}/model.safetensors",
            record="<results>/teachers/{backbone}/{set}/{teacher}/seed{seed}/model.json",
        log:
            "<results>/logs/import_given/{backbone}-{set}-{teacher}-seed{seed}.log",
        benchmark:
            "<results>/benchmarks/import_given/{backbone}-{set}-{teacher}-seed{seed}.tsv"
        wildcard_constraints:
            # Of two sets' teachers of one name, the one that is given.
            teacher="|".join(
                f"(?<=/{set_}/){re.escape(name)}" for set_, name in GIVEN_TEACHERS
            ),
        priority: 200
        localrule: True
        conda:
            "../../envs/mstkd.yaml"
        params:
            settings=settings_of("import_given_settings", "set", "teacher"),
            checkpoint=of_config(files.given_checkpoint, "set", "teacher"),
        shell:
            "mstkd --log {log:q} import-given --settings {params.settings:q}"
            " --checkpoint {params.checkpoint:q}"
            " --backbone {wildcards.backbone} --set {wildcards.set} --name {wildcards.teacher}"
            " --seed {wildcards.seed} --output {output.model:q}"
