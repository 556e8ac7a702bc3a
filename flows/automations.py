"""Prefect tells Alertmanager of flows that fail: one way to a person, which groups, repeats and silences alike.

A failed flow is an event that ends with itself, so the alert lasts an hour from the failure and nobody is told that it
is over (`infra/prometheus/alertmanager.yml`); a flow that goes on failing is one alert.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation, CallWebhook, EventTrigger
from prefect.blocks.webhook import Webhook

NAME = "flow-failed"
# A Jinja template of JSON: what comes from outside is quoted by `tojson`.
ALERT = """[{
  "labels": {"alertname": "FlowFailed", "severity": "ticket", "flow": {{ flow.name | tojson }}},
  "annotations": {
    "summary": {{ (flow.name ~ " ended as " ~ flow_run.state.name ~ ": " ~ flow_run.state.message) | tojson }},
    "runbook": "docs/runbooks/FlowFailed.md"
  },
  "generatorURL": {{ flow_run | ui_url | tojson }}
}]"""


def tell_of_failed_flows(alertmanager: str) -> None:
    """Have the Prefect server in use post every failed or crashed flow run to Alertmanager's address; repeatable."""
    headers = {"content-type": "application/json"}
    block = Webhook(url=f"{alertmanager}/api/v2/alerts", headers=headers).save(NAME, overwrite=True)
    failed = EventTrigger(
        expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        within=timedelta(0),
    )
    action = CallWebhook(block_document_id=block, payload=ALERT)
    automation = Automation(name=NAME, trigger=failed, actions=[action])
    try:
        known = Automation.read(name=NAME)
    except ValueError:  # Prefect's word for one that does not exist
        automation.create()
    else:
        automation.id = known.id
        automation.update()
