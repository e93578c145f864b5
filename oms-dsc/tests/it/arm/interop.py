import os
import sys
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.mgmt.automation import AutomationClient, models

url = sys.argv[1]
SUBSCRIPTION = "bbbbbbbb-0000-0000-0000-000000000002"
ACCOUNT = ("oms", "accounts-1")


class Owner:
    """The test's server takes a name for a token; how tokens are got is another test's."""

    def get_token(self, *scopes, **options):
        return AccessToken("owner", int(time.time()) + 3600)


class OverLoopback(BearerTokenCredentialPolicy):
    """Tokens go over TLS alone, but here."""

    def on_request(self, request):
        request.http_request.headers["Authorization"] = "Bearer owner"


client = AutomationClient(
    Owner(),
    SUBSCRIPTION,
    base_url=url,
    authentication_policy=OverLoopback(Owner(), "https://management.azure.com/.default"),
    polling_interval=0,
)


def ask(command, argument="now"):
    print(command, argument, flush=True)
    return sys.stdin.readline().strip()


def passed(step):
    print(step, flush=True)


def refused(call, status, code):
    try:
        call()
    except HttpResponseError as error:
        assert (error.status_code, error.error.code) == (status, code), (error, error.status_code)
        return error
    raise AssertionError(f"not refused: {code}")


def embedded(text):
    return models.ContentSource(type="embeddedContent", value=text)


# Configurations
sources = client.dsc_configuration
made = sources.create_or_update(
    *ACCOUNT,
    "Web",
    models.DscConfigurationCreateOrUpdateParameters(
        location="westeurope",
        tags={"a": "b"},
        description="ours",
        source=embedded(os.environ["SOURCE"]),
    ),
    content_type="application/json",
)
assert (made.name, made.state, made.description) == ("Web", "Published", "ours"), made
assert made.parameters["port"].type == "int" and made.parameters["port"].is_mandatory is False
assert made.creation_time.year == 2026 and made.etag, made
text = os.environ["SOURCE"].replace("hello", "moin")
made = sources.create_or_update(*ACCOUNT, "Web", text, content_type="text/plain; charset=utf-8")
assert made.parameters["greeting"].default_value == "moin" and made.tags == {"a": "b"}, made
patch = models.DscConfigurationUpdateParameters(tags={"c": "d"})
patched = sources.update(*ACCOUNT, "Web", patch, content_type="application/json")
assert patched.tags == {"c": "d"} and patched.description == "ours", patched
for index in range(105):
    name = f"C{index:03}"
    sources.create_or_update(
        *ACCOUNT, name, f"configuration: {name}\nresources: []", content_type="text/plain; charset=utf-8"
    )
names = [one.name for one in sources.list_by_automation_account(*ACCOUNT, inlinecount="allpages")]
assert len(names) == 106 and names[0] == "C000" and names[-1] == "Web", names
some = sources.list_by_automation_account(*ACCOUNT, filter="contains(name,'c10')", skip=1, top=2)
assert [one.name for one in some] == ["C101", "C102"]
# Some versions of the library cannot read what this answers: its address is asked for by hand.
path = f"{url}{made.id}/content?api-version=2015-10-31"
answer = client._client.send_request(HttpRequest("GET", path, headers={"Accept": "text/powershell"}))
assert answer.status_code == 200 and answer.text() == text, answer.text()
passed("configurations")

# Compilation jobs; the newest version of the library has none.
if hasattr(client, "dsc_compilation_job"):
    jobs = client.dsc_compilation_job

    def compile(name, configuration, parameters):
        wanted = models.DscCompilationJobCreateParameters(
            configuration=models.DscConfigurationAssociationProperty(name=configuration),
            parameters=parameters,
        )
        return jobs.begin_create(*ACCOUNT, name, wanted)

    job = compile("first", "Web", {"greeting": "hi", "port": "8080"}).result()
    assert (job.status, job.provisioning_state) == ("Completed", "Succeeded"), job
    assert job.parameters == {"greeting": "hi", "port": "8080"}, job.parameters
    assert job.end_time and job.exception is None and job.configuration.name == "Web", job
    passed("compiled by the library")
    bad = "configuration: Bad\nresources:\n- {type: nxFile, name: a, properties: {Contentz: x}}"
    sources.create_or_update(*ACCOUNT, "Bad", bad, content_type="text/plain; charset=utf-8")
    try:
        compile("bad", "Bad", {}).result()
        raise AssertionError("it does not compile")
    except HttpResponseError:
        pass
    failed = jobs.get(*ACCOUNT, "bad")
    assert failed.status == "Failed" and "Contentz" in failed.exception, failed
    listed = jobs.list_by_automation_account(*ACCOUNT, filter="properties/status eq 'Failed'")
    assert [one.name for one in listed] == ["bad"]
    passed("a failed job is told")
    streams = client.dsc_compilation_job_stream.list_by_job(*ACCOUNT, job.job_id).value
    assert [one.stream_type for one in streams] == ["Output", "Output"], streams
    whole = jobs.get_stream(*ACCOUNT, job.job_id, streams[0].job_stream_id)
    assert "Web.web-1" in whole.stream_text and whole.time, whole
    passed("streams")
else:
    path = f"{url}{made.id.rsplit('/', 2)[0]}/compilationjobs/first?api-version=2018-01-15"
    body = {"properties": {"configuration": {"name": "Web"}, "parameters": {"greeting": "hi"}}}
    assert client._client.send_request(HttpRequest("PUT", path, json=body)).status_code == 201
    while client._client.send_request(HttpRequest("GET", path)).json()["properties"]["status"] != "Completed":
        time.sleep(0.05)
    passed("compiled by a plain request")

# Node configurations
published = client.dsc_node_configuration
assert [one.name for one in published.list_by_automation_account(*ACCOUNT)] == ["Web.web-1", "Web.web-2"]


def put_document(adds_build):
    wanted = models.DscNodeConfigurationCreateOrUpdateParameters(
        name="Web.pc",
        source=embedded(os.environ["DOCUMENT"]),
        configuration=models.DscConfigurationAssociationProperty(name="Web"),
        increment_node_configuration_build=adds_build,
    )
    return published.begin_create_or_update(*ACCOUNT, "Web.pc", wanted).result()


put_document(False)
put_document(True)
one = published.get(*ACCOUNT, "Web.pc[2]")
assert one.configuration.name == "Web" and one.node_count == 0 and one.creation_time, one
published.delete(*ACCOUNT, "Web.pc[2]")
listed = published.list_by_automation_account(*ACCOUNT, filter="contains(name,'pc')")
assert [one.name for one in listed] == ["Web.pc"]
passed("node configurations")

# Registration
registration = client.agent_registration_information
information = registration.get(*ACCOUNT)
assert information.endpoint == f"{url}/PSDSCPullServer.svc", information.endpoint
assert information.keys.primary in information.dsc_meta_configuration
assert ask("register", information.keys.primary) == "registered"
passed("registration")

# Nodes
nodes = client.dsc_node
(node,) = nodes.list_by_automation_account(*ACCOUNT)
assert (node.name, node.status) == ("pc-1", "Pending") or node.name == "pc-1", node
update = models.DscNodeUpdateParameters(
    node_id=node.node_id, properties=models.DscNodeUpdateParametersProperties(name="Web.pc")
)
node = nodes.update(*ACCOUNT, node.node_id, update)
assert node.status == "Pending" and node.registration_time, node
assert ask("run") == "success"
assert nodes.get(*ACCOUNT, node.node_id).status == "Compliant"
filtered = "contains(properties/status,'Compliant') and properties/nodeConfiguration/name eq 'Web.pc'"
listed = nodes.list_by_automation_account(*ACCOUNT, filter=filtered, top=5, skip=0, inlinecount="allpages")
assert [one.node_id for one in listed] == [node.node_id]
passed("nodes")

reports = client.node_reports
newest = list(reports.list_by_node(*ACCOUNT, node.node_id))[0]
report = reports.get(*ACCOUNT, node.node_id, newest.report_id)
assert (report.status, report.host_name, report.number_of_resources) == ("Compliant", "pc-1", 1), report
assert report.resources[0].resource_id == "[Cell]a" and report.end_time.year == 2026, report
content = reports.get_content(*ACCOUNT, node.node_id, newest.report_id)
assert content["JobId"] == newest.report_id, content
passed("reports")

counts = client.node_count_information.get(*ACCOUNT, "status")
assert [(one.name, one.properties.count) for one in counts.value] == [("Compliant", 1)], counts
counts = client.node_count_information.get(*ACCOUNT, "nodeconfiguration")
assert [(one.name, one.properties.count) for one in counts.value] == [("Web.pc", 1)], counts
passed("counts")

wanted = models.AgentRegistrationRegenerateKeyParameter(key_name="primary")
changed = registration.regenerate_key(*ACCOUNT, wanted)
assert changed.keys.primary != information.keys.primary
assert changed.keys.secondary == information.keys.secondary
passed("keys")

counters = {one.counter_property: one.counter_value for one in client.statistics.list_by_automation_account(*ACCOUNT)}
assert counters["Completed"] == 1 and counters["Running"] == 0, counters
passed("statistics")

refused(lambda: sources.get(*ACCOUNT, "None"), 404, "ResourceNotFound")
refused(lambda: nodes.get("oms", "accounts-2", node.node_id), 404, "ResourceNotFound")
wrong = refused(
    lambda: sources.create_or_update(
        *ACCOUNT, "Web", "configuration: Web\nresource: []", content_type="text/plain; charset=utf-8"
    ),
    400,
    "InvalidConfiguration",
)
assert "2:1" in [detail.target for detail in wrong.error.details], wrong.error.details
refused(lambda: list(nodes.list_by_automation_account(*ACCOUNT, filter="name like 'x'")), 501, "NotSupported")
passed("refusals")

nodes.delete(*ACCOUNT, node.node_id)
assert list(nodes.list_by_automation_account(*ACCOUNT)) == []
published.delete(*ACCOUNT, "Web.pc")
sources.delete(*ACCOUNT, "Web")
try:
    sources.get(*ACCOUNT, "Web")
    raise AssertionError("not deleted")
except ResourceNotFoundError:
    pass
passed("deleted")
