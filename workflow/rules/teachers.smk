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
