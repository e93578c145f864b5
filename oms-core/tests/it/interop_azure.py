import os
import sys
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.core.pipeline import policies
from azure.core.polling import LROPoller
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.core.polling.arm_polling import ARMPolling
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservices.models import PatchVault, Sku, Vault, VaultProperties

base, tenant, subscription = sys.argv[1:4]
SCOPE = "https://management.azure.com/.default"
GROUP = f"/subscriptions/{subscription}/resourceGroups/g"


def credential(client, secret, tenant=tenant):
    return ClientSecretCredential(
        tenant, client, secret, authority=base, disable_instance_discovery=True
    )


def client(credential):
    chain = [
        policies.RequestIdPolicy(),
        policies.RetryPolicy(retry_total=0),
        ARMChallengeAuthenticationPolicy(credential, SCOPE),
    ]
    return ARMPipelineClient(base_url=base, policies=chain)


def send(client, method, path, body=None):
    return client.send_request(HttpRequest(method, base + path + "?api-version=2030-01-01", json=body))


def refused(call, code):
    try:
        call()
    except ClientAuthenticationError as error:
        # The reason may be some way down: msal wraps what discovery answered.
        reasons = []
        while error is not None:
            reasons.append(str(error))
            error = error.__cause__ or error.__context__
        assert any(code in reason for reason in reasons), reasons
    else:
        raise AssertionError("not refused: " + code)


owner = credential("owner", os.environ["OWNER_SECRET"])
token = owner.get_token(SCOPE)
assert 3000 < token.expires_on - time.time() < 3700, token.expires_on
assert owner.get_token(SCOPE).token == token.token, "the second comes from the cache"
print("token")

ours = client(owner)
response = send(ours, "PUT", GROUP, {"location": "westeurope"})
assert response.status_code == 201, response.text()
assert response.headers["x-ms-request-id"] and response.headers["x-ms-correlation-request-id"]
print("allowed")

stranger = client(credential("stranger", os.environ["STRANGER_SECRET"]))
response = send(stranger, "GET", GROUP)
assert (response.status_code, response.json()["error"]["code"]) == (403, "AuthorizationFailed")
print("forbidden")


class Broken:
    def get_token(self, *scopes, **options):
        return AccessToken(token.token[:-5] + "AAAAA", int(time.time()) + 3600)


response = send(client(Broken()), "GET", GROUP)
assert response.status_code == 401, response.text()
assert response.headers["WWW-Authenticate"].startswith("Bearer "), response.headers
print("broken token refused")

refused(lambda: credential("owner", "wrong").get_token(SCOPE), "AADSTS7000215")
print("wrong secret refused")
other = "00000000-0000-0000-0000-00000000000f"
refused(lambda: credential("owner", "wrong", other).get_token(SCOPE), "AADSTS90002")
print("wrong tenant refused")
refused(lambda: owner.get_token("https://vault.azure.net/.default"), "AADSTS500011")
print("wrong audience refused")

vaults = RecoveryServicesClient(
    owner, subscription, base_url=base, credential_scopes=[SCOPE], polling_interval=0
).vaults
wanted = Vault(location="westeurope", sku=Sku(name="Standard"), properties=VaultProperties())
made = vaults.begin_create_or_update("g", "v1", wanted).result()
assert (made.name, made.properties.provisioning_state) == ("v1", "Succeeded"), made
changed = vaults.begin_update("g", "v1", PatchVault(tags={"a": "b"})).result()
assert changed.tags == {"a": "b"} and changed.etag != made.etag, changed
assert vaults.get("G", "V1").id == made.id
assert [vault.name for vault in vaults.list_by_resource_group("g")] == ["v1"]
assert [vault.name for vault in vaults.list_by_subscription_id()] == ["v1"]
try:
    vaults.begin_create_or_update("g", "1v", wanted).result()
    raise AssertionError("not refused")
except HttpResponseError as error:
    assert (error.status_code, error.error.code) == (400, "InvalidResourceName"), error
print("vault")

drill = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/v1/drills/d"
request = HttpRequest("POST", f"{base}{drill}/start?api-version=2030-01-01")
first = ours.send_request(request, _return_pipeline_response=True)
assert first.http_response.status_code == 202, first.http_response.text()
poller = LROPoller(
    ours, first, lambda answer: answer.http_response.json(), ARMPolling(timeout=0)
)
assert poller.status() == "InProgress", poller.status()
assert send(ours, "POST", f"{drill}/end").status_code == 204
result = poller.result(timeout=60)
assert poller.status() == "Succeeded" and result["properties"]["drilled"] is True, result
print("long operation")

vaults.begin_delete("g", "v1").result()
try:
    vaults.get("g", "v1")
    raise AssertionError("not deleted")
except ResourceNotFoundError as error:
    assert error.error.code == "ResourceNotFound", error
