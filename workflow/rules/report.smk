# Every rule here takes seconds: Snakemake runs them beside itself, not as jobs of a cluster's.
rule render_table:
    input:
        metrics=of_config(files.of_every_seed, "table", name="metrics.json"),
        # Beside the metrics: named in the command too, they would make it twice as long.
        scores=of_config(files.of_every_seed, "table", name="scores.h5"),
    output:
        tables=[
            report(
                "<results>/tables/{{table}}.{}".format(format),
                caption="../report/table.rst",
                category="Tables",
                subcategory=table_subcategory,
                labels=table_labels(format),
            )
            for format in FORMATS
        ],
    log:
        "<results>/logs/render_table/{table}.log",
    benchmark:
        "<results>/benchmarks/render_table/{table}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("table_settings", "table"),
        metrics=of_config(files.with_seed_open, "table", name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-table --settings {params.settings:q}"
        " --metrics {params.metrics:q} --seeds {params.seeds} --outputs {output.tables:q}"


rule render_error_rates:
    input:
        metrics=of_config(files.of_every_seed, "table", name="metrics.json"),
        # Beside the metrics, as for the tables.
        scores=of_config(files.of_every_seed, "table", name="scores.h5"),
    output:
        tables=[
            report(
                "<results>/error-rates/{{table}}.{}".format(format),
                caption="../report/error-rates.rst",
                category="Error rates",
                subcategory=table_subcategory,
                labels=error_rate_labels(format),
            )
            for format in FORMATS
        ],
    log:
        "<results>/logs/render_error_rates/{table}.log",
    benchmark:
        "<results>/benchmarks/render_error_rates/{table}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("error_rate_settings", "table"),
        metrics=of_config(files.with_seed_open, "table", name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-error-rates --settings {params.settings:q}"
        " --metrics {params.metrics:q} --seeds {params.seeds} --outputs {output.tables:q}"


rule render_accuracies:
    input:
        metrics=of_config(files.of_every_seed, "table", name="metrics.json"),
    output:
        figure=report(
            "<results>/figures/{table}.png",
            caption="../report/accuracies.rst",
            category="Figures",
            subcategory=table_subcategory,
            labels=figure_labels,
        ),
        others=expand(
            "<results>/figures/{{table}}.{format}", format=["svg", "pdf", "csv"]
        ),
    log:
        "<results>/logs/render_accuracies/{table}.log",
    benchmark:
        "<results>/benchmarks/render_accuracies/{table}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("table_settings", "table", intervals=False),
        metrics=of_config(files.with_seed_open, "table", name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-accuracies --settings {params.settings:q}"
        " --metrics {params.metrics:q} --seeds {params.seeds}"
        " --outputs {output.figure:q} {output.others:q}"


rule render_distributions:
    input:
        metrics=of_config(files.of_every_seed, "table", name="metrics.json"),
        # Beside the metrics, as for the tables.
        scores=of_config(files.of_every_seed, "table", name="scores.h5"),
    output:
        # A page, as of training: it may be higher than a window.
        figure=report(
            "<results>/figures/scores-{table}.html",
            caption="../report/distributions.rst",
            category="Figures",
            subcategory="Scores of pairs",
            labels=figure_labels,
        ),
        others=expand("<results>/figures/scores-{{table}}.{format}", format=PICTURES),
    log:
        "<results>/logs/render_distributions/{table}.log",
    benchmark:
        "<results>/benchmarks/render_distributions/{table}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("distribution_settings", "table"),
        metrics=of_config(files.with_seed_open, "table", name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-distributions --settings {params.settings:q}"
        " --metrics {params.metrics:q} --seeds {params.seeds}"
        " --outputs {output.figure:q} {output.others:q}"


rule render_impostors:
    input:
        impostors="<results>/figures/impostors-{table}.csv",
    output:
        figure=report(
            "<results>/figures/impostors-{table}.html",
            caption="../report/impostors.rst",
            category="Figures",
            subcategory="False matches across groups",
            labels=figure_labels,
        ),
        others=expand(
            "<results>/figures/impostors-{{table}}.{format}",
            format=["png", "svg", "pdf"],
        ),
    log:
        "<results>/logs/render_impostors/{table}.log",
    benchmark:
        "<results>/benchmarks/render_impostors/{table}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("map_settings", "table"),
    shell:
        "mstkd --log {log:q} render-impostors --settings {params.settings:q}"
        " --impostors {input.impostors:q} --outputs {output.figure:q} {output.others:q}"


rule render_curves:
    input:
        models=files.trained_of_every_seed(CONFIG, name="model.json"),
        histories=files.trained_of_every_seed(CONFIG, name="history.csv"),
    output:
        # In Snakemake's report the head of an image higher than the window is out of reach.
        figures=[
            "<results>/figures/training.png",
            *expand(
                "<results>/figures/training.{format}", format=["svg", "pdf", "csv"]
            ),
            report(
                "<results>/figures/training.html",
                caption="../report/training.rst",
                category="Figures",
                subcategory="Training",
                labels={"figure": "loss and accuracy"},
            ),
        ],
    log:
        "<results>/logs/render_curves.log",
    benchmark:
        "<results>/benchmarks/render_curves.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        models=of_config(files.trained_with_seed_open, name="model.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-curves"
        " --models {params.models:q} --seeds {params.seeds} --outputs {output.figures:q}"


rule render_tracing:
    input:
        tracing=of_config(files.tracings, "backbone"),
    output:
        numbers=report(
            "<results>/figures/tracing-{backbone}.csv",
            caption="../report/tracing.rst",
            category="Figures",
            subcategory="Teachers' shares",
            labels={"figure": "all shares (csv), {backbone} teachers"},
        ),
        figures=[
            report(
                "<results>/figures/tracing-{{backbone}}-{}.png".format(measure),
                caption="../report/tracing.rst",
                category="Figures",
                subcategory="Teachers' shares",
                labels={"figure": "of the {}, {{backbone}} teachers".format(measure)},
            )
            for measure in ("embedding", "separation")
        ],
        vectors=expand(
            "<results>/figures/tracing-{{backbone}}-{measure}.{format}",
            measure=["embedding", "separation"],
            format=["svg", "pdf"],
        ),
    log:
        "<results>/logs/render_tracing/{backbone}.log",
    benchmark:
        "<results>/benchmarks/render_tracing/{backbone}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-tracing --tracing {input.tracing:q}"
        " --outputs {output.numbers:q} {output.figures:q} {output.vectors:q}"


rule render_stages:
    input:
        metrics=of_config(files.stages, "backbone", name="metrics.json"),
        # Beside the metrics, as for the claims.
        scores=of_config(files.stages, "backbone", name="scores.h5"),
    output:
        numbers="<results>/figures/stages-{backbone}.csv",
        # A page, as of training: it may be higher than a window.
        figure=report(
            "<results>/figures/stages-{backbone}.html",
            caption="../report/stages.rst",
            category="Figures",
            subcategory="From teachers to students",
            labels={"figure": "accuracy from stage to stage, {backbone} teachers"},
        ),
        others=expand(
            "<results>/figures/stages-{{backbone}}.{format}",
            format=["png", "svg", "pdf"],
        ),
    log:
        "<results>/logs/render_stages/{backbone}.log",
    benchmark:
        "<results>/benchmarks/render_stages/{backbone}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        metrics=of_config(
            files.stages_with_seed_open, "backbone", name="metrics.json", of=PLACED
        ),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-stages --metrics {params.metrics:q}"
        " --seeds {params.seeds} --outputs {output.numbers:q} {output.figure:q}"
        " {output.others:q}"


rule render_det:
    input:
        metrics=files.of_every_seed(CONFIG, name="metrics.json"),
        # Beside the metrics, as for the claims.
        scores=files.of_every_seed(CONFIG, name="scores.h5"),
    output:
        figures=[
            report(
                "<results>/figures/{}.html".format(kind),
                caption="../report/det.rst",
                category="Figures",
                subcategory="All models",
                labels={"figure": "{} curves of each group".format(kind.upper())},
            )
            for kind in ("det", "roc")
        ],
        others=expand(
            "<results>/figures/{kind}.{format}", kind=["det", "roc"], format=PICTURES
        ),
    log:
        "<results>/logs/render_det.log",
    benchmark:
        "<results>/benchmarks/render_det.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        metrics=of_config(files.with_seed_open, name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-det --metrics {params.metrics:q}"
        " --seeds {params.seeds} --outputs {output.figures:q} {output.others:q}"


rule render_samples:
    input:
        packs=expand("<inputs>/packs/{{part}}/{group}.h5", group=CONFIG.groups),
    output:
        figure=report(
            "<results>/figures/samples-{part}.png",
            caption="../report/samples.rst",
            category="Data",
            labels={"data": "sample faces, {part}", "format": "png"},
        ),
    log:
        "<results>/logs/render_samples/{part}.log",
    benchmark:
        "<results>/benchmarks/render_samples/{part}.tsv"
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
        reports=[
            report(
                "<results>/data-report.{}".format(format),
                caption="../report/data-report.rst",
                category="Data",
                labels={"data": "checks", "format": format},
            )
            for format in ("html", "md")
        ],
    log:
        "<results>/logs/render_data_report.log",
    benchmark:
        "<results>/benchmarks/render_data_report.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-data-report"
        " --findings {input.findings:q} --outputs {output.reports:q}"


# Beside the weights, under the name by which model hubs look for it.
rule render_model_card:
    input:
        model="<results>/{student}/model.json",
        metrics="<results>/{student}/metrics.json",
        scores="<results>/{student}/scores.h5",
    output:
        card=report(
            "<results>/{student}/README.md",
            caption="../report/model-card.rst",
            category="Model cards",
            labels=student_labels,
        ),
    log:
        "<results>/logs/render_model_card/{student}.log",
    benchmark:
        "<results>/benchmarks/render_model_card/{student}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("model_card_settings"),
    shell:
        "mstkd --log {log:q} render-model-card --settings {params.settings:q}"
        " --model {input.model:q} --metrics {input.metrics:q} --output {output.card:q}"


rule compute_claims:
    input:
        metrics=files.of_every_seed(CONFIG, name="metrics.json"),
        # Beside the metrics: named in the command too, they would make it twice as long.
        scores=files.of_every_seed(CONFIG, name="scores.h5"),
    output:
        claims=report(
            "<results>/claims.json",
            caption="../report/claims.rst",
            category="Summary",
            labels={"file": "claims, judged (json)"},
        ),
    log:
        "<results>/logs/compute_claims.log",
    benchmark:
        "<results>/benchmarks/compute_claims.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("claims_settings"),
        metrics=of_config(files.with_seed_open, name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} compute-claims --settings {params.settings:q}"
        " --metrics {params.metrics:q} --seeds {params.seeds} --output {output.claims:q}"


rule render_intervals:
    input:
        claims="<results>/claims.json",
    output:
        figures=[
            report(
                "<results>/figures/intervals-{}.html".format(what),
                caption="../report/intervals.rst",
                category="Figures",
                subcategory="All models",
                labels={"figure": title},
            )
            for what, title in (
                ("groups", "accuracy of each group"),
                ("std", "STD against global accuracy"),
            )
        ],
        others=expand(
            "<results>/figures/intervals-{what}.{format}",
            what=["groups", "std"],
            format=PICTURES,
        ),
    log:
        "<results>/logs/render_intervals.log",
    benchmark:
        "<results>/benchmarks/render_intervals.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-intervals --claims {input.claims:q}"
        " --outputs {output.figures:q} {output.others:q}"


# A curve along each list of numbers in the config.
rule render_grid:
    input:
        metrics=files.of_every_seed(CONFIG, name="metrics.json"),
        # Beside the metrics, as for the claims.
        scores=files.of_every_seed(CONFIG, name="scores.h5"),
    output:
        # A page, as of training: it may be higher than a window.
        figure=report(
            "<results>/figures/grid-{grid}.html",
            caption="../report/grid.rst",
            category="Figures",
            subcategory="All models",
            labels={"figure": "accuracy and STD along {grid}"},
        ),
        others=expand("<results>/figures/grid-{{grid}}.{format}", format=PICTURES),
    log:
        "<results>/logs/render_grid/{grid}.log",
    benchmark:
        "<results>/benchmarks/render_grid/{grid}.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("grid_settings", "grid"),
        metrics=of_config(files.with_seed_open, name="metrics.json", of=PLACED),
        seeds=CONFIG.seeds,
    shell:
        "mstkd --log {log:q} render-grid --settings {params.settings:q}"
        " --metrics {params.metrics:q} --seeds {params.seeds}"
        " --outputs {output.figure:q} {output.others:q}"


rule render_page:
    input:
        tables=[
            *expand("<results>/tables/{table}.html", table=TABLES),
            *expand("<results>/error-rates/{table}.html", table=FIGURES),
        ],
        figures=[
            *expand("<results>/figures/samples-{part}.png", part=["train", TESTED]),
            *expand(
                "<results>/figures/{kind}{table}.png",
                kind=["", "scores-", "impostors-"],
                table=FIGURES,
            ),
            "<results>/figures/intervals-groups.png",
            "<results>/figures/intervals-std.png",
            *expand("<results>/figures/grid-{grid}.png", grid=CONFIG.grids()),
            *expand("<results>/figures/stages-{backbone}.png", backbone=TEACHERS),
            *expand(
                "<results>/figures/tracing-{backbone}-{measure}.png",
                backbone=TEACHERS,
                measure=["embedding", "separation"],
            ),
            "<results>/figures/det.png",
            "<results>/figures/roc.png",
            "<results>/figures/training.png",
        ],
        claims="<results>/claims.json",
        config="<results>/config.yaml",
        cards=expand("<results>/cards/{part}.jsonld", part=files.packed_parts(CONFIG)),
    output:
        page=report(
            "<results>/report.html",
            caption="../report/summary.rst",
            category="Summary",
            labels={"file": "everything on one page"},
        ),
    log:
        "<results>/logs/render_page.log",
    benchmark:
        "<results>/benchmarks/render_page.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=settings_of("page_settings"),
    shell:
        "mstkd --log {log:q} render-page --settings {params.settings:q}"
        " --tables {input.tables:q} --figures {input.figures:q}"
        " --claims {input.claims:q} --config {input.config:q} --cards {input.cards:q}"
        " --output {output.page:q}"


rule render_provenance:
    input:
        page="<results>/report.html",
    output:
        pages=[
            report(
                "<results>/provenance.{}".format(format),
                caption="../report/provenance.rst",
                category="Settings",
                labels={"file": "what made the results ({})".format(format)},
            )
            for format in ("html", "json")
        ],
    log:
        "<results>/logs/render_provenance.log",
    benchmark:
        "<results>/benchmarks/render_provenance.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "mstkd --log {log:q} render-provenance"
        " --result {input.page:q} --outputs {output.pages:q}"


rule write_config:
    output:
        config=report(
            "<results>/config.yaml",
            caption="../report/config.rst",
            category="Settings",
            labels={"file": "config with every default (yaml)"},
        ),
    log:
        "<results>/logs/write_config.log",
    benchmark:
        "<results>/benchmarks/write_config.tsv"
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        settings=of_config(Config.dump),
    shell:
        "mstkd --log {log:q} write-config --settings {params.settings:q}"
        " --output {output.config:q}"
