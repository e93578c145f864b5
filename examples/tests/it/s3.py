# A server of S3 with a bucket. It answers one request after the other: its look whether an object is
# there, and its put, are not one step. It ends when its input does.
import os, sys, threading
import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
boto3.client(
    "s3", region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret",
    endpoint_url=f"http://127.0.0.1:{server.server_port}",
).create_bucket(Bucket="bucket")
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(0)
