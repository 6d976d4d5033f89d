# Every rule here takes seconds: Snakemake runs them beside itself, not as jobs of a cluster's.
rule render_table:
    input:
        metrics=table_metrics,
    output:
        tables=expand("<results>/tables/{{table}}.{format}", format=FORMATS),
    log:
        "<results>/logs/render_table/{table}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=table_settings,
    shell:
        "mstkd --log {log:q} render-table --settings {params.settings:q}"
        " --metrics {input.metrics:q} --outputs {output.tables:q}"


rule render_accuracies:
    input:
        metrics=table_metrics,
    output:
        figure="<results>/figures/{table}.png",
    log:
        "<results>/logs/render_accuracies/{table}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=table_settings,
    shell:
        "mstkd --log {log:q} render-accuracies --settings {params.settings:q}"
        " --metrics {input.metrics:q} --output {output.figure:q}"


rule render_curves:
    input:
        models=every_model("model.json"),
        histories=every_model("history.csv"),
    output:
        figure="<results>/figures/training.png",
    log:
        "<results>/logs/render_curves.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-curves"
        " --models {input.models:q} --output {output.figure:q}"


rule render_samples:
    input:
        packs=expand("<inputs>/packs/{{part}}/{group}.h5", group=CONFIG.groups),
    output:
        figure="<results>/figures/samples-{part}.png",
    log:
        "<results>/logs/render_samples/{part}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-samples"
        " --packs {input.packs:q} --output {output.figure:q}"


rule render_data_report:
    input:
        findings="<results>/data-findings.json",
    output:
        reports=expand("<results>/data-report.{format}", format=["html", "md"]),
    log:
        "<results>/logs/render_data_report.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-data-report"
        " --findings {input.findings:q} --outputs {output.reports:q}"


rule compute_claims:
    input:
        metrics=every_model("metrics.json"),
    output:
        claims="<results>/claims.json",
    log:
        "<results>/logs/compute_claims.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} compute-claims"
        " --metrics {input.metrics:q} --output {output.claims:q}"


rule render_page:
    input:
        tables=expand("<results>/tables/{table}.html", table=ALL_TABLES),
        figures=[
            "<results>/figures/samples-train.png",
            "<results>/figures/samples-verification.png",
            *expand("<results>/figures/{table}.png", table=TABLES),
            "<results>/figures/training.png",
        ],
        claims="<results>/claims.json",
    output:
        page="<results>/report.html",
    log:
        "<results>/logs/render_page.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=page_settings,
    shell:
        "mstkd --log {log:q} render-page --settings {params.settings:q}"
        " --tables {input.tables:q} --figures {input.figures:q}"
        " --claims {input.claims:q} --output {output.page:q}"
