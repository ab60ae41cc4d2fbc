from tests.calendar_world import World, ROLES
from tests.test_calendar_machine import perform
def test_x(house, cloud, monkeypatch):
    monkeypatch.setattr("sync.graph.client.time.sleep", lambda _s: None)
    tenant = cloud.generate(users=4, rooms=2, roles=ROLES, guestShare=0)
    name = house.connect(tenant, "w")
    w = World(house, tenant, name, {'delegation': False, 'strictMode': False, 'createOnUserCalendar': True})
    for op in [('portal_create', 0, 10, 'Lunch', 5),("work",)]:
        perform(w, op)
    for r in w.reservations(): print(r)
    print([ (x["method"],x["mailbox"],x.get("eventId")) for x in w.tenant.control.get("calendar-writes")])
    for x in house.get(f"connections/{name}/runs")["items"]: print(x["status"],x["counts"],x["error"], x["trigger"])
    w.settle()
    for r in w.reservations(): print(r)
    w.judge()
