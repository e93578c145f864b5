import datetime
import json
import sys

from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.monitor.ingestion import LogsIngestionClient

base, path, rule = sys.argv[1:4]
with open(path, encoding="utf-8") as file:
    admin = json.load(file)
credential = ClientSecretCredential(
    admin["tenant_id"],
    admin["client_id"],
    admin["client_secret"],
    authority=base,
    disable_instance_discovery=True,
)
NOW = datetime.datetime.now(datetime.timezone.utc).isoformat()
client = LogsIngestionClient(endpoint=base, credential=credential, retry_total=0)


def record(number, text):
    return {"time": NOW, "Line": text, "Code": 200 + number % 2 * 300}


# More than one post: the client splits at 1 MiB of records, and fills each post to that.
records = [record(number, f"{number} " + "x" * 100) for number in range(20_000)]
client.upload(rule_id=rule, stream_name="Custom-Access", logs=records)
for rule_id, stream in ((rule, "Custom-Other"), ("dcr-" + "0" * 32, "Custom-Access")):
    try:
        client.upload(rule_id=rule_id, stream_name=stream, logs=[record(1, "lost")])
        print("taken")
    except HttpResponseError as error:
        print(error.status_code, error.error.code)
failed = []
odd = [record(1, "odd"), "no object"]
client.upload(rule_id=rule, stream_name="Custom-Access", logs=odd, on_error=failed.append)
print(len(failed), failed[0].error.status_code, len(failed[0].failed_logs))
