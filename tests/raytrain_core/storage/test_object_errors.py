"""Answers of GCS and Azure become one sentence each, which names no secret."""

import json

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption

from raytrain_core.errors import StorageError
from raytrain_core.storage import MissingExtraError, NotFoundError, StorageLocation, azure, gcs, open_store
from raytrain_core.storage.object_errors import Kind, ObjectError, Place, explain, shortened

PLACE = Place("gs://bucket", "https://cloud", "the file of X", "Sign in.", "REQUESTS_CA_BUNDLE")


def of_azure(status, code):
    error = HttpResponseError("The request failed.\nRequestId:1\nTime:2")
    error.status_code, error.error_code = status, code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (api.NotFound("No such object: b/k"), Kind.ABSENT),
        (api.NotFound("The specified bucket does not exist."), Kind.NO_BUCKET),
        (api.Forbidden("x does not have storage.objects.create access"), Kind.DENIED),
        (api.Unauthorized("Invalid Credentials"), Kind.WRONG_CREDENTIALS),
        (api.PreconditionFailed("conditionNotMet"), Kind.REFUSED),
        (api.TooManyRequests("slow down"), Kind.BUSY),
        (api.RetryError("timeout", api.ServiceUnavailable("down")), Kind.BUSY),
        (api.BadRequest("Provided CRC32C does not match"), Kind.DAMAGED),
        (auth.DefaultCredentialsError("none found"), Kind.NO_CREDENTIALS),
        (auth.RefreshError("Token has been expired or revoked"), Kind.WRONG_CREDENTIALS),
        (DataCorruption("checksum"), Kind.DAMAGED),
        (requests.exceptions.ChunkedEncodingError("broken"), Kind.CUT),
        (requests.exceptions.ConnectionError("Connection refused"), Kind.UNREACHABLE),
        (requests.exceptions.SSLError("certificate verify failed: self-signed"), Kind.CERTIFICATE),
        (requests.exceptions.SSLError("[SSL: WRONG_VERSION_NUMBER]"), Kind.NOT_TLS),
    ],
)
def test_what_gcs_says_is_told_apart(error, kind):
    assert gcs._error(error).kind is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_azure(404, "BlobNotFound"), Kind.ABSENT),
        (of_azure(404, "ContainerNotFound"), Kind.NO_BUCKET),
        (of_azure(409, "BlobAlreadyExists"), Kind.REFUSED),
        (of_azure(412, "ConditionNotMet"), Kind.REFUSED),
        (of_azure(403, "AuthenticationFailed"), Kind.WRONG_CREDENTIALS),
        (of_azure(403, "AuthorizationPermissionMismatch"), Kind.DENIED),
        (of_azure(400, "Md5Mismatch"), Kind.DAMAGED),
        (of_azure(503, "ServerBusy"), Kind.BUSY),
        (of_azure(507, None), Kind.FULL),
        (ClientAuthenticationError("DefaultAzureCredential failed"), Kind.NO_CREDENTIALS),
        (ServiceRequestError("Failed to resolve 'host'"), Kind.UNREACHABLE),
    ],
)
def test_what_azure_says_is_told_apart(error, kind):
    found = azure._error(error)
    assert found.kind is kind
    assert "RequestId" not in found.text


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_a_sentence_that_says_where(kind):
    error = explain(ObjectError(kind, "said\nmore", "Code"), "write", "a/k", PLACE)
    assert "gs://bucket" in error.message
    assert "\n" not in error.message
    assert isinstance(error, NotFoundError) == (kind is Kind.ABSENT)


@pytest.mark.parametrize(
    "text", ["https://h/c?sv=1&sig=CANARY%3D&se=2", "Authorization: Bearer CANARY", "token=CANARY", "ya29.CANARY"]
)
def test_signatures_and_tokens_are_not_repeated(text):
    assert "CANARY" not in shortened(text)


@pytest.mark.parametrize(
    "content", ["not json CANARY", json.dumps({"type": "service_account", "private_key": "CANARY"})]
)
def test_a_key_file_that_is_none_is_named_without_its_content(content, tmp_path, monkeypatch):
    (tmp_path / "key.json").write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(
        StorageError, match=r"gs://bucket at https://gcs: no usable credentials found .*key\.json"
    ) as error:
        open_store(StorageLocation(uri="gs://bucket/x", endpoint="https://gcs")).get("k")
    assert "CANARY" not in str(error.value)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in (error.value.hint or "")


@pytest.fixture
def no_azure(monkeypatch):
    for name in ("CONNECTION_STRING", "ACCOUNT_NAME", "ACCOUNT", "ACCOUNT_KEY", "KEY", "SAS_TOKEN", "ENDPOINT"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)


@pytest.mark.usefixtures("no_azure")
def test_a_container_without_an_account_is_refused_with_where_to_name_it():
    with pytest.raises(StorageError, match="no storage account is named") as error:
        open_store("az://container/x").get("k")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in (error.value.hint or "")


@pytest.mark.usefixtures("no_azure")
def test_a_key_that_is_none_is_not_repeated(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "not-base64!!CANARY")
    store = open_store("abfs://container@account.dfs.core.windows.net/x").impatient()
    with pytest.raises(StorageError) as error:
        store.put("k", b"x")
    assert "CANARY" not in str(error.value)
    assert "https://account.blob.core.windows.net" in error.value.message


@pytest.mark.parametrize(("uri", "extra"), [("gs://bucket/x", "gcs"), ("az://container/x", "azure")])
def test_a_cloud_whose_client_is_not_installed_names_the_command(uri, extra, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, f"raytrain_core.storage.{extra}", None)
    with pytest.raises(MissingExtraError) as error:
        open_store(uri)
    assert error.value.hint == f"pip install 'raytrain[{extra}]'"
