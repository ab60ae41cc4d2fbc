"""The apps' part of the control endpoint; control.py lists its calls."""

from collections.abc import Callable

from aiohttp import web
from pydantic import AwareDatetime, BaseModel

from local.cloud.apps import App, Certificate, FederatedCredential, Secret
from local.cloud.model import Model
from local.cloud.tenants import Tenant

Find = Callable[[web.Request], Tenant]


class AppChange(Model):
    """What is given is set, the rest stays."""

    roles: list[str] | None = None
    enabled: bool | None = None
    has_service_principal: bool | None = None
    conditional_access_block: bool | None = None
    display_name: str | None = None
    mailbox_scope: list[str] | None = None


class SecretChange(Model):
    end_date_time: AwareDatetime


def routes(tenant_of: Find) -> list[web.RouteDef]:
    apps = _Apps(tenant_of)
    every = "/tenants/{tenant}/apps"
    one = every + "/{app}"
    return [
        web.post(every, apps.create),
        web.get(one, apps.get),
        web.patch(one, apps.patch),
        web.post(one + "/secrets", apps.add_secret),
        web.patch(one + "/secrets/{key}", apps.patch_secret),
        web.delete(one + "/secrets/{key}", apps.remove_secret),
        web.post(one + "/certificates", apps.add_certificate),
        web.delete(one + "/certificates/{key}", apps.remove_certificate),
        web.post(one + "/federatedCredentials", apps.add_federated),
        web.delete(one + "/federatedCredentials/{key}", apps.remove_federated),
    ]


class _Apps:
    def __init__(self, tenant_of: Find) -> None:
        self._tenant = tenant_of

    def _app(self, request: web.Request) -> App:
        app = self._tenant(request).app(request.match_info["app"])
        if app is None:
            raise KeyError(request.match_info["app"])
        return app

    async def create(self, request: web.Request) -> web.Response:
        app = App.model_validate(await request.json())
        self._tenant(request).apps.append(app)
        return _shown(app, 201)

    async def get(self, request: web.Request) -> web.Response:
        return _shown(self._app(request))

    async def patch(self, request: web.Request) -> web.Response:
        app = self._app(request)
        for name, value in AppChange.model_validate(await request.json()).model_dump(exclude_unset=True).items():
            setattr(app, name, value)
        return _shown(app)

    async def add_secret(self, request: web.Request) -> web.Response:
        secret = Secret.model_validate(await request.json())
        self._app(request).secrets.append(secret)
        return _shown(secret, 201)

    async def patch_secret(self, request: web.Request) -> web.Response:
        secrets = {secret.key_id: secret for secret in self._app(request).secrets}
        secret = secrets[request.match_info["key"]]
        secret.end_date_time = SecretChange.model_validate(await request.json()).end_date_time
        return _shown(secret)

    async def remove_secret(self, request: web.Request) -> web.Response:
        app, key = self._app(request), request.match_info["key"]
        app.secrets = [secret for secret in app.secrets if secret.key_id != key]
        return web.Response(status=204)

    async def add_certificate(self, request: web.Request) -> web.Response:
        certificate = Certificate.model_validate(await request.json())
        self._app(request).certificates.append(certificate)
        return _shown(certificate, 201)

    async def remove_certificate(self, request: web.Request) -> web.Response:
        app, key = self._app(request), request.match_info["key"]
        app.certificates = [certificate for certificate in app.certificates if certificate.key_id != key]
        return web.Response(status=204)

    async def add_federated(self, request: web.Request) -> web.Response:
        federated = FederatedCredential.model_validate(await request.json())
        self._app(request).federated_credentials.append(federated)
        return _shown(federated, 201)

    async def remove_federated(self, request: web.Request) -> web.Response:
        app, name = self._app(request), request.match_info["key"]
        app.federated_credentials = [each for each in app.federated_credentials if each.name != name]
        return web.Response(status=204)


def _shown(item: BaseModel, status: int = 200) -> web.Response:
    return web.json_response(item.model_dump(by_alias=True, mode="json"), status=status)
