import json
import socket
import sys

from azuredatacollector.datacollector import DataCollectorClient, DataCollectorError
from datacollector_api_client.client import DataCollectorWrapper
from datacollectorapi.client import DataCollectorAPIClient

port, path = sys.argv[1:3]
with open(path, encoding="utf-8") as file:
    admin = json.load(file)
workspace, key = admin["workspace_id"], admin["workspace_key"]

# The senders make the name of the host themselves, of the workspace's id: every name is this machine.
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda _host, _port, *rest, **named: resolve("127.0.0.1", port, *rest, **named)

records = [
    {"Number": number, "Even": number % 2 == 0, "Text": f"grüße {number}", "Sender": "api"}
    for number in range(1000)
]
answer = DataCollectorAPIClient(workspace, key).post_data("Interop", records)
print(answer.status_code, len(answer.content))

client = DataCollectorClient(workspace, key)
client.max_batch_size = 100_000
for record in records:
    record.update(Sender="client", Number=str(record["Number"]), At="2026-11-23T10:00:00Z")
print(sum(client.post_data(records, "Interop")))

for record in records:
    record.update(Sender="wrapper", Id="8145d82213a744ad859c36f31a84f6dd", Number=[1])
print(DataCollectorWrapper(workspace, key).log_info(records, "Interop"))

wrong = DataCollectorAPIClient(workspace, admin["automation_key"]).post_data("Interop", records)
print(wrong.status_code, wrong.json()["Error"])
try:
    client.post_data([{"fine": 1}, {"TimeGenerated": "x"}], "Interop")
except DataCollectorError as error:
    print("InvalidDataFormat" in str(error), "record=`1`" in str(error))
