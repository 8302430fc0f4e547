"""What Schemathesis may not do to the machine it runs on: made-up places become ones in the test's own directory."""

import os

import schemathesis

PLACE = os.environ["HOLDFAST_TEST_PLACE"]


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    uri = body.get("uri")
    if isinstance(uri, str) and not uri.startswith("s3:"):
        body["uri"] = PLACE + "/destination"
    if isinstance(body.get("endpoint"), str):
        body["endpoint"] = "http://127.0.0.1:1"
    url = body.get("url")
    if isinstance(url, str) and case.path == "/v1/hosts":
        body["url"] = "ssh://nobody@127.0.0.1:1"
    elif isinstance(url, str):
        body["url"] = "postgres://nobody@127.0.0.1:1/none" if url.startswith("postgres") else os.environ["HOLDFAST_TEST_DATABASE"]
