"""What the calendar settings come to: the policy towards users' mailboxes, and the window of time that is synced."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sync.calendars.model import Policy
from sync.sync_settings import CalendarsSettings


def policy_of(settings: CalendarsSettings) -> Policy:
    return Policy(settings.delegation, settings.strict_mode, settings.create_on_user_calendar)


def window_of(settings: CalendarsSettings, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """From one midnight of the room to another: whole days, so that the window moves once a day."""
    today = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    days = (-settings.window.past_days, settings.window.future_days + 1)
    since, until = ((today + timedelta(days=day)).replace(tzinfo=ZoneInfo(zone)) for day in days)
    return since, until
