"""The deletions.toml that `deletions init` writes."""

TEMPLATE = """\
# What may be deleted, where, and how fast.
#
# A secret is { env = "NAME" } or { file = "path" }, never the secret itself;
# a relative path is beside this file. Durations are 30s 5m 6h 90d 2w.

[store]
# A settled job older than this loses its items; the counts stay. Or "forever".
retain_for = "30d"

# A target to try things on: in another terminal, `deletions practice bas_ip`.
# Where the workers run: export DELETIONS_PRACTICE_PASSWORD=practice
[targets.practice]
adapter = "bas_ip"
base_url = "http://127.0.0.1:8411/api/v1"
username = "admin"
password = { env = "DELETIONS_PRACTICE_PASSWORD" }
# Every target takes these; what is left out is the adapter's:
# max_items_per_call = 100     # items in one call
# requests_per_second = 5.0    # over all workers together
# max_in_flight = 4            # calls at once, over all workers together
# timeout = "30s"              # one call, its connection included
# max_attempts = 5             # attempts that failed, until the outcome is final
# max_items = 10000            # a larger job waits for `deletions approve`
# protect = ["admin-*"]        # keys that are never sent; `deletions protect` adds single ones
# max_failures = 0.5           # a larger share of failures stops a job,
# failures_after = 1000        # once so many of its items are decided
# allow_query = true           # jobs may say what to find instead of giving items
# plan_valid_for = "24h"       # how long what a query found may be deleted unseen
# retain_for = "7d"            # instead of [store] retain_for
# ca_file = "company-ca.pem"   # whom to trust, for targets over HTTP
# proxy = "http://proxy:3128"

# [targets.crm]
# adapter = "nimble"
# base_url = "https://app.nimble.com"
# token = { env = "NIMBLE_TOKEN" }

# [targets.monitor-17]
# adapter = "bas_ip"
# base_url = "http://10.0.0.17/api/v1"
# username = "api"
# password = { file = "monitor-17.password" }
# # or: token = { env = "MONITOR_17_TOKEN" }

# [targets.catalog]
# adapter = "sas_catalog"
# base_url = "https://viya.example.com"
# token = { env = "SAS_TOKEN" }
# # or: oauth = { client_id = { env = "SAS_ID" }, client_secret = { env = "SAS_SECRET" } }

# [targets.items]
# adapter = "amalto"
# base_url = "https://mdm.example.com"
# token = { env = "AMALTO_TOKEN" }
# service_id = "service"
# items_name = "ids"

# [targets.records]
# adapter = "gptbots"
# base_url = "https://api.gptbots.ai"
# token = { env = "GPTBOTS_TOKEN" }
# table_id = "table"

# [targets.events]
# adapter = "sql_table"
# url = { env = "EVENTS_URL" }
# table = "events"
# key = "id"                   # or a list of columns
# query_columns = ["created_at"]

# A standing order; a new or changed one first runs dry and waits for approval.
# [purges.old-events]
# target = "events"
# query = { older_than = { column = "created_at", age = "90d" } }
# cron = "15 3 * * *"          # or every = "6h"
# timezone = "Europe/Berlin"   # default UTC
# catch_up = "last"            # runs that were missed: the last one, or "none"
# overlap = "skip"             # while the last run is not over: skip, or "queue"
# max_items = 10000
# alert_after = "2d"
# enabled = true
# trusted = false

# A Celery task that is sent when a job that named it settles.
# [notify.crm]
# task = "crm.deletion_done"
# queue = "crm"
"""
