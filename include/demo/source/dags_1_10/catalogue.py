"""The pipelines of the demo's old deployment, as data: no Airflow is imported here.

Each row is ``(dag_id, schedule, shape)``; ``pipelines.py`` turns it into a DAG of Airflow 1.10, and
``make_source.py`` reads it to know which history to expect.
"""

from collections import namedtuple
from datetime import timedelta

Pipeline = namedtuple("Pipeline", "dag_id team owner schedule shape tags catchup paused history")

SIX_HOURS = timedelta(hours=6)
ONE_DAY = timedelta(days=1)

#: schedule -> (period, how many runs the old deployment kept of it)
HISTORY = {
    "@daily": (timedelta(days=1), 52),
    "15 4 * * *": (timedelta(days=1), 52),
    "45 1 * * *": (timedelta(days=1), 52),
    ONE_DAY: (timedelta(days=1), 40),
    "@hourly": (timedelta(hours=1), 124),
    "20 * * * *": (timedelta(hours=1), 124),
    "*/30 * * * *": (timedelta(minutes=30), 240),
    SIX_HOURS: (SIX_HOURS, 60),
    "@weekly": (timedelta(days=7), 14),
    "0 6 * * 1": (timedelta(days=7), 14),
    "30 6 * * 1-5": (timedelta(days=7), 50),
    "@monthly": (timedelta(days=31), 8),
    "0 5 1 * *": (timedelta(days=31), 8),
    "@once": (None, 1),
    None: (None, 0),
}

TEAMS = {
    "finance": (
        "ledger-team",
        ["finance", "sox"],
        [
            ("finance_general_ledger", "@daily", "etl"),
            ("finance_nightly_ledger_close", "@daily", "ledger"),
            ("finance_invoices", "@hourly", "etl"),
            ("finance_payments", "@hourly", "etl"),
            ("finance_refunds", "@daily", "etl"),
            ("finance_fx_rates", SIX_HOURS, "etl"),
            ("finance_bank_statements", "30 6 * * 1-5", "etl"),
            ("finance_dunning", "30 6 * * 1-5", "branch"),
            ("finance_month_end", "@monthly", "quality"),
            ("finance_tax_report", "0 5 1 * *", "etl"),
            ("finance_accruals", "@daily", "quality"),
            ("finance_cost_centres", "@weekly", "etl"),
            ("finance_revenue_forecast", "@daily", "model"),
        ],
    ),
    "marketing": (
        "growth",
        ["marketing"],
        [
            ("marketing_campaign_costs", "@daily", "etl"),
            ("marketing_attribution", "@daily", "model"),
            ("marketing_newsletter_audience", "15 4 * * *", "branch"),
            ("marketing_web_sessions", "@hourly", "etl"),
            ("marketing_ad_clicks", "20 * * * *", "etl"),
            ("marketing_search_keywords", "@daily", "etl"),
            ("marketing_ab_tests", "@daily", "quality"),
            ("marketing_churn_score", "@daily", "model"),
            ("marketing_lookalikes", "@weekly", "model"),
            ("marketing_push_notifications", "*/30 * * * *", "short"),
            ("marketing_seo_crawl", "0 6 * * 1", "etl"),
            ("marketing_social_mentions", "@daily", "sensor"),
        ],
    ),
    "sales": (
        "crm",
        ["sales", "crm"],
        [
            ("sales_orders", "@hourly", "etl"),
            ("sales_order_lines", "@hourly", "etl"),
            ("sales_customers", "@daily", "etl"),
            ("sales_leads", "@daily", "branch"),
            ("sales_opportunities", "@daily", "etl"),
            ("sales_quota", "@weekly", "etl"),
            ("sales_territories", "@weekly", "quality"),
            ("sales_price_lists", "45 1 * * *", "etl"),
            ("sales_discount_audit", "@daily", "quality"),
            ("sales_crm_export", SIX_HOURS, "etl"),
            ("sales_commission", "0 5 1 * *", "quality"),
            ("sales_pipeline_snapshot", "@daily", "short"),
            ("sales_returns", "@daily", "etl"),
        ],
    ),
    "supply": (
        "logistics",
        ["supply-chain"],
        [
            ("supply_stock_levels", "@hourly", "quality"),
            ("supply_purchase_orders", "@hourly", "etl"),
            ("supply_shipments", "20 * * * *", "sensor"),
            ("supply_carrier_rates", "@daily", "etl"),
            ("supply_returns_to_vendor", "@daily", "etl"),
            ("supply_demand_forecast", "@daily", "model"),
            ("supply_safety_stock", "@daily", "model"),
            ("supply_supplier_scorecard", "0 6 * * 1", "quality"),
            ("supply_customs_documents", "30 6 * * 1-5", "etl"),
            ("supply_container_tracking", "@hourly", "etl"),
            ("supply_item_master", "45 1 * * *", "etl"),
            ("supply_warehouse_sync", ONE_DAY, "subdag"),
        ],
    ),
    "platform": (
        "data-platform",
        ["platform", "ops"],
        [
            ("platform_table_vacuum", "@daily", "short"),
            ("platform_partition_maintenance", "@daily", "short"),
            ("platform_cost_report", "@daily", "etl"),
            ("platform_access_review", "@weekly", "quality"),
            ("platform_data_catalog", "15 4 * * *", "etl"),
            ("platform_lineage_harvest", SIX_HOURS, "etl"),
            ("platform_heartbeat", "*/30 * * * *", "short"),
            ("platform_backup_check", "@daily", "quality"),
            ("platform_log_rotation", "@daily", "short"),
            ("platform_schema_drift", "@daily", "quality"),
            ("platform_release_train", ONE_DAY, "trigger"),
            ("platform_reindex_search", None, "manual"),
            ("platform_backfill_table", None, "manual"),
            ("platform_replay_events", None, "manual"),
            ("platform_bootstrap_roles", "@once", "short"),
            ("platform_seed_calendar", "@once", "etl"),
        ],
    ),
    "science": (
        "data-science",
        ["ml"],
        [
            ("science_feature_store", "@hourly", "etl"),
            ("science_recommendations", "@daily", "model"),
            ("science_fraud_scoring", "@hourly", "model"),
            ("science_price_elasticity", "@weekly", "model"),
            ("science_image_tags", "@daily", "branch"),
            ("science_text_embeddings", "@daily", "model"),
            ("science_model_drift", "@daily", "quality"),
            ("science_experiment_log", "@daily", "etl"),
            ("science_labelling_queue", "30 6 * * 1-5", "sensor"),
            ("science_retrain_on_demand", None, "manual"),
            ("science_weather_join", SIX_HOURS, "etl"),
            ("science_customer_ltv", "@daily", "model"),
        ],
    ),
    "reporting": (
        "bi",
        ["bi", "dashboards"],
        [
            ("reporting_executive_dashboard", "@daily", "etl"),
            ("reporting_daily_kpis", "@daily", "quality"),
            ("reporting_store_traffic", "@daily", "etl"),
            ("reporting_product_margin", "@daily", "etl"),
            ("reporting_basket_analysis", "@daily", "etl"),
            ("reporting_support_tickets", "@daily", "etl"),
            ("reporting_call_centre", "15 4 * * *", "etl"),
            ("reporting_nps_survey", "@daily", "branch"),
            ("reporting_hr_headcount", "30 6 * * 1-5", "etl"),
            ("reporting_weekly_board_pack", "0 6 * * 1", "etl"),
            ("reporting_gdpr_requests", "@daily", "quality"),
            ("reporting_app_reviews", "@daily", "etl"),
            ("reporting_inventory_turns", "45 1 * * *", "etl"),
            ("reporting_cohort_tables", "@daily", "etl"),
            ("reporting_funnel", "@daily", "etl"),
            ("reporting_returns_reasons", ONE_DAY, "etl"),
            ("reporting_email_opens", "@daily", "etl"),
        ],
    ),
    # What nobody dares to delete: all of these are paused in the end.
    "attic": (
        "nobody",
        ["legacy"],
        [
            ("attic_mainframe_feed", "@daily", "etl"),
            ("attic_fax_archive", "@daily", "short"),
            ("attic_old_dwh_load", "45 1 * * *", "etl"),
            ("attic_loyalty_v1", "@daily", "branch"),
            ("attic_report_mailer", "@daily", "short"),
        ],
    ),
    # Its file is removed after it has run: rows without code.
    "gone": ("crm", ["legacy", "crm"], [("gone_crm_mirror", "@daily", "etl")]),
}

CATCHING_UP = {"finance_general_ledger", "sales_returns", "platform_cost_report", "reporting_funnel"}
SUBDAG = "supply_warehouse_sync.partitions"


def pipelines(team=None):
    """Every pipeline, or those of one team."""
    return [
        Pipeline(
            dag_id=dag_id,
            team=name,
            owner=owner,
            schedule=schedule,
            shape=shape,
            tags=tags + [shape],
            catchup=dag_id in CATCHING_UP,
            paused=name == "attic",
            history=HISTORY[schedule],
        )
        for name, (owner, tags, rows) in TEAMS.items()
        for dag_id, schedule, shape in rows
        if team in (None, name)
    ]
