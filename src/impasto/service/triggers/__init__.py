"""What starts runs by itself: a watched prefix, events, trigger files and schedules.

    rules         the rule table: which objects, painted how, to where; sidecars
    settings      the tables of the configuration
    names         which keys can be videos that somebody put there
    whole         whether a file's own structure says that a part is missing
    settling      when an object is taken, and when it is looked at again
    arrivals      an object's version → one run, whoever notices it first
    watch         scan after scan of a prefix
    trigger_file  trigger*.txt
    schedule      when one is due
    events        what storage accounts say, as values
    loop          the thread that looks

A caller builds `Triggers` from `read_triggers` and starts it; the API hands events to
`Triggers.arrivals`.
"""

from impasto.service.triggers.loop import Triggers
from impasto.service.triggers.settings import TriggerSettings, read_triggers

__all__ = ["TriggerSettings", "Triggers", "read_triggers"]
