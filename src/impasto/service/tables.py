"""The tables of runs, of their events, and of whose turn it is."""

import sqlalchemy as sa

from impasto.service.database import Identity, metadata

runs_table = sa.Table(
    "runs",
    metadata,
    sa.Column("seq", Identity, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.String, nullable=False, unique=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("style", sa.JSON(none_as_null=True)),
    sa.Column("style_name", sa.String),
    sa.Column("model", sa.String),
    sa.Column("target", sa.String),
    sa.Column("resolved_target", sa.String),  # where it goes: known before anything is there
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("idempotency_key", sa.String),
    sa.Column("request", sa.String, nullable=False),  # digest, to know the same one again
    sa.Column("content", sa.String, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("frames_done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("frames_total", sa.Integer, nullable=False, server_default="0"),
    sa.Column("stage", sa.String, nullable=False, server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("begun", sa.Integer, nullable=False, server_default="0"),  # which attempt, from 1 up
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),  # see queue.Queue.begin
    sa.Column("error", sa.String),
    sa.Column("report", sa.JSON(none_as_null=True)),
    sa.Column("plan_id", sa.String),
    sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("owner", sa.String),  # the process that has it; None while it waits
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),  # of its workflow
    sa.UniqueConstraint("user", "idempotency_key"),
    sa.Index("runs_waiting", "state", "owner", "user", "priority", "seq"),
    sa.Index("runs_owned", "owner"),
    sa.Index("runs_by_plan", "plan_id"),
    sa.Index("runs_by_target", "target"),
    sa.Index("runs_by_resolved_target", "resolved_target"),
    sa.Index("runs_by_end", "finished_at"),
    sa.Index("runs_by_user", "user", "seq"),
    sa.Index("runs_open", "user", "state"),
    sa.Index("runs_by_state", "state", "seq"),
)

events_table = sa.Table(
    "run_events",
    metadata,
    sa.Column("id", Identity, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Index("run_events_by_run", "run_id", "id"),
)

turns_table = sa.Table(
    "turns",
    metadata,
    sa.Column("user", sa.String, primary_key=True),
    sa.Column("arrival", sa.Float),  # see limits.next_arrival
    sa.Column("served_at", sa.Float, nullable=False, server_default="0"),
)
