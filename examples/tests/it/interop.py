import json
import sys

from azure.core.pipeline import policies
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

base, path = sys.argv[1:3]
with open(path, encoding="utf-8") as file:
    admin = json.load(file)
credential = ClientSecretCredential(
    admin["tenant_id"],
    admin["client_id"],
    admin["client_secret"],
    authority=base,
    disable_instance_discovery=True,
)
chain = [
    policies.RequestIdPolicy(),
    policies.RetryPolicy(retry_total=0),
    ARMChallengeAuthenticationPolicy(credential, "https://management.azure.com/.default"),
]
client = ARMPipelineClient(base_url=base, policies=chain)
group = f"/subscriptions/{admin['subscription_id']}/resourceGroups/{admin['resource_group']}"
answer = client.send_request(HttpRequest("GET", f"{base}{group}/resources?api-version=2024-01-01"))
answer.raise_for_status()
print(",".join(sorted(resource["type"] for resource in answer.json()["value"])))
